//! Keeps secrets out of logs, errors and outputs.

use std::borrow::Cow;
use std::collections::BTreeSet;
use std::fmt;
use std::sync::{Arc, PoisonError, RwLock};

use aho_corasick::AhoCorasick;
use base64::Engine;
use base64::alphabet;
use base64::engine::general_purpose::{GeneralPurpose, NO_PAD, PAD};
use serde_json::{Map, Value};
use url::{Url, form_urlencoded};

use crate::job::{JobError, JobOutput};
use crate::logs::Masking;

/// What stands where a secret was.
const MASK: &str = "***";

/// Shorter values are words that occur everywhere.
const SHORTEST: usize = 4;

/// Shorter lines of a secret of several lines are brackets and words.
const SHORTEST_LINE: usize = 8;

/// Shorter pieces of base64 text occur by chance.
const SHORTEST_BASE64: usize = 6;

/// Shorter paths and values of queries in secret URLs are names that everybody knows.
const SHORTEST_PATH: usize = 12;
const SHORTEST_QUERY: usize = 8;

/// Replaces secret values by `***`. Cheap to clone.
///
/// A secret is found as it is, without the white space at its ends, as the contents of a JSON text, in base64 (both
/// alphabets, also inside a longer encoded text), URL-encoded, and escaped for HTML and SQL. Of a secret of several lines
/// each longer line is found as well, of a secret URL its password, longer values of its query and a longer path. Where
/// secrets overlap, all that belongs to any of them is hidden. Values of fewer than four characters are not masked.
#[derive(Clone, Default)]
pub struct Masker {
    parts: Vec<Arc<Part>>,
}

/// Secrets that became known together.
struct Part {
    values: BTreeSet<String>,
    /// None when they are too large to look for (gigabytes): better no text than a secret.
    forms: Option<AhoCorasick>,
}

impl Masker {
    /// A masker for these secret values.
    pub fn new(values: impl IntoIterator<Item = String>) -> Self {
        Self::default().and(values)
    }

    /// The same masker for these values, too.
    pub fn and(&self, values: impl IntoIterator<Item = String>) -> Self {
        let is_known = |value: &String| self.parts.iter().any(|part| part.values.contains(value));
        let values: BTreeSet<String> = values.into_iter().filter(|value| !is_known(value)).collect();
        let forms: BTreeSet<String> = values.iter().flat_map(|value| forms(value)).collect();
        if forms.is_empty() {
            return self.clone();
        }
        let mut parts = self.parts.clone();
        parts.push(Arc::new(Part { values, forms: AhoCorasick::new(forms).ok() }));
        Self { parts }
    }

    /// A masker for what either of them hides.
    pub fn join(&self, other: &Self) -> Self {
        let mut parts = self.parts.clone();
        let known = |part: &&Arc<Part>| self.parts.iter().any(|own| Arc::ptr_eq(own, part));
        parts.extend(other.parts.iter().filter(|part| !known(part)).cloned());
        Self { parts }
    }

    /// The text with `***` for each secret.
    pub fn mask<'a>(&self, text: &'a str) -> Cow<'a, str> {
        let mut found = Vec::new();
        for part in &self.parts {
            let Some(forms) = &part.forms else { return Cow::Borrowed(MASK) };
            found.extend(forms.find_overlapping_iter(text).map(|found| (found.start(), found.end())));
        }
        if found.is_empty() {
            return Cow::Borrowed(text);
        }
        let mut masked = String::with_capacity(text.len());
        let mut done = 0;
        for (start, end) in united(found) {
            masked.push_str(&text[done..start]);
            masked.push_str(MASK);
            done = end;
        }
        masked.push_str(&text[done..]);
        Cow::Owned(masked)
    }

    /// The value with `***` for each secret in its texts and keys.
    pub fn mask_value(&self, value: Value) -> Value {
        if self.parts.is_empty() {
            return value;
        }
        match value {
            Value::String(text) => Value::String(self.mask(&text).into_owned()),
            Value::Array(items) => items.into_iter().map(|item| self.mask_value(item)).collect(),
            Value::Object(entries) => Value::Object(self.mask_entries(entries)),
            // A PIN or another secret that happens to be a number. One that only holds its digits is another number.
            Value::Number(number) if self.mask(&number.to_string()) == MASK => Value::String(MASK.to_owned()),
            other => other,
        }
    }

    /// What an attempt gives back, without secrets.
    pub fn mask_result(&self, result: Result<JobOutput, JobError>) -> Result<JobOutput, JobError> {
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

/// The secrets that a process knows: those that were there when it started, and those that a task or an alert was given
/// since then. What the process writes after that hides them. Clones share them.
#[derive(Clone, Debug, Default)]
pub struct KnownSecrets(Arc<RwLock<Masker>>);

impl KnownSecrets {
    /// These secrets are known.
    pub fn new(values: impl IntoIterator<Item = String>) -> Self {
        Self(Arc::new(RwLock::new(Masker::new(values))))
    }

    /// Hides all that is known now.
    pub fn masker(&self) -> Masker {
        self.0.read().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// These are known, too, from now on; gives what hides them and all others.
    pub fn learn(&self, values: impl IntoIterator<Item = String>) -> Masker {
        let known = self.masker();
        let more = known.and(values);
        if more.parts.len() == known.parts.len() {
            return known;
        }
        let mut kept = self.0.write().unwrap_or_else(PoisonError::into_inner);
        // Somebody else may have learnt something meanwhile.
        *kept = kept.join(&more);
        kept.clone()
    }
}

impl Masking for KnownSecrets {
    fn mask<'a>(&self, text: &'a str) -> Cow<'a, str> {
        self.masker().mask(text)
    }
}

