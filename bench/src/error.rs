//! Why a measurement ended.

use std::path::{Path, PathBuf};

/// A result whose error is [`Error`].
pub(crate) type Result<T> = std::result::Result<T, Error>;

/// Why a measurement ended.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Error {
    /// A file could not be read or written.
    #[error("{path}: {source}")]
    Io { path: PathBuf, source: std::io::Error },
    /// The detector refused.
    #[error(transparent)]
    Detector(#[from] detector::Error),
    /// The orchestrator refused.
    #[error(transparent)]
    Pipeline(#[from] pipeline::Error),
    /// The state database refused.
    #[error(transparent)]
    Platform(#[from] platform::Error),
    /// libtorch refused.
    #[error("libtorch: {0}")]
    Torch(#[from] tch::TchError),
    /// What a program or a file says is not the expected JSON.
    #[error("{what} is not as expected: {source}")]
    Json { what: String, source: serde_json::Error },
    /// A program that is measured failed.
    #[error("{program} failed: {reason}")]
    Failed { program: String, reason: String },
    /// Something is not there; the text says what to do.
    #[error("{0}")]
    Missing(String),
}

impl Error {
    /// An [`Error::Io`] about `path`.
    pub(crate) fn io(path: impl AsRef<Path>) -> impl FnOnce(std::io::Error) -> Self {
        let path = path.as_ref().to_owned();
        move |source| Self::Io { path, source }
    }

    /// An [`Error::Json`] about `what`.
    pub(crate) fn json(what: impl Into<String>) -> impl FnOnce(serde_json::Error) -> Self {
        let what = what.into();
        move |source| Self::Json { what, source }
    }

    /// An [`Error::Failed`] of `program`.
    pub(crate) fn failed(program: &str, reason: impl Into<String>) -> Self {
        Self::Failed { program: program.to_owned(), reason: reason.into() }
    }
}
