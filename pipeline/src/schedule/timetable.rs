//! A schedule with its first and last day, and which of its runs are due.

use chrono::{DateTime, TimeDelta, Utc};

use super::{Error, Intervals, Schedule};

/// A schedule, when it holds, and what becomes of missed runs.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Timetable {
    /// Where the ticks lie.
    pub schedule: Schedule,
    /// Whether missed runs are made up for. Otherwise only the newest of them is.
    pub catch_up: bool,
    /// No interval begins before this.
    pub start: Option<DateTime<Utc>>,
    /// No interval ends after this.
    pub end: Option<DateTime<Utc>>,
}

impl Timetable {
    /// A timetable without bounds that makes up for nothing.
    pub fn new(schedule: Schedule) -> Self {
        Self { schedule, catch_up: false, start: None, end: None }
    }

    /// For a DAG that is run by hand only.
    pub fn manual() -> Self {
        Self::new(Schedule::Manual)
    }

    /// Sets the bounds; each may be open.
    pub fn between(mut self, start: Option<DateTime<Utc>>, end: Option<DateTime<Utc>>) -> Result<Self, Error> {
        if let (Some(start), Some(end)) = (start, end)
            && end <= start
        {
            return Err(Error::Order { start, end });
        }
        (self.start, self.end) = (start, end);
        Ok(self)
    }

    /// The intervals that are due at `now` when those up to `last_done_end` have had their run, in order.
    ///
    /// - With `catch_up`: all of them, the oldest first, from `last_done_end` or from the first tick at or after
    ///   `start`. With neither there is nothing to count from, and only the newest is due.
    /// - Without: only the newest.
    /// - None begins before `last_done_end`. So a clock that jumps back gives nothing twice, and after a change of the
    ///   schedule the first interval goes from the end of the last one to the next new tick.
    ///
    /// A DAG that must not run for the time before it was known is asked with `schedule.latest_at(known_since)` for
    /// `last_done_end`.
    pub fn due(&self, last_done_end: Option<DateTime<Utc>>, now: DateTime<Utc>) -> Intervals<'_> {
        let until = self.end.map_or(now, |end| end.min(now));
        let start = match self.floor(last_done_end) {
            None => None,
            Some(Some(floor)) if self.catch_up => Some(floor),
            Some(floor) => self.newest_start(floor, until),
        };
        Intervals::new(&self.schedule, start, until)
    }

    /// When something becomes due that is not due at `now`: the time to look again. Nothing for a manual schedule and
    /// after the end. An error when the search finds no further tick.
    pub fn next_due(
        &self,
        last_done_end: Option<DateTime<Utc>>,
        now: DateTime<Utc>,
    ) -> Result<Option<DateTime<Utc>>, Error> {
        let Some(floor) = self.floor(last_done_end) else { return Ok(None) };
        let from = floor.map_or(now, |floor| floor.max(now));
        let tick = self.schedule.next_after(from)?;
        Ok(tick.filter(|tick| self.end.is_none_or(|end| *tick <= end)))
    }

    /// The intervals within both `from` and `to` and the timetable's own bounds: what a backfill runs.
    pub fn intervals_between(&self, from: DateTime<Utc>, to: DateTime<Utc>) -> Intervals<'_> {
        let from = self.start.map_or(from, |start| start.max(from));
        let to = self.end.map_or(to, |end| end.min(to));
        self.schedule.intervals_between(from, to)
    }

    /// Where the first interval may begin: the end of what is done, but not before the first tick from the start on.
    /// `Some(None)` when it may begin anywhere, nothing when there is no tick after the start.
    fn floor(&self, last_done_end: Option<DateTime<Utc>>) -> Option<Option<DateTime<Utc>>> {
        let Some(start) = self.start else { return Some(last_done_end) };
        let done = last_done_end.filter(|done| *done >= start);
        if done.is_some() {
            return Some(done);
        }
        self.schedule.first_at(start).map(Some)
    }

    /// Where the newest interval that ends by `until` begins, or the floor when that is later.
    fn newest_start(&self, floor: Option<DateTime<Utc>>, until: DateTime<Utc>) -> Option<DateTime<Utc>> {
        let end = self.schedule.latest_at(until)?;
        let before = end.checked_sub_signed(TimeDelta::milliseconds(1))?;
        // Option orders nothing below everything.
        self.schedule.latest_at(before).max(floor)
    }
}
