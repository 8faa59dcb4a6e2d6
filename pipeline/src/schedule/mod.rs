//! When a DAG runs by the clock: cron expressions in a time zone, plain intervals, and the data interval of each run.
//!
//! A schedule is a row of *ticks*. A run covers the time from one tick to the next, its [`DataInterval`], and is due
//! when that has passed. All instants are UTC; a time zone only decides where the ticks of a cron expression lie.
//!
//! ```yaml
//! schedule: {cron: "0 6 * * *", zone: Europe/Berlin, catch_up: true, start: 2026-01-01}
//! schedule: {every: 15m}
//! ```
//!
//! # Clock changes
//!
//! A *clock change* is a change of the zone's offset from UTC. It skips local times (spring) or repeats them (autumn).
//! The rule is that of Vixie and Debian cron. It tells two kinds of expression apart:
//!
//! - **Recurring**: the minute or the hour has a `*` or a step (`/`), or takes all its values (`0-23`).
//! - **Fixed**: every other expression; it names times of the day.
//!
//! 1. A recurring expression ticks at each instant whose local time matches. A skipped local time gives no tick, a
//!    repeated one gives two: what runs hourly runs in each real hour.
//! 2. A fixed expression ticks once for each matching local time:
//!    - one that occurs once: then;
//!    - one that is skipped: at the first instant after the change. Several skipped times, and a match at that very
//!      instant, are one tick;
//!    - one that is repeated: at its first occurrence.
//! 3. A change of more than three hours is no daylight saving: the place has moved to another zone (Samoa skipped
//!    2011-12-30). Local times skipped by it never were and give no tick; repeated ones count again.
//!
//! Debian's cron takes a step after a range (`0-59/15`) and a full range (`0-23`) for fixed; here both recur, as the
//! same set written with `*` does. Its manual calls changes of *less* than three hours daylight saving; here those of
//! exactly three are too, because the clocks of Antarctica/Casey change by three each year.
//!
//! Two things follow: an interval of a daily schedule lasts 23 or 25 hours when the clocks change, and a recurring
//! expression whose only hour is skipped (`*/15 2 * * *`) has no tick that day, so its next interval is longer. In
//! no case do intervals overlap or leave a gap.

mod calendar;
mod cron;
mod error;
mod field;
mod interval;
mod spec;
mod tick;
mod timetable;
mod zone;

use std::fmt;
use std::time::Duration;

use chrono::{DateTime, TimeDelta, Utc};

pub use cron::Cron;
pub use error::Error;
pub use interval::{DataInterval, Intervals};
pub use spec::Spec;
pub use timetable::Timetable;
pub use zone::Zone;

/// A schedule without a tick in this many years has none. The rarest date, a 29 February on a given day of the week,
/// comes after 40 years at the latest.
const SEARCH_YEARS: i64 = 50;

/// What makes a DAG run by the clock.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Schedule {
    /// At the local times of a cron expression.
    Cron {
        /// The expression.
        cron: Cron,
        /// Where its local times hold.
        zone: Zone,
    },
    /// At equal distances in real time, whatever the clocks do.
    Every {
        /// The distance: whole milliseconds, at least a second.
        every: Duration,
        /// One of the ticks; those before it are ticks as well.
        anchor: DateTime<Utc>,
    },
    /// Never by itself.
    Manual,
}

impl Schedule {
    /// A cron schedule from its expression and the name of its zone. An expression that never comes true there, such as
    /// 30 February, is an error.
    pub fn cron(expression: &str, zone: &str) -> Result<Self, Error> {
        let cron: Cron = expression.parse()?;
        let schedule = Self::Cron { cron, zone: zone.parse()? };
        // From a fixed date, so that the same file is always right or always wrong.
        schedule.next_after(DateTime::UNIX_EPOCH + TimeDelta::days(20_000))?;
        Ok(schedule)
    }

    /// A schedule with ticks `every` so long, counted from the start of 1970 UTC: every hour means on the hour.
    pub fn every(every: Duration) -> Result<Self, Error> {
        Self::every_from(every, DateTime::UNIX_EPOCH)
    }

