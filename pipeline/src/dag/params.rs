//! Parameters of a DAG: declared with a type, given as `key=value` text, resolved to JSON.

use std::collections::BTreeMap;
use std::fmt;

use serde_json::{Number, Value};

use super::nearest::hint;
use crate::error::{Error, Result};

/// A declared parameter.
#[derive(Clone, Debug, PartialEq)]
pub struct Param {
    /// Its name.
    pub name: String,
    /// What its values are.
    pub kind: ParamType,
    /// What it is for, in words.
    pub description: String,
    /// The value when none is given; a parameter without one must be given.
    pub default: Option<Value>,
}

/// What the values of a parameter are.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ParamType {
    /// Any text.
    String,
    /// A whole number of 64 bits.
    Integer,
    /// A finite number.
    Number,
    /// `true` or `false`.
    Boolean,
}

impl ParamType {
    /// The names in DAG files.
    pub const NAMES: [&'static str; 4] = ["string", "integer", "number", "boolean"];

    /// The type of this name.
    pub fn from_name(name: &str) -> Option<Self> {
        match name {
            "string" => Some(Self::String),
            "integer" => Some(Self::Integer),
            "number" => Some(Self::Number),
            "boolean" => Some(Self::Boolean),
            _ => None,
        }
    }

    /// Reads the text of a command line.
    fn read(self, text: &str) -> Option<Value> {
        match self {
            Self::String => Some(Value::String(text.to_string())),
            Self::Integer => text.trim().parse::<i64>().ok().map(Value::from),
            Self::Number => text.trim().parse::<f64>().ok().and_then(Number::from_f64).map(Value::Number),
            Self::Boolean => text.trim().parse::<bool>().ok().map(Value::Bool),
        }
    }

    /// Whether a JSON value is of this type.
    pub(super) fn fits(self, value: &Value) -> bool {
        match self {
            Self::String => value.is_string(),
            Self::Integer => value.is_i64(),
            Self::Number => value.is_number(),
            Self::Boolean => value.is_boolean(),
        }
    }

    /// How to write a value.
    fn example(self) -> &'static str {
        match self {
            Self::String => "a text",
            Self::Integer => "a whole number such as 12",
            Self::Number => "a number such as 0.5",
            Self::Boolean => "`true` or `false`",
        }
    }
}

impl fmt::Display for ParamType {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::String => "string",
            Self::Integer => "integer",
            Self::Number => "number",
            Self::Boolean => "boolean",
        })
    }
}

/// A value for every declared parameter of a DAG.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Params(BTreeMap<String, Value>);

impl Params {
    /// The value of a parameter.
    pub fn get(&self, name: &str) -> Option<&Value> {
        self.0.get(name)
    }

    /// All as a JSON object with sorted keys. Equal parameters give equal text.
    pub fn to_json(&self) -> Value {
        Value::Object(self.0.iter().map(|(name, value)| (name.clone(), value.clone())).collect())
    }

    /// Reads what [`Params::to_json`] wrote.
    pub(crate) fn from_json(value: Value) -> Option<Self> {
        match value {
            Value::Object(fields) => Some(Self(fields.into_iter().collect())),
            _ => None,
        }
    }
}

/// Types the given texts and adds defaults; the error names every parameter that does not fit.
pub(super) fn resolve(dag: &str, declared: &[Param], given: &[(String, String)]) -> Result<Params> {
    let mut values = BTreeMap::new();
    let mut mistakes = Vec::new();
    for (name, text) in given {
        let Some(param) = declared.iter().find(|param| param.name == *name) else {
            mistakes.push(format!("unknown parameter `{name}`{}", unknown_hint(name, declared)));
            continue;
        };
        match param.kind.read(text) {
            Some(value) => {
                if values.insert(name.clone(), value).is_some() {
                    mistakes.push(format!("`{name}` is given twice"));
                }
            }
            None => mistakes.push(format!(
                "`{name}` is of type {}, but `{text}` is not {}",
                param.kind,
                param.kind.example()
            )),
        }
    }
    for param in declared {
        if values.contains_key(&param.name) || given.iter().any(|(name, _)| *name == param.name) {
            continue;
        }
        match &param.default {
            Some(value) => {
                values.insert(param.name.clone(), value.clone());
            }
            None => mistakes.push(missing(param)),
        }
    }
    if mistakes.is_empty() {
        return Ok(Params(values));
    }
    Err(Error::Params { dag: dag.to_string(), mistakes: mistakes.join("; ") })
}

fn missing(param: &Param) -> String {
    let Param { name, kind, description, .. } = param;
    let what = if description.is_empty() { String::new() } else { format!(": {}", description.trim()) };
    format!("`{name}` ({kind}) is required{what}; give `{name}=…`")
}

fn unknown_hint(name: &str, declared: &[Param]) -> String {
    if declared.is_empty() {
        return ": the DAG declares none".to_string();
    }
    let near = hint(name, declared.iter().map(|param| param.name.as_str()));
    let list: Vec<String> = declared.iter().map(|param| format!("{} ({})", param.name, param.kind)).collect();
    if near.contains("did you mean") {
        format!("{near} declared: {}", list.join(", "))
    } else {
        format!("; declared: {}", list.join(", "))
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use serde_json::json;

    fn declared() -> Vec<Param> {
        let param = |name: &str, kind, default: Option<Value>| Param {
            name: name.to_string(),
            kind,
            description: format!("the {name}"),
            default,
        };
        vec![
            param("source", ParamType::String, None),
            param("size", ParamType::Integer, Some(json!(200))),
            param("threshold", ParamType::Number, Some(json!(0.3))),
            param("force", ParamType::Boolean, Some(json!(false))),
        ]
    }

    fn given(pairs: &[(&str, &str)]) -> Result<Params> {
        let pairs: Vec<(String, String)> = pairs.iter().map(|(k, v)| (k.to_string(), v.to_string())).collect();
        resolve("detect", &declared(), &pairs)
    }

    #[test]
    fn types_and_defaults() {
        let params = given(&[("source", "a=b"), ("size", "7"), ("threshold", "1"), ("force", "true")]).unwrap();
        assert_eq!(params.to_json(), json!({"force": true, "size": 7, "source": "a=b", "threshold": 1.0}));
        assert_eq!(given(&[("source", "x")]).unwrap().get("size"), Some(&json!(200)));
        assert_eq!(Params::from_json(params.to_json()).unwrap(), params);
    }

    #[test]
    fn every_misfit_is_told() {
        let error = given(&[("sorce", "x"), ("size", "1.5"), ("force", "yes"), ("threshold", "NaN")]).unwrap_err();
        assert_eq!(
            error.to_string(),
            "parameters of dag `detect` do not fit: unknown parameter `sorce`; did you mean `source`? declared: \
             source (string), size (integer), threshold (number), force (boolean); \
             `size` is of type integer, but `1.5` is not a whole number such as 12; \
             `force` is of type boolean, but `yes` is not `true` or `false`; \
             `threshold` is of type number, but `NaN` is not a number such as 0.5; \
             `source` (string) is required: the source; give `source=…`"
        );
        assert!(given(&[("source", "a"), ("source", "b")]).unwrap_err().to_string().contains("given twice"));
    }
}
