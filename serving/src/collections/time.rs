//! Moments, as the tables and the API have them.

use chrono::{DateTime, SecondsFormat, TimeDelta, Utc};
use serde::{Serialize, Serializer};

use crate::{Error, Result};

/// A clock may be so far ahead of ours.
const SKEW: TimeDelta = TimeDelta::minutes(5);
/// 1800-01-01: there are no photographs from before.
const EARLIEST: i64 = -5_364_662_400_000;
const DAY: i64 = 86_400_000;

/// Milliseconds since 1970-01-01 UTC. In JSON a text of RFC 3339 in UTC.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Moment(i64);

impl Moment {
    /// Now.
    pub(crate) fn now() -> Self {
        Self(Utc::now().timestamp_millis())
    }

    /// From milliseconds since 1970-01-01 UTC.
    pub(crate) fn from_millis(millis: i64) -> Self {
        Self(millis)
    }

    /// Milliseconds since 1970-01-01 UTC.
    pub(crate) fn millis(self) -> i64 {
        self.0
    }

    /// Days since 1970-01-01 UTC.
    pub(crate) fn day(self) -> i64 {
        self.0.div_euclid(DAY)
    }

    /// The moment at which its day begins in UTC.
    pub(crate) fn midnight(self) -> Self {
        Self(self.day() * DAY)
    }

    /// Reads when something was seen: RFC 3339, not before 1800, not in the future but for a few minutes of a clock that is
    /// ahead.
    ///
    /// # Errors
    /// What is wrong with the text.
    pub(crate) fn read_past(text: &str, now: Self) -> Result<Self> {
        let read = DateTime::parse_from_rfc3339(text).map_err(|_| {
            Error::Invalid("`time` is no moment: write it as 2026-05-01T18:30:00Z or with an offset".to_owned())
        })?;
        let moment = Self(read.timestamp_millis());
        if moment.0 > now.0 + SKEW.num_milliseconds() {
            return Err(Error::Unmet("`time` lies in the future: check the clock of the device".to_owned()));
        }
        if moment.0 < EARLIEST {
            return Err(Error::Unmet("`time` lies before 1800: check the clock of the device".to_owned()));
        }
        Ok(moment)
    }

    /// The same in chrono's words.
    pub(crate) fn time(self) -> DateTime<Utc> {
        DateTime::from_timestamp_millis(self.0).unwrap_or_default()
    }

    fn text(self) -> String {
        self.time().to_rfc3339_opts(SecondsFormat::Millis, true)
    }
}

impl From<DateTime<Utc>> for Moment {
    fn from(time: DateTime<Utc>) -> Self {
        Self(time.timestamp_millis())
    }
}

impl Serialize for Moment {
    fn serialize<S: Serializer>(&self, serializer: S) -> std::result::Result<S::Ok, S::Error> {
        serializer.serialize_str(&self.text())
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn moments_of_the_past_are_read() {
        let now = Moment::from(DateTime::parse_from_rfc3339("2026-05-01T12:00:00Z").unwrap().to_utc());
        let read = |text: &str| Moment::read_past(text, now).map(Moment::text);
        assert_eq!(read("2026-05-01T13:30:00+02:00").unwrap(), "2026-05-01T11:30:00.000Z");
        assert_eq!(read("2026-05-01T12:04:00Z").unwrap(), "2026-05-01T12:04:00.000Z", "a clock that is ahead");
        assert_eq!(read("1899-12-31T23:59:59.5Z").unwrap(), "1899-12-31T23:59:59.500Z");
        for bad in ["2026-05-01T12:06:00Z", "1799-12-31T00:00:00Z", "0000-01-01T00:00:00Z", "9999-12-31T23:59:59Z"] {
            assert!(matches!(read(bad), Err(Error::Unmet(_))), "{bad}");
        }
        for bad in ["", "yesterday", "2026-05-01", "2026-02-30T00:00:00Z", "1e400", "-1"] {
            assert!(matches!(read(bad), Err(Error::Invalid(_))), "{bad}");
        }
    }

    #[test]
    fn a_day_begins_at_midnight_before_1970_too() {
        assert_eq!(Moment(-1).midnight(), Moment(-DAY));
        assert_eq!(Moment(0).midnight(), Moment(0));
        assert_eq!(Moment(DAY - 1).day(), 0);
    }
}