    /// A schedule with ticks `every` so long, one of them at `anchor`. Both are cut to whole milliseconds.
    pub fn every_from(every: Duration, anchor: DateTime<Utc>) -> Result<Self, Error> {
        if every < Duration::from_secs(1) || every > Duration::from_secs(366 * 24 * 3600) {
            return Err(Error::Every { every });
        }
        let millis = u64::try_from(every.as_millis()).unwrap_or(u64::MAX);
        let anchor = DateTime::from_timestamp_millis(anchor.timestamp_millis()).unwrap_or(anchor);
        Ok(Self::Every { every: Duration::from_millis(millis), anchor })
    }

    /// The first tick strictly after `after`; none for a manual schedule. The search ends after 50 years with an error.
    pub fn next_after(&self, after: DateTime<Utc>) -> Result<Option<DateTime<Utc>>, Error> {
        let (tick, what) = match self {
            Self::Manual => return Ok(None),
            Self::Every { every, anchor } => (next_multiple(*every, *anchor, after), "every"),
            Self::Cron { cron, zone } => (tick::next(cron, zone, after), "cron"),
        };
        tick.map(Some).ok_or_else(|| Error::Never { key: what, schedule: self.to_string(), after })
    }

    /// The last tick at or before `at`; none for a manual schedule or when there is none in the 50 years before.
    pub fn latest_at(&self, at: DateTime<Utc>) -> Option<DateTime<Utc>> {
        let tick_by = |from| self.next_after(from).ok().flatten().filter(|tick| *tick <= at);

        // Further and further back until there is a tick, then halving: `next_after` stays the only rule for ticks.
        let mut span = TimeDelta::minutes(2);
        let mut latest = loop {
            match at.checked_sub_signed(span).and_then(tick_by) {
                Some(tick) => break tick,
                None if span > TimeDelta::days(SEARCH_YEARS * 366) => return None,
                None => span = span * 4,
            }
        };
        let mut beyond = at;
        while let Some(tick) = tick_by(latest) {
            latest = tick;
            let middle = latest + (beyond - latest) / 2;
            match tick_by(middle) {
                Some(tick) => latest = tick,
                None => beyond = middle,
            }
        }
        Some(latest)
    }

    /// The intervals from the first tick at or after `from` to the last at or before `to`, one after the other. Each is
    /// worked out when it is asked for.
    pub fn intervals_between(&self, from: DateTime<Utc>, to: DateTime<Utc>) -> Intervals<'_> {
        Intervals::new(self, self.first_at(from), to)
    }

    /// The first tick at or after `at`.
    fn first_at(&self, at: DateTime<Utc>) -> Option<DateTime<Utc>> {
        let before = at.checked_sub_signed(TimeDelta::nanoseconds(1))?;
        self.next_after(before).ok().flatten()
    }
}

/// As in a DAG file, in few words: `0 6 * * * (Europe/Berlin)`, `every 15m`, `manual`.
impl fmt::Display for Schedule {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Cron { cron, zone } => write!(f, "{cron} ({zone})"),
            Self::Every { every, .. } => write!(f, "every {}", length(*every)),
            Self::Manual => f.write_str("manual"),
        }
    }
}

/// The first multiple of `every` from `anchor` after `after`.
fn next_multiple(every: Duration, anchor: DateTime<Utc>, after: DateTime<Utc>) -> Option<DateTime<Utc>> {
    let step = i64::try_from(every.as_millis()).ok().filter(|step| *step > 0)?;
    let since = after.timestamp_millis().checked_sub(anchor.timestamp_millis())?;
    let count = since.div_euclid(step).checked_add(1)?;
    let millis = anchor.timestamp_millis().checked_add(count.checked_mul(step)?)?;
    DateTime::from_timestamp_millis(millis)
}

/// A length of time as DAG files write it.
fn length(duration: Duration) -> String {
    let millis = duration.as_millis();
    let parts = [(86_400_000, "d"), (3_600_000, "h"), (60_000, "m"), (1_000, "s"), (1, "ms")];
    let mut rest = millis;
    let mut text = String::new();
    for (size, unit) in parts {
        if rest >= size {
            text.push_str(&format!("{}{unit}", rest / size));
            rest %= size;
        }
    }
    text
}
