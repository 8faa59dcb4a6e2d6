//! Which dates and minutes match a cron expression, without regard to zones. Whole months, days and hours that do not
//! match are jumped over.

use chrono::{Datelike, NaiveDate, NaiveDateTime, Timelike};

use super::cron::Cron;

/// The most days that each month can have.
const LONGEST: [u32; 12] = [31, 29, 31, 30, 31, 30, 31, 31, 30, 31, 30, 31];

impl Cron {
    /// The first matching minute at or after `from`, which is a whole minute, up to the end of `last_year`.
    pub(super) fn next_local(&self, from: NaiveDateTime, last_year: i32) -> Option<NaiveDateTime> {
        let (mut year, mut month) = (from.year(), from.month());
        let today = from.day();
        let days = self.days_in(year, month)?;
        if days >> today & 1 == 1
            && let Some((hour, minute)) = self.time_from(from.hour(), from.minute())
        {
            return from.date().and_hms_opt(hour, minute, 0);
        }

        let mut rest = days & !low_bits(today + 1);
        while rest == 0 {
            (year, month) = if month == 12 { (year + 1, 1) } else { (year, month + 1) };
            if year > last_year {
                return None;
            }
            rest = self.days_in(year, month)?;
        }
        let (hour, minute) = self.time_from(0, 0)?;
        NaiveDate::from_ymd_opt(year, month, rest.trailing_zeros())?.and_hms_opt(hour, minute, 0)
    }

    /// Whether the expression has a day in any year. Each date comes on each day of the week in some year, so that only
    /// days that no month has are a hindrance.
    pub(super) fn has_a_day(&self) -> bool {
        let month_has = |month: u32| self.days & low_bits(LONGEST[month as usize - 1] + 1) != 0;
        self.either_day || self.last_day || (1..=12).any(|month| self.months >> month & 1 == 1 && month_has(month))
    }

    /// The matching days of a month: bit n is set for day n.
    fn days_in(&self, year: i32, month: u32) -> Option<u64> {
        if self.months >> month & 1 == 0 {
            return Some(0);
        }
        let first = NaiveDate::from_ymd_opt(year, month, 1)?;
        let length = u32::from(first.num_days_in_month());
        let mut by_date = self.days;
        if self.last_day {
            by_date |= 1 << length;
        }
        // The week, turned so that bit 0 is the day of the week of the first, and laid over the month five times.
        let turn = first.weekday().num_days_from_sunday();
        let week = (self.weekdays >> turn | self.weekdays << (7 - turn)) & low_bits(7);
        let by_weekday = (0..5).fold(0, |bits, count| bits | week << (7 * count + 1));
        let days = if self.either_day { by_date | by_weekday } else { by_date & by_weekday };
        Some(days & low_bits(length + 1))
    }

    /// The first matching time of a day at or after this one.
    fn time_from(&self, hour: u32, minute: u32) -> Option<(u32, u32)> {
        let minutes = self.minutes & !low_bits(minute);
        if self.hours >> hour & 1 == 1 && minutes != 0 {
            return Some((hour, minutes.trailing_zeros()));
        }
        let hours = self.hours & !low_bits(hour + 1);
        (hours != 0).then(|| (hours.trailing_zeros(), self.minutes.trailing_zeros()))
    }
}

/// The lowest `count` bits; at most 60 are asked for.
fn low_bits(count: u32) -> u64 {
    (1 << count) - 1
}
