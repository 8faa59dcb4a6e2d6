//! Errors as MLflow's clients read them: `{"error_code": …, "message": …}`.

use axum::http::{Method, StatusCode, Uri};
use axum::response::{IntoResponse, Response};
use platform::identity::{Refusal, RefusalKind};
use serde_json::json;
use tracing::error;

use crate::{Error, ErrorCode};

impl IntoResponse for Error {
    fn into_response(self) -> Response {
        let code = self.code();
        if let Self::Promotion(promotion) = &self {
            let message = self.to_string();
            let body = json!({ "error_code": code.as_str(), "message": message, "promotion": promotion });
            return (code.status(), axum::Json(body)).into_response();
        }
        let message = match &self {
            Self::Refused { message, .. } => message.clone(),
            // What went wrong inside is for the operator's log; it may name hosts and files.
            other => {
                error!(error = %other, "a request failed");
                "the registry could not do this; its log says why".to_owned()
            }
        };
        answer(code, code.status(), &message)
    }
}

/// Why somebody is not let in, in MLflow's form.
pub(super) fn refuse(refusal: Refusal) -> Response {
    let code = match refusal.kind {
        RefusalKind::Malformed => ErrorCode::BadRequest,
        RefusalKind::Unauthenticated | RefusalKind::BadCredentials => ErrorCode::Unauthenticated,
        RefusalKind::Forbidden => ErrorCode::PermissionDenied,
        RefusalKind::TooMany { .. } => ErrorCode::ResourceExhausted,
        RefusalKind::Unavailable => ErrorCode::TemporarilyUnavailable,
    };
    answer(code, refusal.status(), &refusal.detail)
}

pub(super) async fn no_such_route(uri: Uri) -> Response {
    answer(ErrorCode::EndpointNotFound, StatusCode::NOT_FOUND, &format!("no such endpoint: {}", uri.path()))
}

pub(super) async fn no_such_method(method: Method, uri: Uri) -> Response {
    let message = format!("{} does not take {method}", uri.path());
    answer(ErrorCode::BadRequest, StatusCode::METHOD_NOT_ALLOWED, &message)
}

fn answer(code: ErrorCode, status: StatusCode, message: &str) -> Response {
    (status, axum::Json(json!({ "error_code": code.as_str(), "message": message }))).into_response()
}
