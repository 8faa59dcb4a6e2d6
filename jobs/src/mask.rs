//! Keeps secrets out of logs, errors and outputs.

use std::borrow::Cow;
use std::collections::BTreeSet;
use std::fmt;
use std::sync::Arc;

use aho_corasick::AhoCorasick;
use base64::Engine;
use base64::alphabet;
use base64::engine::general_purpose::{GeneralPurpose, NO_PAD, PAD};
use pipeline::{JobError, JobOutput};
use serde_json::{Map, Value};
use url::form_urlencoded;

/// What stands where a secret was.
const MASK: &str = "***";

/// Shorter values are words that occur everywhere.
const SHORTEST: usize = 4;

/// Shorter lines of a secret of several lines are brackets and words.
const SHORTEST_LINE: usize = 8;

/// Shorter pieces of base64 text occur by chance.
const SHORTEST_BASE64: usize = 6;

/// Replaces secret values by `***`. Cheap to clone.
///
/// A secret is found as it is, without the white space at its ends, as the contents of a JSON text, in base64 (both
/// alphabets, also inside a longer encoded text) and URL-encoded. Of a secret of several lines each longer line is
/// found as well. Where secrets overlap, all that belongs to any of them is hidden. Values of fewer than four characters
/// are not masked.
#[derive(Clone, Default)]
pub struct Masker {
    search: Search,
}

#[derive(Clone, Default)]
enum Search {
    #[default]
    Nothing,
    Forms(Arc<AhoCorasick>),
    /// The secrets are too large to look for (gigabytes): better no text than a secret.
    Everything,
}

impl Masker {
    /// A masker for these secret values.
    pub fn new(values: impl IntoIterator<Item = String>) -> Self {
        let forms: BTreeSet<String> = values.into_iter().flat_map(|value| forms(&value)).collect();
        if forms.is_empty() {
            return Self::default();
        }
        let search = AhoCorasick::new(forms).map_or(Search::Everything, |found| Search::Forms(Arc::new(found)));
        Self { search }
    }

    /// The text with `***` for each secret.
    pub fn mask<'a>(&self, text: &'a str) -> Cow<'a, str> {
        let found = match &self.search {
            Search::Nothing => return Cow::Borrowed(text),
            Search::Everything => return Cow::Borrowed(MASK),
            Search::Forms(forms) => spans(forms, text),
        };
        if found.is_empty() {
            return Cow::Borrowed(text);
        }
        let mut masked = String::with_capacity(text.len());
        let mut done = 0;
        for (start, end) in found {
            masked.push_str(&text[done..start]);
            masked.push_str(MASK);
            done = end;
        }
        masked.push_str(&text[done..]);
        Cow::Owned(masked)
    }

    /// The value with `***` for each secret in its texts and keys.
    pub fn mask_value(&self, value: Value) -> Value {
        if matches!(self.search, Search::Nothing) {
            return value;
        }
        match value {
            Value::String(text) => Value::String(self.mask(&text).into_owned()),
            Value::Array(items) => items.into_iter().map(|item| self.mask_value(item)).collect(),
            Value::Object(entries) => Value::Object(self.mask_entries(entries)),
            // A PIN or another secret that happens to be a number.
            Value::Number(number) => match self.mask(&number.to_string()) {
                Cow::Borrowed(_) => Value::Number(number),
                Cow::Owned(masked) => Value::String(masked),
            },
            other => other,
        }
    }

    /// What an attempt gives back, without secrets.
    pub(crate) fn mask_result(&self, result: Result<JobOutput, JobError>) -> Result<JobOutput, JobError> {
        match result {
            Ok(output) => Ok(JobOutput {
                value: self.mask_value(output.value),
                failures: output.failures,
                summary: self.mask(&output.summary).into_owned(),
            }),
            Err(error) => Err(JobError { message: self.mask(&error.message).into_owned(), retry: error.retry }),
        }
    }

    fn mask_entries(&self, entries: Map<String, Value>) -> Map<String, Value> {
        entries.into_iter().map(|(key, value)| (self.mask(&key).into_owned(), self.mask_value(value))).collect()
    }
}

impl fmt::Debug for Masker {
    /// Says nothing of the secrets.
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("Masker")
    }
}

/// The parts of the text that belong to any secret, in order, without overlaps.
fn spans(forms: &AhoCorasick, text: &str) -> Vec<(usize, usize)> {
    let mut spans: Vec<(usize, usize)> = Vec::new();
    for found in forms.find_overlapping_iter(text) {
        let (mut start, end) = (found.start(), found.end());
        while let Some(last) = spans.pop_if(|last| last.1 > start) {
            start = start.min(last.0);
        }
        spans.push((start, end));
    }
    spans
}

/// All texts by which a secret may show.
fn forms(value: &str) -> BTreeSet<String> {
    let mut forms = BTreeSet::new();
    let trimmed = value.trim();
    if trimmed.chars().count() < SHORTEST {
        return forms;
    }
    let lines = trimmed.lines().map(str::trim).filter(|line| line.chars().count() >= SHORTEST_LINE);
    for plain in [value, trimmed].into_iter().chain(lines) {
        forms.insert(plain.to_owned());
        forms.insert(json_inside(plain));
        forms.extend(url_encoded(plain));
        for alphabet in [alphabet::STANDARD, alphabet::URL_SAFE] {
            forms.insert(GeneralPurpose::new(&alphabet, PAD).encode(plain));
            let unpadded = GeneralPurpose::new(&alphabet, NO_PAD);
            forms.insert(unpadded.encode(plain));
            forms.extend((0..3).filter_map(|shift| base64_core(&unpadded, plain, shift)));
        }
    }
    forms
}

