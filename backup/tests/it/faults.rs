//! A place of backups whose server is busy for good, full, slow, or has less than was written, at each stage of a backup and of
//! a restoration.

use std::time::Duration;

use backup::restore::Choice;
use backup::{Error, Places, Progress, Repository, What};
use e2e::seaweedfs::Server;
use e2e::shaky_http::{Fault, Request, ShakyHttp};
use futures::future::join_all;

use crate::house::{House, look, restore_to};
use crate::s3::repository;

/// Does a request belong to a stage?
type Stage = fn(&Request<'_>) -> bool;

/// The stages of a backup, in their order.
const BACKUP: [(&str, Stage); 9] = [
    ("the lock", |request| request.method == "PUT" && request.target.contains("/locks/")),
    ("the list of backups", |request| request.method == "GET" && request.target.contains("%2Fbackups%2F")),
    ("the backup before", |request| request.method == "GET" && request.target.contains("/blobs-")),
    ("a piece", |request| request.method == "PUT" && request.target.contains("/blobs/")),
    ("a piece that is read back", |request| request.method == "GET" && request.target.contains("/blobs/")),
    ("a page", |request| request.method == "PUT" && request.target.contains("/files-")),
    ("the manifest", |request| request.method == "PUT" && request.target.contains("/manifest.jsonl")),
    ("a piece that is looked for", |request| request.method == "HEAD" && request.target.contains("/blobs/")),
    ("the note of its verification", |request| request.method == "PUT" && request.target.contains("/verified.json")),
];

/// The stages of a restoration of one backup.
const RESTORATION: [(&str, Stage); 3] = [
    ("the manifest", |request| request.method == "GET" && request.target.contains("/manifest.jsonl")),
    ("a page", |request| request.method == "GET" && request.target.contains("/files-")),
    ("a piece", |request| request.method == "GET" && request.target.contains("/blobs/")),
];

/// A place that fails at one stage.
async fn failing(server: &Server, prefix: &str, fault: Fault, stage: Stage) -> (ShakyHttp, Repository) {
    let proxy = ShakyHttp::start(server.endpoint(), move |request| stage(request).then_some(fault)).unwrap();
    let repository = repository(server, &proxy.endpoint(), prefix).await;
    (proxy, repository)
}

#[tokio::test(flavor = "multi_thread")]
async fn a_server_that_is_busy_or_full_at_any_stage_makes_no_backup_and_spoils_none() {
    let server = Server::start().await.unwrap();
    server.bucket("backups").await.unwrap();
    let house = House::new().await;
    let mut cases = Vec::new();
    for (name, stage) in BACKUP {
        cases.push((name, Fault::Busy, stage));
        if ["a piece", "a page", "the manifest", "the note of its verification"].contains(&name) {
            cases.push((name, Fault::Full, stage));
        }
    }
    let prefix = |number: usize| format!("stage-{number}");
    let mut first = Vec::new();
    for number in 0..cases.len() {
        let steady = repository(&server, server.endpoint(), &prefix(number)).await;
        first.push(house.back_up(&steady, What::All).await.manifest.id);
    }
    house.add_models(20..24).await;
    house.append("second", 5).await;
    let now = house.look().await;
    // At once, as the client waits between its attempts.
    let failed = cases.iter().enumerate().map(|(number, (name, fault, stage))| {
        let (server, house, prefix) = (&server, &house, prefix(number));
        async move {
            let (proxy, failing) = failing(server, &prefix, *fault, *stage).await;
            let made = backup::create(&failing, &house.places, What::All, &Progress::silent()).await;
            let error = made.expect_err(name);
            assert!(proxy.count(*fault) > 0, "{name} was not met");
            let is_full = matches!(error, Error::Platform(platform::Error::Full { .. }));
            assert_eq!(is_full, *fault == Fault::Full, "{name}: {error}");
        }
    });
    join_all(failed).await;
    for (number, (name, ..)) in cases.iter().enumerate() {
        let steady = repository(&server, server.endpoint(), &prefix(number)).await;
        let listed = steady.list().await.unwrap();
        let good: Vec<_> = listed.iter().filter(|backup| backup.is_good()).map(|backup| &backup.id).collect();
        assert_eq!(good, [&first[number]], "{name}: only the one before can be relied on");
        backup::verify(&steady, &first[number], &Progress::silent()).await.unwrap();
        let next = house.back_up(&steady, What::All).await.manifest.id;
        backup::verify(&steady, &next, &Progress::silent()).await.unwrap();
    }
    // What one of them has, with pieces that a broken backup had written, is all there.
    let steady = repository(&server, server.endpoint(), &prefix(5)).await;
    let to = tempfile::tempdir().unwrap();
    let places = Places::in_folder(&to.path().join("x"));
    restore_to(&steady, &places, What::All, Choice::Newest).await.unwrap();
    assert_eq!(look(&places).await, now);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_server_that_is_busy_breaks_off_or_lost_half_at_any_stage_of_a_restoration_replaces_nothing() {
    let server = Server::start().await.unwrap();
    server.bucket("backups").await.unwrap();
    let house = House::new().await;
    let steady = repository(&server, server.endpoint(), "restored").await;
    let old = house.back_up(&steady, What::All).await.manifest.id;
    let before = house.look().await;
    house.add_models(20..24).await;
    house.append("second", 5).await;
    let new = house.back_up(&steady, What::All).await.manifest.id;
    let after = house.look().await;
    assert_ne!(before, after);

    let mut cases = Vec::new();
    for (name, stage) in RESTORATION {
        for fault in [Fault::Busy, Fault::BrokenOff, Fault::Halved] {
            cases.push((name, fault, stage));
        }
    }
    let refused = cases.iter().map(|(name, fault, stage)| {
        let (server, steady, old, new, before, after) = (&server, &steady, &old, &new, &before, &after);
        async move {
            let folder = tempfile::tempdir().unwrap();
            let places = Places::in_folder(&folder.path().join("x"));
            restore_to(steady, &places, What::All, Choice::Id(old.clone())).await.unwrap();
            let (proxy, failing) = failing(server, "restored", *fault, *stage).await;
            let restored = restore_to(&failing, &places, What::All, Choice::Id(new.clone())).await;
            let error = restored.expect_err(name);
            assert!(proxy.count(*fault) > 0, "{name} was not met");
            let is_damage = matches!(error, Error::Damaged { .. });
            assert_eq!(is_damage, *fault == Fault::Halved, "{name} {fault:?}: {error}");
            assert_eq!(&look(&places).await, before, "{name} {fault:?}: something was replaced");
            restore_to(steady, &places, What::All, Choice::Id(new.clone())).await.unwrap();
            assert_eq!(&look(&places).await, after);
        }
    });
    join_all(refused).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_store_that_keeps_half_of_what_is_written_makes_no_backup() {
    let server = Server::start().await.unwrap();
    server.bucket("backups").await.unwrap();
    let house = House::new().await;
    for (name, stage) in [BACKUP[4], BACKUP[7]] {
        let (proxy, failing) = failing(&server, "halved", Fault::Halved, stage).await;
        let made = backup::create(&failing, &house.places, What::All, &Progress::silent()).await;
        let error = made.expect_err(name);
        assert!(matches!(error, Error::Damaged { .. }), "{name}: {error}");
        assert!(proxy.count(Fault::Halved) > 0, "{name} was not met");
    }
    let steady = repository(&server, server.endpoint(), "halved").await;
    assert!(steady.list().await.unwrap().iter().all(|backup| !backup.is_good()));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_slow_server_delays_a_backup_which_nobody_takes_for_dead() {
    const SLOW: Fault = Fault::Slow(Duration::from_millis(250));
    let server = Server::start().await.unwrap();
    server.bucket("backups").await.unwrap();
    let house = House::new().await;
    let before = house.look().await;
    let proxy = ShakyHttp::start(server.endpoint(), |_| Some(SLOW)).unwrap();
    let slow = repository(&server, &proxy.endpoint(), "slow").await;
    let steady = repository(&server, server.endpoint(), "slow").await;
    let progress = Progress::silent();
    let other = async {
        // It is at work by then.
        while proxy.count(SLOW) < 12 {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
        backup::create(&steady, &house.places, What::Db, &progress).await
    };
    let (made, refused) = tokio::join!(backup::create(&slow, &house.places, What::All, &progress), other);
    let refused = refused.expect_err("a second backup at once");
    assert!(matches!(refused, Error::InUse { .. }), "{refused}");
    backup::verify(&steady, &made.unwrap().manifest.id, &progress).await.unwrap();
    let to = tempfile::tempdir().unwrap();
    let places = Places::in_folder(&to.path().join("x"));
    restore_to(&slow, &places, What::All, Choice::Newest).await.unwrap();
    assert_eq!(look(&places).await, before);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_backup_whose_signs_of_life_come_too_late_records_nothing_after_another_took_its_place() {
    const LATE: Fault = Fault::Slow(Duration::from_secs(6));
    let server = Server::start().await.unwrap();
    server.bucket("backups").await.unwrap();
    let house = House::new().await;
    // It takes the place at once. Its signs of life and its pages come after more than the lease.
    let proxy = ShakyHttp::start(server.endpoint(), |request| {
        let is_sign = request.target.contains("/locks/") && request.before > 0;
        let is_page = request.target.contains("/files-");
        (request.method == "PUT" && (is_sign || is_page)).then_some(LATE)
    })
    .unwrap();
    let late = repository(&server, &proxy.endpoint(), "late").await;
    let steady = repository(&server, server.endpoint(), "late").await;
    let progress = Progress::silent();
    let other = async {
        while proxy.count(LATE) == 0 {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
        backup::create(&steady, &house.places, What::All, &progress).await
    };
    let (lost, made) = tokio::join!(backup::create(&late, &house.places, What::All, &progress), other);
    let made = made.unwrap().manifest.id;
    let error = lost.expect_err("two backups at once");
    assert!(matches!(error, Error::LockLost { .. }), "{error}");
    let listed = steady.list().await.unwrap();
    assert_eq!(listed.iter().map(|backup| &backup.id).collect::<Vec<_>>(), [&made]);
    backup::verify(&steady, &made, &progress).await.unwrap();
}
