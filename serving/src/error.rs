//! What can go wrong between a request and its answer.

use std::time::Duration;

use axum::http::StatusCode;

/// Result of this crate.
pub type Result<T> = std::result::Result<T, Error>;

/// Why a request was not answered, or why the service could not start.
///
/// It can be cloned, because one failure may end several requests that waited for the same work.
#[derive(Debug, Clone, thiserror::Error)]
pub enum Error {
    /// As many requests wait as may.
    #[error("the queue is full; ask again in {} s", retry_seconds(*retry_after))]
    Full {
        /// When room is to be expected.
        retry_after: Duration,
    },
    /// The service is about to end.
    #[error("the service is shutting down and takes no more requests; ask another replica, or again in a few seconds")]
    Draining,
    /// No model is ready yet.
    #[error("the model is still being loaded; ask again in a few seconds")]
    Loading,
    /// The request's deadline passed before there was an answer.
    #[error("the deadline passed before there was an answer; allow more time with X-Request-Timeout")]
    Late,
    /// The request's body did not come in time.
    #[error("the body took too long to come")]
    Slow,
    /// The request, or the media in it, cannot be used.
    #[error("{0}")]
    Invalid(String),
    /// The photograph or video cannot be read.
    #[error("{0}")]
    Media(String),
    /// What was asked for does not exist.
    #[error("{0}")]
    NotFound(String),
    /// The caller may not have that.
    #[error("{0}")]
    Forbidden(String),
    /// What was asked for is at odds with the present state.
    #[error("{0}")]
    Conflict(String),
    /// A part of the request is larger than allowed.
    #[error("{what} is larger than the limit of {limit}")]
    TooLarge {
        /// What is too large.
        what: String,
        /// The limit with its unit.
        limit: String,
    },
    /// A content type, encoding or feature that this service does not have.
    #[error("{0}")]
    Unsupported(String),
    /// None of the media types that the caller accepts can be made.
    #[error("{0}")]
    NotAcceptable(String),
    /// A part that this service was not given.
    #[error("{0}")]
    NotConfigured(String),
    /// A server that this request needs did not answer as it should.
    #[error("{0}")]
    Upstream(String),
    /// The model failed. Its words are for the log; callers are told only that it did.
    #[error("the model failed: {0}")]
    Model(String),
    /// The service cannot be set up.
    #[error("{0}")]
    Setup(String),
}

impl Error {
    /// The HTTP status that says the same.
    pub fn status(&self) -> StatusCode {
        match self {
            Self::Full { .. } => StatusCode::TOO_MANY_REQUESTS,
            Self::Draining | Self::Loading => StatusCode::SERVICE_UNAVAILABLE,
            Self::Late => StatusCode::GATEWAY_TIMEOUT,
            Self::Slow => StatusCode::REQUEST_TIMEOUT,
            Self::Invalid(_) => StatusCode::BAD_REQUEST,
            Self::Media(_) => StatusCode::UNPROCESSABLE_ENTITY,
            Self::NotFound(_) => StatusCode::NOT_FOUND,
            Self::Forbidden(_) => StatusCode::FORBIDDEN,
            Self::Conflict(_) => StatusCode::CONFLICT,
            Self::TooLarge { .. } => StatusCode::PAYLOAD_TOO_LARGE,
            Self::Unsupported(_) => StatusCode::UNSUPPORTED_MEDIA_TYPE,
            Self::NotAcceptable(_) => StatusCode::NOT_ACCEPTABLE,
            Self::NotConfigured(_) => StatusCode::NOT_IMPLEMENTED,
            Self::Upstream(_) => StatusCode::BAD_GATEWAY,
            Self::Model(_) | Self::Setup(_) => StatusCode::INTERNAL_SERVER_ERROR,
        }
    }

    /// When to ask again, for answers that may be different then.
    pub fn retry_after(&self) -> Option<Duration> {
        match self {
            Self::Full { retry_after } => Some(*retry_after),
            Self::Draining | Self::Loading => Some(Duration::from_secs(5)),
            _ => None,
        }
    }

    /// What the caller may read: never the words of libtorch or of a file system.
    pub fn public(&self) -> String {
        match self {
            Self::Model(_) | Self::Setup(_) => "the model failed on this request; the server's log says why".to_owned(),
            other => other.to_string(),
        }
    }
}

/// Whole seconds for a `Retry-After` header, at least 1.
pub fn retry_seconds(after: Duration) -> u64 {
    (after.as_secs() + u64::from(after.subsec_nanos() > 0)).max(1)
}
