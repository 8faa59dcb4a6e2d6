//! Intervals, catch-up, bounds and the text form of schedules.

use std::time::Duration;

use chrono::{DateTime, TimeDelta, Utc};
use pipeline::schedule::{DataInterval, Error, Schedule, Spec, Timetable};

fn at(text: &str) -> DateTime<Utc> {
    format!("{text}:00Z").parse().unwrap()
}

fn daily() -> Timetable {
    Timetable::new(Schedule::cron("0 6 * * *", "UTC").unwrap())
}

fn due(timetable: &Timetable, done: Option<&str>, now: &str) -> Vec<String> {
    let show = |interval: DataInterval| {
        format!("{} to {}", interval.start.format("%m-%dT%H:%M"), interval.end.format("%m-%dT%H:%M"))
    };
    timetable.due(done.map(at), at(now)).map(show).collect()
}

fn spec(json: &str) -> Result<Timetable, Error> {
    Timetable::from_spec(&serde_json::from_str::<Spec>(json).unwrap())
}

#[test]
fn catch_up_gives_all_or_the_newest() {
    let all = Timetable { catch_up: true, ..daily() };
    let done = Some("2026-01-01T06:00");
    assert_eq!(due(&all, done, "2026-01-03T07:00"), ["01-01T06:00 to 01-02T06:00", "01-02T06:00 to 01-03T06:00"]);
    assert_eq!(due(&daily(), done, "2026-01-03T07:00"), ["01-02T06:00 to 01-03T06:00"]);
    // Due at the very end of the interval, not before.
    assert_eq!(due(&all, done, "2026-01-02T06:00").len(), 1);
    assert_eq!(due(&all, done, "2026-01-02T05:59").len(), 0);
    // Nothing done and no start: there is nothing to count from.
    assert_eq!(due(&all, None, "2026-01-03T07:00"), ["01-02T06:00 to 01-03T06:00"]);
    let known = all.schedule.latest_at(at("2026-01-03T07:00")).unwrap();
    assert_eq!(all.due(Some(known), at("2026-01-04T05:00")).count(), 0);
}

#[test]
fn a_clock_that_jumps_back_gives_nothing_twice() {
    for catch_up in [true, false] {
        let timetable = Timetable { catch_up, ..daily() };
        let done = Some("2026-01-03T06:00");
        assert!(due(&timetable, done, "2026-01-01T07:00").is_empty());
        assert!(due(&timetable, done, "2026-01-03T07:00").is_empty());
        assert_eq!(due(&timetable, done, "2026-01-04T06:00"), ["01-03T06:00 to 01-04T06:00"]);
        let next = timetable.next_due(done.map(at), at("2026-01-01T07:00")).unwrap();
        assert_eq!(next, Some(at("2026-01-04T06:00")));
    }
}

#[test]
fn a_changed_schedule_goes_on_where_the_old_one_ended() {
    let all = Timetable { catch_up: true, ..daily() };
    let done = Some("2026-01-01T10:00");
    assert_eq!(due(&all, done, "2026-01-03T07:00"), ["01-01T10:00 to 01-02T06:00", "01-02T06:00 to 01-03T06:00"]);
    assert_eq!(due(&daily(), done, "2026-01-02T07:00"), ["01-01T10:00 to 01-02T06:00"]);
}

#[test]
fn start_and_end_hold() {
    let bounds =
        |timetable: Timetable| timetable.between(Some(at("2026-01-01T00:00")), Some(at("2026-01-04T00:00"))).unwrap();
    let all = bounds(Timetable { catch_up: true, ..daily() });
    let expected = ["01-01T06:00 to 01-02T06:00", "01-02T06:00 to 01-03T06:00"];
    assert_eq!(due(&all, None, "2026-02-01T00:00"), expected);
    assert_eq!(due(&all, Some("2020-01-01T06:00"), "2026-02-01T00:00"), expected);
    assert_eq!(due(&bounds(daily()), None, "2026-02-01T00:00"), expected[1..]);
    assert_eq!(due(&bounds(daily()), None, "2026-01-02T05:00"), [""; 0]);
    assert_eq!(all.intervals_between(at("2025-01-01T00:00"), at("2027-01-01T00:00")).count(), 2);

    assert_eq!(all.next_due(None, at("2025-06-01T00:00")).unwrap(), Some(at("2026-01-02T06:00")));
    assert_eq!(all.next_due(None, at("2026-01-02T06:00")).unwrap(), Some(at("2026-01-03T06:00")));
    assert_eq!(all.next_due(None, at("2026-01-03T06:00")).unwrap(), None);
    // An end that is a tick belongs to it; what is done counts from the very start on.
    let short = daily().between(Some(at("2026-01-01T00:00")), Some(at("2026-01-02T06:00"))).unwrap();
    assert_eq!(short.next_due(None, at("2026-01-01T07:00")).unwrap(), Some(at("2026-01-02T06:00")));
    assert_eq!(due(&all, Some("2026-01-01T00:00"), "2026-01-01T07:00"), ["01-01T00:00 to 01-01T06:00"]);
    let turned = daily().between(Some(at("2026-01-02T00:00")), Some(at("2026-01-01T00:00")));
    assert_eq!(turned.unwrap_err().key(), "end");
}

