//! Metric values: how they travel and how they are stored.

use serde::{Serialize, Serializer};
use serde_json::Value;

use crate::{Error, Result};

/// A metric's value as the tables have it.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) struct Stored {
    /// 0 for what is not a number.
    pub(crate) value: f64,
    /// 1 for what is not a number, else 0.
    pub(crate) is_nan: i64,
}

impl Stored {
    /// Infinities become the largest finite numbers, as MLflow stores them.
    pub(crate) fn new(value: f64) -> Self {
        if value.is_nan() {
            return Self { value: 0.0, is_nan: 1 };
        }
        Self { value: value.clamp(-f64::MAX, f64::MAX), is_nan: 0 }
    }

    /// The value as it was.
    pub(crate) fn value(self) -> f64 {
        if self.is_nan == 0 { self.value } else { f64::NAN }
    }
}

/// Reads a value of a request: a number, a text that is one, or `"NaN"`, `"Infinity"`, `"-Infinity"` as protobuf's JSON
/// has them.
pub(crate) fn read(value: &Value) -> Result<f64> {
    let read = match value {
        Value::Number(number) => number.as_f64(),
        Value::String(text) => match text.as_str() {
            "NaN" => Some(f64::NAN),
            "Infinity" => Some(f64::INFINITY),
            "-Infinity" => Some(f64::NEG_INFINITY),
            text => text.trim().parse().ok().filter(|number: &f64| !number.is_nan()),
        },
        _ => None,
    };
    read.ok_or_else(|| Error::invalid(format!("Invalid value {value} for parameter 'value' supplied: give a number")))
}

/// Writes a value of an answer.
pub(crate) fn write(value: f64) -> Value {
    if value.is_nan() {
        return Value::from("NaN");
    }
    if value.is_infinite() {
        return Value::from(if value > 0.0 { "Infinity" } else { "-Infinity" });
    }
    Value::from(value)
}

/// Writes a value of an answer without a detour.
pub(crate) fn serialize<S: Serializer>(value: &f64, serializer: S) -> Result<S::Ok, S::Error> {
    if value.is_finite() { serializer.serialize_f64(*value) } else { write(*value).serialize(serializer) }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn what_is_not_a_number_survives_the_tables() {
        assert!(Stored::new(f64::NAN).value().is_nan());
        assert_eq!(Stored::new(f64::INFINITY).value(), f64::MAX);
        assert_eq!(Stored::new(f64::NEG_INFINITY).value(), -f64::MAX);
        assert_eq!(Stored::new(-1.5).value(), -1.5);
        assert_eq!(write(f64::NAN), Value::from("NaN"));
        assert!(read(&Value::from("NaN")).unwrap().is_nan());
        assert_eq!(read(&Value::from("1.5")).unwrap(), 1.5);
        assert!(read(&Value::from("x")).is_err());
        assert!(read(&Value::from("nan")).is_err());
    }
}
