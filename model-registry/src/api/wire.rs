//! Fields of requests as protobuf's JSON has them: whole numbers also as text, enums by name or number, `null` for what
//! is not there.

use serde::de::Error as _;
use serde::{Deserialize, Deserializer};
use serde_json::Value;

use crate::number;

/// A key and its value.
#[derive(Clone, Debug, Default, Deserialize)]
pub(crate) struct KeyValue {
    pub(crate) key: Option<String>,
    pub(crate) value: Option<String>,
}

/// A whole number, or one that is written as text.
pub(crate) fn whole<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<i64>, D::Error> {
    let value = Option::<Value>::deserialize(deserializer)?;
    let read = match &value {
        None => return Ok(None),
        Some(Value::Number(number)) => number.as_i64().or_else(|| number.as_f64().and_then(integral)),
        Some(Value::String(text)) => text.trim().parse().ok(),
        Some(_) => None,
    };
    let shown = value.unwrap_or_default();
    read.map(Some).ok_or_else(|| D::Error::custom(format!("{shown} is no whole number of 64 bits")))
}

/// A real number as [`number::read`] takes it.
pub(crate) fn real<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<f64>, D::Error> {
    let value = Option::<Value>::deserialize(deserializer)?;
    value.as_ref().map(number::read).transpose().map_err(D::Error::custom)
}

/// One of some things by its name, or its number in the protocol.
pub(crate) fn one_of<'de, D: Deserializer<'de>, T: Copy>(
    deserializer: D,
    things: &[(&'static str, i64, T)],
) -> Result<Option<T>, D::Error> {
    let Some(value) = Option::<Value>::deserialize(deserializer)? else { return Ok(None) };
    let is_meant = |name: &str, number: i64| value.as_str() == Some(name) || value.as_i64() == Some(number);
    let found = things.iter().find(|(name, number, _)| is_meant(name, *number));
    let names = || things.iter().map(|(name, ..)| *name).collect::<Vec<_>>().join(", ");
    found.map(|(.., thing)| Some(*thing)).ok_or_else(|| D::Error::custom(format!("{value} is none of {}", names())))
}

fn integral(number: f64) -> Option<i64> {
    // Larger ones are not exact.
    (number.fract() == 0.0 && number.abs() < 9.0e15).then_some(number as i64)
}