#[test]
fn intervals_are_lazy() {
    let schedule = Schedule::cron("* * * * *", "Europe/Berlin").unwrap();
    let mut century = schedule.intervals_between(at("2000-01-01T00:00"), at("2100-01-01T00:00"));
    assert_eq!(century.next().unwrap().to_string(), "2000-01-01T00:00:00Z/2000-01-01T00:01:00Z");
    assert_eq!(century.take(3).count(), 3);
    assert_eq!(schedule.intervals_between(at("2026-01-02T00:00"), at("2026-01-01T00:00")).count(), 0);
    // Both bounds are ticks and belong to it.
    let days = Schedule::cron("@daily", "UTC").unwrap();
    assert_eq!(days.intervals_between(at("2026-01-01T00:00"), at("2026-02-01T00:00")).count(), 31);
    assert_eq!(days.intervals_between(at("2026-01-01T00:01"), at("2026-01-31T23:59")).count(), 29);
}

#[test]
fn every_counts_from_its_anchor() {
    let quarter = Schedule::every(Duration::from_secs(900)).unwrap();
    assert_eq!(quarter.next_after(at("2026-01-01T00:00")).unwrap(), Some(at("2026-01-01T00:15")));
    assert_eq!(quarter.latest_at(at("2026-01-01T00:14")), Some(at("2026-01-01T00:00")));
    assert_eq!(quarter.next_after(at("1969-12-31T23:50")).unwrap(), Some(at("1970-01-01T00:00")));
    let odd = Schedule::every_from(Duration::from_secs(900), at("2026-01-01T00:07")).unwrap();
    assert_eq!(odd.next_after(at("2025-01-01T00:00")).unwrap(), Some(at("2025-01-01T00:07")));
    assert_eq!(odd.to_string(), "every 15m");
    let millis = Schedule::every(Duration::from_millis(1_500)).unwrap();
    let start = at("2026-01-01T00:00");
    let ends: Vec<_> = millis.intervals_between(start, start + TimeDelta::seconds(6)).map(|i| i.end - start).collect();
    assert_eq!(ends, [1_500, 3_000, 4_500, 6_000].map(TimeDelta::milliseconds));
    for wrong in [0, 999, 40_000_000_000] {
        assert_eq!(Schedule::every(Duration::from_millis(wrong)).unwrap_err().key(), "every");
    }
}

#[test]
fn manual_is_never_due() {
    let manual = Timetable::manual();
    assert_eq!(manual.schedule.next_after(at("2026-01-01T00:00")).unwrap(), None);
    assert_eq!(manual.schedule.latest_at(at("2026-01-01T00:00")), None);
    assert_eq!(manual.due(None, at("2026-01-01T00:00")).count(), 0);
    assert_eq!(manual.next_due(None, at("2026-01-01T00:00")).unwrap(), None);
}

#[test]
fn what_never_comes_is_told_when_it_is_read() {
    for wrong in ["0 0 30 2 *", "0 0 31 4,6,9,11 *", "0 0 30 feb */2"] {
        assert!(matches!(Schedule::cron(wrong, "UTC"), Err(Error::NoSuchDay { .. })), "{wrong}");
    }
    // A Friday will come.
    Schedule::cron("0 0 30 2 fri", "UTC").unwrap();
    Schedule::cron("0 0 29 2 */6", "UTC").unwrap();
    // The second Sunday of March at two: New York skips just that hour, each year, and a step recurs.
    let error = Schedule::cron("*/5 2 8-14 3 */7", "America/New_York").unwrap_err();
    assert!(error.to_string().contains("has no tick in the 50 years after 2024-10-04"), "{error}");
    Schedule::cron("*/5 2 8-14 3 */7", "Europe/Berlin").unwrap();
    Schedule::cron("5 2 8-14 3 */7", "America/New_York").unwrap();
}

