//! Cron expressions.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Deserializer, Serialize, Serializer, de};

use super::Error;
use super::field::{self, Set, clip};
use crate::dag::hint;

/// A cron expression of five fields: minute, hour, day of the month, month, day of the week.
///
/// - A field is `*`, a number, a range `9-17`, or several of them with commas; each but a number may have a step
///   (`*/15`, `9-17/2`), and `5/15` means from 5 on. Months and days of the week have names (`jan`, `mon`); Sunday is 0
///   and 7; `L` is the last day of the month.
/// - `@hourly`, `@daily` (`@midnight`), `@weekly`, `@monthly` and `@yearly` (`@annually`) stand for five fields.
/// - When day of the month and day of the week are both restricted, which means written without a `*`, a day matches
///   when **either** does: `0 0 13 * fri` is every 13th and every Friday. When one has a `*`, both must match:
///   `0 0 */2 * mon` is the Mondays with an odd date. This is the rule of POSIX and of Vixie and Debian cron.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Cron {
    text: String,
    /// Bit n is set for minute n, and so on in the other fields.
    pub(super) minutes: u64,
    pub(super) hours: u64,
    pub(super) days: u64,
    pub(super) months: u64,
    pub(super) weekdays: u64,
    /// Also on the last day of the month.
    pub(super) last_day: bool,
    /// A day of the month or of the week is enough.
    pub(super) either_day: bool,
    /// Ticks in every real interval instead of at times of the day; see the rule for clock changes.
    pub(super) recurring: bool,
}

impl Cron {
    /// The expression as it was written, with single spaces.
    pub fn as_str(&self) -> &str {
        &self.text
    }

    /// Whether it recurs (`*`, a step or all values in minute or hour), in contrast to naming times of the day. The two
    /// kinds differ when the clocks change.
    pub fn is_recurring(&self) -> bool {
        self.recurring
    }
}

impl FromStr for Cron {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self, Error> {
        let fields = match text.trim() {
            word if word.starts_with('@') => macro_fields(word)?,
            _ => text,
        };
        let parts = split(fields);
        let [minute, hour, day, month, weekday] = parts.as_slice() else { return Err(wrong_count(text, &parts)) };
        let read = |kind: &field::Field, part: &Part<'_>| kind.parse(part.text, part.column);
        let minutes = read(&field::MINUTE, minute)?;
        let hours = read(&field::HOUR, hour)?;
        let days = read(&field::DAY_OF_MONTH, day)?;
        let months = read(&field::MONTH, month)?;
        let weekdays = read(&field::DAY_OF_WEEK, weekday)?;

        let recurs = |set: &Set, all: u64| set.star || set.step || set.bits == all;
        let cron = Self {
            text: text.split_whitespace().collect::<Vec<_>>().join(" "),
            minutes: minutes.bits,
            hours: hours.bits,
            days: days.bits,
            months: months.bits,
            weekdays: weekdays.bits,
            last_day: days.last_day,
            either_day: !days.star && !weekdays.star,
            recurring: recurs(&minutes, field::MINUTE.all()) || recurs(&hours, field::HOUR.all()),
        };
        if !cron.has_a_day() {
            let (days, months) = (clip(day.text), clip(month.text));
            return Err(Error::NoSuchDay { days, months, column: day.column });
        }
        Ok(cron)
    }
}

impl fmt::Display for Cron {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}

impl Serialize for Cron {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(&self.text)
    }
}

impl<'de> Deserialize<'de> for Cron {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        String::deserialize(deserializer)?.parse().map_err(de::Error::custom)
    }
}

/// A field's text and where it stands: characters, from 1.
struct Part<'a> {
    text: &'a str,
    column: usize,
}

const MACROS: [(&str, &str); 7] = [
    ("@hourly", "0 * * * *"),
    ("@daily", "0 0 * * *"),
    ("@midnight", "0 0 * * *"),
    ("@weekly", "0 0 * * 0"),
    ("@monthly", "0 0 1 * *"),
    ("@yearly", "0 0 1 1 *"),
    ("@annually", "0 0 1 1 *"),
];

