//! What can go wrong between a request and its answer.

use std::sync::Arc;
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
    /// The request is understood and cannot be met as it is.
    #[error("{0}")]
    Unmet(String),
    /// What was asked for does not exist.
    #[error("{0}")]
    NotFound(String),
    /// The caller may not have that.
    #[error("{0}")]
    Forbidden(String),
    /// What was asked for is at odds with the present state.
    #[error("{0}")]
    Conflict(String),
    /// What was asked for was there and was removed.
    #[error("{0}")]
    Gone(String),
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
    /// The database does not do what it is asked.
    #[error("the database of collections failed while {doing}: {source}")]
    Database {
        /// What was being done.
        doing: &'static str,
        /// The database's words.
        source: Arc<sqlx::Error>,
    },
    /// The tables cannot be brought up to date.
    #[error("the tables of collections cannot be brought up to date: {0}")]
    Tables(Arc<sqlx::migrate::MigrateError>),
    /// The tables of a database that others use are changed by an operator only.
    #[error(
        "the tables of collections in {database} are not those of this version: run `safari migrate`, then start again"
    )]
    OldTables {
        /// The database, without its password.
        database: String,
    },
    /// The database holds something that this version does not understand.
    #[error("the database of collections holds {found} for {what}: was it written by a newer version?")]
    Unreadable {
        /// The column.
        what: &'static str,
        /// What was found.
        found: String,
    },
    /// Databases and object stores.
    #[error("{0}")]
    Platform(Arc<platform::Error>),
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
            Self::Unmet(_) => StatusCode::UNPROCESSABLE_ENTITY,
            Self::NotFound(_) => StatusCode::NOT_FOUND,
            Self::Gone(_) => StatusCode::GONE,
            Self::Forbidden(_) => StatusCode::FORBIDDEN,
            Self::Conflict(_) => StatusCode::CONFLICT,
            Self::TooLarge { .. } => StatusCode::PAYLOAD_TOO_LARGE,
            Self::Unsupported(_) => StatusCode::UNSUPPORTED_MEDIA_TYPE,
            Self::NotAcceptable(_) => StatusCode::NOT_ACCEPTABLE,
            Self::NotConfigured(_) => StatusCode::NOT_IMPLEMENTED,
            Self::Upstream(_) => StatusCode::BAD_GATEWAY,
            Self::Database { .. } | Self::Platform(_) if self.is_transient() => StatusCode::SERVICE_UNAVAILABLE,
            Self::Database { .. } | Self::Platform(_) | Self::Tables(_) | Self::OldTables { .. } => {
                StatusCode::INTERNAL_SERVER_ERROR
            }
            Self::Unreadable { .. } | Self::Model(_) | Self::Setup(_) => StatusCode::INTERNAL_SERVER_ERROR,
        }
    }

    /// When to ask again, for answers that may be different then.
    pub fn retry_after(&self) -> Option<Duration> {
        match self {
            Self::Full { retry_after } => Some(*retry_after),
            Self::Draining | Self::Loading => Some(Duration::from_secs(5)),
            Self::Database { .. } | Self::Platform(_) if self.is_transient() => Some(Duration::from_secs(1)),
            _ => None,
        }
    }

    /// What the caller may read: never the words of libtorch or of a file system.
    pub fn public(&self) -> String {
        match self {
            Self::Model(_) | Self::Setup(_) => "the model failed on this request; the server's log says why".to_owned(),
            inside if inside.is_inside() => "the server could not do this; its log says why".to_owned(),
            other => other.to_string(),
        }
    }

    /// Whether it is no fault of the request, so that its words, which may name hosts and files, are for the log only.
    pub(crate) fn is_inside(&self) -> bool {
        matches!(
            self,
            Self::Database { .. }
                | Self::Platform(_)
                | Self::Tables(_)
                | Self::OldTables { .. }
                | Self::Unreadable { .. }
                | Self::Model(_)
                | Self::Setup(_)
        )
    }

    /// For `map_err` on a statement.
    pub(crate) fn database(doing: &'static str) -> impl FnOnce(sqlx::Error) -> Self {
        move |source| Self::Database { doing, source: Arc::new(source) }
    }

    /// Whether a database or store may do the same later.
    fn is_transient(&self) -> bool {
        match self {
            Self::Platform(error) => error.is_transient(),
            Self::Database { source, .. } => match source.as_ref() {
                sqlx::Error::PoolTimedOut | sqlx::Error::Io(_) | sqlx::Error::WorkerCrashed => true,
                // SQLite's SQLITE_BUSY, and PostgreSQL's deadlocks, shutdowns and lost connections.
                sqlx::Error::Database(failure) => failure.code().is_some_and(|code| {
                    matches!(&*code, "5" | "517" | "40001" | "40P01")
                        || code.starts_with("57P")
                        || code.starts_with("08")
                }),
                _ => false,
            },
            _ => false,
        }
    }
}

impl From<platform::Error> for Error {
    fn from(error: platform::Error) -> Self {
        Self::Platform(Arc::new(error))
    }
}

/// Whole seconds for a `Retry-After` header, at least 1.
pub fn retry_seconds(after: Duration) -> u64 {
    (after.as_secs() + u64::from(after.subsec_nanos() > 0)).max(1)
}