#[test]
fn the_ends_of_time_are_no_panic() {
    let schedules = [
        Schedule::cron("* * * * *", "America/New_York").unwrap(),
        Schedule::cron("0 0 29 2 *", "UTC").unwrap(),
        Schedule::every(Duration::from_secs(60)).unwrap(),
    ];
    for schedule in schedules {
        for instant in [DateTime::<Utc>::MIN_UTC, DateTime::<Utc>::MAX_UTC, at("9999-12-31T23:59")] {
            let _ = schedule.next_after(instant);
            let _ = schedule.latest_at(instant);
            let _ = schedule.intervals_between(instant, DateTime::<Utc>::MAX_UTC).take(3).count();
            let timetable = Timetable { catch_up: true, ..Timetable::new(schedule.clone()) };
            let timetable = timetable.between(Some(instant), None).unwrap();
            let _ = timetable.due(None, instant).take(3).count();
            let _ = timetable.next_due(Some(instant), instant);
        }
    }
}

#[test]
fn reads_the_text_of_a_dag_file() {
    let json = r#"{"cron": "0 6 * * *", "zone": "europe/berlin", "catch_up": true,
        "start": "2026-01-01", "end": "2026-07-01T12:00:00+02:00"}"#;
    let timetable = spec(json).unwrap();
    assert_eq!(timetable.schedule.to_string(), "0 6 * * * (Europe/Berlin)");
    assert!(timetable.catch_up);
    assert_eq!(timetable.start, Some(at("2025-12-31T23:00")));
    assert_eq!(timetable.end, Some(at("2026-07-01T10:00")));
    // The midnight that Sao Paulo skipped, and the first of two times in Berlin.
    let skipped = spec(r#"{"cron": "@daily", "zone": "America/Sao_Paulo", "start": "2018-11-04"}"#).unwrap();
    assert_eq!(skipped.start, Some(at("2018-11-04T03:00")));
    let twice = spec(r#"{"cron": "@daily", "zone": "Europe/Berlin", "start": "2026-10-25 02:30"}"#).unwrap();
    assert_eq!(twice.start, Some(at("2026-10-25T00:30")));
    let apia = spec(r#"{"cron": "@daily", "zone": "Pacific/Apia", "start": "2011-12-30T12:00"}"#).unwrap();
    assert_eq!(apia.start, Some(at("2011-12-30T10:00")));

    let every = spec(r#"{"every": "1d", "start": "2026-01-01T06:00"}"#).unwrap();
    assert_eq!(every.schedule.next_after(at("2026-01-01T00:00")).unwrap(), Some(at("2026-01-01T06:00")));
    assert!(!every.catch_up);
    let json = r#"{"every":"15m","catch_up":false}"#;
    assert_eq!(serde_json::to_string(&serde_json::from_str::<Spec>(json).unwrap()).unwrap(), json);
    assert!(serde_json::from_str::<Spec>(r#"{"crom": "@daily"}"#).is_err());
}

#[test]
fn mistakes_name_their_key() {
    let cases = [
        (r#"{"cron": "0 6 * *"}"#, "cron", "has 4 fields"),
        (r#"{"cron": "@daily", "zone": "Europe/Berlim"}"#, "zone", "did you mean `Europe/Berlin`?"),
        (r#"{"cron": "@daily", "zone": ""}"#, "zone", "is not known; write a name"),
        (r#"{"every": "15 minutes"}"#, "every", "is not a length of time"),
        (r#"{"every": "10ms"}"#, "every", "at least `1s`"),
        (r#"{"cron": "@daily", "every": "1d"}"#, "schedule", "both `cron` and `every`"),
        (r#"{"catch_up": true}"#, "schedule", "neither"),
        (r#"{"every": "1d", "start": "1.2.2026"}"#, "start", "is not a date"),
        (r#"{"every": "1d", "end": "2026-02-30"}"#, "end", "is not a date"),
        (r#"{"every": "1d", "start": "2026-02-02", "end": "2026-02-02"}"#, "end", "not after the start"),
    ];
    for (json, key, text) in cases {
        let error = spec(json).unwrap_err();
        assert_eq!(error.key(), key, "{json}");
        assert!(error.to_string().contains(text), "{json}: {error}");
    }
}
