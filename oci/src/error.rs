//! The one error type of this crate.

use std::path::{Path, PathBuf};

/// Result of this crate.
pub type Result<T, E = Error> = std::result::Result<T, E>;

/// Why there is no image, or why it was not sent.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// A file or folder cannot be read or written.
    #[error("cannot {doing} {path}: {source}", path = path.display())]
    Io {
        /// Such as `read`.
        doing: &'static str,
        /// The file or folder.
        path: PathBuf,
        /// The system's words.
        source: std::io::Error,
    },

    /// A file cannot be part of an image.
    #[error("{path} cannot go into an image: {reason}", path = path.display())]
    Unusable {
        /// The file.
        path: PathBuf,
        /// Why, and what to do.
        reason: String,
    },

    /// A program that was to be in the image is not on this machine.
    #[error(
        "{program} is not on this machine: install {package}, or name the programs that the image shall have with --with \
         (`--with none` for none)"
    )]
    NoProgram {
        /// Its name.
        program: String,
        /// What to install.
        package: String,
    },

    /// The program is not of the kind that the image is to be.
    #[error("no image `{kind}` can be made of {program}: {reason}", program = program.display())]
    WrongProgram {
        /// The kind of image.
        kind: &'static str,
        /// The program.
        program: PathBuf,
        /// Why, and what to do.
        reason: String,
    },

    /// A text that names no place or no image.
    #[error("`{text}` is no {what}: {reason}")]
    Name {
        /// What was given.
        text: String,
        /// What it should be.
        what: &'static str,
        /// Why it is none.
        reason: &'static str,
    },

    /// A registry of images does not answer, or refuses.
    #[error("cannot send to {target}: {reason}")]
    Registry {
        /// Where the image should go.
        target: String,
        /// Why, and what to do.
        reason: String,
    },
}

/// An [`Error::Io`] about `path`.
pub(crate) fn io(doing: &'static str, path: &Path) -> impl FnOnce(std::io::Error) -> Error {
    let path = path.to_owned();
    move |source| Error::Io { doing, path, source }
}
