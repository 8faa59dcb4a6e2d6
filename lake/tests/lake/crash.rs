//! Nothing half-written is visible, and nothing that was committed is lost.

use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::Duration;

use lake::{Appended, Lake, Transaction};

use crate::sample::{many, number, open};

/// Where the child of [`killed_at_any_moment_it_goes_on_where_it_was`] writes; only then does it do anything.
const CHILD: &str = "LAKE_TEST_CHILD";
const ROWS: usize = 40;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn data_without_a_commit_is_not_seen() {
    let folder = tempfile::tempdir().unwrap();
    let lake = open(folder.path()).await;
    lake.append_media(&many(0, 5, "run"), &Transaction::new("a", 1)).await.unwrap();
    // What a writer leaves that died before its commit: a whole data file, half of one, and a log file without its name.
    let data = data_files(&folder.path().join("media")).remove(0);
    let bytes = std::fs::read(&data).unwrap();
    std::fs::write(data.with_file_name("part-00000-dead.zstd.parquet"), &bytes).unwrap();
    std::fs::write(data.with_file_name("part-00001-dead.zstd.parquet"), &bytes[..bytes.len() / 2]).unwrap();
    let log = folder.path().join("media/_delta_log");
    std::fs::write(log.join("00000000000000000002.json#77"), "{\"add\":{\"path\":\"half").unwrap();

    let lake = open(folder.path()).await;
    assert_eq!(number(&lake, "select count(*) from media").await, 5);
    let next = lake.append_media(&many(5, 5, "run"), &Transaction::new("b", 1)).await.unwrap();
    assert_eq!(next, Appended::Committed { version: 2, rows: 5 });
    assert_eq!(number(&lake, "select count(*) from media").await, 10);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn killed_at_any_moment_it_goes_on_where_it_was() {
    if let Ok(folder) = std::env::var(CHILD) {
        return append_until_killed(Path::new(&folder)).await;
    }
    let folder = tempfile::tempdir().unwrap();
    for round in 0..6 {
        let mut child = Command::new(std::env::current_exe().unwrap())
            .args(["--exact", "crash::killed_at_any_moment_it_goes_on_where_it_was"])
            .env(CHILD, folder.path())
            .stdout(Stdio::null())
            .spawn()
            .unwrap();
        tokio::time::sleep(Duration::from_millis(230 + 87 * round)).await;
        child.kill().unwrap();
        child.wait().unwrap();
        let lake = open(folder.path()).await;
        let rows = number(&lake, "select count(*) from media").await;
        assert_eq!(rows % ROWS as i64, 0, "appends are whole after kill {round}");
    }
    let lake = open(folder.path()).await;
    let shards = number(&lake, "select count(*) from media").await / ROWS as i64;
    assert!(shards > 0, "the child was killed before it could do anything");
    for shard in 0..shards as usize + 2 {
        append_shard(&lake, shard).await;
    }
    let expected = (shards + 2) * ROWS as i64;
    assert_eq!(number(&lake, "select count(*) from media").await, expected);
    assert_eq!(number(&lake, "select count(distinct uri) from media").await, expected);
}

/// Begins at the first shard each time, as a restarted run would that has lost its own state.
async fn append_until_killed(folder: &Path) {
    let lake = open(folder).await;
    for shard in 0..100_000 {
        append_shard(&lake, shard).await;
    }
}

async fn append_shard(lake: &Lake, shard: usize) {
    let media = many(shard * ROWS, ROWS, "run");
    lake.append_media(&media, &Transaction::new(format!("run/infer/{shard}"), 1)).await.unwrap();
}

fn data_files(table: &Path) -> Vec<PathBuf> {
    let folders = std::fs::read_dir(table).unwrap().map(|entry| entry.unwrap().path());
    let partitions = folders.filter(|path| path.to_string_lossy().contains("processed_date="));
    let files = partitions.flat_map(|path| std::fs::read_dir(path).unwrap().map(|entry| entry.unwrap().path()));
    files.filter(|path| path.extension().is_some_and(|extension| extension == "parquet")).collect()
}
