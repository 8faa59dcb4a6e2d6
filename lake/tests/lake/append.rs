//! Every row once, whoever appends, how often and at the same time.

use std::collections::HashSet;

use lake::rows::media_batch;
use lake::{Appended, Error, Lake, Table, Transaction};

use crate::sample::{jaguar, many, medium, number, open};

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn a_repeated_append_adds_nothing() {
    let folder = tempfile::tempdir().unwrap();
    let lake = open(folder.path()).await;
    let txn = Transaction::new("run/infer/0", 1);
    let first = lake.append_media(&many(0, 5, "run"), &txn).await.unwrap();
    assert_eq!(first, Appended::Committed { version: 1, rows: 5 });
    // Other rows under the same name: what an earlier attempt wrote stays.
    let again = lake.append_media(&many(5, 9, "run"), &txn).await.unwrap();
    assert_eq!(again, Appended::AlreadyThere);
    // Another process, another table under the same name.
    let other = open(folder.path()).await;
    assert_eq!(other.append_media(&many(0, 5, "run"), &txn).await.unwrap(), Appended::AlreadyThere);
    let boxes = [jaguar("s3://b/p/0.jpg", "run")];
    assert_eq!(other.append_detections(&boxes, &txn).await.unwrap(), Appended::Committed { version: 1, rows: 1 });
    assert_eq!(number(&lake, "select count(*) from media").await, 5);
    assert_eq!(number(&lake, "select count(*) from detections").await, 1);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn the_version_of_a_name_only_grows() {
    let folder = tempfile::tempdir().unwrap();
    let lake = open(folder.path()).await;
    let append = async |version, from| {
        let txn = Transaction::new("stream", version);
        lake.append_media(&many(from, 1, "run"), &txn).await.unwrap()
    };
    assert!(matches!(append(5, 0).await, Appended::Committed { .. }));
    assert_eq!(append(4, 1).await, Appended::AlreadyThere);
    assert_eq!(append(5, 2).await, Appended::AlreadyThere);
    assert!(matches!(append(6, 3).await, Appended::Committed { .. }));
    assert_eq!(number(&lake, "select count(*) from media").await, 2);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn no_rows_take_the_name_too() {
    let folder = tempfile::tempdir().unwrap();
    let lake = open(folder.path()).await;
    let txn = Transaction::new("blank shard", 1);
    let nothing = lake.append_detections(&[], &txn).await.unwrap();
    assert_eq!(nothing, Appended::Committed { version: 1, rows: 0 });
    let boxes = [jaguar("a.jpg", "run")];
    assert_eq!(lake.append_detections(&boxes, &txn).await.unwrap(), Appended::AlreadyThere);
    assert_eq!(number(&lake, "select count(*) from detections").await, 0);
}

/// Each task opens the lake itself, as a process of its own would, and the tables do not exist yet.
async fn race(folder: &std::path::Path, names: Vec<String>, rows_each: usize) -> Vec<Appended> {
    let mut tasks = Vec::new();
    for (index, name) in names.into_iter().enumerate() {
        let url = folder.to_str().unwrap().to_owned();
        tasks.push(tokio::spawn(async move {
            let lake = Lake::open(&url).await.unwrap();
            let media = many(index * rows_each, rows_each, "run");
            lake.append_media(&media, &Transaction::new(name, 1)).await.unwrap()
        }));
    }
    let mut outcomes = Vec::new();
    for task in tasks {
        outcomes.push(task.await.unwrap());
    }
    outcomes
}

fn committed(outcomes: &[Appended]) -> usize {
    outcomes.iter().filter(|outcome| matches!(outcome, Appended::Committed { .. })).count()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 8)]
async fn of_16_racing_attempts_under_one_name_one_commits() {
    for _ in 0..3 {
        let folder = tempfile::tempdir().unwrap();
        let outcomes = race(folder.path(), vec!["run/infer/3".to_owned(); 16], 20).await;
        assert_eq!(committed(&outcomes), 1, "{outcomes:?}");
        let lake = open(folder.path()).await;
        assert_eq!(number(&lake, "select count(*) from media").await, 20);
        assert_eq!(log_files(folder.path()), 2, "one version creates the table, one appends");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 8)]
async fn sixteen_racing_attempts_under_16_names_all_commit() {
    let folder = tempfile::tempdir().unwrap();
    let names = (0..16).map(|number| format!("run/infer/{number}")).collect();
    let outcomes = race(folder.path(), names, 20).await;
    assert_eq!(committed(&outcomes), 16, "{outcomes:?}");
    let versions: HashSet<u64> = outcomes
        .iter()
        .filter_map(|outcome| match outcome {
            Appended::Committed { version, .. } => Some(*version),
            Appended::AlreadyThere => None,
        })
        .collect();
    assert_eq!(versions, (1..=16).collect());
    let lake = open(folder.path()).await;
    assert_eq!(number(&lake, "select count(distinct uri) from media").await, 320);
    assert_eq!(number(&lake, "select count(*) from media").await, 320);
    assert_eq!(log_files(folder.path()), 17);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 8)]
async fn four_attempts_at_each_of_6_names_leave_6_commits() {
    let folder = tempfile::tempdir().unwrap();
    let names = (0..24).map(|number| format!("run/infer/{}", number % 6)).collect();
    let outcomes = race(folder.path(), names, 5).await;
    assert_eq!(committed(&outcomes), 6, "{outcomes:?}");
    let lake = open(folder.path()).await;
    assert_eq!(number(&lake, "select count(*) from media").await, 30);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn tasks_that_share_a_lake_append_side_by_side() {
    let folder = tempfile::tempdir().unwrap();
    let lake = open(folder.path()).await;
    let tasks: Vec<_> = (0..8)
        .map(|number| {
            let lake = lake.clone();
            tokio::spawn(async move {
                let media = many(number * 10, 10, "run");
                lake.append_media(&media, &Transaction::new(format!("shard {number}"), 1)).await.unwrap()
            })
        })
        .collect();
    for task in tasks {
        assert!(matches!(task.await.unwrap(), Appended::Committed { rows: 10, .. }));
    }
    assert_eq!(number(&lake, "select count(*) from media").await, 80);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn rows_of_the_other_table_are_refused() {
    let folder = tempfile::tempdir().unwrap();
    let lake = open(folder.path()).await;
    let media = vec![media_batch(&[medium("a.jpg", "run")]).unwrap()];
    let error = lake.append(Table::Detections, media, &Transaction::new("x", 1)).await.unwrap_err();
    assert!(matches!(error, Error::Schema { table: Table::Detections, .. }), "{error}");
    assert!(error.to_string().contains("the rows have no column detection_id"), "{error}");
    assert!(!folder.path().join("detections").exists());
}

/// Versions in the log of `media`.
fn log_files(lake: &std::path::Path) -> usize {
    let entries = std::fs::read_dir(lake.join("media/_delta_log")).unwrap();
    entries.filter(|entry| entry.as_ref().unwrap().file_name().to_string_lossy().ends_with(".json")).count()
}
