//! Lengths of time as DAG files write them: `500ms`, `30s`, `5m`, `2h`, `1d`, `1h30m`.

use std::time::Duration;

/// A year: longer waits are slips.
const LONGEST: Duration = Duration::from_secs(366 * 24 * 3600);

/// Reads a length of time as DAG files write it: `500ms`, `30s`, `5m`, `2h`, `1d`, `1h30m`; a year at most.
///
/// # Errors
/// Says in words what is wrong with the text and how to write a length of time.
pub fn parse(text: &str) -> Result<Duration, String> {
    let wrong = || format!("`{text}` is not a length of time; write for example `500ms`, `30s`, `5m`, `2h` or `1h30m`");
    let mut total = Duration::ZERO;
    let mut rest = text.trim();
    if rest.is_empty() {
        return Err(wrong());
    }
    while !rest.is_empty() {
        let digits = rest.find(|c: char| !c.is_ascii_digit()).unwrap_or(rest.len());
        let unit_end = rest[digits..].find(|c: char| c.is_ascii_digit()).map_or(rest.len(), |n| digits + n);
        let number: u64 = rest[..digits].parse().map_err(|_| wrong())?;
        let millis: u64 = match &rest[digits..unit_end] {
            "ms" => 1,
            "s" => 1_000,
            "m" => 60_000,
            "h" => 3_600_000,
            "d" => 86_400_000,
            _ => return Err(wrong()),
        };
        let part = Duration::from_millis(number.checked_mul(millis).ok_or_else(wrong)?);
        total = total.checked_add(part).ok_or_else(wrong)?;
        rest = &rest[unit_end..];
    }
    if total > LONGEST {
        return Err(format!("`{text}` is more than a year"));
    }
    Ok(total)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn reads_units_and_sums() {
        assert_eq!(parse("500ms").unwrap(), Duration::from_millis(500));
        assert_eq!(parse("1h30m").unwrap(), Duration::from_secs(5400));
        assert_eq!(parse("0s").unwrap(), Duration::ZERO);
        for wrong in ["", "5", "5 m", "m", "1w", "-1s", "1.5h", "99999999999999999999s", "9999999999999999d", "400d"] {
            assert!(parse(wrong).is_err(), "{wrong}");
        }
    }
}
