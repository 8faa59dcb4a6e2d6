//! What can go wrong with collections.

use std::time::Duration;

/// A result whose error is [`Error`].
pub type Result<T, E = Error> = std::result::Result<T, E>;

/// Why something was not done. Messages say what is wrong and what to do next.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// A request that cannot be understood.
    #[error("{0}")]
    Invalid(String),

    /// A request that is understood and cannot be met.
    #[error("{0}")]
    Unmet(String),

    /// There is no such thing, or it is somebody else's.
    #[error("{0}")]
    NotFound(String),

    /// A key that named another request before.
    #[error("the key `{0}` was sent with another sighting before: take a new key for a new sighting")]
    KeyTaken(String),

    /// A sighting that was deleted is sent again.
    #[error("the sighting of the key `{0}` was deleted: take a new key to record it again")]
    Deleted(String),

    /// More bytes than are taken.
    #[error("{what} is larger than {limit} bytes: send less")]
    TooLarge {
        /// Such as `the photograph`.
        what: &'static str,
        /// In bytes.
        limit: usize,
    },

    /// Bytes of a kind that is not taken.
    #[error("{0}")]
    Unsupported(String),

    /// The detector cannot look at a photograph now.
    #[error("the detector is busy: send the photograph again in a while")]
    Busy {
        /// When.
        retry_after: Duration,
    },

    /// The detector failed.
    #[error("the detector failed: {0}")]
    Detector(String),

    /// The species that this program ships cannot be read.
    #[error("the table of conservation statuses is broken at line {line}: {reason}")]
    Statuses {
        /// From 1 on.
        line: usize,
        /// What is wrong.
        reason: String,
    },

    /// The database does not do what it is asked.
    #[error("the database of collections failed while {doing}: {source}")]
    Database {
        /// What was being done.
        doing: &'static str,
        /// The database's words.
        source: sqlx::Error,
    },

    /// The database's tables cannot be brought up to date.
    #[error("the tables of collections cannot be brought up to date: {0}")]
    Migrate(#[from] sqlx::migrate::MigrateError),

    /// The tables of a database that others use are changed by an operator only.
    #[error(
        "the tables of collections in {database} are not those of this version: run `safari migrate`, then start again"
    )]
    OldTables {
        /// The database, without its password.
        database: String,
    },

    /// The database holds something that this version does not understand.
    #[error("the database of collections holds {found} for {what}: was it written by a newer version")]
    Unreadable {
        /// The column.
        what: &'static str,
        /// What was found.
        found: String,
    },

    /// Databases and object stores.
    #[error(transparent)]
    Platform(#[from] platform::Error),

    /// The model's vocabulary.
    #[error(transparent)]
    Model(#[from] detector::Error),
}

impl Error {
    /// For `map_err` on a statement.
    pub(crate) fn database(doing: &'static str) -> impl FnOnce(sqlx::Error) -> Self {
        move |source| Self::Database { doing, source }
    }

    /// Whether the same may succeed later without anybody changing anything.
    pub fn is_transient(&self) -> bool {
        match self {
            Self::Busy { .. } => true,
            Self::Platform(error) => error.is_transient(),
            Self::Database { source, .. } => match source {
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
