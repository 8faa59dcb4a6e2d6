//! A schedule as a DAG file writes it, in plain text.

use chrono::{DateTime, NaiveDate, NaiveDateTime, NaiveTime, Utc};
use serde::{Deserialize, Serialize};

use super::field::clip;
use super::{Error, Schedule, Timetable, Zone};
use crate::dag::duration;

/// The value of `schedule:` in a DAG file; [`Timetable::from_spec`] checks it. Each [`Error`] tells by
/// [`Error::key`] and [`Error::column`] which of the texts it is about.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Spec {
    /// A cron expression; either this or `every`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub cron: Option<String>,
    /// Where the times of the expression and of `start` and `end` hold; UTC when it is not given.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub zone: Option<String>,
    /// The distance between two runs, such as `15m`. Counted from `start`, or else from the start of 1970 UTC.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub every: Option<String>,
    /// Whether missed runs are made up for.
    pub catch_up: bool,
    /// The first day, or instant.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub start: Option<String>,
    /// The end: no interval goes beyond the start of this day, or this instant.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub end: Option<String>,
}

impl Timetable {
    /// Checks a schedule and makes it ready for use.
    pub fn from_spec(spec: &Spec) -> Result<Self, Error> {
        let zone = spec.zone.as_deref().unwrap_or("UTC");
        let places: Zone = zone.parse()?;
        let bound = |key, text: &Option<String>| text.as_deref().map(|text| instant(key, text, &places)).transpose();
        let start = bound("start", &spec.start)?;
        let end = bound("end", &spec.end)?;
        let schedule = match (&spec.cron, &spec.every) {
            (Some(cron), None) => Schedule::cron(cron, zone)?,
            (None, Some(every)) => {
                let every = duration::parse(every).map_err(|problem| Error::Length { problem })?;
                Schedule::every_from(every, start.unwrap_or(DateTime::UNIX_EPOCH))?
            }
            (Some(_), Some(_)) => return Err(Error::Kind { found: "both `cron` and `every`" }),
            (None, None) => return Err(Error::Kind { found: "neither `cron` nor `every`" }),
        };
        let timetable = Self { catch_up: spec.catch_up, ..Self::new(schedule) };
        timetable.between(start, end)
    }
}

/// Reads a date, a local date and time, or an instant with its offset. A local time that the clocks skip is the first
/// instant after it, one that they repeat is its first occurrence.
fn instant(key: &'static str, text: &str, zone: &Zone) -> Result<DateTime<Utc>, Error> {
    let text = text.trim();
    if let Ok(instant) = DateTime::parse_from_rfc3339(text) {
        return Ok(instant.to_utc());
    }
    let local = local_time(text).map(|local| local.and_utc().timestamp());
    let found = local.and_then(|local| zone.first_instant(local));
    let found = found.and_then(|seconds| DateTime::from_timestamp(seconds, 0));
    found.ok_or_else(|| Error::Date { key, text: clip(text) })
}

fn local_time(text: &str) -> Option<NaiveDateTime> {
    // `%Y` takes years of any length, and more than four digits are a slip.
    if text.as_bytes().get(4) != Some(&b'-') || !text.starts_with(|c: char| c.is_ascii_digit()) {
        return None;
    }
    if let Ok(date) = NaiveDate::parse_from_str(text, "%Y-%m-%d") {
        return Some(date.and_time(NaiveTime::MIN));
    }
    let formats = ["%Y-%m-%dT%H:%M", "%Y-%m-%dT%H:%M:%S", "%Y-%m-%d %H:%M", "%Y-%m-%d %H:%M:%S"];
    formats.iter().find_map(|format| NaiveDateTime::parse_from_str(text, format).ok())
}
