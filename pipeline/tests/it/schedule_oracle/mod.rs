//! Ticks against a slow oracle: it walks over every minute of UTC, converts it with another time library and its own
//! database, and keeps Debian cron's "virtual time". It knows expressions as generated values, not as text.

mod expression;
mod oracle;

use std::sync::LazyLock;

use chrono::{DateTime, TimeDelta, Utc};
use chrono_tz::{TZ_VARIANTS, Tz};
use pipeline::schedule::{Error, Schedule, Timetable};
use proptest::prelude::*;
use proptest::sample::{Index, select};
use proptest::test_runner::{RngSeed, TestRunner};

use expression::{Expression, any_expression};
use oracle::{changes, offset, ticks};

/// Of each habit one: an hour, half an hour, midnight, the month of Ramadan, none, a day, three hours, seven.
const ZONES: [Tz; 17] = [
    Tz::Europe__Berlin,
    Tz::Europe__London,
    Tz::Europe__Moscow,
    Tz::America__New_York,
    Tz::America__St_Johns,
    Tz::America__Sao_Paulo,
    Tz::America__Santiago,
    Tz::Australia__Lord_Howe,
    Tz::Africa__Casablanca,
    Tz::Africa__Cairo,
    Tz::Asia__Kathmandu,
    Tz::Asia__Gaza,
    Tz::Pacific__Apia,
    Tz::Antarctica__Casey,
    Tz::Antarctica__Troll,
    Tz::Antarctica__Vostok,
    Tz::UTC,
];

fn seeded(seed: u64, cases: u32) -> TestRunner {
    let config = ProptestConfig {
        cases,
        rng_seed: RngSeed::Fixed(seed),
        failure_persistence: None,
        ..ProptestConfig::default()
    };
    TestRunner::new(config)
}

/// Nothing when the expression has no day, which the oracle must confirm, or only skipped hours.
fn schedule(expression: &Expression, zone: Tz) -> Option<Schedule> {
    match Schedule::cron(&expression.text(), zone.name()) {
        Ok(schedule) => Some(schedule),
        Err(Error::NoSuchDay { .. }) => {
            assert!((0..9 * 366).all(|days| !expression.matches_date(day(days).date_naive())), "{}", expression.text());
            None
        }
        Err(Error::Never { .. }) if expression.recurs() => None,
        Err(error) => panic!("{}: {error}", expression.text()),
    }
}

fn day(days: i64) -> DateTime<Utc> {
    DateTime::UNIX_EPOCH + TimeDelta::days(days)
}

/// An instant near a change of the clocks, or any between 1975 and 2025.
fn moment(zone: Tz, any: i64, near: Option<Index>) -> DateTime<Utc> {
    static CHANGES: LazyLock<Vec<Vec<DateTime<Utc>>>> = LazyLock::new(|| ZONES.map(changes).to_vec());
    let changes = &CHANGES[ZONES.iter().position(|other| *other == zone).unwrap()];
    match near {
        Some(index) if !changes.is_empty() => *index.get(changes) + TimeDelta::minutes(any % 4320 - 2160),
        _ => DateTime::UNIX_EPOCH + TimeDelta::minutes(any),
    }
}

fn any_minute() -> impl Strategy<Value = i64> {
    5 * 525_960..55 * 525_960_i64
}

/// The module's ticks after `from` up to `to`.
fn found(schedule: &Schedule, from: DateTime<Utc>, to: DateTime<Utc>) -> Vec<DateTime<Utc>> {
    let mut found = Vec::new();
    let mut now = from;
    while let Some(tick) = schedule.next_after(now).unwrap()
        && tick <= to
    {
        found.push(tick);
        now = tick;
    }
    found
}

#[test]
fn ticks_are_those_of_the_oracle() {
    let input = (any_expression(), select(&ZONES[..]), any_minute(), prop::option::weighted(0.9, any::<Index>()));
    let outcome = seeded(1, 1_500).run(&input, |(expression, zone, any, near)| {
        let Some(schedule) = schedule(&expression, zone) else { return Ok(()) };
        let from = moment(zone, any, near);
        let to = from + TimeDelta::days(2);
        let expected = ticks(&expression, zone, from, to);
        prop_assert_eq!(found(&schedule, from, to), expected, "{} from {}", schedule, from);
        Ok(())
    });
    outcome.unwrap();
}

#[test]
fn rare_ticks_are_those_of_the_oracle() {
    let input = (any_expression(), select(&ZONES[..]), 1_900..19_900_i64);
    let outcome = seeded(2, 24).run(&input, |(expression, zone, days)| {
        let Some(schedule) = schedule(&expression, zone) else { return Ok(()) };
        let (from, to) = (day(days), day(days + 400));
        prop_assert_eq!(found(&schedule, from, to), ticks(&expression, zone, from, to), "{} from {}", schedule, from);
        Ok(())
    });
    outcome.unwrap();
}

