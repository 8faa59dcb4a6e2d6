//! Names in the registry, checked as MLflow checks them, with its words.

use std::fmt;

use serde_json::Value;

use crate::limits::KEY;
use crate::registered::Tag;
use crate::{Error, Result, VersionNumber, validate};

/// Characters of a model's name.
const MODEL_NAME: usize = 256;
/// Characters of an alias.
const ALIAS: usize = 255;
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
    let resolved = validate::resolved(name);
    if resolved != name || resolved == "." || resolved.starts_with("..") {
        let why = format!(
            "Names may be treated as files in certain cases, and must not resolve to other names when treated as such. \
             This name would resolve to '{resolved}'"
        );
        return Err(validate::not_allowed("name", &Value::from(name), &why));
    }
    Ok(())
}

/// Checks the name of a model that is to be made. The original takes longer names on SQLite alone.
pub(crate) fn check_first_name(name: &str) -> Result<()> {
    check_model(name)?;
    validate::length(name, MODEL_NAME, "name")
}

/// Checks the new name of a model.
pub(crate) fn check_new_model(name: &str) -> Result<()> {
    if name.trim().is_empty() {
        return Err(Error::invalid("Missing value for required parameter 'new_name'."));
    }
    check_first_name(name)
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
    validate::length(name, ALIAS, "Registered model alias name")
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
    validate::length(&tag.key, KEY, "key")?;
    validate::length(&tag.value, TAG_VALUE, "value")
}

/// Checks the key of a tag.
pub(crate) fn check_tag_key(key: &str) -> Result<()> {
    validate::key(key, "key")
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

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

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
            check_first_name(bad).unwrap_err();
        }
        check_tag_key("mlflow.x/y z:1").unwrap();
        for bad in ["a\n", "a*", "../a", "/a", ""] {
            check_tag_key(bad).unwrap_err();
        }
    }
}
