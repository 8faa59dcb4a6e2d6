//! Ticks where clocks change, worked out by hand from the zones' published changes.

use chrono::{DateTime, Utc};
use pipeline::schedule::Schedule;

fn at(text: &str) -> DateTime<Utc> {
    format!("{text}:00Z").parse().unwrap()
}

/// Checks the ticks after `from`, one by one.
fn check(zone: &str, cron: &str, from: &str, expected: &[&str]) {
    let schedule = Schedule::cron(cron, zone).unwrap();
    let mut now = at(from);
    let mut found = Vec::new();
    for _ in expected {
        now = schedule.next_after(now).unwrap().unwrap();
        found.push(now.format("%Y-%m-%dT%H:%M").to_string());
    }
    assert_eq!(found, expected, "{cron} in {zone} after {from}");
}

#[test]
fn berlin_in_spring() {
    // 2026-03-29, 02:00 to 03:00, at 01:00Z.
    let zone = "Europe/Berlin";
    check(zone, "30 2 * * *", "2026-03-27T12:00", &["2026-03-28T01:30", "2026-03-29T01:00", "2026-03-30T00:30"]);
    // 02:00, 02:30 and 03:00 are one tick.
    check(zone, "0,30 2,3 * * *", "2026-03-29T00:00", &["2026-03-29T01:00", "2026-03-29T01:30", "2026-03-30T00:00"]);
    check(zone, "*/30 * * * *", "2026-03-29T00:00", &["2026-03-29T00:30", "2026-03-29T01:00", "2026-03-29T01:30"]);
    check(zone, "0 */2 * * *", "2026-03-28T22:00", &["2026-03-28T23:00", "2026-03-29T02:00", "2026-03-29T04:00"]);
    check(zone, "*/30 2 * * *", "2026-03-28T00:59", &["2026-03-28T01:00", "2026-03-28T01:30", "2026-03-30T00:00"]);
    // Only that one night, so the skipped minute is the only one of the year.
    check(zone, "15 2 29 3 *", "2026-01-01T00:00", &["2026-03-29T01:00", "2027-03-29T00:15"]);
    // From within the hour.
    check(zone, "30 2 * * *", "2026-03-29T00:59", &["2026-03-29T01:00"]);
    check(zone, "30 2 * * *", "2026-03-29T01:00", &["2026-03-30T00:30"]);
}

#[test]
fn berlin_in_autumn() {
    // 2026-10-25, 03:00 to 02:00, at 01:00Z.
    let zone = "Europe/Berlin";
    check(zone, "30 2 * * *", "2026-10-23T12:00", &["2026-10-24T00:30", "2026-10-25T00:30", "2026-10-26T01:30"]);
    check(zone, "0 2 * * *", "2026-10-24T12:00", &["2026-10-25T00:00", "2026-10-26T01:00"]);
    check(zone, "0 3 * * *", "2026-10-24T12:00", &["2026-10-25T02:00", "2026-10-26T02:00"]);
    check(
        zone,
        "0 * * * *",
        "2026-10-24T23:30",
        &["2026-10-25T00:00", "2026-10-25T01:00", "2026-10-25T02:00", "2026-10-25T03:00"],
    );
    check(zone, "0 0-23 * * *", "2026-10-25T00:00", &["2026-10-25T01:00", "2026-10-25T02:00"]);
    check(zone, "*/30 2 * * *", "2026-10-25T00:30", &["2026-10-25T01:00", "2026-10-25T01:30", "2026-10-26T01:00"]);
    check(
        zone,
        "0,30 1-3 * * *",
        "2026-10-24T22:59",
        &["2026-10-24T23:00", "2026-10-24T23:30", "2026-10-25T00:00", "2026-10-25T00:30", "2026-10-25T02:00"],
    );
    // Asked from within the second 02:xx, the first has been.
    check(zone, "30 2 * * *", "2026-10-25T01:10", &["2026-10-26T01:30"]);
}

#[test]
fn new_york() {
    let zone = "America/New_York";
    // 2026-03-08, 02:00 to 03:00, at 07:00Z; 2026-11-01, 02:00 to 01:00, at 06:00Z.
    check(zone, "30 2 * * *", "2026-03-06T12:00", &["2026-03-07T07:30", "2026-03-08T07:00", "2026-03-09T06:30"]);
    check(zone, "30 1 * * *", "2026-10-30T12:00", &["2026-10-31T05:30", "2026-11-01T05:30", "2026-11-02T06:30"]);
    check(zone, "30 * * * *", "2026-11-01T04:00", &["2026-11-01T04:30", "2026-11-01T05:30", "2026-11-01T06:30"]);
    check(zone, "@daily", "2026-10-31T12:00", &["2026-11-01T04:00", "2026-11-02T05:00"]);
}

#[test]
fn lord_howe_shifts_by_half_an_hour() {
    let zone = "Australia/Lord_Howe";
    // 2025-10-05, 02:00 to 02:30, at 15:30Z the day before.
    check(zone, "15 2 * * *", "2025-10-03T12:00", &["2025-10-03T15:45", "2025-10-04T15:30", "2025-10-05T15:15"]);
    check(zone, "15 * * * *", "2025-10-04T14:00", &["2025-10-04T14:45", "2025-10-04T16:15"]);
    check(zone, "*/30 * * * *", "2025-10-04T14:45", &["2025-10-04T15:00", "2025-10-04T15:30", "2025-10-04T16:00"]);
    // 2026-04-05, 02:00 to 01:30, at 15:00Z the day before.
    check(zone, "45 1 * * *", "2026-04-03T12:00", &["2026-04-03T14:45", "2026-04-04T14:45", "2026-04-05T15:15"]);
    check(zone, "45 * * * *", "2026-04-04T14:00", &["2026-04-04T14:45", "2026-04-04T15:15", "2026-04-04T16:15"]);
}

