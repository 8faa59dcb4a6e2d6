//! How long a tick takes to find: `cargo test --release -p pipeline a_million_ticks -- --ignored --nocapture`.

use std::hint::black_box;
use std::time::Instant;

use chrono::{DateTime, TimeDelta, Utc};
use pipeline::schedule::Schedule;

#[test]
#[ignore = "a measurement"]
fn a_million_ticks() {
    const CALLS: u32 = 1_000_000;
    let start: DateTime<Utc> = "2026-01-01T00:00:00Z".parse().unwrap();
    for (cron, zone) in [
        ("* * * * *", "UTC"),
        ("* * * * *", "Europe/Berlin"),
        ("*/15 * * * *", "America/New_York"),
        ("0 6 * * *", "Europe/Berlin"),
        ("30 2 * * mon-fri", "Australia/Lord_Howe"),
        ("0 0 13 * fri", "Africa/Casablanca"),
        ("0 0 1 1 *", "Europe/Berlin"),
        ("0 0 29 2 *", "Europe/Berlin"),
    ] {
        let schedule = Schedule::cron(cron, zone).unwrap();
        let time = |ask: &dyn Fn(DateTime<Utc>)| {
            let clock = Instant::now();
            for count in 0..CALLS {
                // Spread over three years.
                ask(start + TimeDelta::seconds(i64::from(count) * 97));
            }
            clock.elapsed().as_nanos() / u128::from(CALLS)
        };
        let next = time(&|at| drop(black_box(schedule.next_after(black_box(at)))));
        println!("{cron:18} {zone:20} next_after {next:6} ns");
        let clock = Instant::now();
        for count in 0..10_000 {
            black_box(schedule.latest_at(start + TimeDelta::seconds(count * 9_700)));
        }
        println!("{:39} latest_at  {:6} ns", "", clock.elapsed().as_nanos() / 10_000);
    }
}