#[test]
fn ticks_and_intervals_keep_their_promises() {
    let input = (any_expression(), select(&ZONES[..]), any_minute(), 0..60_000_i64, any::<Option<Index>>());
    let outcome = seeded(3, 1_500).run(&input, |(expression, zone, any, millis, near)| {
        let Some(schedule) = schedule(&expression, zone) else { return Ok(()) };
        let from = moment(zone, any, near) + TimeDelta::milliseconds(millis);
        let mut last = None;
        let mut now = from;
        for _ in 0..20 {
            let tick = schedule.next_after(now).unwrap().unwrap();
            prop_assert!(tick > now);
            // From anywhere between two ticks, the next is the same.
            let between = now + (tick - now) * 2 / 3;
            prop_assert_eq!(schedule.next_after(between).unwrap(), Some(tick));
            // Local time matches, or a change has moved the tick.
            let moved = offset(zone, tick) > offset(zone, tick - TimeDelta::seconds(1));
            prop_assert!(moved || expression.matches(zone, tick), "{} at {}", schedule, tick);
            // Backwards it is the same row.
            prop_assert_eq!(schedule.latest_at(tick), Some(tick));
            prop_assert_eq!(schedule.latest_at(tick + TimeDelta::milliseconds(millis)), Some(tick));
            if last.is_some() {
                prop_assert_eq!(schedule.latest_at(tick - TimeDelta::milliseconds(1)), last);
            }
            last = Some(tick);
            now = tick;
        }

        let intervals: Vec<_> = schedule.intervals_between(from, now).collect();
        prop_assert_eq!(intervals.len(), 19);
        prop_assert_eq!(intervals[18].end, now);
        for pair in intervals.windows(2) {
            prop_assert!(pair[0].start < pair[0].end);
            prop_assert_eq!(pair[0].end, pair[1].start);
        }
        Ok(())
    });
    outcome.unwrap();
}

/// A scheduler that asks at any times, with a clock that jumps to and fro, runs each interval once and in order.
#[test]
fn no_history_of_asking_gives_an_interval_twice() {
    let asks = prop::collection::vec(-3_000..6_000_i64, 1..40);
    let input = (any_expression(), select(&ZONES[..]), any_minute(), any::<bool>(), asks);
    let outcome = seeded(4, 400).run(&input, |(expression, zone, any, catch_up, asks)| {
        let Some(schedule) = schedule(&expression, zone) else { return Ok(()) };
        let mut now = moment(zone, any, None);
        let mut done = schedule.latest_at(now);
        let timetable = Timetable { catch_up, ..Timetable::new(schedule) };
        for minutes in asks {
            now += TimeDelta::minutes(minutes);
            let next = timetable.next_due(done, now).unwrap().unwrap();
            // A worker does a few of the missed ones, then dies.
            for interval in timetable.due(done, now).take(50) {
                prop_assert!(interval.end <= now);
                match done {
                    Some(done) if catch_up => prop_assert_eq!(interval.start, done),
                    done => prop_assert!(Some(interval.start) >= done),
                }
                done = Some(interval.end);
            }
            prop_assert!(next > now && Some(next) > done);
            if timetable.due(done, now).next().is_none() {
                let due = timetable.due(done, next).last().unwrap();
                prop_assert_eq!(due.end, next);
            }
        }
        Ok(())
    });
    outcome.unwrap();
}

/// Every zone at every change since 1975. Minutes of work: `cargo test -- --ignored every_zone`.
#[test]
#[ignore = "takes minutes"]
fn every_zone_at_every_change() {
    let texts = [[0, 1, 2, 3, 22, 23].map(Expression::daily).to_vec(), Expression::recurring()].concat();
    let database = jiff::tz::TimeZoneDatabase::bundled();
    let mut windows = 0;
    for zone in TZ_VARIANTS {
        let rules = database.get(zone.name()).unwrap();
        let jiff_offset = |instant: DateTime<Utc>| {
            i64::from(rules.to_offset(jiff::Timestamp::from_second(instant.timestamp()).unwrap()).seconds())
        };
        for change in changes(zone) {
            let (from, to) = (change - TimeDelta::hours(30), change + TimeDelta::hours(30));
            // The two databases are not of one age.
            if (-60..60).any(|hours| {
                let instant = change + TimeDelta::hours(hours);
                offset(zone, instant) != jiff_offset(instant)
            }) {
                println!("not the same in both databases: {zone} at {change}");
                continue;
            }
            for expression in &texts {
                let schedule = schedule(expression, zone).unwrap();
                let expected = ticks(expression, zone, from, to);
                assert_eq!(found(&schedule, from, to), expected, "{schedule} from {from}");
            }
            windows += 1;
        }
    }
    println!("{windows} changes in {} zones, {} expressions each", TZ_VARIANTS.len(), texts.len());
}
