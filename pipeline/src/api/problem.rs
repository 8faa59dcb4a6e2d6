//! Errors as problem details: <https://www.rfc-editor.org/rfc/rfc9457>.

use std::collections::BTreeMap;

use axum::Json;
use axum::http::{StatusCode, header};
use axum::response::{IntoResponse, Response};
use platform::identity::Refusal;
use serde::{Deserialize, Serialize};
use utoipa::openapi::{ContentBuilder, Ref, RefOr, ResponseBuilder};
use utoipa::{IntoResponses, ToSchema};

use crate::error::Error;

/// The media type of problem details.
pub const PROBLEM_TYPE: &str = "application/problem+json";

/// What went wrong, for programs and people.
#[derive(Clone, Debug, Serialize, Deserialize, ToSchema)]
pub struct Problem {
    /// The kind of problem in a few words, the same for all of its kind.
    pub title: String,
    /// The HTTP status.
    #[schema(minimum = 400, maximum = 599)]
    pub status: u16,
    /// What went wrong this time and what to do.
    pub detail: String,
    /// Seconds until it is worth to ask again: the header `Retry-After`.
    #[serde(skip)]
    #[schema(ignore)]
    pub retry_after: Option<u32>,
}

/// The problems that an operation may meet, for the document.
pub(super) struct Problems;

impl Problem {
    pub(super) fn new(title: &str, status: StatusCode, detail: impl Into<String>) -> Self {
        Self { title: title.to_owned(), status: status.as_u16(), detail: detail.into(), retry_after: None }
    }

    /// A request that cannot be understood.
    pub(super) fn bad_request(detail: impl Into<String>) -> Self {
        Self::new("bad request", StatusCode::BAD_REQUEST, detail)
    }

    /// There is no such thing.
    pub(super) fn not_found(detail: impl Into<String>) -> Self {
        Self::new("not found", StatusCode::NOT_FOUND, detail)
    }

    /// More was sent than can be done; it may be sent again after some seconds.
    pub(super) fn too_many(detail: impl Into<String>, retry_after: u32) -> Self {
        Self { retry_after: Some(retry_after), ..Self::new("too many", StatusCode::TOO_MANY_REQUESTS, detail) }
    }
}

impl From<Error> for Problem {
    fn from(error: Error) -> Self {
        let (title, status) = match &error {
            Error::RunNotFound(_)
            | Error::DagNotFound(_)
            | Error::DagVersionNotFound { .. }
            | Error::TaskNotFound { .. }
            | Error::BackfillNotFound(_)
            | Error::NoAttempt { .. } => ("not found", StatusCode::NOT_FOUND),
            Error::RunNotFinished { .. } | Error::NothingFailed(_) => {
                ("the run is in another state", StatusCode::CONFLICT)
            }
            Error::PositionUnknown { .. } => ("bad request", StatusCode::BAD_REQUEST),
            Error::NoIntervals { .. } => ("nothing to do", StatusCode::UNPROCESSABLE_ENTITY),
            Error::Continuous(_) => ("the dag is continuous", StatusCode::UNPROCESSABLE_ENTITY),
            Error::Params { .. } => ("parameters do not fit", StatusCode::UNPROCESSABLE_ENTITY),
            Error::AssetName(_) => ("no name of an asset", StatusCode::UNPROCESSABLE_ENTITY),
            Error::DatabaseBusy { .. } => ("the database is busy", StatusCode::SERVICE_UNAVAILABLE),
            Error::DatabaseUnreachable { .. } => ("the database does not answer", StatusCode::SERVICE_UNAVAILABLE),
            _ => ("the server failed", StatusCode::INTERNAL_SERVER_ERROR),
        };
        if status.is_server_error() {
            tracing::error!(%error, "a request failed");
        }
        Self::new(title, status, error.to_string())
    }
}

impl IntoResponse for Problem {
    fn into_response(self) -> Response {
        let status = StatusCode::from_u16(self.status).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
        let kind = [(header::CONTENT_TYPE, PROBLEM_TYPE)];
        match self.retry_after {
            Some(seconds) => (status, kind, [(header::RETRY_AFTER, seconds.to_string())], Json(self)).into_response(),
            None => (status, kind, Json(self)).into_response(),
        }
    }
}

impl IntoResponses for Problems {
    fn responses() -> BTreeMap<String, RefOr<utoipa::openapi::Response>> {
        let problem = |(status, description): (&str, &str)| {
            let content = ContentBuilder::new().schema(Some(Ref::from_schema_name("Problem"))).build();
            let response = ResponseBuilder::new().description(description).content(PROBLEM_TYPE, content).build();
            (status.to_owned(), RefOr::T(response))
        };
        [
            ("400", "The request cannot be understood."),
            ("401", "Nobody says who asks, or it is not true."),
            ("403", "Whoever asks may not, or a page of another site asks."),
            ("404", "There is nothing of this name."),
            ("409", "It is in another state."),
            ("413", "The body is too large."),
            ("415", "The body is not JSON."),
            ("422", "The request is understood and cannot be met."),
            ("429", "More was sent than can be done; send again after `Retry-After` seconds."),
            ("500", "The server failed."),
            ("503", "The state database is busy or does not answer."),
        ]
        .map(problem)
        .into()
    }
}

/// Why somebody is not let in.
pub(super) fn refuse(refusal: Refusal) -> Response {
    Problem::new(refusal.title(), refusal.status(), refusal.detail).into_response()
}

pub(super) async fn no_route() -> Problem {
    Problem::new(
        "not found",
        StatusCode::NOT_FOUND,
        "there is nothing at this path; /api/v1/openapi.json lists all paths",
    )
}

pub(super) async fn no_method() -> Problem {
    let detail = "this path takes another method; the header Allow says which";
    Problem::new("method not allowed", StatusCode::METHOD_NOT_ALLOWED, detail)
}
