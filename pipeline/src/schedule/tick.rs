//! From local times to instants: where the ticks of a cron expression lie. The rule is told in the module's head.

use chrono::{DateTime, Datelike, Utc};

use super::SEARCH_YEARS;
use super::cron::Cron;
use super::zone::{Change, Zone};

/// The largest change that counts as daylight saving.
const LARGEST_SHIFT: i64 = 3 * 3600;

/// More changes than any zone has in the years that are searched: four a year, twice over.
const MOST_STEPS: usize = 400;

/// The first tick strictly after `after`, or nothing in the years that are searched.
///
/// Walks from change to change; between two of them local time is UTC and a constant. Most calls see no change.
pub(super) fn next(cron: &Cron, zone: &Zone, after: DateTime<Utc>) -> Option<DateTime<Utc>> {
    let last_year = after.year() + i32::try_from(SEARCH_YEARS).ok()?;
    let mut at = after.timestamp();
    let mut offset = zone.offset(at)?;
    // The local time from which on a match counts.
    let mut from = (at + offset).div_euclid(60) * 60 + 60;
    if !cron.recurring {
        from = from.max(end_of_repetition(zone, at, offset)?);
    }

    for _ in 0..MOST_STEPS {
        let start = DateTime::from_timestamp(from, 0)?.naive_utc();
        let local = cron.next_local(start, last_year)?.and_utc().timestamp();
        let Some(change) = zone.change_between(at, local - offset) else {
            return DateTime::from_timestamp(local - offset, 0);
        };
        let Change { at: changed, after: new_offset, .. } = change;
        if cron.recurring || !is_daylight_saving(change) {
            // What the clock shows is what counts, be it for the second time.
            from = next_minute(changed + new_offset);
        } else if change.after > change.before && local < changed + new_offset {
            // Skipped.
            return DateTime::from_timestamp(changed, 0);
        } else {
            // Not before the local time of the match found, which passes over all that is shown again.
            from = local;
        }
        (at, offset) = (changed, new_offset);
    }
    None
}

/// The local time up to which the clock shows at `at` what it has shown before; long past when it does not.
fn end_of_repetition(zone: &Zone, at: i64, offset: i64) -> Option<i64> {
    let earlier = at - LARGEST_SHIFT;
    if zone.offset(earlier)? <= offset {
        return Some(i64::MIN);
    }
    let end = match zone.change_between(earlier, at) {
        Some(change) if is_daylight_saving(change) => next_minute(change.at + change.before),
        _ => i64::MIN,
    };
    Some(end)
}

fn is_daylight_saving(change: Change) -> bool {
    (change.after - change.before).abs() <= LARGEST_SHIFT
}

/// The first whole minute at or after this local time; before 1972 some offsets had odd seconds.
fn next_minute(local: i64) -> i64 {
    (local + 59).div_euclid(60) * 60
}