#[test]
fn sao_paulo_changed_at_midnight() {
    let zone = "America/Sao_Paulo";
    // 2018-11-04, 00:00 to 01:00, at 03:00Z; 2018-02-18, 00:00 to 23:00 of the 17th, at 02:00Z.
    check(zone, "@daily", "2018-11-02T12:00", &["2018-11-03T03:00", "2018-11-04T03:00", "2018-11-05T02:00"]);
    check(zone, "0 0 4 11 *", "2018-01-01T00:00", &["2018-11-04T03:00", "2019-11-04T03:00"]);
    check(zone, "@daily", "2018-02-16T12:00", &["2018-02-17T02:00", "2018-02-18T03:00", "2018-02-19T03:00"]);
    check(zone, "30 23 * * *", "2018-02-17T12:00", &["2018-02-18T01:30", "2018-02-19T02:30"]);
}

#[test]
fn casablanca_changes_around_ramadan() {
    let zone = "Africa/Casablanca";
    // 2025-02-23, 03:00 to 02:00, and 2025-04-06, 02:00 to 03:00, both at 02:00Z.
    check(zone, "30 2 * * *", "2025-02-21T12:00", &["2025-02-22T01:30", "2025-02-23T01:30", "2025-02-24T02:30"]);
    check(zone, "30 2 * * *", "2025-04-04T12:00", &["2025-04-05T02:30", "2025-04-06T02:00", "2025-04-07T01:30"]);
}

#[test]
fn kathmandu_is_off_by_a_quarter() {
    check("Asia/Kathmandu", "0 6 * * *", "2026-01-01T00:00", &["2026-01-01T00:15", "2026-01-02T00:15"]);
    check("Asia/Kathmandu", "@hourly", "2026-01-01T00:00", &["2026-01-01T00:15", "2026-01-01T01:15"]);
    // Until 1986 it was +5:30.
    check("Asia/Kathmandu", "0 6 * * *", "1985-12-30T12:00", &["1985-12-31T00:30", "1986-01-01T00:15"]);
}

#[test]
fn apia_skipped_a_day() {
    // 2011-12-30 was not: -10 to +14, at 10:00Z. Real days go on, so a daily run must not be doubled.
    let zone = "Pacific/Apia";
    check(zone, "0 6 * * *", "2011-12-29T00:00", &["2011-12-29T16:00", "2011-12-30T16:00", "2011-12-31T16:00"]);
    check(zone, "@daily", "2011-12-29T00:00", &["2011-12-29T10:00", "2011-12-30T10:00", "2011-12-31T10:00"]);
    check(zone, "@hourly", "2011-12-30T08:30", &["2011-12-30T09:00", "2011-12-30T10:00", "2011-12-30T11:00"]);
    check(zone, "0 0 30 12 *", "2010-01-01T00:00", &["2010-12-30T10:00", "2012-12-29T10:00"]);
}

#[test]
fn three_hours_are_daylight_saving() {
    // 2010-03-05, 02:00 to 23:00 of the 4th, at 15:00Z; 2009-10-18, 02:00 to 05:00, at 18:00Z the day before.
    let zone = "Antarctica/Casey";
    check(zone, "30 0 * * *", "2010-03-04T12:00", &["2010-03-04T13:30", "2010-03-05T16:30"]);
    check(zone, "0 3 * * *", "2009-10-16T12:00", &["2009-10-16T19:00", "2009-10-17T18:00", "2009-10-18T16:00"]);
}

#[test]
fn more_than_three_hours_back_count_again() {
    // 1994-02-01, 00:00 to 17:00 of the day before, at 17:00Z.
    let zone = "Antarctica/Vostok";
    check(zone, "30 18 * * *", "1994-01-31T00:00", &["1994-01-31T11:30", "1994-01-31T18:30", "1994-02-01T18:30"]);
    check(zone, "30 18 * * *", "1994-01-31T17:30", &["1994-01-31T18:30"]);
}

#[test]
fn utc_and_a_zone_without_changes() {
    check("UTC", "0 6 * * *", "2026-03-28T12:00", &["2026-03-29T06:00", "2026-03-30T06:00"]);
    check("UTC", "0 0 29 2 *", "2096-03-01T00:00", &["2104-02-29T00:00"]);
    check("UTC", "0 0 L * *", "2028-01-15T00:00", &["2028-01-31T00:00", "2028-02-29T00:00", "2028-03-31T00:00"]);
    check("Etc/GMT+5", "0 6 * * *", "2026-03-28T12:00", &["2026-03-29T11:00"]);
}

#[test]
fn changes_of_the_law_in_2026_are_known() {
    // British Columbia stays on summer time from 2026 on.
    check("America/Vancouver", "0 6 * * *", "2026-10-31T00:00", &["2026-10-31T13:00", "2026-11-01T13:00"]);
}

#[test]
fn before_1972_offsets_had_seconds() {
    // Monrovia was 44 minutes and 30 seconds behind; it came to UTC on 1972-01-07, so 00:00 to 00:44:30 was skipped.
    let schedule = Schedule::cron("0 0 * * *", "Africa/Monrovia").unwrap();
    let found: Vec<String> = schedule
        .intervals_between(at("1972-01-05T00:00"), at("1972-01-09T00:00"))
        .map(|interval| interval.start.to_rfc3339())
        .collect();
    let night = "T00:44:30+00:00";
    let expected = ["05", "06", "07"].map(|day| format!("1972-01-{day}{night}"));
    assert_eq!(found[..3], expected);
    assert_eq!(found[3], "1972-01-08T00:00:00+00:00");
}
