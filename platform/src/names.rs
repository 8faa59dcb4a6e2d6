//! The nearest of a set of names: for "did you mean" in messages about names that people type.

/// The candidate that `name` is most likely a misspelling of, or `None` if no candidate is close.
///
/// Close means at most one edit (insertion, deletion, substitution, swap of neighbours) for every three characters of
/// the longer name, and at least two edits allowed for names of four characters and more. Upper and lower case are the
/// same.
pub fn nearest<'a>(name: &str, candidates: impl IntoIterator<Item = &'a str>) -> Option<&'a str> {
    let wanted = name.to_lowercase();
    candidates
        .into_iter()
        .filter_map(|candidate| {
            let other = candidate.to_lowercase();
            let edits = strsim::damerau_levenshtein(&wanted, &other);
            let length = wanted.chars().count().max(other.chars().count());
            let allowed = if length < 4 { 1 } else { (length / 3).max(2) };
            (edits <= allowed).then_some((edits, candidate))
        })
        .min_by_key(|(edits, _)| *edits)
        .map(|(_, candidate)| candidate)
}

/// The end of a message about an unknown name: `, did you mean "x"?` or nothing.
pub fn did_you_mean<'a>(name: &str, candidates: impl IntoIterator<Item = &'a str>) -> String {
    match nearest(name, candidates) {
        Some(candidate) => format!(", did you mean `{candidate}`?"),
        None => String::new(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn finds_misspelled_names_and_nothing_far() {
        let names = ["detector.threshold", "detector.threads", "home"];
        assert_eq!(nearest("detector.treshold", names), Some("detector.threshold"));
        assert_eq!(nearest("Detector.Threads", names), Some("detector.threads"));
        assert_eq!(nearest("hoem", names), Some("home"));
        assert_eq!(nearest("serving.port", names), None);
        assert_eq!(nearest("x", names), None);
    }

    #[test]
    fn hint_is_empty_when_nothing_is_close() {
        assert_eq!(did_you_mean("hoem", ["home"]), ", did you mean `home`?");
        assert_eq!(did_you_mean("zebra", ["home"]), "");
    }
}
