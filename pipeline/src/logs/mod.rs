//! The logs of attempts: JSON lines in an object store, written while an attempt runs.
//!
//! What an attempt writes waits in memory for a second at most, and then goes to the store in numbered parts, of which
//! the last is replaced until it is full: readers on other hosts follow, and a killed worker leaves all but its last
//! second. When the attempt ends its parts become one object. An attempt that writes nothing leaves nothing: that it
//! began and how it ended stands in the state database, and readers add it.

mod key;
mod line;
mod read;
mod store;
mod stored;
mod writer;

use std::borrow::Cow;
use std::fmt;
use std::sync::Arc;

pub use key::LogKey;
pub use line::{LogLine, Stream};
pub use read::{LogReader, RunLine, Wanted};
pub use store::{Logs, LogsOptions};

pub(crate) use writer::LogHandle;

use crate::mask::Masker;

/// Takes the lines of one attempt as they come.
pub trait AttemptLog: fmt::Debug + Send + Sync {
    /// Takes one line, without its line break.
    ///
    /// It is called on the attempt's own thread and may block: the program that writes then waits.
    fn line(&self, stream: Stream, text: &str);
}

/// Writes each line as a [`tracing`] event of level `info`; the attempt's span says whose it is. For attempts whose logs
/// nobody keeps.
#[derive(Clone, Copy, Debug, Default)]
pub struct TracingLog;

impl AttemptLog for TracingLog {
    fn line(&self, stream: Stream, text: &str) {
        tracing::info!(%stream, "{text}");
    }
}

/// A log behind a masker.
#[derive(Clone, Debug)]
pub(crate) struct MaskedLog {
    pub(crate) log: Arc<dyn AttemptLog>,
    pub(crate) masker: Masker,
}

impl AttemptLog for MaskedLog {
    fn line(&self, stream: Stream, text: &str) {
        self.log.line(stream, &self.masker.mask(text));
    }
}

/// Hides secrets.
pub trait Masking: Send + Sync {
    /// The text without secrets.
    fn mask<'a>(&self, text: &'a str) -> Cow<'a, str>;
}

/// Hides nothing: there are no secrets.
#[derive(Clone, Copy, Debug, Default)]
pub struct NoSecrets;

impl Masking for NoSecrets {
    fn mask<'a>(&self, text: &'a str) -> Cow<'a, str> {
        Cow::Borrowed(text)
    }
}
