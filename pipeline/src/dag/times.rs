//! What a DAG's schedule means for its runs.

use chrono::{DateTime, TimeDelta, Utc};

use super::{Dag, DagSchedule};
use crate::schedule::DataInterval;

impl Dag {
    /// The data interval of a run that is made by hand at `now`: the newest whole one of the DAG's schedule. Without a
    /// schedule it is that moment, and has no length.
    pub fn interval_at(&self, now: DateTime<Utc>) -> DataInterval {
        let moment = DataInterval { start: now, end: now };
        let DagSchedule::Time(timetable) = &self.schedule else { return moment };
        let schedule = &timetable.schedule;
        let Some(end) = schedule.latest_at(now) else { return moment };
        match schedule.latest_at(end - TimeDelta::milliseconds(1)) {
            Some(start) => DataInterval { start, end },
            None => moment,
        }
    }

    /// The time before which a schedule that becomes known at `now` owes no runs; nothing when it owes all since its
    /// start.
    pub(crate) fn schedule_begins(&self, now: DateTime<Utc>) -> Option<DateTime<Utc>> {
        let DagSchedule::Time(timetable) = &self.schedule else { return None };
        if timetable.catch_up && timetable.start.is_some() {
            return None;
        }
        timetable.schedule.latest_at(now)
    }
}
