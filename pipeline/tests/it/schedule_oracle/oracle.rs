//! Minute by minute, as a cron daemon sees time pass.

use chrono::{DateTime, NaiveDateTime, Offset, TimeDelta, TimeZone, Utc};
use chrono_tz::Tz;

use super::expression::Expression;

const THREE_HOURS: i64 = 180;

/// Seconds that local time is before UTC.
pub fn offset(zone: Tz, instant: DateTime<Utc>) -> i64 {
    i64::from(zone.offset_from_utc_datetime(&instant.naive_utc()).fix().local_minus_utc())
}

/// The first instants after each change from 1975 to 2025.
pub fn changes(zone: Tz) -> Vec<DateTime<Utc>> {
    let day = |days: i64| DateTime::UNIX_EPOCH + TimeDelta::days(days);
    let mut changes = Vec::new();
    for days in 1_827..20_089 {
        let (mut before, mut after) = (day(days), day(days + 1));
        if offset(zone, before) == offset(zone, after) {
            continue;
        }
        while after - before > TimeDelta::minutes(1) {
            let middle = before + TimeDelta::minutes((after - before).num_minutes() / 2);
            if offset(zone, middle) == offset(zone, before) { before = middle } else { after = middle }
        }
        changes.push(after);
    }
    changes
}

/// The ticks after `from` up to `to`.
///
/// After Debian's cron.c: `shown` is its virtual time. When the clock jumps ahead, fixed expressions get each minute
/// that was passed over; when it falls back they wait until it has caught up; beyond three hours all is taken as it is.
pub fn ticks(expression: &Expression, zone: Tz, from: DateTime<Utc>, to: DateTime<Utc>) -> Vec<DateTime<Utc>> {
    let minute = TimeDelta::minutes(1);
    let local = |instant: DateTime<Utc>| instant.naive_utc() + TimeDelta::seconds(offset(zone, instant));
    let mut ticks = Vec::new();
    // Early enough to know what the clock has shown.
    let mut now = DateTime::from_timestamp(from.timestamp().div_euclid(60) * 60, 0).unwrap() - TimeDelta::hours(4);
    let mut shown: NaiveDateTime = local(now);
    while now < to {
        now += minute;
        let clock = local(now);
        let ahead = (clock - shown).num_minutes();
        let as_shown = expression.recurs() || ahead > 1 + THREE_HOURS || ahead <= -THREE_HOURS;
        let hit = if as_shown {
            shown = clock;
            expression.matches_local(clock)
        } else {
            let mut hit = false;
            while shown < clock {
                shown += minute;
                hit |= expression.matches_local(shown);
            }
            hit
        };
        if hit && now > from && now <= to {
            ticks.push(now);
        }
    }
    ticks
}
