//! The span of time that a run is for.

use std::fmt;

use chrono::{DateTime, SecondsFormat, Utc};
use serde::{Deserialize, Serialize};

use super::Schedule;

/// The data that a run is for: from `start`, which belongs to it, to `end`, which does not. The run is due at `end`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct DataInterval {
    /// The first instant of it.
    pub start: DateTime<Utc>,
    /// The first instant after it.
    pub end: DateTime<Utc>,
}

impl DataInterval {
    /// Whether an instant belongs to it.
    pub fn contains(&self, instant: DateTime<Utc>) -> bool {
        self.start <= instant && instant < self.end
    }
}

/// `2026-01-01T05:00:00Z/2026-01-02T05:00:00Z`, as ISO 8601 writes an interval.
impl fmt::Display for DataInterval {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let show = |instant: &DateTime<Utc>| instant.to_rfc3339_opts(SecondsFormat::AutoSi, true);
        write!(f, "{}/{}", show(&self.start), show(&self.end))
    }
}

/// Intervals in order of time, each worked out when it is asked for. Each begins where the one before it ends.
#[derive(Clone, Debug)]
pub struct Intervals<'a> {
    schedule: &'a Schedule,
    /// Where the next one begins; nothing when there is none.
    next: Option<DateTime<Utc>>,
    until: DateTime<Utc>,
}

impl<'a> Intervals<'a> {
    /// Intervals from `start` on, the ends of which are ticks not after `until`.
    pub(super) fn new(schedule: &'a Schedule, start: Option<DateTime<Utc>>, until: DateTime<Utc>) -> Self {
        Self { schedule, next: start, until }
    }
}

impl Iterator for Intervals<'_> {
    type Item = DataInterval;

    fn next(&mut self) -> Option<DataInterval> {
        let start = self.next.take().filter(|start| *start < self.until)?;
        // A search that finds no tick finds none before `until` either.
        let end = self.schedule.next_after(start).ok()?.filter(|end| *end <= self.until)?;
        self.next = Some(end);
        Some(DataInterval { start, end })
    }
}

impl std::iter::FusedIterator for Intervals<'_> {}