fn macro_fields(word: &str) -> Result<&'static str, Error> {
    let known = MACROS.iter().find(|(name, _)| name.eq_ignore_ascii_case(word));
    known.map(|(_, fields)| *fields).ok_or_else(|| {
        let hint = hint(word, MACROS.iter().map(|(name, _)| *name));
        Error::Macro { text: clip(word), hint }
    })
}

fn split(text: &str) -> Vec<Part<'_>> {
    let mut parts = Vec::new();
    let mut rest = text;
    let mut column = 1;
    loop {
        let trimmed = rest.trim_start();
        if trimmed.is_empty() {
            return parts;
        }
        column += rest[..rest.len() - trimmed.len()].chars().count();
        let end = trimmed.find(char::is_whitespace).unwrap_or(trimmed.len());
        parts.push(Part { text: &trimmed[..end], column });
        column += trimmed[..end].chars().count();
        rest = &trimmed[end..];
    }
}

fn wrong_count(text: &str, parts: &[Part<'_>]) -> Error {
    let problem = match parts.len() {
        0 => "is empty".to_string(),
        1 => "has one field".to_string(),
        6 | 7 => format!("has {} fields; seconds and years are not known here", parts.len()),
        count => format!("has {count} fields"),
    };
    let column = parts.get(5).map_or_else(|| text.trim_end().chars().count().max(1), |part| part.column);
    Error::Fields { text: clip(text.trim()), column, problem }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use chrono::{NaiveDate, NaiveDateTime};

    use super::*;

    fn cron(text: &str) -> Cron {
        text.parse().unwrap()
    }

    /// The days of a month that match.
    fn days(text: &str, year: i32, month: u32) -> Vec<String> {
        let mut from: NaiveDateTime = NaiveDate::from_ymd_opt(year, month, 1).unwrap().into();
        let mut days = Vec::new();
        while let Some(found) = cron(text).next_local(from, year)
            && found.format("%m").to_string() == format!("{month:02}")
        {
            days.push(found.format("%d").to_string());
            from = found.date().succ_opt().unwrap().into();
        }
        days
    }

    #[test]
    fn reads_names_lists_ranges_and_steps() {
        let same = [
            ("0 0 * jan,FEB,3 *", "0 0 * 1-3 *"),
            ("0 0 * * mon-fri", "0 0 * * 1,2,3,4,5"),
            ("0 0 * * fri-sun", "0 0 * * 5-7"),
            ("0 0 * * 7", "0 0 * * sun"),
            ("0 0 * * 1-7/2", "0 0 * * 1,3,5,0"),
            ("5/20 0 * * *", "5,25,45 0 * * *"),
            ("10-40/15 0 * * *", "10,25,40 0 * * *"),
            ("  0\t0  * * * ", "@daily"),
            ("@Hourly", "0 * * * *"),
            ("@weekly", "0 0 * * 0"),
            ("@annually", "@yearly"),
        ];
        for (one, other) in same {
            let fields = |text: &str| {
                let cron = cron(text);
                (cron.minutes, cron.hours, cron.days, cron.months, cron.weekdays, cron.either_day)
            };
            assert_eq!(fields(one), fields(other), "{one} and {other}");
        }
        assert_eq!(cron(" 0  6 * *  mon").to_string(), "0 6 * * mon");
    }

    #[test]
    fn either_day_is_enough_unless_one_has_a_star() {
        // February 2026 begins with a Sunday.
        assert_eq!(days("0 0 13 * fri", 2026, 2), ["06", "13", "20", "27"]);
        assert_eq!(days("0 0 14 * fri", 2026, 2), ["06", "13", "14", "20", "27"]);
        assert_eq!(days("0 0 13 * *", 2026, 2), ["13"]);
        assert_eq!(days("0 0 * * fri", 2026, 2), ["06", "13", "20", "27"]);
        assert_eq!(days("0 0 */2 * mon", 2026, 2), ["09", "23"]);
        assert_eq!(days("0 0 1-7 * */7", 2026, 2), ["01"]);
        assert_eq!(days("0 0 15,L * *", 2028, 2), ["15", "29"]);
        assert_eq!(days("0 0 30-31 * *", 2026, 2), [""; 0]);
        assert_eq!(days("0 0 l * mon", 2026, 2), ["02", "09", "16", "23", "28"]);
    }

    #[test]
    fn recurring_has_a_star_a_step_or_all_values() {
        for text in
            ["* 2 * * *", "0 * * * *", "*/15 2 * * *", "0-30/10 2 * * *", "0 0-23 * * *", "0 1-23/2 * * *", "@hourly"]
        {
            assert!(cron(text).is_recurring(), "{text}");
        }
        for text in ["30 2 * * *", "0,30 1-3 * * *", "@daily", "0 0 */2 * *", "0 9-17 * * mon-fri"] {
            assert!(!cron(text).is_recurring(), "{text}");
        }
    }

    #[test]
    fn mistakes_tell_field_text_column_and_what_is_allowed() {
        let cases = [
            ("0 24 * * *", 3, "hour `24` (column 3) is out of range; write 0-23"),
            ("0  0 1,32 * *", 8, "day-of-month `32` (column 8) is out of range; write 1-31"),
            ("0 0 0 * *", 5, "day-of-month `0` (column 5) is out of range"),
            ("0 0 * janu *", 7, "month `janu` (column 7) cannot be read; write 1-12 or jan-dec"),
            ("0 22-4 * * *", 3, "hour `22-4` (column 3) ends before it begins; write `22-23,0-4` to go around"),
            ("0 0 * * fri-mon", 9, "write `fri-sat,sun-mon` to go around"),
            ("*/90 * * * *", 1, "minute `*/90` (column 1) has a step of 90; write 1-60, or use `every:`"),
            ("*/0 * * * *", 1, "has a step that is not a number; write 1-60 after the `/`"),
            ("0, * * * *", 3, "minute `` (column 3) has an empty part"),
            ("0 0 15W * *", 5, "day-of-month `15W` (column 5) cannot be read"),
            ("0 0 ? * mon", 5, "is not cron's word for any value, which is `*`"),
            ("0 0 L/2 * *", 5, "has a step after `L`"),
            ("0 0 * * 5L", 9, "day-of-week `5L` (column 9) cannot be read"),
            ("ä -1 * * *", 1, "minute `ä` (column 1) cannot be read"),
            ("0 -1 * * *", 3, "hour `-1` (column 3) cannot be read"),
            ("0 0 0 * * *", 11, "has 6 fields; seconds and years are not known here; write five fields"),
            ("", 1, "cron `` is empty"),
            ("@dayly", 1, "cron `@dayly` is not known; did you mean `@daily`?"),
            ("@reboot", 1, "cron `@reboot` is not known; known: @hourly"),
            ("0 0 30 2 *", 5, "day-of-month `30` (column 5) never comes in month `2`"),
        ];
        for (text, column, message) in cases {
            let error = text.parse::<Cron>().unwrap_err();
            assert!(error.to_string().contains(message), "{text}: {error}");
            assert_eq!((error.key(), error.column()), ("cron", column), "{text}: {error}");
        }
    }

    #[test]
    fn no_text_is_a_panic() {
        for text in [
            "* * * * 8",
            "99999999999 * * * *",
            "1-2-3 * * * *",
            "1/2/3 * * * *",
            "/ * * * *",
            "- * * * *",
            "60-0/0,,L * * * *",
            "@",
            "\u{2003}",
        ] {
            assert!(text.parse::<Cron>().is_err(), "{text}");
        }
        assert!(format!("0 0 * * {}", "x".repeat(10_000)).parse::<Cron>().unwrap_err().to_string().len() < 400);
    }
}
