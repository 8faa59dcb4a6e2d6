//! A continuous DAG from new photographs to rows, through crashes.
#![allow(clippy::unwrap_used)]

mod common;

use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, SystemTime};

use common::{Server, root, safari, said, wait_until};

const PHOTOS: [&str; 6] = [
    "farmyard/cow.jpg",
    "farmyard/cat.jpg",
    "garden/hedgehog.jpg",
    "arctic-coast/polar_bear.jpg",
    "prairie/horse.jpg",
    "savanna-waterhole/giraffe.jpg",
];

#[test]
fn photographs_in_a_folder_become_rows_once_though_the_server_is_killed() {
    let home = tempfile::tempdir().unwrap();
    let incoming = home.path().join("incoming");
    let dags = live_dag(home.path(), &incoming.display().to_string());
    std::fs::create_dir(&incoming).unwrap();
    let mut server = serve(home.path(), &dags);
    for (count, photo) in PHOTOS.iter().enumerate() {
        let (from, to) = (root().join("data-samples").join(photo), incoming.join(photo));
        std::fs::create_dir_all(to.parent().unwrap()).unwrap();
        std::fs::copy(from, &to).unwrap();
        let file = std::fs::File::options().write(true).open(&to).unwrap();
        file.set_modified(SystemTime::now() - Duration::from_secs(60)).unwrap();
        match count {
            // In the middle of its first batches, and again.
            2 | 4 => {
                wait_until("a batch is made", || batches(home.path()) > count as u64 / 4);
                server = {
                    drop(server);
                    serve(home.path(), &dags)
                };
            }
            _ => std::thread::sleep(Duration::from_millis(300)),
        }
    }
    wait_until("all is seen", || waiting(home.path()) == 0 && rows(home.path(), "media") == 6);
    drop(server);
    assert_eq!(rows(home.path(), "(select distinct uri from media)"), 6);
    assert_eq!(rows(home.path(), "detections"), rows(home.path(), "(select distinct detection_id from detections)"));
    assert!(rows(home.path(), "observations where species = 'giraffe'") > 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_bucket_is_listed_again_and_its_notifications_come_by_a_webhook() {
    let s3 = e2e::seaweedfs::Server::start().await.unwrap();
    let bucket = s3.bucket("traps").await.unwrap();
    let home = tempfile::tempdir().unwrap();
    let dags = live_dag(home.path(), "s3://traps/incoming");
    let told = std::fs::read_to_string(dags.join("live.yaml")).unwrap();
    let told = told
        .replace("dag: live", "dag: told")
        .replace("source: \"{{ params.source }}\", max_batch", "webhook: traps, max_batch");
    std::fs::write(dags.join("told.yaml"), told.replace("s3://traps/incoming", "s3://traps")).unwrap();
    let put = async |key: &str, photo: &str| {
        let bytes = std::fs::read(root().join("data-samples").join(photo)).unwrap();
        bucket.put(key, bytes.into()).await.unwrap();
    };
    put("incoming/farm/cow.jpg", PHOTOS[0]).await;
    let port = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    let mut command = safari(home.path());
    command.args(["server", "--listen", &port.to_string(), "--dags"]).arg(&dags).envs(s3.variables());
    let server = Server::start(command);
    wait_until("the first is seen", || rows(home.path(), "media") == 1);
    put("incoming/farm/cat.jpg", PHOTOS[1]).await;
    wait_until("the second is seen", || rows(home.path(), "media") == 2);

    put("elsewhere/horse.jpg", PHOTOS[4]).await;
    let body = r#"{"Records": [{"eventName": "ObjectCreated:Put", "s3": {"bucket": {"name": "traps"},
        "object": {"key": "elsewhere/horse.jpg", "size": 1, "sequencer": "1"}}}]}"#;
    for _ in 0..2 {
        let sent = Command::new("curl")
            .args(["-sf", "-X", "POST", "-d", body, &format!("http://{port}/api/v1/webhooks/traps")])
            .output()
            .unwrap();
        assert!(sent.status.success(), "{sent:?}");
    }
    wait_until("the third is seen", || rows(home.path(), "media") == 3);
    assert_eq!(rows(home.path(), "media where uri = 's3://traps/elsewhere/horse.jpg' and failure is null"), 1);
    drop(server);
}

/// The example, on another source, with small batches.
fn live_dag(home: &Path, source: &str) -> PathBuf {
    let folder = home.join("dags");
    std::fs::create_dir_all(&folder).unwrap();
    let example = std::fs::read_to_string(root().join("dags/examples/live.yaml")).unwrap();
    let example = example.replace("default: incoming", &format!("default: '{source}'"));
    let example = example.replace("max_batch: 50, max_age: 10s", "max_batch: 2, max_age: 500ms");
    assert!(example.contains(source) && example.contains("max_batch: 2,"), "{example}");
    std::fs::write(folder.join("live.yaml"), example).unwrap();
    folder
}

fn serve(home: &Path, dags: &Path) -> Server {
    let mut command = safari(home);
    command.args(["--set", "run.lease_seconds=2", "server", "--listen", "127.0.0.1:0", "--dags"]).arg(dags);
    Server::start(command)
}

/// Items that wait and batches in flight of all continuous DAGs; of none yet, one.
fn waiting(home: &Path) -> u64 {
    let listed = said(home, &["stream", "list"]);
    let lines = listed.lines().skip(1).map(|line| line.split_whitespace().collect::<Vec<_>>());
    let of = |words: Vec<&str>| words[1].parse::<u64>().unwrap() + words[2].parse::<u64>().unwrap();
    lines.map(of).reduce(|one, other| one + other).unwrap_or(1)
}

fn batches(home: &Path) -> u64 {
    let listed = said(home, &["stream", "list"]);
    listed.lines().skip(1).map(|line| line.split_whitespace().nth(3).unwrap().parse::<u64>().unwrap()).sum()
}

fn rows(home: &Path, from: &str) -> u64 {
    let counted = said(home, &["sql", "--format", "csv", &format!("select count(*) as n from {from}")]);
    counted.lines().nth(1).unwrap().parse().unwrap()
}
