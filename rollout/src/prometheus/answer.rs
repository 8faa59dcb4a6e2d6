//! What Prometheus answers to an instant query.

use std::collections::BTreeMap;

use serde::Deserialize;
use serde_json::Value;

/// One series of an instant vector.
#[derive(Debug, PartialEq)]
pub(super) struct Series {
    pub(super) labels: BTreeMap<String, String>,
    pub(super) value: f64,
}

#[derive(Deserialize)]
#[serde(tag = "status", rename_all = "lowercase")]
enum Answer {
    Success { data: Data },
    Error { error: String },
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Data {
    result_type: String,
    result: Value,
}

#[derive(Deserialize)]
struct Sample {
    metric: BTreeMap<String, String>,
    /// Seconds since 1970, and the value as a text. Native histograms have none.
    value: Option<(f64, String)>,
}

/// The series of an answer. Values that are no numbers (`NaN`) are left out.
///
/// # Errors
/// Why there are none, in Prometheus' words; none if it is no answer of Prometheus.
pub(super) fn read(bytes: &[u8]) -> Result<Vec<Series>, Option<String>> {
    let data = match serde_json::from_slice(bytes) {
        Ok(Answer::Success { data }) => data,
        Ok(Answer::Error { error }) => return Err(Some(format!("refuses: {error}"))),
        Err(_) => return Err(None),
    };
    if data.result_type != "vector" {
        return Err(Some(format!("answers with a {}, not with a vector", data.result_type)));
    }
    let samples: Vec<Sample> = serde_json::from_value(data.result).map_err(|_| None)?;
    let series = |sample: Sample| {
        let value: f64 = sample.value?.1.parse().ok()?;
        (!value.is_nan()).then_some(Series { labels: sample.metric, value })
    };
    Ok(samples.into_iter().filter_map(series).collect())
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use serde_json::json;

    use super::*;

    fn answer(result: Value) -> Vec<u8> {
        json!({"status": "success", "data": {"resultType": "vector", "result": result}}).to_string().into_bytes()
    }

    #[test]
    fn vectors_are_read_and_what_is_no_number_is_left_out() {
        let series = |value: Value| json!({"metric": {"le": "+Inf"}, "value": [1_700_000_000.5, value]});
        let histogram = json!({"metric": {}, "histogram": [1.0, {"count": "1"}]});
        let found = read(&answer(json!([series(json!("12")), series(json!("NaN")), series(json!("+Inf")), histogram])));
        let values: Vec<f64> = found.unwrap().iter().map(|series| series.value).collect();
        assert_eq!(values, [12.0, f64::INFINITY]);
        assert_eq!(read(&answer(json!([]))), Ok(Vec::new()));
    }

    #[test]
    fn what_is_no_vector_is_told() {
        let error = json!({"status": "error", "errorType": "bad_data", "error": "parse error"}).to_string();
        assert_eq!(read(error.as_bytes()), Err(Some("refuses: parse error".to_owned())));
        let scalar = json!({"status": "success", "data": {"resultType": "scalar", "result": [1.0, "1"]}}).to_string();
        assert!(read(scalar.as_bytes()).unwrap_err().unwrap().contains("scalar"));
        assert_eq!(read(b"<html>"), Err(None));
        assert_eq!(read(&answer(json!([{"value": 3}]))), Err(None));
    }
}
