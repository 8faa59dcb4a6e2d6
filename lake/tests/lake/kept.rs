//! What stays true over many commits: names, known media, compaction.

use lake::{Appended, Table, Transaction};

use crate::sample::{MODEL, at, jaguar, many, medium, number, open};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn names_outlive_checkpoints_and_compaction() {
    let folder = tempfile::tempdir().unwrap();
    let lake = open(folder.path()).await;
    const SHARDS: usize = 53;
    for shard in 0..SHARDS {
        let media = many(shard * 2, 2, "run");
        lake.append_media(&media, &Transaction::new(format!("run/infer/{shard}"), 1)).await.unwrap();
    }
    let log = folder.path().join("media/_delta_log");
    assert!(log.join("_last_checkpoint").exists(), "a checkpoint is due every 50 commits");

    let optimized = lake.optimize().await.unwrap();
    assert_eq!(optimized.len(), 1, "detections were never written: {optimized:?}");
    assert_eq!(optimized[0].table, Table::Media);
    assert_eq!((optimized[0].files_removed, optimized[0].files_added), (SHARDS as u64, 1));

    let lake = open(folder.path()).await;
    for shard in [0, 20, SHARDS - 1] {
        let media = many(shard * 2, 2, "run");
        let again = lake.append_media(&media, &Transaction::new(format!("run/infer/{shard}"), 1)).await.unwrap();
        assert_eq!(again, Appended::AlreadyThere);
    }
    assert_eq!(number(&lake, "select count(*) from media").await, SHARDS as i64 * 2);
    assert_eq!(number(&lake, "select count(distinct uri) from media").await, SHARDS as i64 * 2);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn appends_and_compaction_do_not_disturb_each_other() {
    let folder = tempfile::tempdir().unwrap();
    let writer = open(folder.path()).await;
    let compactor = open(folder.path()).await;
    writer.append_media(&many(0, 1, "run"), &Transaction::new("first", 1)).await.unwrap();
    let appends = async {
        for shard in 1..20 {
            let media = many(shard, 1, "run");
            writer.append_media(&media, &Transaction::new(format!("shard {shard}"), 1)).await.unwrap();
        }
    };
    let compactions = async {
        for _ in 0..4 {
            compactor.optimize().await.unwrap();
        }
    };
    tokio::join!(appends, compactions);
    assert_eq!(number(&compactor, "select count(distinct uri) from media").await, 20);
    assert_eq!(number(&compactor, "select count(*) from media").await, 20);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_newest_processing_of_a_file_is_known() {
    let folder = tempfile::tempdir().unwrap();
    let lake = open(folder.path()).await;
    assert!(lake.known_media(MODEL).await.unwrap().is_empty());

    let old = medium("a.jpg", "run-1");
    let mut changed = medium("a.jpg", "run-2");
    changed.version = "etag-2".to_owned();
    changed.size_bytes = 99;
    changed.processed_at = at("2024-07-01T00:00:00Z");
    let mut failed = medium("b.jpg", "run-1");
    failed.failure = Some("the file is empty".to_owned());
    let mut other_model = medium("c.jpg", "run-1");
    other_model.model_version = "wildlife-2".to_owned();
    // The newer row comes first: order of arrival does not matter.
    for (number, row) in [changed.clone(), old, failed, other_model].into_iter().enumerate() {
        lake.append_media(&[row], &Transaction::new("t", number as i64)).await.unwrap();
    }

    let known = lake.known_media(MODEL).await.unwrap();
    let mut uris: Vec<&str> = known.keys().map(String::as_str).collect();
    uris.sort_unstable();
    assert_eq!(uris, ["a.jpg", "b.jpg"]);
    assert_eq!((known["a.jpg"].size_bytes, known["a.jpg"].version.as_str()), (99, "etag-2"));
    assert_eq!(known["a.jpg"].media_id, changed.media_id);
    assert!(known["b.jpg"].failed && !known["a.jpg"].failed);
    assert_eq!(lake.known_media("wildlife-2").await.unwrap().len(), 1);
    assert!(lake.known_media("wildlife-3' or '1'='1").await.unwrap().is_empty());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn observations_are_the_animals_of_the_newest_processing() {
    let folder = tempfile::tempdir().unwrap();
    let lake = open(folder.path()).await;
    assert_eq!(number(&lake, "select count(*) from observations").await, 0);
    let mut person = jaguar("a.jpg", "run-1");
    person.detection_id = "id-of-a.jpg/0/1".to_owned();
    person.category = lake::Category::Person;
    let mut puma = jaguar("a.jpg", "run-2");
    puma.species = Some("puma".to_owned());
    let mut later = medium("a.jpg", "run-2");
    later.processed_at = at("2024-06-02T00:00:00Z");
    let boxes = [jaguar("a.jpg", "run-1"), person, puma, jaguar("b.jpg", "run-1")];
    lake.append_detections(&boxes, &Transaction::new("t", 1)).await.unwrap();
    let media = [medium("a.jpg", "run-1"), later, medium("b.jpg", "run-1")];
    lake.append_media(&media, &Transaction::new("t", 1)).await.unwrap();
    assert_eq!(number(&lake, "select count(*) from observations").await, 2);
    let pumas = "select count(*) from observations where uri = 'a.jpg' and species = 'puma'";
    assert_eq!(number(&lake, pumas).await, 1);
}
