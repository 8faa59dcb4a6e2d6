//! Names in the registry, checked as MLflow checks them, with its words.

use std::fmt;

use serde_json::Value;

use crate::registered::Tag;
use crate::{Error, Result, VersionNumber};

/// Characters of a model's name.
const MODEL_NAME: usize = 256;
/// Characters of an alias.
const ALIAS: usize = 255;
/// Characters of a tag's key.
const TAG_KEY: usize = 250;
/// Characters of the value of a tag of a model or version.
const TAG_VALUE: usize = 100_000;

/// The stage of a version: kept for old clients; aliases are in their place.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Stage {
    None,
    Staging,
    Production,
    Archived,
}

impl Stage {
    const ALL: [Self; 4] = [Self::None, Self::Staging, Self::Production, Self::Archived];

    /// Reads a stage in letters of any case.
    pub(crate) fn parse(text: &str) -> Result<Self> {
        Self::ALL.into_iter().find(|stage| stage.as_str().eq_ignore_ascii_case(text)).ok_or_else(|| {
            let all = Self::ALL.map(Self::as_str).join(", ");
            Error::invalid(format!("Invalid Model Version stage: {text}. Value must be one of {all}."))
        })
    }

    pub(crate) fn as_str(self) -> &'static str {
        match self {
            Self::None => "None",
            Self::Staging => "Staging",
            Self::Production => "Production",
            Self::Archived => "Archived",
        }
    }

    /// Whether versions of it can be archived by another that enters.
    pub(crate) fn is_active(self) -> bool {
        matches!(self, Self::Staging | Self::Production)
    }
}

