//! What a request brings. What cannot be read is refused in MLflow's form.

use axum::body::Bytes;
use axum::extract::{FromRequest, FromRequestParts, Request};
use axum::http::{header, request::Parts};
use serde::de::DeserializeOwned;

use crate::{Error, ErrorCode, Result};

/// A JSON body; unknown fields are ignored, as MLflow does.
pub(crate) struct Json<T>(pub(crate) T);

/// What is behind the question mark. Fields that occur once; see [`pairs`] for the others.
pub(crate) struct Query<T>(pub(crate) T);

impl<S: Send + Sync, T: DeserializeOwned> FromRequest<S> for Json<T> {
    type Rejection = Error;

    async fn from_request(request: Request, state: &S) -> Result<Self> {
        if !is_json(&request) {
            let message = "Bad Request. Content-Type header is missing or is not 'application/json'";
            return Err(Error::refused(ErrorCode::BadRequest, message));
        }
        let body = Bytes::from_request(request, state)
            .await
            .map_err(|error| Error::refused(ErrorCode::BadRequest, error.body_text()))?;
        if let Some(at) = nul(&body) {
            return Err(Error::invalid(format!("the body holds a NUL character at byte {at}; leave it out")));
        }
        let text: &[u8] = if body.is_empty() { b"{}" } else { &body };
        let read = serde_json::from_slice(text);
        read.map(Self).map_err(|error| Error::invalid(format!("the body is not as it should be: {error}")))
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

fn is_json(request: &Request) -> bool {
    let given = request.headers().get(header::CONTENT_TYPE).and_then(|value| value.to_str().ok()).unwrap_or_default();
    let essence = given.split(';').next().unwrap_or_default().trim();
    essence.eq_ignore_ascii_case("application/json")
}

/// PostgreSQL takes no text with a NUL, which JSON writes as an escape.
fn nul(body: &[u8]) -> Option<usize> {
    body.windows(6).position(|bytes| bytes == b"\\u0000")
}
