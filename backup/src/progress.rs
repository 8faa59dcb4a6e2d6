//! How far a backup or a restoration is.

use std::fmt;
use std::sync::Arc;

type Tell = dyn Fn(Step<'_>) + Send + Sync;

/// Something that was done.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Step<'a> {
    /// What is done now, such as `artifacts`.
    Doing(&'a str),
    /// So many more bytes are done.
    Bytes(u64),
}

/// Told while the work goes on; clones tell the same listener.
#[derive(Clone)]
pub struct Progress(Arc<Tell>);

impl Progress {
    /// Calls `tell` for each step, from any thread.
    pub fn new(tell: impl Fn(Step<'_>) + Send + Sync + 'static) -> Self {
        Self(Arc::new(tell))
    }

    /// Tells nobody.
    pub fn silent() -> Self {
        Self::new(|_| {})
    }

    pub(crate) fn doing(&self, what: &str) {
        (self.0)(Step::Doing(what));
    }

    pub(crate) fn add(&self, bytes: u64) {
        (self.0)(Step::Bytes(bytes));
    }
}

impl fmt::Debug for Progress {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Progress")
    }
}
