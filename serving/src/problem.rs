//! Errors as problem details: <https://www.rfc-editor.org/rfc/rfc9457>.

use axum::Json;
use axum::extract::rejection::JsonRejection;
use axum::http::{StatusCode, header};
use axum::response::{IntoResponse, Response};
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use crate::{Error, retry_seconds};

/// The media type of problem details.
pub const PROBLEM_TYPE: &str = "application/problem+json";

/// What went wrong, for programs and people.
#[derive(Debug, Clone, Serialize, Deserialize, ToSchema)]
pub struct Problem {
    /// The kind of problem in a few words, the same for all of its kind.
    pub title: String,
    /// The HTTP status.
    #[schema(minimum = 400, maximum = 599)]
    pub status: u16,
    /// What went wrong this time and what to do.
    pub detail: String,
}

impl Problem {
    /// What the caller may read of an error.
    pub(crate) fn of(error: &Error) -> Self {
        let status = error.status();
        if error.is_inside() {
            tracing::error!(%error, "a request failed");
        }
        let title = status.canonical_reason().unwrap_or("error").to_ascii_lowercase();
        Self { title, status: status.as_u16(), detail: error.public() }
    }
}

impl IntoResponse for Error {
    fn into_response(self) -> Response {
        let status = self.status();
        let retry_after = self.retry_after();
        let problem = Problem::of(&self);
        let kind = [(header::CONTENT_TYPE, PROBLEM_TYPE)];
        match retry_after {
            Some(after) => {
                let after = [(header::RETRY_AFTER, retry_seconds(after).to_string())];
                (status, kind, after, Json(problem)).into_response()
            }
            None => (status, kind, Json(problem)).into_response(),
        }
    }
}

/// What is wrong with a body that is no such JSON.
impl From<JsonRejection> for Error {
    fn from(rejection: JsonRejection) -> Self {
        match rejection {
            JsonRejection::MissingJsonContentType(_) => Self::Unsupported("send application/json".to_owned()),
            other => Self::Invalid(other.body_text()),
        }
    }
}

pub(crate) async fn no_route() -> Error {
    Error::NotFound("there is nothing at this path; /openapi.json lists all paths".to_owned())
}

pub(crate) async fn no_method() -> Response {
    let title = "method not allowed".to_owned();
    let detail = "this path takes another method; the header Allow says which".to_owned();
    let problem = Problem { title, status: 405, detail };
    (StatusCode::METHOD_NOT_ALLOWED, [(header::CONTENT_TYPE, PROBLEM_TYPE)], Json(problem)).into_response()
}
