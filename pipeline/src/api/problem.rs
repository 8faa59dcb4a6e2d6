//! Errors as problem details: <https://www.rfc-editor.org/rfc/rfc9457>.

use axum::Json;
use axum::http::{StatusCode, header};
use axum::response::{IntoResponse, Response};
use serde::Serialize;
use utoipa::ToSchema;

use crate::error::Error;

/// What went wrong, for programs and people.
#[derive(Clone, Debug, Serialize, ToSchema)]
pub struct Problem {
    /// The kind of problem in a few words, the same for all of its kind.
    pub title: String,
    /// The HTTP status.
    pub status: u16,
    /// What went wrong this time and what to do.
    pub detail: String,
    /// Seconds until it is worth to ask again: the header `Retry-After`.
    #[serde(skip)]
    #[schema(ignore)]
    pub retry_after: Option<u32>,
}

impl Problem {
    /// A request that cannot be understood.
    pub(super) fn bad_request(detail: impl Into<String>) -> Self {
        Self::new(400, "bad request", detail)
    }

    /// There is no such thing.
    pub(super) fn not_found(detail: impl Into<String>) -> Self {
        Self::new(404, "not found", detail)
    }

    /// More was sent than can be done; it may be sent again after some seconds.
    pub(super) fn too_many(detail: impl Into<String>, retry_after: u32) -> Self {
        Self { retry_after: Some(retry_after), ..Self::new(429, "too many", detail) }
    }

    pub(super) fn new(status: u16, title: &str, detail: impl Into<String>) -> Self {
        Self { title: title.to_owned(), status, detail: detail.into(), retry_after: None }
    }
}

impl From<Error> for Problem {
    fn from(error: Error) -> Self {
        let (title, status) = match &error {
            Error::RunNotFound(_)
            | Error::DagNotFound(_)
            | Error::DagVersionNotFound { .. }
            | Error::TaskNotFound { .. }
            | Error::BackfillNotFound(_) => ("not found", 404),
            Error::RunNotFinished { .. } | Error::NothingFailed(_) => ("the run is in another state", 409),
            Error::NoIntervals { .. } => ("nothing to do", 422),
            Error::Continuous(_) => ("the dag is continuous", 422),
            Error::Params { .. } => ("parameters do not fit", 422),
            Error::DatabaseBusy { .. } => ("the database is busy", 503),
            Error::DatabaseUnreachable { .. } => ("the database does not answer", 503),
            _ => ("the server failed", 500),
        };
        if status >= 500 {
            tracing::error!(%error, "a request failed");
        }
        Self::new(status, title, error.to_string())
    }
}

impl IntoResponse for Problem {
    fn into_response(self) -> Response {
        let status = StatusCode::from_u16(self.status).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
        let retry_after = self.retry_after.map(|seconds| [(header::RETRY_AFTER, seconds.to_string())]);
        let kind = [(header::CONTENT_TYPE, "application/problem+json")];
        match retry_after {
            Some(retry_after) => (status, kind, retry_after, Json(self)).into_response(),
            None => (status, kind, Json(self)).into_response(),
        }
    }
}

pub(super) async fn no_route() -> Problem {
    let detail = "there is nothing at this path; /api/v1/openapi.json lists all paths".to_owned();
    Problem::not_found(detail)
}

pub(super) async fn no_method() -> Problem {
    let detail = "this path takes another method; /api/v1/openapi.json says which".to_owned();
    Problem::new(405, "method not allowed", detail)
}
