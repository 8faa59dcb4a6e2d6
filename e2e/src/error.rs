//! What can go wrong when a real part is started.

use std::io;

/// A result whose error is [`Error`].
pub type Result<T> = std::result::Result<T, Error>;

/// Why a part that a test needs is not there.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The program is not installed.
    #[error("the program `{program}` was not found ({tried}): {install}")]
    Missing {
        /// Its name.
        program: &'static str,
        /// Where it was looked for.
        tried: String,
        /// How to get it.
        install: &'static str,
    },

    /// The program was started and did not come up.
    #[error("{program} did not start: {reason}")]
    NotStarted {
        /// Its name.
        program: &'static str,
        /// What happened, with the end of its log.
        reason: String,
    },

    /// The program was started and gave up.
    #[error("{program} failed: {reason}")]
    Failed {
        /// Its name.
        program: &'static str,
        /// Its own words.
        reason: String,
    },

    /// A file, port or process could not be made.
    #[error("{action}: {source}")]
    Io {
        /// What was tried.
        action: &'static str,
        /// Why it failed.
        source: io::Error,
    },

    /// The API server of Kubernetes refused, or does not answer.
    #[error("{action}: {source}")]
    Kubernetes {
        /// What was tried.
        action: &'static str,
        /// Why it failed.
        source: Box<kube::Error>,
    },

    /// The server that was started refused.
    #[error(transparent)]
    Store(#[from] platform::Error),

    /// The database server refused a statement.
    #[error("{action}: {source}")]
    Database {
        /// What was tried.
        action: &'static str,
        /// Why it failed.
        source: sqlx::Error,
    },
}

/// Wraps a failure of Kubernetes.
pub(crate) fn kubernetes(action: &'static str) -> impl FnOnce(kube::Error) -> Error {
    move |source| Error::Kubernetes { action, source: Box::new(source) }
}

/// Wraps a failure of the operating system.
pub(crate) fn io(action: &'static str) -> impl FnOnce(io::Error) -> Error {
    move |source| Error::Io { action, source }
}
