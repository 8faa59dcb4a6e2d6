//! What can be wrong in a schedule.

use std::time::Duration;

use chrono::{DateTime, SecondsFormat, Utc};

/// Every mistake that a schedule can have.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Error {
    /// A field of a cron expression is wrong.
    #[error("{field} `{text}` (column {column}) {problem}; write {allowed}")]
    Field {
        /// Name of the field.
        field: &'static str,
        /// The wrong part of it.
        text: String,
        /// Where it stands in the expression: characters, from 1.
        column: usize,
        /// What is wrong with it.
        problem: String,
        /// What would be right.
        allowed: String,
    },
    /// A cron expression has not five fields.
    #[error(
        "cron `{text}` {problem}; write five fields: minute hour day-of-month month day-of-week, such as `0 6 * * mon-fri`"
    )]
    Fields {
        /// The expression.
        text: String,
        /// Where in it: characters, from 1.
        column: usize,
        /// What is wrong with it.
        problem: String,
    },
    /// A word with `@` that is none.
    #[error("cron `{text}` is not known{hint}")]
    Macro {
        /// The word.
        text: String,
        /// What is known.
        hint: String,
    },
    /// The day never comes, in any year.
    #[error(
        "day-of-month `{days}` (column {column}) never comes in month `{months}`; give a day that the month has, or `L` for its last"
    )]
    NoSuchDay {
        /// The field for the day of the month.
        days: String,
        /// The field for the month.
        months: String,
        /// Where the day stands in the expression: characters, from 1.
        column: usize,
    },
    /// No tick within the years that are searched.
    #[error("schedule `{schedule}` has no tick in the 50 years after {}; give times that come, outside the hour that a clock change skips", show(.after))]
    Never {
        /// The key of the schedule that decides about ticks.
        key: &'static str,
        /// The schedule.
        schedule: String,
        /// Where the search began.
        after: DateTime<Utc>,
    },
    /// No such time zone.
    #[error("zone `{name}` is not known{hint}; write a name of the IANA database such as `Europe/Berlin` or `UTC`")]
    Zone {
        /// The name given.
        name: String,
        /// The nearest known name.
        hint: String,
    },
    /// A length of time that cannot be read.
    #[error("every: {problem}")]
    Length {
        /// What is wrong and how to write it.
        problem: String,
    },
    /// An interval too short or too long.
    #[error("every: {every:?} between two runs is not possible; write at least `1s` and at most a year")]
    Every {
        /// The length given.
        every: Duration,
    },
    /// A start or end that is no date.
    #[error(
        "{key}: `{text}` is not a date; write `2026-01-31`, `2026-01-31T06:00` in the schedule's zone, or `2026-01-31T06:00:00Z`"
    )]
    Date {
        /// `start` or `end`.
        key: &'static str,
        /// The text given.
        text: String,
    },
    /// The end is not after the start.
    #[error("end: {} is not after the start, {}; give a later end", show(.end), show(.start))]
    Order {
        /// The start.
        start: DateTime<Utc>,
        /// The end.
        end: DateTime<Utc>,
    },
    /// Not exactly one kind of schedule.
    #[error("a schedule has {found}; give either `cron` or `every`, or no schedule for a DAG that is run by hand")]
    Kind {
        /// What was given.
        found: &'static str,
    },
}

impl Error {
    /// The key of the schedule whose value is wrong; `schedule` when it is the whole.
    pub fn key(&self) -> &'static str {
        match self {
            Self::Field { .. } | Self::Fields { .. } | Self::Macro { .. } | Self::NoSuchDay { .. } => "cron",
            Self::Never { key, .. } | Self::Date { key, .. } => key,
            Self::Zone { .. } => "zone",
            Self::Length { .. } | Self::Every { .. } => "every",
            Self::Order { .. } => "end",
            Self::Kind { .. } => "schedule",
        }
    }

    /// Where the mistake stands within the value: characters, from 1.
    pub fn column(&self) -> usize {
        match self {
            Self::Field { column, .. } | Self::Fields { column, .. } | Self::NoSuchDay { column, .. } => *column,
            _ => 1,
        }
    }
}

fn show(instant: &DateTime<Utc>) -> String {
    instant.to_rfc3339_opts(SecondsFormat::AutoSi, true)
}
