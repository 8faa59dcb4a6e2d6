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
}

impl Problem {
    /// A request that cannot be understood.
    pub(super) fn bad_request(detail: impl Into<String>) -> Self {
        Self { title: "bad request".to_owned(), status: 400, detail: detail.into() }
    }
}

impl From<Error> for Problem {
    fn from(error: Error) -> Self {
        let (title, status) = match &error {
            Error::RunNotFound(_)
            | Error::DagNotFound(_)
            | Error::TaskNotFound { .. }
            | Error::BackfillNotFound(_)
            | Error::NoAttempt { .. } => ("not found", 404),
            Error::RunNotFinished { .. } | Error::NothingFailed(_) => ("the run is in another state", 409),
            Error::NoIntervals { .. } => ("nothing to do", 422),
            Error::Params { .. } => ("parameters do not fit", 422),
            Error::DatabaseBusy { .. } => ("the database is busy", 503),
            Error::DatabaseUnreachable { .. } => ("the database does not answer", 503),
            _ => ("the server failed", 500),
        };
        if status >= 500 {
            tracing::error!(%error, "a request failed");
        }
        Self { title: title.to_owned(), status, detail: error.to_string() }
    }
}

impl IntoResponse for Problem {
    fn into_response(self) -> Response {
        let status = StatusCode::from_u16(self.status).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
        (status, [(header::CONTENT_TYPE, "application/problem+json")], Json(self)).into_response()
    }
}

pub(super) async fn no_route() -> Problem {
    let detail = "there is nothing at this path; /api/v1/openapi.json lists all paths".to_owned();
    Problem { title: "not found".to_owned(), status: 404, detail }
}

pub(super) async fn no_method() -> Problem {
    let detail = "this path takes another method; /api/v1/openapi.json says which".to_owned();
    Problem { title: "method not allowed".to_owned(), status: 405, detail }
}
