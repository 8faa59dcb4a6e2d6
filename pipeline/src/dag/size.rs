//! Amounts of memory as DAG files write them: `512MiB`, `2GiB`, `1.5GB`.

/// Units, each in bytes.
const UNITS: [(&str, u64); 9] = [
    ("B", 1),
    ("KB", 1_000),
    ("MB", 1_000_000),
    ("GB", 1_000_000_000),
    ("TB", 1_000_000_000_000),
    ("KiB", 1 << 10),
    ("MiB", 1 << 20),
    ("GiB", 1 << 30),
    ("TiB", 1 << 40),
];

/// More is no machine's memory.
const MOST: u64 = 1 << 50;

/// Reads a size in bytes, which is more than nothing; the error says how to write one. A number of units may have up to
/// three decimals.
pub(super) fn parse(text: &str) -> Result<u64, String> {
    let wrong = || format!("`{text}` is not a size; write for example `512MiB`, `2GiB` or `1.5GB`");
    let digits = text.find(|c: char| !c.is_ascii_digit() && c != '.').ok_or_else(wrong)?;
    let unit = text[digits..].trim_start();
    let bytes = UNITS.iter().find(|(name, _)| *name == unit).map(|(_, bytes)| *bytes).ok_or_else(wrong)?;
    let (whole, part) = text[..digits].split_once('.').unwrap_or((&text[..digits], "0"));
    if part.is_empty() || part.len() > 3 {
        return Err(wrong());
    }
    let whole: u64 = whole.parse().map_err(|_| wrong())?;
    let thousandths: u64 = format!("{part:0<3}").parse().map_err(|_| wrong())?;
    // In 128 bits nothing overflows: both factors have at most 64.
    let size = (u128::from(whole) * 1_000 + u128::from(thousandths)) * u128::from(bytes) / 1_000;
    match u64::try_from(size) {
        Ok(0) => Err(format!("`{text}` is no memory at all; leave it out or give more")),
        Ok(size) if size <= MOST => Ok(size),
        _ => Err(format!("`{text}` is more than 1024TiB")),
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn reads_units_and_decimals() {
        assert_eq!(parse("2GiB").unwrap(), 2 << 30);
        assert_eq!(parse("1.5 GB").unwrap(), 1_500_000_000);
        assert_eq!(parse("0.001KB").unwrap(), 1);
        assert_eq!(parse("1024TiB").unwrap(), MOST);
    }

    #[test]
    fn tells_what_is_wrong() {
        for wrong in ["", "2", "GiB", "2gib", "2G", "1.GB", ".5GB", "1.2345GB", "1.2.3GB", "-1GB", "1e3MB"] {
            let message = format!("`{wrong}` is not a size; write for example `512MiB`, `2GiB` or `1.5GB`");
            assert_eq!(parse(wrong).unwrap_err(), message);
        }
        assert_eq!(parse("0GiB").unwrap_err(), "`0GiB` is no memory at all; leave it out or give more");
        assert_eq!(parse("1025TiB").unwrap_err(), "`1025TiB` is more than 1024TiB");
        assert_eq!(parse("18446744073709551615TiB").unwrap_err(), "`18446744073709551615TiB` is more than 1024TiB");
    }
}
