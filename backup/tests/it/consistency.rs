//! Every row of a backup has its files, although models are added and removed while it is made.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use backup::restore::Choice;
use backup::{Places, What};
use platform::database::open_sqlite;
use platform::object_store::{Location, open};

use crate::house::{House, restore_to};

/// How long files stay after their rows are gone: longer than the databases are copied.
const GRACE: Duration = Duration::from_secs(3);

/// How long backups are made.
const PLAYED: Duration = Duration::from_secs(10);

/// Of all backups so many are restored, at most.
const RESTORED: usize = 6;

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn rows_have_their_files_while_models_come_and_go() {
    let house = Arc::new(House::new().await);
    let (repository, stop) = (house.plain().await, Arc::new(AtomicBool::new(false)));
    let adding = tokio::spawn({
        let (house, stop) = (Arc::clone(&house), Arc::clone(&stop));
        async move {
            let mut number = 1000;
            while !stop.load(Ordering::SeqCst) {
                house.add_models(number..number + 1).await;
                number += 1;
            }
            number - 1000
        }
    });
    let removing = tokio::spawn({
        let (house, stop) = (Arc::clone(&house), Arc::clone(&stop));
        async move { remove_the_oldest(&house, &stop).await }
    });
    let (mut ids, began) = (Vec::new(), Instant::now());
    while began.elapsed() < PLAYED {
        ids.push(house.back_up(&repository, What::Models).await.manifest.id);
    }
    stop.store(true, Ordering::SeqCst);
    let (added, removed) = (adding.await.unwrap(), removing.await.unwrap());
    assert!(added > 20 && removed > 5 && ids.len() > 4, "{added} came, {removed} went, {} backups", ids.len());
    let some = ids.len().div_ceil(RESTORED);
    for id in ids.into_iter().step_by(some) {
        let to = tempfile::tempdir().unwrap();
        let places = Places::in_folder(&to.path().join("x"));
        restore_to(&repository, &places, What::Models, Choice::Id(id)).await.unwrap();
        let database = open_sqlite(&places.home.join("registry.db")).await.unwrap();
        let files: Vec<String> =
            sqlx::query_scalar("SELECT file FROM version").fetch_all(database.pool()).await.unwrap();
        assert!(files.len() > 10);
        let Location::Local(folder) = &places.artifacts else { panic!("no folder") };
        for file in files {
            assert!(folder.join(&file).is_file(), "{file} has a row and is missing");
        }
    }
}

/// As a collection of garbage does: the row first, the files after their grace period.
async fn remove_the_oldest(house: &House, stop: &AtomicBool) -> usize {
    let database = open_sqlite(&house.home().join("registry.db")).await.unwrap();
    let files = open(&house.places.artifacts).await.unwrap();
    let (mut waiting, mut removed): (Vec<(Instant, String)>, usize) = (Vec::new(), 0);
    while !stop.load(Ordering::SeqCst) {
        let sql = "DELETE FROM version WHERE id = (SELECT MIN(id) FROM version) RETURNING file";
        if let Some(file) = sqlx::query_scalar(sql).fetch_optional(database.pool()).await.unwrap() {
            waiting.push((Instant::now(), file));
        }
        while waiting.first().is_some_and(|(at, _)| at.elapsed() > GRACE) {
            files.delete(&waiting.remove(0).1).await.unwrap();
            removed += 1;
        }
        tokio::time::sleep(Duration::from_millis(60)).await;
    }
    removed
}
