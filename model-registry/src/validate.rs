//! What clients may send: names, keys, values. Rules and words as mlflow 3.17.2 has them.

use serde_json::Value;

use crate::limits::{EXPERIMENT_NAME, EXPERIMENT_TAG_VALUE, KEY, PARAM_VALUE, TAG_VALUE};
use crate::{Error, Result};

/// A field that must be there and not be empty.
pub(crate) fn required<T: AsRef<str>>(value: Option<T>, name: &str) -> Result<T> {
    value.filter(|value| !value.as_ref().is_empty()).ok_or_else(|| missing(name))
}

/// A required field is not there.
pub(crate) fn missing(name: &str) -> Error {
    Error::invalid(format!(
        "Missing value for required parameter '{name}'. See the API docs for more information about request parameters."
    ))
}

/// A value that is not allowed for a field, and why.
pub(crate) fn not_allowed(path: &str, value: &Value, why: &str) -> Error {
    let end = if why.is_empty() { ".".to_owned() } else { format!(": {why}") };
    Error::invalid(format!("Invalid value {} for parameter '{path}' supplied{end}", ascii(value)))
}

/// JSON whose characters are all ASCII, as Python writes it.
fn ascii(value: &Value) -> String {
    let mut text = String::new();
    for character in value.to_string().chars() {
        if character.is_ascii() {
            text.push(character);
            continue;
        }
        for unit in character.encode_utf16(&mut [0; 2]) {
            text.push_str(&format!("\\u{unit:04x}"));
        }
    }
    text
}

/// The key of a metric, param or tag, at a place of the request.
pub(crate) fn key(key: &str, path: &str) -> Result<()> {
    let allowed = |c: char| c.is_alphanumeric() || matches!(c, '_' | '/' | '.' | '-' | ' ' | ':');
    if !key.chars().all(allowed) {
        let why = "Names may only contain alphanumerics, underscores (_), dashes (-), periods (.), spaces ( ), colon(:) \
                   and slashes (/).";
        return Err(not_allowed(path, &Value::from(key), why));
    }
    let resolved = resolved(key);
    if resolved != key || resolved == "." || resolved.starts_with("..") || resolved.starts_with('/') {
        let why = format!(
            "Names may be treated as files in certain cases, and must not resolve to other names when treated as such. \
             This name would resolve to '{resolved}'"
        );
        return Err(not_allowed(path, &Value::from(key), &why));
    }
    Ok(())
}

/// Refuses a text that is too long; `name` as the message calls it.
pub(crate) fn length(text: &str, limit: usize, name: &str) -> Result<()> {
    if text.len() <= limit || text.chars().count() <= limit {
        return Ok(());
    }
    Err(Error::invalid(format!("'{name}' exceeds the maximum length of {limit} characters")))
}

/// The name of a metric.
pub(crate) fn metric_key(name: &str, path: &str) -> Result<()> {
    key(name, path)?;
    length(name, KEY, "Metric name")
}

/// A param: its key is checked, its value cut at the limit.
pub(crate) fn param(name: &str, value: &mut String, path: &str) -> Result<()> {
    key(name, path)?;
    length(name, KEY, "Param key")?;
    cut(value, PARAM_VALUE);
    Ok(())
}

/// A run's tag: its key is checked, its value cut at the limit.
pub(crate) fn run_tag(name: &str, value: &mut String, path: &str) -> Result<()> {
    key(name, path)?;
    length(name, KEY, path)?;
    cut(value, TAG_VALUE);
    Ok(())
}

/// An experiment's tag.
pub(crate) fn experiment_tag(name: &str, value: &str) -> Result<()> {
    key(name, "key")?;
    length(name, KEY, "key")?;
    length(value, EXPERIMENT_TAG_VALUE, "value")
}

/// An experiment's name.
pub(crate) fn experiment_name(name: &str) -> Result<()> {
    if name.is_empty() {
        return Err(Error::invalid("Invalid experiment name: ''"));
    }
    length(name, EXPERIMENT_NAME, "name")
}

