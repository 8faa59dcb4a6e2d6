//! The keys of `with` for `promote`.

use std::path::Path;

use model_registry::VersionNumber;
use model_registry::promotion::Gates;
use pipeline::template::is_template;
use serde_json::Value;

use crate::with::{Keys, Templates, wrong};

const KEYS: [&str; 7] = ["name", "version", "alias", "gates", "reason", "actor", "roles"];

/// The alias that is moved unless the task says otherwise.
const ALIAS: &str = "champion";

/// What stands for SQL that is not known yet.
const SOME_SQL: &str = "select true as passed";

/// Which alias to move to which version, and when.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Settings {
    /// The registered model.
    pub(super) name: String,
    pub(super) version: VersionNumber,
    pub(super) alias: String,
    pub(super) gates: GateSource,
    pub(super) reason: String,
    pub(super) actor: Option<String>,
    pub(super) roles: Vec<String>,
}

/// Where gates are.
#[derive(Debug, Clone, PartialEq)]
pub(super) enum GateSource {
    /// In the DAG file.
    Inline(Gates),
    /// In a file of this machine.
    File(String),
}

impl Settings {
    /// Reads `with`; values that are templates still are left out.
    pub(super) fn read(with: &Value, templates: Templates) -> Result<Self, String> {
        let keys = Keys::new(with, &KEYS, templates)?;
        for key in ["name", "version", "gates"] {
            keys.require(key)?;
        }
        Ok(Self {
            name: keys.filled_text("name")?.unwrap_or_default().to_owned(),
            version: version(&keys)?,
            alias: keys.filled_text("alias")?.unwrap_or(ALIAS).to_owned(),
            gates: gates(&keys, templates)?,
            reason: keys.some_text("reason")?.unwrap_or_default(),
            actor: keys.some_text("actor")?,
            roles: keys.texts("roles")?.unwrap_or_default(),
        })
    }
}

impl GateSource {
    /// The gates; a file is read now.
    pub(super) fn load(&self) -> Result<Gates, String> {
        match self {
            Self::Inline(gates) => Ok(gates.clone()),
            Self::File(path) => {
                let text = std::fs::read_to_string(path)
                    .map_err(|error| format!("the file of gates {path} cannot be read: {error}"))?;
                Gates::parse(path, &text).map_err(|error| error.to_string())
            }
        }
    }
}

/// A number, also as a text.
fn version(keys: &Keys<'_>) -> Result<VersionNumber, String> {
    let Some(value) = keys.value("version") else { return Ok(VersionNumber(1)) };
    let number = value.as_i64().or_else(|| value.as_str()?.parse().ok()).filter(|number| *number > 0);
    number.map(VersionNumber).ok_or_else(|| wrong("version", "the number of a version", value))
}

fn gates(keys: &Keys<'_>, templates: Templates) -> Result<GateSource, String> {
    match keys.value("gates") {
        None => Ok(GateSource::Inline(Gates::default())),
        Some(Value::String(path)) => {
            // The file may be there only where the task runs.
            let source = GateSource::File(path.clone());
            if templates == Templates::Unrendered && Path::new(path).exists() {
                source.load()?;
            }
            Ok(source)
        }
        Some(list @ Value::Array(_)) => {
            let known = if templates == Templates::Unrendered { with_some_sql(list) } else { list.clone() };
            Gates::from_value("`gates`", &known).map(GateSource::Inline).map_err(|error| error.to_string())
        }
        Some(other) => Err(wrong("gates", "a list of gates or the path of a file of gates", other)),
    }
}

/// The same value with SQL in the place of texts that are templates still: their gates' own places are not in sight yet.
fn with_some_sql(value: &Value) -> Value {
    match value {
        Value::String(text) if is_template(text) => Value::String(SOME_SQL.to_owned()),
        Value::Array(items) => Value::Array(items.iter().map(with_some_sql).collect()),
        Value::Object(entries) => {
            Value::Object(entries.iter().map(|(key, value)| (key.clone(), with_some_sql(value))).collect())
        }
        other => other.clone(),
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use serde_json::json;

    use super::*;

    fn with(gates: Value) -> Value {
        json!({"name": "w", "version": "3", "gates": gates})
    }

    #[test]
    fn gates_are_read_before_and_after_templates() {
        let raw = with(json!([{"name": "f1", "sql": "{% raw %}select {{ challenger }}{% endraw %} as found"}]));
        assert!(Settings::read(&raw, Templates::Unrendered).is_ok());
        let rendered = with(json!([{"name": "f1", "sql": "select {{ challenger }} as found"}]));
        let settings = Settings::read(&rendered, Templates::Rendered).unwrap();
        assert_eq!((settings.alias.as_str(), settings.version), ("champion", VersionNumber(3)));
        assert_eq!(settings.gates.load().unwrap().list.len(), 1);
    }

    #[test]
    fn mistakes_are_told_when_the_dag_is_checked() {
        let read = |with: Value| Settings::read(&with, Templates::Unrendered);
        assert!(read(with(json!([{"name": "f1"}]))).is_err());
        assert!(read(with(json!([{"name": "f1", "sql": "select 1", "smoke": true}]))).is_err());
        assert!(read(with(json!(3))).unwrap_err().contains("`gates` must be"));
        assert!(read(json!({"name": "w", "version": 1})).unwrap_err().contains("lacks the key `gates`"));
        assert!(read(json!({"name": "w", "version": "x", "gates": []})).unwrap_err().contains("`version`"));
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("gates.yaml");
        std::fs::write(&file, "gates:\n  - {name: a, smoke: no}\n").unwrap();
        assert!(read(with(json!(file))).unwrap_err().contains("gates.yaml"));
        assert!(read(with(json!("not-here.yaml"))).is_ok(), "it may be there where the task runs");
    }
}
