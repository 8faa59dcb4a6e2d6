//! What can go wrong between media bytes and detections.

use std::path::PathBuf;

/// Result of this crate.
pub type Result<T> = std::result::Result<T, Error>;

/// Why a media file could not be read, or a model could not be used.
///
/// Variants before [`Error::ModelFolder`] concern one media file: a job records them as the file's failure and goes on.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The file has no bytes.
    #[error("the file is empty")]
    Empty,
    /// The first bytes are of no supported format.
    #[error("not a photograph or video that safari reads ({found}); supported: JPEG, PNG, WebP, TIFF, MP4, MOV, AVI")]
    UnknownFormat {
        /// What the content looks like.
        found: String,
    },
    /// The picture has more pixels than allowed: a decompression bomb, or a limit set too low.
    #[error("the picture has {width} x {height} pixels, more than the limit of {limit} (detector.max_pixels)")]
    TooManyPixels {
        /// Width that the header states, in pixels.
        width: u64,
        /// Height that the header states, in pixels.
        height: u64,
        /// The limit, in pixels.
        limit: u64,
    },
    /// The file is larger than allowed.
    #[error("the file has {size} bytes, more than the limit of {limit} (detector.max_bytes)")]
    TooManyBytes {
        /// Size in bytes.
        size: u64,
        /// The limit in bytes.
        limit: u64,
    },
    /// The picture ends too early or its content is damaged.
    #[error("the {format} file is damaged: {reason}")]
    Damaged {
        /// Format by its first bytes.
        format: &'static str,
        /// The decoder's words.
        reason: String,
    },
    /// A video could not be read.
    #[error("the video cannot be read: {reason}")]
    Video {
        /// ffmpeg's words.
        reason: String,
    },
    /// ffmpeg is not installed.
    #[error("{program} was not found; install ffmpeg (Debian: apt-get install ffmpeg) to read videos")]
    FfmpegMissing {
        /// The program looked for.
        program: &'static str,
    },
    /// A model folder lacks a file, or a file in it cannot be used.
    #[error("the model at {path} cannot be loaded: {reason}")]
    ModelFolder {
        /// The folder or file.
        path: PathBuf,
        /// What is wrong and what to do.
        reason: String,
    },
    /// libtorch refused a call.
    #[error("libtorch: {0}")]
    Torch(String),
    /// The program has no networks.
    #[error(
        "this safari was built without libtorch, for schedulers and servers that run no networks; use one that was built \
         with it (the default) for this, or leave the task to its workers"
    )]
    NoNetworks,
    /// The device asked for cannot be had.
    #[error("{0}")]
    Device(String),
    /// Training cannot go on.
    #[error("training: {0}")]
    Training(String),
    /// Whoever asked for a training wants it no more.
    #[error("the training was stopped on request")]
    Interrupted,
    /// A file could not be read or written.
    #[error("{path}: {source}")]
    Io {
        /// The file.
        path: PathBuf,
        /// The operating system's error.
        source: std::io::Error,
    },
    /// The engine was shut down while a request waited.
    #[error("the detection engine has stopped; see the log for the reason")]
    Stopped,
}

impl Error {
    /// True if the error concerns one media file and not the model, the machine or the engine.
    pub fn is_media_failure(&self) -> bool {
        matches!(
            self,
            Self::Empty
                | Self::UnknownFormat { .. }
                | Self::TooManyPixels { .. }
                | Self::TooManyBytes { .. }
                | Self::Damaged { .. }
                | Self::Video { .. }
                | Self::FfmpegMissing { .. }
        )
    }

    /// An [`Error::Io`] about `path`.
    pub fn io(path: impl Into<PathBuf>) -> impl FnOnce(std::io::Error) -> Self {
        let path = path.into();
        move |source| Self::Io { path, source }
    }
}

#[cfg(feature = "torch")]
impl From<tch::TchError> for Error {
    fn from(error: tch::TchError) -> Self {
        Self::Torch(error.to_string())
    }
}
