//! The one error type of this crate, and MLflow's error codes.

use axum::http::StatusCode;

use crate::promotion::Outcome;

/// A result whose error is [`Error`].
pub type Result<T, E = Error> = std::result::Result<T, E>;

/// What can go wrong in the registry.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// A request that the protocol refuses, with the code and the words that a client of MLflow expects.
    #[error("{message}")]
    Refused {
        /// The kind of refusal.
        code: ErrorCode,
        /// What is wrong and where.
        message: String,
    },

    /// The database does not do what it is asked.
    #[error("the registry's database failed while {doing}: {source}")]
    Database {
        /// What was being done.
        doing: &'static str,
        /// The database's words.
        source: sqlx::Error,
    },

    /// The database's tables cannot be brought up to date.
    #[error("the registry's tables cannot be brought up to date: {0}")]
    Migrate(#[from] sqlx::migrate::MigrateError),

    /// The tables of runs lie in the database, and tables of both have the same names.
    #[error(
        "the registry cannot have its tables in the database of runs: give it one of its own by `registry.database`"
    )]
    SharedDatabase,

    /// The tables of a database that others use are changed by an operator only.
    #[error(
        "the registry's tables in {database} are not those of this version: run `safari migrate`, then start again"
    )]
    OldTables {
        /// The database, without its password.
        database: String,
    },

    /// The database holds something that this version does not understand.
    #[error("the registry's database holds {found} for {what}: was it written by a newer version")]
    Unreadable {
        /// The column or table.
        what: &'static str,
        /// What was found.
        found: String,
    },

    /// Settings, databases and object stores.
    #[error(transparent)]
    Platform(#[from] platform::Error),

    /// An image of a model.
    #[error(transparent)]
    Image(#[from] oci::Error),

    /// A local file or folder cannot be read or written.
    #[error("cannot {doing} {path}: {source}")]
    Io {
        /// Such as `read`.
        doing: &'static str,
        /// The file or folder.
        path: String,
        /// The system's words.
        source: std::io::Error,
    },

    /// A server cannot be asked, or its answer is not understood.
    #[error("cannot ask the registry at {server}: {reason}")]
    Server {
        /// Its URL, without secrets.
        server: String,
        /// What is wrong and what to do.
        reason: String,
    },

    /// A file of gates that is not one: a line `file:line:column: message` for each mistake.
    #[error("{0}")]
    Gates(String),

    /// A promotion that was not done, with its row of the audit.
    #[error("{}", .0.refusal())]
    Promotion(Box<crate::promotion::Promotion>),

    /// A model folder that is not one, or whose files are not what they were.
    #[error("{folder} is no usable model: {reason}")]
    Model {
        /// The folder or URI.
        folder: String,
        /// What is wrong and what to do.
        reason: String,
    },
}

/// MLflow's error codes, as far as this server uses them (`mlflow/protos/databricks.proto`).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ErrorCode {
    /// The server's own fault.
    InternalError,
    /// The server cannot do it now; the same request may succeed later.
    TemporarilyUnavailable,
    /// What is asked cannot be done by this server.
    NotImplemented,
    /// A value that is not allowed.
    InvalidParameterValue,
    /// A request that is not as it should be.
    BadRequest,
    /// Another thing has that name.
    ResourceAlreadyExists,
    /// There is no such thing.
    ResourceDoesNotExist,
    /// Something else was there first: a compare-and-set lost.
    ResourceConflict,
    /// What must be so first is not so: a gate refuses. Ours, not MLflow's.
    FailedPrecondition,
    /// The state of a thing does not allow it.
    InvalidState,
    /// No such route.
    EndpointNotFound,
    /// Known, but not allowed.
    PermissionDenied,
    /// Not known.
    Unauthenticated,
    /// More than the server takes.
    ResourceExhausted,
}