impl Masking for Masker {
    fn mask<'a>(&self, text: &'a str) -> Cow<'a, str> {
        Self::mask(self, text)
    }
}

impl fmt::Debug for Masker {
    /// Says nothing of the secrets.
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("Masker")
    }
}

/// The same parts of a text in order, those that overlap as one.
fn united(mut found: Vec<(usize, usize)>) -> Vec<(usize, usize)> {
    found.sort_unstable();
    let mut united: Vec<(usize, usize)> = Vec::new();
    for (start, end) in found {
        match united.last_mut() {
            Some(last) if start < last.1 => last.1 = last.1.max(end),
            _ => united.push((start, end)),
        }
    }
    united
}

/// All texts by which a secret may show.
fn forms(value: &str) -> BTreeSet<String> {
    let mut forms = BTreeSet::new();
    let trimmed = value.trim();
    if trimmed.chars().count() < SHORTEST {
        return forms;
    }
    let lines = trimmed.lines().map(str::trim).filter(|line| line.chars().count() >= SHORTEST_LINE);
    let of_url = of_url(trimmed);
    for plain in [value, trimmed].into_iter().chain(lines).chain(of_url.iter().map(String::as_str)) {
        forms.insert(plain.to_owned());
        forms.extend(escaped(plain));
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

/// What is secret in a secret URL and may show without the rest: a message names the path of an address, a server gives
/// back the password that it was sent.
fn of_url(value: &str) -> Vec<String> {
    let Ok(url) = Url::parse(value) else { return Vec::new() };
    if !url.has_host() {
        return Vec::new();
    }
    let mut parts = Vec::new();
    if let Some(password) = url.password() {
        parts.extend([password.to_owned(), percent_decoded(password)]);
    }
    let values = url.query_pairs().map(|(_, value)| value.into_owned());
    parts.extend(values.filter(|value| value.chars().count() >= SHORTEST_QUERY));
    if url.scheme().starts_with("http") && url.path().len() >= SHORTEST_PATH {
        parts.extend([url.path().to_owned(), percent_decoded(url.path())]);
    }
    parts.retain(|part| part.chars().count() >= SHORTEST);
    parts
}

fn percent_decoded(text: &str) -> String {
    // Here a plus is a plus.
    let query = text.replace('+', "%2B").replace(['&', '='], "%26");
    form_urlencoded::parse(query.as_bytes()).map(|(name, _)| name.into_owned()).collect()
}

/// As in a JSON text, in an HTML page and in a SQL statement, as different programs write them.
fn escaped(plain: &str) -> [String; 5] {
    let json = json_inside(plain);
    let mut ascii = String::new();
    for unit in json.encode_utf16() {
        match u8::try_from(unit) {
            Ok(byte) if byte.is_ascii() => ascii.push(char::from(byte)),
            _ => ascii.push_str(&format!("\\u{unit:04x}")),
        }
    }
    let html = plain.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;").replace('"', "&quot;");
    [json.replace('/', "\\/"), json, ascii, html, plain.replace('\'', "''")]
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
    fn escaped_forms_are_hidden() {
        let secret = "a<b>&\"c'ü/d";
        let masker = masker(&[secret]);
        for text in ["a&lt;b&gt;&amp;&quot;c'ü/d", "a<b>&\"c''ü/d", "a<b>&\\\"c'\\u00fc/d", "a<b>&\\\"c'ü\\/d"] {
            assert_eq!(masker.mask(&format!("({text})")), "(***)");
        }
    }

    #[test]
    fn what_is_secret_in_a_url_is_hidden_without_the_rest() {
        let masker = masker(&["https://Me:p%40ss+word@Hooks.example/services/T01/B02?key=long-key-value&n=1"]);
        for text in [
            "password p@ss+word",
            "Basic TWU6cEBzcyt3b3Jk",
            "POST https://hooks.example/services/T01/B02?…: 404",
            "no such key long-key-value",
        ] {
            let masked = masker.mask(text);
            assert!(masked.contains("***"), "{text}");
            for part in ["ss+word", "cEBzcyt3b3Jk", "T01", "long-key"] {
                assert!(!masked.contains(part), "{masked}");
            }
        }
        assert_eq!(masker.mask("hooks.example n=1"), "hooks.example n=1");
        assert_eq!(
            self::masker(&["postgres://me:tiger@host/warehouse"]).mask("me at warehouse: tiger"),
            "me at warehouse: ***"
        );
    }

    #[test]
    fn secrets_that_become_known_later_are_hidden_with_those_before() {
        let first = masker(&["token"]);
        let both = first.and(["token-for-admin".to_owned(), "token".to_owned()]);
        assert_eq!(both.mask("a token-for-admin b token"), "a *** b ***");
        assert_eq!(first.join(&both).parts.len(), 2);
        assert_eq!(masker(&["admin-of"]).join(&both).mask("token-for-admin-of"), "***");
        let known = KnownSecrets::new(["token".to_owned()]);
        let shared = known.clone();
        assert_eq!(known.learn(["hunter2".to_owned()]).mask("token hunter2"), "*** ***");
        assert_eq!(known.learn(["hunter2".to_owned(), "x".to_owned()]).parts.len(), 2);
        assert_eq!(Masking::mask(&shared, "token hunter2"), "*** ***");
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
        let value = json!({"a": ["s3cret!", 1234567], "s3cret": {"b": "x"}, "pin": 123456, "n": null});
        let masked = json!({"a": ["***!", 1234567], "***": {"b": "x"}, "pin": "***", "n": null});
        assert_eq!(masker.mask_value(value), masked);
        let error = masker.mask_result(Err(JobError::transient("no s3cret"))).map_err(|error| error.message);
        assert_eq!(error, Err("no ***".to_owned()));
    }
}
