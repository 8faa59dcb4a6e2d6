//! Back up, destroy, restore, compare.

use std::collections::BTreeMap;

use backup::restore::{self, Choice};
use backup::retention::Policy;
use backup::{Error, Keys, PartName, Places, Progress, What};
use platform::database::open_sqlite;

use crate::house::{House, content, look, restore_to, stored};

#[tokio::test(flavor = "multi_thread")]
async fn everything_comes_back_after_all_of_it_is_gone() {
    let house = House::new().await;
    let repository = house.plain().await;
    let before = house.look().await;
    assert!(before.len() > 22, "{before:?}");
    let created = house.back_up(&repository, What::All).await;
    let listed = repository.list().await.unwrap();
    assert_eq!(listed.len(), 1);
    assert!(listed[0].is_good());
    assert_eq!(created.verified.read, created.manifest.blobs, "all pieces were read back");
    assert!(created.manifest.part(PartName::Keys).is_none(), "keys are not kept without encryption");

    std::fs::remove_dir_all(house.home()).unwrap();
    house.restore(&repository, What::All, Choice::Newest).await.unwrap();
    assert_eq!(house.look().await, before);
    let left: Vec<String> = std::fs::read_dir(house.home())
        .unwrap()
        .map(|entry| entry.unwrap().file_name().to_string_lossy().into_owned())
        .filter(|name| name.contains("restore-") || name.contains("journal"))
        .collect();
    assert!(left.is_empty(), "{left:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn an_encrypted_backup_needs_its_key_and_has_the_sealing_keys() {
    let house = House::new().await;
    let Some((public, file)) = crate::age::key(house.folder.path()) else { return };
    let recipients = [public];
    // The machine that backs up has no secret key.
    let writing = house.repository(Keys::new(&recipients, None).unwrap()).await;
    let before = house.look().await;
    let created = house.back_up(&writing, What::All).await;
    assert!(created.manifest.encrypted && created.manifest.part(PartName::Keys).is_some());
    let needles: [&[u8]; 3] = [b"a key that seals", b"weights.pt", b"waterhole"];
    for object in stored(&house, "") {
        let bytes = std::fs::read(&object).unwrap();
        for needle in needles {
            assert!(!bytes.windows(needle.len()).any(|window| window == needle), "{}", object.display());
        }
    }
    let again = house.back_up(&writing, What::All).await;
    assert!(again.manifest.written < created.manifest.written / 10, "{} again", again.manifest.written);

    std::fs::remove_dir_all(house.home()).unwrap();
    let error = house.restore(&writing, What::All, Choice::Newest).await.unwrap_err();
    assert!(matches!(error, Error::NoIdentity(_)), "{error}");
    let reading = house.repository(Keys::new(&recipients, Some(&file)).unwrap()).await;
    house.restore(&reading, What::All, Choice::Newest).await.unwrap();
    assert_eq!(house.look().await, before);
    assert_eq!(std::fs::read_to_string(house.home().join("registry.key")).unwrap(), "a key that seals");
}

#[tokio::test(flavor = "multi_thread")]
async fn what_has_not_changed_is_not_written_again() {
    let house = House::new().await;
    let repository = house.plain().await;
    let first = house.back_up(&repository, What::All).await.manifest;
    let second = house.back_up(&repository, What::All).await.manifest;
    assert_eq!(second.written, 0, "nothing has changed");
    house.add_models(20..21).await;
    house.append("second", 5).await;
    // A file under another name is the same content.
    let files = house.artifacts().await;
    files.put("copy/of 7.pt", content(7, 703_000).into()).await.unwrap();
    let third = house.back_up(&repository, What::All).await.manifest;
    assert!(third.written < first.written / 4 && third.written > 0, "{} of {}", third.written, first.written);
    for manifest in [&first, &third] {
        let to = tempfile::tempdir().unwrap();
        let places = Places::in_folder(&to.path().join("x"));
        restore_to(&repository, &places, What::All, Choice::Id(manifest.id.clone())).await.unwrap();
        if manifest.id == third.id {
            assert_eq!(look(&places).await, house.look().await);
        } else {
            assert_eq!(look(&places).await["registry"].split(' ').next(), Some("20"));
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_there_is_replaced_only_by_force_and_only_when_nobody_uses_it() {
    let house = House::new().await;
    let repository = house.plain().await;
    house.back_up(&repository, What::Db).await;
    house.add_runs(500..600).await;
    let before = house.look().await;
    let plan = restore::plan(&repository, &house.places, What::Db, &Choice::Newest).await.unwrap();
    let refused = restore::restore(&repository, &house.places, &plan, false, &Progress::silent()).await.unwrap_err();
    assert!(refused.to_string().contains("state.db") && refused.to_string().contains("--force"), "{refused}");
    assert_eq!(house.look().await, before);

    // A server that does nothing at the moment.
    let server = open_sqlite(&house.home().join("state.db")).await.unwrap();
    let refused = house.restore(&repository, What::Db, Choice::Newest).await.unwrap_err();
    assert!(matches!(refused, Error::DatabaseInUse(_)), "{refused}");
    server.pool().close().await;
    assert_eq!(house.look().await, before);

    house.restore(&repository, What::Db, Choice::Newest).await.unwrap();
    assert!(house.look().await["state"].starts_with("500 "));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_journal_beside_a_replaced_database_is_not_mixed_with_the_new_one() {
    let house = House::new().await;
    let repository = house.plain().await;
    house.back_up(&repository, What::Db).await;
    // As after a crash: rows that are in the journal only.
    let database = open_sqlite(&house.home().join("state.db")).await.unwrap();
    sqlx::query("INSERT INTO run VALUES (10000, 'lost')").execute(database.pool()).await.unwrap();
    let (wal, kept) = (house.home().join("state.db-wal"), house.folder.path().join("wal"));
    std::fs::copy(&wal, &kept).unwrap();
    database.pool().close().await;
    std::fs::copy(&kept, &wal).unwrap();
    house.restore(&repository, What::Db, Choice::Newest).await.unwrap();
    assert!(house.look().await["state"].starts_with("500 "));
}

#[tokio::test(flavor = "multi_thread")]
async fn the_backup_of_a_moment_is_the_newest_that_was_begun_by_it() {
    let house = House::new().await;
    let repository = house.plain().await;
    let first = house.back_up(&repository, What::Db).await.manifest;
    tokio::time::sleep(std::time::Duration::from_millis(1100)).await;
    let second = house.back_up(&repository, What::Db).await.manifest;
    let chosen =
        async |choice| restore::plan(&repository, &house.places, What::Db, &choice).await.map(|plan| plan.manifest.id);
    let little = chrono::TimeDelta::milliseconds(1);
    assert_eq!(chosen(Choice::At(second.began_at)).await.unwrap(), second.id);
    assert_eq!(chosen(Choice::At(second.began_at - little)).await.unwrap(), first.id);
    assert_eq!(chosen(Choice::After(first.began_at)).await.unwrap(), first.id);
    assert_eq!(chosen(Choice::After(first.began_at + little)).await.unwrap(), second.id);
    for choice in [Choice::At(first.began_at - little), Choice::After(second.began_at + little)] {
        let none = chosen(choice).await.unwrap_err();
        assert!(matches!(none, Error::NoBackup { .. }), "{none}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn files_alone_come_back_beside_databases_that_others_bring_back() {
    let house = House::new().await;
    let repository = house.plain().await;
    let made = house.back_up(&repository, What::Files).await.manifest;
    assert_eq!(made.parts.iter().map(|part| part.name).collect::<Vec<_>>(), [PartName::Artifacts]);
    let before = house.look().await;
    std::fs::remove_dir_all(house.home().join("artifacts")).unwrap();
    house.add_runs(500..510).await;
    house.restore(&repository, What::Files, Choice::Newest).await.unwrap();
    let mut after = house.look().await;
    assert!(after.remove("state").unwrap().starts_with("510 "), "databases are as they were");
    assert!(after.iter().all(|(name, content)| before.get(name) == Some(content)), "{after:?}");
    assert_eq!(after.len() + 1, before.len());
    // Backups of everything have the files, too.
    let all = house.back_up(&repository, What::All).await.manifest;
    let plan = restore::plan(&repository, &house.places, What::Files, &Choice::Newest).await.unwrap();
    assert_eq!((plan.manifest.id, plan.items.len()), (all.id, 1));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_backup_of_a_clock_that_was_ahead_is_not_taken_for_the_newest() {
    let house = House::new().await;
    let repository = house.plain().await;
    house.back_up(&repository, What::All).await;
    // The machine's clock was a year ahead when it was made: its name and its times say so.
    let manifests = stored(&house, "backups");
    let manifest = manifests.iter().find(|path| path.ends_with("manifest.jsonl")).unwrap();
    let text = std::fs::read_to_string(manifest).unwrap();
    let mut said: serde_json::Value = serde_json::from_str(text.lines().next().unwrap()).unwrap();
    let ahead = chrono::Utc::now() + chrono::TimeDelta::days(365);
    let future = backup::BackupId::new(ahead);
    said["id"] = serde_json::json!(future.as_str());
    for key in ["began_at", "ended_at"] {
        said[key] = serde_json::json!(ahead);
    }
    let line = format!("{said}\n");
    let checksum = hex::encode(<sha2::Sha256 as sha2::Digest>::digest(line.as_bytes()));
    std::fs::write(manifest, format!("{line}{}\n", serde_json::json!({"sha256": checksum}))).unwrap();
    let folder = manifest.parent().unwrap();
    std::fs::rename(folder, folder.with_file_name(future.as_str())).unwrap();
    backup::verify(&repository, &future, &Progress::silent()).await.unwrap();

    // Now it is right again.
    house.add_models(20..22).await;
    let before = house.look().await;
    let second = house.back_up(&repository, What::All).await.manifest;
    assert!(second.id < future);
    house.add_models(22..23).await;
    house.restore(&repository, What::All, Choice::Newest).await.unwrap();
    assert_eq!(house.look().await, before, "the one that was made last");
    house.restore(&repository, What::All, Choice::Id(future)).await.unwrap();
    assert_ne!(house.look().await, before);
}

#[tokio::test(flavor = "multi_thread")]
async fn there_is_nothing_to_back_up_in_an_empty_house() {
    let house = House::empty();
    let repository = house.plain().await;
    let error = backup::create(&repository, &house.places, What::All, &Progress::silent()).await.unwrap_err();
    assert!(matches!(error, Error::Nothing(_)), "{error}");
    assert!(repository.list().await.unwrap().is_empty());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_drill_finds_what_was_backed_up() {
    let house = House::new().await;
    let repository = house.plain().await;
    let created = house.back_up(&repository, What::All).await.manifest;
    let folder = tempfile::tempdir().unwrap();
    let (home, progress) = (folder.path().join("x"), Progress::silent());
    let begun = backup::drill::begin(&repository, &house.places, What::All, &home, &progress).await;
    let scratch = begun.unwrap();
    let found = scratch.look().await.unwrap();
    assert_eq!(found.id, created.id);
    assert_eq!(found.rows, 520);
    assert_eq!(found.query.as_deref(), Some("detections,0 media,30"));
    assert_eq!(look(&scratch.places).await, house.look().await);
    scratch.remove().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn pieces_stay_as_long_as_a_backup_needs_them() {
    let house = House::new().await;
    let repository = house.plain().await;
    let first = house.back_up(&repository, What::All).await.manifest.id;
    let before = house.look().await;
    house.add_models(20..30).await;
    house.back_up(&repository, What::All).await;
    // Long ago, by the place's own clock.
    let mut manifests = stored(&house, "backups");
    manifests.retain(|path| path.ends_with(format!("{first}/manifest.jsonl")));
    age_all(&house, &manifests, 400);
    let keep = |last| Policy { days: 30, weeks: 4, months: 4, last };
    let looked = backup::prune(&repository, keep(1), true).await.unwrap();
    assert_eq!((looked.removed.len(), looked.kept.len()), (1, 1));
    assert_eq!(repository.list().await.unwrap().len(), 2, "it has only looked");

    let kept = backup::prune(&repository, keep(2), false).await.unwrap();
    assert_eq!((kept.removed.len(), kept.blobs), (0, 0));
    let restored = tempfile::tempdir().unwrap();
    let places = Places::in_folder(&restored.path().join("x"));
    restore_to(&repository, &places, What::All, Choice::Id(first)).await.unwrap();
    assert_eq!(look(&places).await, before);

    let blobs = stored(&house, "blobs").len();
    let removed = backup::prune(&repository, keep(1), false).await.unwrap();
    assert_eq!((removed.removed.len(), removed.blobs), (1, 0), "its pieces are young");
    age_all(&house, &stored(&house, "blobs"), 2);
    let removed = backup::prune(&repository, keep(1), false).await.unwrap();
    assert!(removed.blobs > 0 && (removed.blobs as usize) < blobs, "{} of {blobs}", removed.blobs);
    let newest = repository.list().await.unwrap().pop().unwrap().id;
    backup::verify(&repository, &newest, &Progress::silent()).await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_clock_that_went_back_removes_nothing() {
    let house = House::new().await;
    let repository = house.plain().await;
    house.back_up(&repository, What::Db).await;
    let mut manifests = stored(&house, "backups");
    manifests.retain(|path| path.ends_with("manifest.jsonl"));
    age_all(&house, &manifests, -2);
    let policy = Policy { days: 1, weeks: 0, months: 0, last: 1 };
    let error = backup::prune(&repository, policy, false).await.unwrap_err();
    assert!(matches!(error, Error::ClockWentBack { .. }), "{error}");
    assert_eq!(repository.list().await.unwrap().len(), 1);
}

/// Sets the times of files so many days back.
fn age_all(_house: &House, files: &[std::path::PathBuf], days: i64) {
    let now = std::time::SystemTime::now();
    let length = std::time::Duration::from_secs(days.unsigned_abs() * 86_400);
    let at = if days < 0 { now + length } else { now - length };
    for path in files {
        std::fs::File::options().write(true).open(path).unwrap().set_modified(at).unwrap();
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn rows_are_counted_table_by_table() {
    let house = House::new().await;
    let repository = house.plain().await;
    let manifest = house.back_up(&repository, What::Db).await.manifest;
    let rows = &manifest.part(PartName::State).unwrap().rows;
    assert_eq!(rows, &BTreeMap::from([("run".to_owned(), 500)]));
}
