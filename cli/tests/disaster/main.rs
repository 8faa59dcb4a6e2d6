//! Everything is lost under load, and comes back: a PostgreSQL server with the state of runs and the registry, archived by
//! pgBackRest to a bucket over TLS, and a bucket with the registry's files and Delta tables. What is there afterwards is
//! compared row by row with a ledger of what was asked for and answered. Only the commands of docs/backup.md bring it back.
//!
//! `LONG_TESTS=1` does it with a gigabyte.
#![allow(clippy::unwrap_used)]

#[path = "../common/mod.rs"]
mod common;

mod found;
mod house;
mod load;

use std::collections::BTreeSet;
use std::process::Command;
use std::time::{Duration, Instant};

use chrono::{DateTime, Utc};
use serde_json::Value;

use found::Found;
use house::{Backups, House, Services, said};
use load::{Kind, Ledger, Load};

/// What the project asks for on one machine, with a gigabyte: seconds of loss, and seconds until everything answers again.
const GOALS: (f64, f64) = (5.0, 60.0);

/// No measured time fails this test, but for one so long that something must be wrong.
const FAR_TOO_MUCH: f64 = 60.0;

/// What is in databases of the server, and so in one log.
const IN_DATABASES: [Kind; 3] = [Kind::Metric, Kind::Version, Kind::Run];

#[tokio::test(flavor = "multi_thread")]
async fn a_house_that_is_lost_under_load_comes_back_at_a_moment_and_at_the_end_of_its_log() {
    if Command::new("pgbackrest").arg("version").output().is_err() {
        eprintln!("SKIPPED: pgbackrest is not installed; run scripts/setup --test");
        return;
    }
    let mut house = House::build().await;
    house.fill().await;
    let (first, services) = at_a_moment(&mut house).await;
    at_the_end(&mut house, services, &first).await;
}

/// Backup; more writes; a moment; more writes; everything lost; restored to the moment.
async fn at_a_moment(house: &mut House) -> (Found, Services) {
    let services = house.serve().await;
    let load = Load::start(house, &services, 1).await;
    said(house.settings.cluster(&["backup", "cluster", "run", "--type", "full"]));
    said(house.settings.safari(&["backup", "all"]));
    load.goes_on(Duration::from_secs(2)).await;
    let at = Utc::now();
    load.goes_on(Duration::from_secs(1)).await;
    // The files of rows of that moment are in the backup that follows it.
    said(house.settings.safari(&["backup", "files"]));
    said(house.settings.safari(&["backup", "tables"]));
    // What is written later is in the archive as well, and must not come back.
    house.archive().await;
    house.lose_server().await;
    let ledger = load.end();
    house.lose_bucket(services).await;

    let began = Instant::now();
    let moment = at.to_rfc3339();
    said(house.settings.cluster(&["backup", "cluster", "restore", "--at", &moment]));
    house.start_postgres().await;
    let files = json(said(house.settings.safari(&["restore", "files", "--after", &moment, "--format", "json"])));
    let tables = json(said(house.settings.safari(&["restore", "tables", "--at", &moment, "--format", "json"])));
    let services = house.serve().await;
    tell_rto("at a moment", began.elapsed(), house.bytes(&[&files, &tables]));

    let found = Found::look(house, &services).await;
    for kind in IN_DATABASES {
        let (must, may) = (ledger.answered_by(kind, at), ledger.asked_by(kind, at));
        let there = &found.numbers[&kind];
        assert!(must.len() > 5, "{kind:?}: only {} before", must.len());
        assert!(ledger.all(kind).len() > may.len(), "{kind:?}: nothing came later");
        assert!(must.is_subset(there), "{kind:?}: lost {:?}", must.difference(there));
        assert!(there.is_subset(&may), "{kind:?}: invented, or from later: {:?}", there.difference(&may));
    }
    assert_eq!(found.whole, found.numbers[&Kind::Version], "versions without their files");
    assert!(began_at(&files) >= at && began_at(&tables) <= at);
    check_rows(&ledger, &found, began_at(&tables), at);
    println!(
        "RPO of tables at a moment: {:.1} s before it",
        seconds(at, newest(&ledger, Kind::Row, &found.numbers[&Kind::Row]))
    );
    (found, services)
}

