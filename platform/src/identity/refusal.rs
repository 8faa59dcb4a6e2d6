//! Why somebody is not let in.

use axum::http::{HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Response};
use serde_json::json;

use super::roles::Permission;
use crate::Error;

/// What is offered to whoever has not said who they are: <https://www.rfc-editor.org/rfc/rfc9110#section-11.6.1>.
const CHALLENGE: &str = "Bearer realm=\"safari\", Basic realm=\"safari\", charset=\"UTF-8\"";
/// The same when a token was given: <https://www.rfc-editor.org/rfc/rfc6750#section-3>.
const BAD_TOKEN: &str = "Bearer realm=\"safari\", error=\"invalid_token\", Basic realm=\"safari\", charset=\"UTF-8\"";

/// Why somebody is not let in, in words that say what to do and nothing that helps to guess.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Refusal {
    /// The kind.
    pub kind: RefusalKind,
    /// For people.
    pub detail: String,
}

/// The kinds of refusals.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RefusalKind {
    /// A request that cannot be understood.
    Malformed,
    /// Nobody says who asks.
    Unauthenticated,
    /// What is said is not true, or no longer.
    BadCredentials,
    /// Known, but not allowed.
    Forbidden,
    /// Too often; may be asked again after so many seconds.
    TooMany {
        /// Seconds, at least 1.
        retry_after: u64,
    },
    /// It cannot be found out now.
    Unavailable,
}

impl Refusal {
    /// Nobody says who asks.
    pub(crate) fn unauthenticated() -> Self {
        let detail = "say who you are: send a token as `Authorization: Bearer TOKEN`, or a name and a password by basic \
                      authentication";
        Self { kind: RefusalKind::Unauthenticated, detail: detail.to_owned() }
    }

    /// What is said of who asks is not true.
    pub(crate) fn bad(detail: impl Into<String>) -> Self {
        Self { kind: RefusalKind::BadCredentials, detail: detail.into() }
    }

    /// A request that cannot be understood.
    pub(crate) fn malformed(detail: impl Into<String>) -> Self {
        Self { kind: RefusalKind::Malformed, detail: detail.into() }
    }

    /// Somebody may not do it.
    pub(crate) fn forbidden(name: &str, permission: Permission) -> Self {
        let roles: Vec<&str> = permission.roles().map(super::roles::Role::as_str).collect();
        let detail = format!("{name} lacks the permission {permission}; these roles have it: {}", roles.join(", "));
        Self { kind: RefusalKind::Forbidden, detail }
    }

    /// Asked too often.
    pub(crate) fn too_many(detail: impl Into<String>, retry_after: u64) -> Self {
        Self { kind: RefusalKind::TooMany { retry_after: retry_after.max(1) }, detail: detail.into() }
    }

    /// The status of the answer.
    pub fn status(&self) -> StatusCode {
        match self.kind {
            RefusalKind::Malformed => StatusCode::BAD_REQUEST,
            RefusalKind::Unauthenticated | RefusalKind::BadCredentials => StatusCode::UNAUTHORIZED,
            RefusalKind::Forbidden => StatusCode::FORBIDDEN,
            RefusalKind::TooMany { .. } => StatusCode::TOO_MANY_REQUESTS,
            RefusalKind::Unavailable => StatusCode::SERVICE_UNAVAILABLE,
        }
    }

    /// The kind in a few words: the title of a problem.
    pub fn title(&self) -> &'static str {
        match self.kind {
            RefusalKind::Malformed => "bad request",
            RefusalKind::Unauthenticated | RefusalKind::BadCredentials => "unauthenticated",
            RefusalKind::Forbidden => "forbidden",
            RefusalKind::TooMany { .. } => "too many requests",
            RefusalKind::Unavailable => "identity does not answer",
        }
    }

    /// Puts the headers that belong to it onto an answer, whatever the form of its body.
    pub fn decorate(&self, mut answer: Response) -> Response {
        let headers = answer.headers_mut();
        match self.kind {
            RefusalKind::Unauthenticated => {
                headers.insert(header::WWW_AUTHENTICATE, HeaderValue::from_static(CHALLENGE));
            }
            RefusalKind::BadCredentials => {
                headers.insert(header::WWW_AUTHENTICATE, HeaderValue::from_static(BAD_TOKEN));
            }
            RefusalKind::TooMany { retry_after } => {
                headers.insert(header::RETRY_AFTER, HeaderValue::from(retry_after));
            }
            RefusalKind::Malformed | RefusalKind::Forbidden | RefusalKind::Unavailable => {}
        }
        answer
    }
}

/// A failure inside is told to the log, not to whoever asks.
impl From<Error> for Refusal {
    fn from(error: Error) -> Self {
        let detail = match error {
            Error::PasswordLength(_) | Error::UserName(_) | Error::RoleUnknown(_) | Error::TokenUnknown(_) => {
                return Self::malformed(error.to_string());
            }
            _ => "who you are cannot be found out now; ask again later".to_owned(),
        };
        tracing::error!(%error, "identity does not answer");
        Self { kind: RefusalKind::Unavailable, detail }
    }
}

/// Problem details: <https://www.rfc-editor.org/rfc/rfc9457>.
impl IntoResponse for Refusal {
    fn into_response(self) -> Response {
        let status = self.status();
        let body = json!({ "title": self.title(), "status": status.as_u16(), "detail": self.detail });
        let kind = [(header::CONTENT_TYPE, "application/problem+json")];
        let answer = (status, kind, axum::Json(body)).into_response();
        self.decorate(answer)
    }
}
