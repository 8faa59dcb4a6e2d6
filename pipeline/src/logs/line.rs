//! One line of a log.

use std::fmt;

use serde::{Deserialize, Serialize};
use tracing::Level;

use crate::clock::Timestamp;

/// Where a line comes from.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Stream {
    /// The program's standard output.
    Stdout,
    /// The program's standard error.
    Stderr,
    /// Safari itself: what the job says, how the attempt begins and ends.
    Event,
}

/// A line as it is kept: `{"time": …, "stream": …, "level": …, "message": …}`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct LogLine {
    /// When it came, as RFC 3339 in UTC with milliseconds.
    pub time: String,
    /// Where it comes from.
    pub stream: Stream,
    /// How grave it is, where that is known: error, warn, info, debug, trace.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub level: Option<String>,
    /// What it says.
    pub message: String,
}

impl LogLine {
    /// A line that comes at `time`.
    pub(super) fn new(time: Timestamp, stream: Stream, level: Option<Level>, message: &str) -> Self {
        let level = level.map(|level| level.as_str().to_ascii_lowercase());
        Self { time: time.to_string(), stream, level, message: message.to_owned() }
    }

    /// A line as it stands in the store. One that is no JSON, which this program never writes, is shown as it is.
    pub(super) fn read(text: &str) -> Self {
        serde_json::from_str(text).unwrap_or_else(|_| Self {
            time: String::new(),
            stream: Stream::Event,
            level: None,
            message: text.to_owned(),
        })
    }

    /// As it stands in the store, with its line break.
    pub(crate) fn text(&self) -> String {
        // Texts and names only: this cannot fail.
        let mut text = serde_json::to_string(self).unwrap_or_default();
        text.push('\n');
        text
    }
}

impl fmt::Display for Stream {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(match self {
            Self::Stdout => "stdout",
            Self::Stderr => "stderr",
            Self::Event => "event",
        })
    }
}
