//! What jobs write to the log of their attempt.

use std::sync::Arc;

use pipeline::Masker;
pub use pipeline::logs::{AttemptLog, Stream};

/// A log behind a masker.
#[derive(Clone)]
pub(crate) struct MaskedLog {
    pub(crate) log: Arc<dyn AttemptLog>,
    pub(crate) masker: Masker,
}

impl MaskedLog {
    /// Says something on Safari's own behalf.
    pub(crate) fn note(&self, text: &str) {
        self.log.line(Stream::Event, &self.masker.mask(text));
    }
}
