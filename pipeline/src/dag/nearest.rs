//! The nearest known name to a mistyped one.

/// Longer words are never a slip of the finger, and comparing them costs time.
const LONGEST_WORD: usize = 64;

/// The candidate that `word` most probably means: at most a third of its letters differ.
pub(crate) fn nearest<'a>(word: &str, candidates: impl IntoIterator<Item = &'a str>) -> Option<&'a str> {
    if word.len() > LONGEST_WORD {
        return None;
    }
    let lower = word.to_lowercase();
    let letters = word.chars().count();
    if letters < 2 {
        return None;
    }
    let allowed = (letters / 3).max(1);
    candidates
        .into_iter()
        .filter(|candidate| candidate.len() <= LONGEST_WORD)
        .map(|candidate| (strsim::osa_distance(&lower, &candidate.to_lowercase()), candidate))
        .filter(|(distance, _)| *distance <= allowed)
        .min_by_key(|(distance, _)| *distance)
        .map(|(_, candidate)| candidate)
}

/// `; did you mean `x`?`, or `; known are a, b`, or nothing when there is no candidate.
pub(crate) fn hint<'a>(word: &str, candidates: impl IntoIterator<Item = &'a str>) -> String {
    let candidates: Vec<&str> = candidates.into_iter().collect();
    if let Some(name) = nearest(word, candidates.iter().copied()) {
        return format!("; did you mean `{name}`?");
    }
    match candidates.len() {
        0 => String::new(),
        1..=12 => format!("; known: {}", candidates.join(", ")),
        count => format!("; known: {}, … ({count} in all)", candidates[..12].join(", ")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn finds_slips_and_nothing_else() {
        let names = ["ingest", "infer", "report"];
        assert_eq!(nearest("ingets", names), Some("ingest"));
        assert_eq!(nearest("Report", names), Some("report"));
        assert_eq!(nearest("publish", names), None);
        assert_eq!(nearest("a", ["b"]), None);
        assert_eq!(hint("publish", names), "; known: ingest, infer, report");
        assert_eq!(hint("publish", []), "");
        assert_eq!(nearest(&"x".repeat(5000), names), None);
    }
}
