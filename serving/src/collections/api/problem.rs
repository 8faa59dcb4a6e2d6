//! Errors as problem details: <https://www.rfc-editor.org/rfc/rfc9457>.

use std::collections::BTreeMap;

use axum::Json;
use axum::http::{StatusCode, header};
use axum::response::{IntoResponse, Response};
use serde::Serialize;
use utoipa::openapi::{ContentBuilder, Ref, RefOr, ResponseBuilder};
use utoipa::{IntoResponses, ToSchema};

use crate::collections::Error;

/// The media type of problem details.
const PROBLEM_TYPE: &str = "application/problem+json";

/// What went wrong, for programs and people.
#[derive(Clone, Debug, Serialize, ToSchema)]
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
    pub retry_after: Option<u64>,
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
}

impl From<Error> for Problem {
    fn from(error: Error) -> Self {
        let (title, status) = match &error {
            Error::Invalid(_) => ("bad request", StatusCode::BAD_REQUEST),
            Error::Unmet(_) => ("cannot be met", StatusCode::UNPROCESSABLE_ENTITY),
            Error::NotFound(_) => ("not found", StatusCode::NOT_FOUND),
            Error::KeyTaken(_) => ("the key is taken", StatusCode::CONFLICT),
            Error::Deleted(_) => ("deleted", StatusCode::GONE),
            Error::TooLarge { .. } => ("too large", StatusCode::PAYLOAD_TOO_LARGE),
            Error::Unsupported(_) => ("unsupported content", StatusCode::UNSUPPORTED_MEDIA_TYPE),
            Error::Busy { .. } => ("the detector is busy", StatusCode::SERVICE_UNAVAILABLE),
            transient if transient.is_transient() => ("the server is busy", StatusCode::SERVICE_UNAVAILABLE),
            _ => ("the server failed", StatusCode::INTERNAL_SERVER_ERROR),
        };
        let is_inside = status.is_server_error() && !matches!(error, Error::Busy { .. });
        let detail = if is_inside {
            // What went wrong inside may name hosts and files.
            tracing::error!(%error, "a request failed");
            "the server could not do this; its log says why".to_owned()
        } else {
            error.to_string()
        };
        let retry_after = match &error {
            Error::Busy { retry_after } => Some(retry_after.as_secs().max(1)),
            _ if status == StatusCode::SERVICE_UNAVAILABLE => Some(1),
            _ => None,
        };
        Self { retry_after, ..Self::new(title, status, detail) }
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
            ("403", "A page of another site asks."),
            ("404", "There is nothing of this name, or it is somebody else's."),
            ("409", "The key named another sighting before."),
            ("410", "The sighting of this key was deleted."),
            ("413", "The body is too large."),
            ("415", "The body is of a kind that is not taken."),
            ("422", "The request is understood and cannot be met."),
            ("500", "The server failed."),
            ("503", "The database or the detector is busy; send again after `Retry-After` seconds."),
        ]
        .map(problem)
        .into()
    }
}
