//! What a request brings. What cannot be read is refused in MLflow's form.

use axum::body::Bytes;
use axum::extract::{FromRequest, FromRequestParts, Request};
use axum::http::{header, request::Parts};
use serde::de::DeserializeOwned;
use serde_json::{Map, Value};

use crate::{Error, ErrorCode, Result};

/// Characters of a wrong value that an answer repeats.
const LONGEST_VALUE: usize = 1000;

/// A JSON body; unknown fields are ignored, as MLflow does.
pub(crate) struct Json<T>(pub(crate) T);

/// What is behind the question mark. Fields that occur once; see [`pairs`] for the others.
pub(crate) struct Query<T>(pub(crate) T);

impl<S: Send + Sync, T: DeserializeOwned> FromRequest<S> for Json<T> {
    type Rejection = Error;

    async fn from_request(request: Request, state: &S) -> Result<Self> {
        check_type(&request)?;
        let body = Bytes::from_request(request, state)
            .await
            .map_err(|error| Error::refused(ErrorCode::BadRequest, error.body_text()))?;
        if let Some(at) = nul(&body) {
            return Err(Error::invalid(format!("the body holds a NUL character at byte {at}; leave it out")));
        }
        let text: &[u8] = if body.is_empty() { b"{}" } else { &body };
        match serde_json::from_slice(text) {
            Ok(read) => Ok(Self(read)),
            Err(error) => second_look(text, &error).map(Self),
        }
    }
}

impl<S: Send + Sync, T: DeserializeOwned> FromRequestParts<S> for Query<T> {
    type Rejection = Error;

    async fn from_request_parts(parts: &mut Parts, state: &S) -> Result<Self> {
        if parts.uri.path_and_query().is_some_and(|text| text.as_str().contains("%00")) {
            return Err(Error::invalid("the address holds a NUL character; leave it out"));
        }
        let read = axum::extract::Query::from_request_parts(parts, state).await;
        read.map(|axum::extract::Query(value)| Self(value)).map_err(|error| Error::invalid(error.body_text()))
    }
}

fn check_type(request: &Request) -> Result<()> {
    let Some(given) = request.headers().get(header::CONTENT_TYPE) else {
        return Err(Error::invalid("Bad Request. Content-Type header is missing."));
    };
    let essence = given.to_str().unwrap_or_default().split(';').next().unwrap_or_default().trim();
    if essence.eq_ignore_ascii_case("application/json") {
        return Ok(());
    }
    Err(Error::invalid("Bad Request. Content-Type must be one of ['application/json']."))
}

/// Of a body that is not as it should be: a field that is there twice counts the last time, and one of a wrong type is
/// named, in MLflow's words.
fn second_look<T: DeserializeOwned>(text: &[u8], error: &serde_json::Error) -> Result<T> {
    let unreadable = || Error::invalid(format!("the body is not as it should be: {error}"));
    let fields: Map<String, Value> = serde_json::from_slice(text).map_err(|_| unreadable())?;
    if let Ok(read) = serde_json::from_value(Value::Object(fields.clone())) {
        return Ok(read);
    }
    // Where fields must be there, one alone says nothing.
    if serde_json::from_value::<T>(Value::Object(Map::new())).is_err() {
        return Err(unreadable());
    }
    let is_wrong = |(name, value): &(String, Value)| {
        let alone = Map::from_iter([(name.clone(), value.clone())]);
        serde_json::from_value::<T>(Value::Object(alone)).is_err()
    };
    match fields.into_iter().find(is_wrong) {
        Some((name, value)) => Err(wrong_type(&name, &value)),
        None => Err(unreadable()),
    }
}

/// A field whose value is of a wrong type.
pub(crate) fn wrong_type(name: &str, value: &Value) -> Error {
    let kind = match value {
        Value::Null => "NoneType",
        Value::Bool(_) => "bool",
        Value::Number(number) if number.is_f64() => "float",
        Value::Number(_) => "int",
        Value::String(_) => "str",
        Value::Array(_) => "list",
        Value::Object(_) => "dict",
    };
    let shown: String = value.to_string().chars().take(LONGEST_VALUE).collect();
    Error::invalid(format!(
        "Invalid value {shown} for parameter '{name}' supplied:  Hint: Value was of type '{kind}'. See the API docs for more \
         information about request parameters."
    ))
}

/// PostgreSQL takes no text with a NUL, which JSON writes as an escape.
fn nul(body: &[u8]) -> Option<usize> {
    body.windows(6).position(|bytes| bytes == b"\\u0000")
}