impl fmt::Display for Stage {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// Checks the name of a model.
pub(crate) fn check_model(name: &str) -> Result<()> {
    if name.trim().is_empty() {
        return Err(Error::invalid("Missing value for required parameter 'name'."));
    }
    if name.contains(['/', ':']) {
        return Err(Error::invalid(format!("Invalid model name '{name}'. Names cannot contain '/' or ':'.")));
    }
    check_path("name", name)?;
    check_length("name", MODEL_NAME, name)
}

/// Checks the new name of a model.
pub(crate) fn check_new_model(name: &str) -> Result<()> {
    if name.trim().is_empty() {
        return Err(Error::invalid("Missing value for required parameter 'new_name'."));
    }
    check_model(name)
}

/// Reads the number of a version.
pub(crate) fn version(text: &str) -> Result<VersionNumber> {
    let read = text.trim().parse().map(VersionNumber);
    read.map_err(|_| Error::invalid(format!("Parameter 'version' must be an integer, got '{text}'.")))
}

/// Checks the name of an alias.
pub(crate) fn check_alias(name: &str) -> Result<()> {
    if name.is_empty() {
        return Err(Error::invalid("Registered model alias name cannot be empty."));
    }
    if !name.chars().all(|character| is_word(character) || character == '-') {
        return Err(Error::invalid(format!(
            "Invalid alias name: '{name}'. Names may only contain alphanumerics, underscores (_), and dashes (-)."
        )));
    }
    check_length("Registered model alias name", ALIAS, name)
}

/// Refuses aliases that mean something already: `latest` and `v1`.
pub(crate) fn check_not_reserved(alias: &str) -> Result<()> {
    if alias.eq_ignore_ascii_case("latest") {
        return Err(Error::invalid("'latest' alias name (case insensitive) is reserved."));
    }
    let digits = alias.strip_prefix(['v', 'V']).unwrap_or_default();
    if !digits.is_empty() && digits.chars().all(char::is_numeric) {
        return Err(Error::invalid(format!("Version alias name '{alias}' is reserved.")));
    }
    Ok(())
}

/// Checks a tag of a model or a version.
pub(crate) fn check_tag(tag: &Tag) -> Result<()> {
    check_tag_key(&tag.key)?;
    check_length("key", TAG_KEY, &tag.key)?;
    check_length("value", TAG_VALUE, &tag.value)
}

/// Checks the key of a tag.
pub(crate) fn check_tag_key(key: &str) -> Result<()> {
    if !key.chars().all(|character| is_word(character) || "/.- :".contains(character)) {
        return Err(invalid_value(
            "key",
            key,
            "Names may only contain alphanumerics, underscores (_), dashes (-), periods (.), spaces ( ), colon(:) and \
             slashes (/).",
        ));
    }
    check_path("key", key)
}

/// The tags, each key once: of several values the last one counts.
pub(crate) fn last_of_each(tags: &[Tag]) -> Vec<Tag> {
    let mut kept: Vec<Tag> = Vec::with_capacity(tags.len());
    let mut places = std::collections::HashMap::with_capacity(tags.len());
    for tag in tags {
        match places.get(tag.key.as_str()) {
            Some(&place) => kept[place] = tag.clone(),
            None => {
                places.insert(tag.key.as_str(), kept.len());
                kept.push(tag.clone());
            }
        }
    }
    kept
}

/// Python's `\w`.
fn is_word(character: char) -> bool {
    character.is_alphanumeric() || character == '_'
}

/// Names may be files somewhere, and must not be other names then.
fn check_path(what: &str, name: &str) -> Result<()> {
    let normal = normal_path(name);
    if normal == name && normal != "." && !normal.starts_with("..") && !normal.starts_with('/') {
        return Ok(());
    }
    let message = format!(
        "Names may be treated as files in certain cases, and must not resolve to other names when treated as such. This \
         name would resolve to '{normal}'"
    );
    Err(invalid_value(what, name, &message))
}

fn check_length(what: &str, limit: usize, text: &str) -> Result<()> {
    // No text has more characters than bytes.
    if text.len() <= limit || text.chars().count() <= limit {
        return Ok(());
    }
    Err(Error::invalid(format!("'{what}' exceeds the maximum length of {limit} characters")))
}

fn invalid_value(what: &str, value: &str, message: &str) -> Error {
    Error::invalid(format!("Invalid value {} for parameter '{what}' supplied: {message}", Value::from(value)))
}

/// Python's `posixpath.normpath`.
fn normal_path(path: &str) -> String {
    let root = match path {
        path if path.starts_with("//") && !path.starts_with("///") => "//",
        path if path.starts_with('/') => "/",
        _ => "",
    };
    let mut parts: Vec<&str> = Vec::new();
    for part in path.split('/') {
        match part {
            "" | "." => {}
            ".." if parts.last().is_some_and(|last| *last != "..") => {
                parts.pop();
            }
            ".." if parts.is_empty() && !root.is_empty() => {}
            part => parts.push(part),
        }
    }
    let normal = format!("{root}{}", parts.join("/"));
    if normal.is_empty() { ".".to_owned() } else { normal }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn paths_are_made_normal_as_python_does() {
        for (path, normal) in [
            ("a/b", "a/b"),
            ("a//b/", "a/b"),
            ("./a", "a"),
            ("a/../b", "b"),
            ("../a", "../a"),
            ("/../a", "/a"),
            ("//a", "//a"),
            ("///a", "/a"),
            ("", "."),
            (".", "."),
        ] {
            assert_eq!(normal_path(path), normal, "{path}");
        }
    }

    #[test]
    fn reserved_names_and_bad_ones_are_refused() {
        for good in ["champion", "v", "vx1", "latest2", "a_b-c", "é"] {
            check_alias(good).and_then(|()| check_not_reserved(good)).unwrap();
        }
        for bad in ["latest", "LATEST", "v1", "V22", "", "a b", "a/b", "a.b"] {
            check_alias(bad).and_then(|()| check_not_reserved(bad)).unwrap_err();
        }
        for good in ["owl", "a b", "..a.b", "x%20", "\u{1f989}"] {
            assert_eq!(check_model(good).is_ok(), good != "..a.b", "{good}");
        }
        for bad in ["", " ", "a/b", "a:b", ".", "..", &"x".repeat(257)] {
            check_model(bad).unwrap_err();
        }
        check_tag_key("mlflow.x/y z:1").unwrap();
        for bad in ["a\n", "a*", "../a", "/a", ""] {
            check_tag_key(bad).unwrap_err();
        }
    }
}