impl ErrorCode {
    /// The text in answers.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::InternalError => "INTERNAL_ERROR",
            Self::TemporarilyUnavailable => "TEMPORARILY_UNAVAILABLE",
            Self::NotImplemented => "NOT_IMPLEMENTED",
            Self::InvalidParameterValue => "INVALID_PARAMETER_VALUE",
            Self::BadRequest => "BAD_REQUEST",
            Self::ResourceAlreadyExists => "RESOURCE_ALREADY_EXISTS",
            Self::ResourceDoesNotExist => "RESOURCE_DOES_NOT_EXIST",
            Self::ResourceConflict => "RESOURCE_CONFLICT",
            Self::FailedPrecondition => "FAILED_PRECONDITION",
            Self::InvalidState => "INVALID_STATE",
            Self::EndpointNotFound => "ENDPOINT_NOT_FOUND",
            Self::PermissionDenied => "PERMISSION_DENIED",
            Self::Unauthenticated => "UNAUTHENTICATED",
            Self::ResourceExhausted => "RESOURCE_EXHAUSTED",
        }
    }

    /// The code that an answer of this or another server has; nothing for one that is not known here.
    pub fn read(text: &str) -> Option<Self> {
        const ALL: [ErrorCode; 13] = [
            ErrorCode::InternalError,
            ErrorCode::TemporarilyUnavailable,
            ErrorCode::NotImplemented,
            ErrorCode::InvalidParameterValue,
            ErrorCode::BadRequest,
            ErrorCode::ResourceAlreadyExists,
            ErrorCode::ResourceDoesNotExist,
            ErrorCode::ResourceConflict,
            ErrorCode::InvalidState,
            ErrorCode::EndpointNotFound,
            ErrorCode::PermissionDenied,
            ErrorCode::Unauthenticated,
            ErrorCode::ResourceExhausted,
        ];
        ALL.into_iter().find(|code| code.as_str() == text)
    }

    /// The status of the answer.
    pub fn status(self) -> StatusCode {
        match self {
            Self::InternalError | Self::InvalidState => StatusCode::INTERNAL_SERVER_ERROR,
            Self::TemporarilyUnavailable => StatusCode::SERVICE_UNAVAILABLE,
            Self::NotImplemented => StatusCode::NOT_IMPLEMENTED,
            Self::InvalidParameterValue | Self::BadRequest | Self::ResourceAlreadyExists => StatusCode::BAD_REQUEST,
            Self::ResourceDoesNotExist | Self::EndpointNotFound => StatusCode::NOT_FOUND,
            Self::ResourceConflict => StatusCode::CONFLICT,
            Self::FailedPrecondition => StatusCode::UNPROCESSABLE_ENTITY,
            Self::PermissionDenied => StatusCode::FORBIDDEN,
            Self::Unauthenticated => StatusCode::UNAUTHORIZED,
            Self::ResourceExhausted => StatusCode::TOO_MANY_REQUESTS,
        }
    }
}

impl Error {
    /// A value that is not allowed.
    pub fn invalid(message: impl Into<String>) -> Self {
        Self::refused(ErrorCode::InvalidParameterValue, message)
    }

    /// There is no such thing.
    pub fn missing(message: impl Into<String>) -> Self {
        Self::refused(ErrorCode::ResourceDoesNotExist, message)
    }

    /// Another thing has that name.
    pub(crate) fn exists(message: impl Into<String>) -> Self {
        Self::refused(ErrorCode::ResourceAlreadyExists, message)
    }

    /// A refusal of any kind.
    pub(crate) fn refused(code: ErrorCode, message: impl Into<String>) -> Self {
        Self::Refused { code, message: message.into() }
    }

    /// For `map_err` on a statement.
    pub(crate) fn database(doing: &'static str) -> impl FnOnce(sqlx::Error) -> Self {
        move |source| Self::Database { doing, source }
    }

    /// The code that an answer gives.
    pub fn code(&self) -> ErrorCode {
        match self {
            Self::Refused { code, .. } => *code,
            Self::Platform(error) if error.is_transient() => ErrorCode::TemporarilyUnavailable,
            Self::Promotion(promotion) if promotion.outcome == Outcome::Lost => ErrorCode::ResourceConflict,
            Self::Promotion(_) => ErrorCode::FailedPrecondition,
            Self::Gates(_) => ErrorCode::InvalidParameterValue,
            _ => ErrorCode::InternalError,
        }
    }
}