/// As between the quotes of a JSON text.
fn json_inside(plain: &str) -> String {
    let quoted = Value::from(plain).to_string();
    quoted[1..quoted.len() - 1].to_owned()
}

/// As in a query (`+` for a space) and as in a path, with large and with small letters.
fn url_encoded(plain: &str) -> [String; 5] {
    let query: String = form_urlencoded::byte_serialize(plain.as_bytes()).collect();
    let path = query.replace('+', "%20");
    let tilde = path.replace("%7E", "~");
    [small_escapes(&query), small_escapes(&path), query, path, tilde]
}

/// `%2F` as `%2f`.
fn small_escapes(encoded: &str) -> String {
    let mut parts = encoded.split('%');
    let mut small = parts.next().unwrap_or_default().to_owned();
    for part in parts {
        let (digits, rest) = part.split_at_checked(2).unwrap_or((part, ""));
        small.push('%');
        small.push_str(&digits.to_ascii_lowercase());
        small.push_str(rest);
    }
    small
}

/// The characters of the encoded text that stand for nothing but the secret, when `shift` bytes go before it.
fn base64_core(engine: &GeneralPurpose, plain: &str, shift: usize) -> Option<String> {
    let mut bytes = vec![0; shift];
    bytes.extend_from_slice(plain.as_bytes());
    let encoded = engine.encode(&bytes);
    let core = encoded.get((shift * 8).div_ceil(6)..bytes.len() * 8 / 6)?;
    (core.len() >= SHORTEST_BASE64).then(|| core.to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;
    use base64::prelude::{BASE64_STANDARD, BASE64_URL_SAFE_NO_PAD};
    use serde_json::json;

    fn masker(values: &[&str]) -> Masker {
        Masker::new(values.iter().map(|value| (*value).to_owned()))
    }

    #[test]
    fn hides_values_and_leaves_the_rest() {
        let masker = masker(&["hunter2!", "öffne"]);
        assert_eq!(masker.mask("user=me password=hunter2! (öffne)"), "user=me password=*** (***)");
        assert!(matches!(masker.mask("nothing here"), Cow::Borrowed("nothing here")));
        assert_eq!(masker.mask("hunter2!hunter2!"), "******");
        assert_eq!(format!("{masker:?}"), "Masker");
    }

    #[test]
    fn short_values_are_words() {
        assert_eq!(masker(&["abc", "", "  x  "]).mask("abc x"), "abc x");
        assert_eq!(masker(&["abcd"]).mask("abcde"), "***e");
    }

    #[test]
    fn the_longest_and_all_that_overlaps_is_hidden() {
        let masker = masker(&["token", "token-for-admin", "admin/secret"]);
        assert_eq!(masker.mask("a token-for-admin b"), "a *** b");
        assert_eq!(masker.mask("token-for-admin/secret."), "***.");
        assert_eq!(masker.mask("my token."), "my ***.");
    }

    #[test]
    fn encoded_forms_are_hidden() {
        let secret = "p/w+d?>~ ü\"x";
        let masker = masker(&[secret]);
        let base64 = [BASE64_STANDARD.encode(secret), BASE64_URL_SAFE_NO_PAD.encode(secret)];
        for encoded in base64 {
            assert_eq!(masker.mask(&format!("<{encoded}>")), "<***>");
        }
        for encoded in
            ["p%2Fw%2Bd%3F%3E%7E+%C3%BC%22x", "p%2fw%2bd%3f%3e%7e%20%c3%bc%22x", "p%2Fw%2Bd%3F%3E~%20%C3%BC%22x"]
        {
            assert_eq!(masker.mask(encoded), "***");
        }
        assert_eq!(masker.mask(&json!({ "k": secret }).to_string()), "{\"k\":\"***\"}");
    }

    #[test]
    fn a_secret_inside_longer_base64_is_hidden() {
        let masker = masker(&["correct-horse-battery"]);
        for user in ["", "a", "ab", "abc", "abcd"] {
            let header = BASE64_STANDARD.encode(format!("{user}:correct-horse-battery;"));
            let masked = masker.mask(&header);
            assert!(masked.contains("***"), "{user}: {masked}");
            assert!(masked.len() < 16, "{user}: {masked}");
        }
    }

    #[test]
    fn lines_of_a_key_and_values_from_files_are_hidden() {
        let masker = masker(&["-----BEGIN KEY-----\nMIIEvQIBADANBg\n}\n-----END KEY-----\n", "from-a-file\n"]);
        assert_eq!(masker.mask("read MIIEvQIBADANBg } ok"), "read *** } ok");
        assert_eq!(masker.mask("password from-a-file."), "password ***.");
    }

    #[test]
    fn values_are_masked_throughout() {
        let masker = masker(&["s3cret", "123456"]);
        let value = json!({"a": ["s3cret!", 1], "s3cret": {"b": "x"}, "pin": 123456, "n": null});
        assert_eq!(masker.mask_value(value), json!({"a": ["***!", 1], "***": {"b": "x"}, "pin": "***", "n": null}));
        let error = masker.mask_result(Err(JobError::transient("no s3cret"))).map_err(|error| error.message);
        assert_eq!(error, Err("no ***".to_owned()));
    }
}
