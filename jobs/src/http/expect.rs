//! What an answer must be like.

use std::ops::RangeInclusive;

use pipeline::Masker;
use reqwest::StatusCode;
use serde_json::Value;

use crate::text;
use crate::with::{Keys, wrong};

use super::request::Answer;

/// Bytes of a value in a message.
const SHOWN: usize = 80;

/// The statuses and values that an answer must have.
#[derive(Debug)]
pub(crate) struct Expect {
    statuses: Vec<RangeInclusive<u16>>,
    /// JSON pointers (RFC 6901) and the values there.
    json: Vec<(String, Value)>,
}

impl Expect {
    /// Reads the keys `status` (200 to 299 by default) and `json`.
    pub(crate) fn read(keys: &Keys) -> Result<Self, String> {
        Ok(Self { statuses: read_statuses(keys)?, json: read_json(keys)? })
    }

    /// Whether the status is one of those expected.
    pub(crate) fn accepts(&self, status: StatusCode) -> bool {
        self.statuses.iter().any(|range| range.contains(&status.as_u16()))
    }

    /// Says which value is not as expected, without secrets: a value is masked before it is cut.
    pub(crate) fn unmet(&self, answer: &Answer, masker: &Masker) -> Option<String> {
        if self.json.is_empty() {
            return None;
        }
        let body: Value = match answer.whole_body().map(serde_json::from_slice) {
            Ok(Ok(body)) => body,
            Ok(Err(error)) => return Some(format!("what it answered is no JSON ({error})")),
            Err(reason) => return Some(reason),
        };
        self.json.iter().find_map(|(pointer, wanted)| match body.pointer(pointer) {
            None => Some(format!("there is nothing at `{pointer}`")),
            Some(found) if are_equal(found, wanted) => None,
            Some(found) => {
                let shown = |value: &Value| text::head(&masker.mask(&value.to_string()), SHOWN).to_owned();
                Some(format!("`{pointer}` is {}, not {}", shown(found), shown(wanted)))
            }
        })
    }
}

fn read_statuses(keys: &Keys) -> Result<Vec<RangeInclusive<u16>>, String> {
    let items = match keys.value("status") {
        None if keys.has("status") => return Ok(Vec::new()),
        None => return Ok(vec![200..=299]),
        Some(Value::Array(items)) => items.as_slice(),
        Some(item) => std::slice::from_ref(item),
    };
    if items.is_empty() {
        return Err("`status` is empty: name at least one, or leave it out".to_owned());
    }
    items.iter().filter(|item| keys.is_known(item)).map(read_status).collect()
}

/// `200`, or `2xx`.
fn read_status(item: &Value) -> Result<RangeInclusive<u16>, String> {
    let code = item.as_u64().and_then(|code| u16::try_from(code).ok()).filter(|code| (100..=599).contains(code));
    let class = match item.as_str().map(str::as_bytes) {
        Some([digit @ b'1'..=b'5', b'x', b'x']) => Some(u16::from(digit - b'0') * 100),
        _ => None,
    };
    match (code, class) {
        (Some(code), _) => Ok(code..=code),
        (_, Some(first)) => Ok(first..=first + 99),
        _ => Err("`status` must be a status such as 200 or `2xx`, or a list of these".to_owned()),
    }
}

fn read_json(keys: &Keys) -> Result<Vec<(String, Value)>, String> {
    let entries = match keys.value("json") {
        None => return Ok(Vec::new()),
        Some(Value::Object(entries)) => entries,
        Some(other) => return Err(wrong("json", "a mapping of JSON pointers to values", other)),
    };
    if let Some(pointer) = entries.keys().find(|pointer| !pointer.is_empty() && !pointer.starts_with('/')) {
        return Err(format!("`json` has `{pointer}`, which is no JSON pointer: write for example `/data/state`"));
    }
    Ok(entries.iter().map(|(pointer, value)| (pointer.clone(), value.clone())).collect())
}

/// Numbers are equal when their values are: 1 and 1.0.
fn are_equal(found: &Value, wanted: &Value) -> bool {
    match (found, wanted) {
        (Value::Number(found), Value::Number(wanted)) => found == wanted || found.as_f64() == wanted.as_f64(),
        _ => found == wanted,
    }
}