/// A run's identifier where MLflow looks at its form.
pub(crate) fn run_id(id: &str) -> Result<()> {
    if id.parse::<crate::RunId>().is_ok() {
        return Ok(());
    }
    Err(not_allowed("run_id", &Value::from(id), ""))
}

/// An experiment's number, which clients write as text.
pub(crate) fn experiment_id(text: &str) -> Result<crate::ExperimentId> {
    let number = text
        .trim()
        .parse()
        .map_err(|_| Error::invalid(format!("Invalid experiment ID '{text}'. Experiment ID must be a valid integer.")));
    number.map(crate::ExperimentId)
}

/// A logged model's name.
pub(crate) fn logged_model_name(name: &str) -> Result<()> {
    if !name.is_empty() && !name.contains(['/', ':', '.', '%', '"', '\'']) {
        return Ok(());
    }
    Err(Error::invalid(format!(
        "Invalid model name ('{name}') provided. Model name must be a non-empty string and cannot contain the following \
         characters: ('/', ':', '.', '%', '\"', \"'\")"
    )))
}

/// Cuts a text at a number of characters.
pub(crate) fn cut(value: &mut String, limit: usize) {
    if value.len() <= limit {
        return;
    }
    if let Some((end, _)) = value.char_indices().nth(limit) {
        value.truncate(end);
    }
}

/// The path that a name would be as a file: POSIX's rules of `.`, `..` and repeated slashes.
pub(crate) fn resolved(name: &str) -> String {
    let absolute = name.starts_with('/');
    let mut parts: Vec<&str> = Vec::new();
    for part in name.split('/') {
        match part {
            "" | "." => {}
            ".." if parts.last().is_some_and(|last| *last != "..") => {
                parts.pop();
            }
            ".." if absolute => {}
            other => parts.push(other),
        }
    }
    let path = parts.join("/");
    match (absolute, path.is_empty()) {
        (true, _) => format!("/{path}"),
        (false, true) => ".".to_owned(),
        (false, false) => path,
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn keys_are_names_of_files_that_stay_where_they_are() {
        for allowed in ["a", "a/b c-d.e_f:g", "größe", "..a".trim_start_matches('.'), ".hidden", "a..b"] {
            key(allowed, "key").unwrap();
        }
        for refused in ["", "/a", "a/", "a//b", "./a", "a/../b", "..", "../a", "..a", ".", "a%b", "a\nb", "a\u{0}"] {
            assert!(key(refused, "key").is_err(), "{refused:?}");
        }
        assert_eq!(
            key("a/../b", "tags[1].key").unwrap_err().to_string(),
            "Invalid value \"a/../b\" for parameter 'tags[1].key' supplied: Names may be treated as files in certain \
             cases, and must not resolve to other names when treated as such. This name would resolve to 'b'"
        );
    }

    #[test]
    fn values_are_shown_as_python_shows_them() {
        let error = not_allowed("key", &Value::from("ü🦁\""), "why");
        assert_eq!(error.to_string(), r#"Invalid value "\u00fc\ud83e\udd81\"" for parameter 'key' supplied: why"#);
    }

    #[test]
    fn long_values_are_cut_between_characters() {
        let mut value = "é".repeat(PARAM_VALUE + 1);
        param("p", &mut value, "key").unwrap();
        assert_eq!(value.chars().count(), PARAM_VALUE);
        let long = "k".repeat(KEY + 1);
        assert_eq!(
            metric_key(&long, "name").unwrap_err().to_string(),
            "'Metric name' exceeds the maximum length of 250 characters"
        );
    }

    #[test]
    fn experiments_are_numbers() {
        assert_eq!(experiment_id(" 7").unwrap(), crate::ExperimentId(7));
        assert_eq!(
            experiment_id("x").unwrap_err().to_string(),
            "Invalid experiment ID 'x'. Experiment ID must be a valid integer."
        );
    }
}
