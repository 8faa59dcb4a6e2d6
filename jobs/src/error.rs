//! What can go wrong in a job, and whether trying again may help.

use std::path::PathBuf;

use model_registry::ErrorCode;
use pipeline::JobError;

/// Result of this crate.
pub type Result<T> = std::result::Result<T, Error>;

/// Why a job cannot go on.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The source, or another object store, refused.
    #[error(transparent)]
    Store(#[from] platform::Error),
    /// The tables cannot be read or written.
    #[error(transparent)]
    Lake(#[from] lake::Error),
    /// The model registry does not answer or refuses.
    #[error(transparent)]
    Registry(#[from] model_registry::Error),
    /// A backup cannot be made or does not stand its trial.
    #[error(transparent)]
    Backup(#[from] ::backup::Error),
    /// A rollout cannot begin or go on.
    #[error(transparent)]
    Rollout(#[from] rollout::Error),
    /// The model does not load, or the networks failed.
    #[error(transparent)]
    Detector(#[from] detector::Error),
    /// The source holds no media.
    #[error("no photographs or videos under {source_uri} ({others} other files); media end in {endings}")]
    NoMedia {
        /// The source as a URI.
        source_uri: String,
        /// Files with other endings.
        others: u64,
        /// Endings that are picked up.
        endings: String,
    },
    /// A list of media that an earlier task wrote cannot be read.
    #[error("the list of media {path} cannot be read: {reason}; start the run anew")]
    Manifest {
        /// The file.
        path: PathBuf,
        /// What is wrong.
        reason: String,
    },
    /// The rows of which a copy was to be made are gone.
    #[error("{uri} is a copy of a file whose rows are no longer in the tables; start the run anew")]
    LostOriginal {
        /// The copy.
        uri: String,
    },
    /// A file of the run or the report cannot be written.
    #[error("{path} cannot be written: {source}")]
    Write {
        /// The file.
        path: PathBuf,
        /// The operating system's error.
        source: std::io::Error,
    },
    /// A file cannot be read.
    #[error("{path} cannot be read: {source}")]
    Read {
        /// The file.
        path: PathBuf,
        /// The operating system's error.
        source: std::io::Error,
    },
    /// A report cannot be made of the tables' rows.
    #[error("the report cannot be made: {0}")]
    Report(String),
    /// Labelled media or their labels cannot be used.
    #[error("the labelled media cannot be used: {0}")]
    Labels(String),
    /// A model cannot be fetched or written.
    #[error("the model {model} cannot be used: {reason}")]
    Model {
        /// As it was named.
        model: String,
        /// What is wrong and what to do.
        reason: String,
    },
    /// The attempt was told to stop.
    #[error("stopped on request")]
    Interrupted,
}

impl Error {
    /// An [`Error::Write`] about `path`.
    pub(crate) fn write(path: impl Into<PathBuf>) -> impl FnOnce(std::io::Error) -> Self {
        let path = path.into();
        move |source| Self::Write { path, source }
    }

    /// An [`Error::Read`] about `path`.
    pub(crate) fn read(path: impl Into<PathBuf>) -> impl FnOnce(std::io::Error) -> Self {
        let path = path.into();
        move |source| Self::Read { path, source }
    }

    fn may_pass(&self) -> bool {
        match self {
            Self::Store(error) => error.is_transient(),
            Self::Registry(error) => {
                matches!(error, model_registry::Error::Server { .. } | model_registry::Error::Database { .. })
                    || error.code() == ErrorCode::TemporarilyUnavailable
            }
            Self::Backup(error) => error.is_transient(),
            Self::Rollout(error) => error.is_transient(),
            Self::Lake(error) => matches!(error, lake::Error::Busy { .. } | lake::Error::Storage { .. }),
            _ => false,
        }
    }
}

impl From<Error> for JobError {
    fn from(error: Error) -> Self {
        match error {
            Error::Interrupted | Error::Detector(detector::Error::Interrupted) => Self::interrupted(),
            error if error.may_pass() => Self::transient(error.to_string()),
            error => Self::permanent(error.to_string()),
        }
    }
}
