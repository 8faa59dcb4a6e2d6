//! Where the lines go that an attempt writes.

use std::fmt;
use std::sync::Arc;

use crate::mask::Masker;

/// Takes the lines of attempts as they come. One value may serve several attempts at once.
pub trait AttemptLog: Send + Sync {
    /// Takes one line, without its line break and with secrets masked already.
    ///
    /// It is called on the attempt's own thread and may block: the program that writes then waits.
    fn line(&self, stream: Stream, text: &str);
}

/// Where a line comes from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Stream {
    /// The program's standard output.
    Stdout,
    /// The program's standard error.
    Stderr,
    /// Safari itself: a signal that it sent, output that it left out.
    Note,
}

impl fmt::Display for Stream {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(match self {
            Self::Stdout => "stdout",
            Self::Stderr => "stderr",
            Self::Note => "note",
        })
    }
}

/// Writes each line as a [`tracing`] event of level `info`; the attempt's span says whose it is.
#[derive(Clone, Copy, Debug, Default)]
pub struct TracingLog;

impl AttemptLog for TracingLog {
    fn line(&self, stream: Stream, text: &str) {
        tracing::info!(%stream, "{text}");
    }
}

/// A log behind a masker.
#[derive(Clone)]
pub(crate) struct MaskedLog {
    pub(crate) log: Arc<dyn AttemptLog>,
    pub(crate) masker: Masker,
}

impl MaskedLog {
    /// Says something on Safari's own behalf.
    pub(crate) fn note(&self, text: &str) {
        self.log.line(Stream::Note, &self.masker.mask(text));
    }
}
