//! The keys of `with` for `register`.

use serde_json::Value;

use crate::with::{Keys, Templates, wrong};

const KEYS: [&str; 5] = ["name", "model", "description", "tags", "metrics"];

/// What to register as what.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Settings {
    /// The registered model.
    pub(super) name: String,
    pub(super) model: String,
    pub(super) description: Option<String>,
    pub(super) tags: Vec<(String, String)>,
    pub(super) metrics: Vec<(String, f64)>,
}

impl Settings {
    /// Reads `with`; values that are templates still are left out.
    pub(super) fn read(with: &Value, templates: Templates) -> Result<Self, String> {
        let keys = Keys::new(with, &KEYS, templates)?;
        keys.require("name")?;
        keys.require("model")?;
        let tags = keys.mapping("tags")?.into_iter();
        Ok(Self {
            name: keys.filled_text("name")?.unwrap_or_default().to_owned(),
            model: keys.filled_text("model")?.unwrap_or_default().to_owned(),
            description: keys.some_text("description")?,
            tags: tags.filter_map(|(name, value)| value.map(|value| (name.to_owned(), value))).collect(),
            metrics: metrics(&keys)?,
        })
    }
}

/// The numbers of a mapping; what is no number is left out, so that the output of another task can be given as it is.
fn metrics(keys: &Keys<'_>) -> Result<Vec<(String, f64)>, String> {
    match keys.value("metrics") {
        None => Ok(Vec::new()),
        Some(Value::Object(entries)) => {
            let numbers = entries.iter().filter(|(name, _)| name.as_str() != "version");
            Ok(numbers.filter_map(|(name, value)| value.as_f64().map(|number| (name.clone(), number))).collect())
        }
        Some(other) => Err(wrong("metrics", "a mapping of names to numbers", other)),
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use serde_json::json;

    use super::*;

    #[test]
    fn keys_are_read_and_mistakes_told() {
        let read = |with: Value| Settings::read(&with, Templates::Rendered);
        let with = json!({"name": "w", "model": "m", "tags": {"a": 1}, "metrics": {"macro_f1": 0.5, "model": "x", "version": 3}});
        let settings = read(with).unwrap();
        assert_eq!(settings.tags, [("a".to_owned(), "1".to_owned())]);
        assert_eq!(settings.metrics, [("macro_f1".to_owned(), 0.5)]);
        assert!(read(json!({"name": "w"})).unwrap_err().contains("lacks the key `model`"));
        assert!(read(json!({"name": "w", "model": "m", "metrics": 3})).unwrap_err().contains("`metrics`"));
        assert!(read(json!({"nam": "w", "model": "m"})).unwrap_err().contains("did you mean `name`?"));
    }
}