/// Under load again, backups of files and tables one after the other; everything lost at some moment; as much restored as
/// there is.
async fn at_the_end(house: &mut House, services: Services, before: &Found) {
    let load = Load::start(house, &services, 1_000_000).await;
    load.goes_on(Duration::from_secs(1)).await;
    let backups = Backups::start(&house.settings);
    house.wait_for_archive(Utc::now()).await;
    load.goes_on(Duration::from_secs(2)).await;
    backups.wait_for_round().await;
    let lost_at = Utc::now();
    house.lose_server().await;
    let ledger = load.end();
    backups.end();
    let all_lost_at = Utc::now();
    house.lose_bucket(services).await;

    let began = Instant::now();
    said(house.settings.cluster(&["backup", "cluster", "restore"]));
    house.start_postgres().await;
    let files = json(said(house.settings.safari(&["restore", "files", "--format", "json"])));
    let tables = json(said(house.settings.safari(&["restore", "tables", "--format", "json"])));
    let services = house.serve().await;
    tell_rto("at the end of the log", began.elapsed(), house.bytes(&[&files, &tables]));

    let found = Found::look(house, &services).await;
    check_cut(&ledger, before, &found);
    let safe = ledger.answered_by(Kind::Version, began_at(&files));
    let named = &found.numbers[&Kind::Version];
    assert!(safe.intersection(named).all(|number| found.whole.contains(number)), "files that were backed up are lost");
    assert!(found.whole.is_superset(&before.whole), "files of versions that were restored before are lost");
    check_rows(&ledger, &found, began_at(&tables), all_lost_at);
    assert_eq!(others(&ledger, &found, Kind::Row), before.numbers[&Kind::Row], "rows that were restored before");
    for kind in Kind::EACH {
        let lost = seconds(lost_at, newest(&ledger, kind, &found.numbers[&kind])).max(0.0);
        println!("RPO of {}: {lost:.1} s{}", kind.name(), verdict(IN_DATABASES.contains(&kind), lost, GOALS.0));
        assert!(lost < FAR_TOO_MUCH, "{kind:?}: {lost} s are lost");
    }
    let lost = seconds(lost_at, newest(&ledger, Kind::Version, &found.whole)).max(0.0);
    let without = named.difference(&found.whole).count();
    println!("RPO of files: {lost:.1} s; {without} of {} versions are younger than their files' backup", named.len());
    // It goes on from there.
    let load = Load::start(house, &services, 2_000_000).await;
    load.goes_on(Duration::from_millis(500)).await;
    load.end();
}

/// One moment cuts through all databases of the server: what was answered before something that is there was asked for, is
/// there, too. What was lost the first time stays lost.
fn check_cut(ledger: &Ledger, before: &Found, found: &Found) {
    let asked = |kind: Kind| {
        let there = &found.numbers[&kind];
        ledger.entries(kind).into_iter().filter(|entry| there.contains(&entry.number)).map(|entry| entry.asked).max()
    };
    let cut = IN_DATABASES.into_iter().filter_map(asked).max().expect("rows of the second load");
    for kind in IN_DATABASES {
        let there = &found.numbers[&kind];
        let must = ledger.answered_by(kind, cut);
        assert!(must.is_subset(there), "{kind:?}: a gap: {:?}", must.difference(there));
        assert_eq!(others(ledger, found, kind), before.numbers[&kind], "{kind:?}: what was there before is another");
    }
}

/// What is there and no part of this load.
fn others(ledger: &Ledger, found: &Found, kind: Kind) -> BTreeSet<u64> {
    found.numbers[&kind].difference(&ledger.all(kind)).copied().collect()
}

/// Rows of the table as its backup has them.
fn check_rows(ledger: &Ledger, found: &Found, began: DateTime<Utc>, until: DateTime<Utc>) {
    let there = &found.numbers[&Kind::Row];
    let mine: BTreeSet<u64> = there.intersection(&ledger.all(Kind::Row)).copied().collect();
    let (must, may) = (ledger.answered_by(Kind::Row, began), ledger.asked_by(Kind::Row, until));
    assert!(!must.is_empty(), "no rows before the backup");
    assert!(must.is_subset(&mine), "rows are lost: {:?}", must.difference(&mine));
    assert!(mine.is_subset(&may), "rows are invented: {:?}", mine.difference(&may));
}

/// When the newest was answered of what is there.
fn newest(ledger: &Ledger, kind: Kind, there: &BTreeSet<u64>) -> DateTime<Utc> {
    let mine = ledger.entries(kind).into_iter().filter(|entry| there.contains(&entry.number));
    mine.filter_map(|entry| entry.answered).max().expect("something that was answered came back")
}

fn seconds(later: DateTime<Utc>, earlier: DateTime<Utc>) -> f64 {
    (later - earlier).as_seconds_f64()
}

fn tell_rto(what: &str, took: Duration, bytes: u64) {
    let took = took.as_secs_f64();
    let size = bytes as f64 / 1e9;
    println!("RTO {what}: {took:.1} s for {size:.2} GB{}", verdict(size > 0.9, took, GOALS.1));
    assert!(took < FAR_TOO_MUCH * size.max(1.0), "{took} s");
}

fn verdict(counts: bool, found: f64, goal: f64) -> String {
    match (counts, found <= goal) {
        (false, _) => String::new(),
        (true, true) => format!(" (goal {goal} s: met)"),
        (true, false) => format!(" (goal {goal} s: missed)"),
    }
}

fn json(text: String) -> Value {
    serde_json::from_str(&text).unwrap()
}

fn began_at(restored: &Value) -> DateTime<Utc> {
    restored["began_at"].as_str().unwrap().parse().unwrap()
}
