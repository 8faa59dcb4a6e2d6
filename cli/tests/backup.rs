//! `safari backup` and `safari restore` as an operator starts them, killed at every step.
#![allow(clippy::unwrap_used)]

mod common;

use std::collections::BTreeMap;
use std::os::unix::process::ExitStatusExt;
use std::path::Path;
use std::process::{Command, Output};
use std::sync::atomic::{AtomicU32, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};

use common::{safari, said};
use e2e::seaweedfs::Server;
use e2e::shaky_http::ShakyHttp;
use lake::{EvaluationRow, Lake, Role, Transaction};
use platform::database::open_sqlite;
use serde_json::Value;

const KEPT: &str = "s3://backups/house";
const DATABASES: [&str; 2] = ["state.db", "registry.db"];

/// A home with a state, a registry, files, and a table.
async fn fill(folder: &Path, number: usize) {
    said(folder, &["run", "list"]);
    said(folder, &["model", "list"]);
    for name in DATABASES {
        let database = open_sqlite(&folder.join("home").join(name)).await.unwrap();
        for sql in ["CREATE TABLE IF NOT EXISTS mark (n BIGINT)", "INSERT INTO mark VALUES ($1)"] {
            let mut statement = sqlx::query(sql);
            if sql.contains('$') {
                statement = statement.bind(number as i64);
            }
            statement.execute(database.pool()).await.unwrap();
        }
        database.pool().close().await;
    }
    let artifacts = folder.join("home/artifacts/1");
    std::fs::create_dir_all(&artifacts).unwrap();
    for file in 0..3 {
        std::fs::write(artifacts.join(format!("{number}-{file}.bin")), format!("{number} {file}").repeat(999)).unwrap();
    }
    let lake = Lake::open(&folder.join("home/lake").to_string_lossy()).await.unwrap();
    let transaction = Transaction::new(format!("append-{number}"), 1);
    lake.append_evaluation(&[row(number)], &transaction).await.unwrap();
}

fn row(number: usize) -> EvaluationRow {
    EvaluationRow {
        evaluation_id: number.to_string(),
        model: "wildlife".to_owned(),
        version: Some(1),
        model_version: "wildlife-1".to_owned(),
        model_digest: "1".to_owned(),
        role: Some(Role::Challenger),
        dataset: "/labelled".to_owned(),
        dataset_digest: "1".to_owned(),
        split: "test".to_owned(),
        label: None,
        species: None,
        count: 1,
        accuracy: Some(1.0),
        macro_f1: Some(1.0),
        coverage: 1.0,
        precision: None,
        recall: None,
        f1: None,
        support: 1,
        training_digest: None,
        training_table_version: None,
        run_id: number.to_string(),
        task: "evaluate".to_owned(),
        evaluated_at: chrono::Utc::now(),
    }
}

/// Everything below a home that a backup has: files, and the newest mark in each database.
async fn look(home: &Path) -> BTreeMap<String, Vec<u8>> {
    let mut found = BTreeMap::new();
    for name in DATABASES {
        let database = open_sqlite(&home.join(name)).await.unwrap();
        let newest: i64 = sqlx::query_scalar("SELECT MAX(n) FROM mark").fetch_one(database.pool()).await.unwrap();
        database.pool().close().await;
        found.insert(name.to_owned(), newest.to_string().into_bytes());
    }
    for folder in ["artifacts", "lake"] {
        walk(home, &home.join(folder), &mut found);
    }
    found
}

fn walk(home: &Path, folder: &Path, found: &mut BTreeMap<String, Vec<u8>>) {
    let Ok(entries) = std::fs::read_dir(folder) else { return };
    for path in entries.flatten().map(|entry| entry.path()) {
        // What a killed restoration has laid ready is seen by nobody.
        if path.to_string_lossy().contains(".restore-") {
            continue;
        }
        if path.is_dir() {
            walk(home, &path, found);
        } else if !path.ends_with("_last_checkpoint") {
            let name = path.strip_prefix(home).unwrap().to_string_lossy().into_owned();
            found.insert(name, std::fs::read(&path).unwrap());
        }
    }
}

fn at(folder: &Path, server: &Server, endpoint: &str) -> Command {
    let mut command = safari(folder);
    command.envs(server.variables()).env("AWS_ENDPOINT_URL", endpoint);
    command.env("SAFARI_BACKUP_URL", KEPT).env("SAFARI_BACKUP_LEASE_SECONDS", "1");
    command
}

fn json(output: &Output) -> Value {
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    serde_json::from_slice(&output.stdout).unwrap()
}

/// Kills a process when the n-th of the requests comes by that `counts` says.
struct Killer {
    process: Arc<AtomicU32>,
    left: Arc<AtomicUsize>,
    proxy: ShakyHttp,
}

impl Killer {
    fn start(server: &Server, counts: fn(&str) -> bool) -> Self {
        let (process, left) = (Arc::new(AtomicU32::new(0)), Arc::new(AtomicUsize::new(usize::MAX)));
        let (its, how_many, one_at_a_time) = (Arc::clone(&process), Arc::clone(&left), Mutex::new(()));
        let proxy = ShakyHttp::start(server.endpoint(), move |request| {
            let _turn = one_at_a_time.lock().unwrap();
            if counts(request.method) && how_many.fetch_sub(1, Ordering::SeqCst) == 1 {
                let kill = Command::new("kill").args(["-9", &its.load(Ordering::SeqCst).to_string()]).status();
                assert!(kill.unwrap().success());
            }
            None
        });
        Self { process, left, proxy: proxy.unwrap() }
    }

    /// Whether it was killed, not done before.
    fn run(&self, mut command: Command, requests: usize) -> bool {
        self.left.store(usize::MAX, Ordering::SeqCst);
        let mut child =
            command.stdout(std::process::Stdio::null()).stderr(std::process::Stdio::null()).spawn().unwrap();
        self.process.store(child.id(), Ordering::SeqCst);
        self.left.store(requests, Ordering::SeqCst);
        let status = child.wait().unwrap();
        assert!(status.success() || status.signal() == Some(9), "{status}");
        status.signal() == Some(9)
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_backup_that_is_killed_at_any_request_is_none_and_the_next_one_is_whole() {
    let server = Server::start().await.unwrap();
    server.bucket("backups").await.unwrap();
    let folder = tempfile::tempdir().unwrap();
    let folder = folder.path();
    let killer = Killer::start(&server, |method| method != "GET" && method != "HEAD");
    fill(folder, 0).await;
    let first = at(folder, &server, server.endpoint()).args(["backup", "all", "--format", "json"]).output().unwrap();
    let mut known = 1;
    let first = json(&first)["id"].as_str().unwrap().to_owned();
    // The same each time, so that each step is met: pieces that are there already are offered again.
    fill(folder, 1).await;
    let mut step = 1;
    loop {
        let mut command = at(folder, &server, &killer.proxy.endpoint());
        command.args(["backup", "all"]);
        if !killer.run(command, step) {
            break;
        }
        let list =
            at(folder, &server, server.endpoint()).args(["backup", "list", "--format", "json"]).output().unwrap();
        let list = json(&list);
        let list = list.as_array().unwrap();
        // Killed between the manifest and the note that it was verified, it is there and was not.
        assert!(list.len() == known || list.len() == known + 1, "step {step}: {list:?}");
        known = list.len();
        assert!(list.iter().any(|backup| backup["id"] == first.as_str()));
        step += 1;
    }
    assert!(step > 12, "only {step} steps");
    eprintln!("killed at {} steps", step - 1);
    fill(folder, 2).await;
    json(&at(folder, &server, server.endpoint()).args(["backup", "all", "--format", "json"]).output().unwrap());
    let list = at(folder, &server, server.endpoint()).args(["backup", "list", "--format", "json"]).output().unwrap();
    for backup in json(&list).as_array().unwrap() {
        let id = backup["id"].as_str().unwrap();
        let verified = at(folder, &server, server.endpoint()).args(["backup", "verify", id]).output().unwrap();
        assert!(verified.status.success(), "{id}: {}", String::from_utf8_lossy(&verified.stderr));
    }
    let to = folder.join("restored");
    let mut restore = at(folder, &server, server.endpoint());
    let restored = restore.args(["restore", "all", "--to"]).arg(&to).output().unwrap();
    assert!(restored.status.success(), "{}", String::from_utf8_lossy(&restored.stderr));
    assert_eq!(look(&to).await, look(&folder.join("home")).await);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_restoration_that_is_killed_at_any_request_leaves_all_of_the_old_or_all_of_the_new() {
    let server = Server::start().await.unwrap();
    server.bucket("backups").await.unwrap();
    let folder = tempfile::tempdir().unwrap();
    let folder = folder.path();
    let killer = Killer::start(&server, |method| method == "GET");
    fill(folder, 0).await;
    json(&at(folder, &server, server.endpoint()).args(["backup", "all", "--format", "json"]).output().unwrap());
    let new = look(&folder.join("home")).await;
    fill(folder, 1).await;
    let old = look(&folder.join("home")).await;
    assert_ne!(old, new);
    let mut step = 1;
    loop {
        let mut command = at(folder, &server, &killer.proxy.endpoint());
        command.args(["restore", "all", "--force"]);
        let killed = killer.run(command, step);
        // The next command goes on with an exchange that was interrupted.
        said(folder, &["run", "list"]);
        let found = look(&folder.join("home")).await;
        if !killed {
            assert_eq!(found, new);
            break;
        }
        assert!(found == old || found == new, "step {step}: a mixture");
        assert!(found == old, "step {step}: replaced although not all was fetched");
        step += 1;
    }
    assert!(step > 8, "only {step} steps");
    eprintln!("killed at {} steps", step - 1);
    let left = std::fs::read_dir(folder.join("home")).unwrap().flatten();
    let left: Vec<_> = left.map(|entry| entry.file_name().to_string_lossy().into_owned()).collect();
    assert!(!left.iter().any(|name| name.contains(".restore-") || name.contains("journal")), "{left:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn an_operator_is_told_what_there_is_and_what_is_missing() {
    let folder = tempfile::tempdir().unwrap();
    let folder = folder.path();
    let fails = |args: &[&str], words: &[&str]| {
        let output = safari(folder).args(args).output().unwrap();
        let text = String::from_utf8(output.stderr).unwrap();
        assert_eq!(output.status.code(), Some(1), "{args:?}: {text}");
        assert!(words.iter().all(|word| text.contains(word)) && text.lines().count() == 1, "{args:?}: {text}");
    };
    assert!(said(folder, &["backup", "list"]).starts_with("no backups in "));
    fails(&["restore", "all"], &["there is no backup of all that was verified", "safari backup list"]);
    fails(&["backup", "all"], &["there is nothing to back up"]);
    fill(folder, 0).await;
    let text = said(folder, &["backup", "all"]);
    assert!(text.contains("state") && text.contains("evaluation") && text.trim_end().ends_with("verified"), "{text}");
    let list = said(folder, &["backup", "list"]);
    assert_eq!(list.lines().count(), 2, "{list}");
    assert!(list.contains("VERIFIED") && list.contains(" s ago"), "{list}");
    assert!(said(folder, &["backup", "verify"]).contains("is whole"));
    assert!(said(folder, &["backup", "prune"]).contains("0 backups and 0 pieces"));
    let text = said(folder, &["backup", "all", "--prune"]);
    assert!(
        text.contains("verified") && text.contains("0 backups and 0 pieces") && text.contains("2 backups stay"),
        "{text}"
    );
    let plan = said(folder, &["restore", "all", "--dry-run"]);
    assert!(plan.contains("would be restored") && plan.contains("state.db"), "{plan}");
    fails(&["restore", "db"], &["would be replaced", "--force", "state.db"]);
    fails(&["restore", "all", "--backup", "20200101T000000-000000"], &["there is no backup 20200101T000000-000000"]);
    fails(&["restore", "all", "--to", &folder.join("home").to_string_lossy()], &["is not empty"]);
    fails(&["--set", "backup.recipients=age1x", "backup", "all"], &["`age1x`", "is no public key of age"]);
    said(folder, &["restore", "all", "--force"]);
    let drill = said(folder, &["backup", "drill", "--format", "json"]);
    let drill: Value = serde_json::from_str(&drill).unwrap();
    assert_eq!(drill["inference"]["result"], "left_out");
    assert_eq!(drill["query"], "detections,0 media,0");
}

#[tokio::test(flavor = "multi_thread")]
async fn dags_back_up_and_try_the_backup_out() {
    let folder = tempfile::tempdir().unwrap();
    let folder = folder.path();
    fill(folder, 0).await;
    let (model, photograph) = ("detector/model/wildlife", "data-samples/savanna-waterhole/giraffe.jpg");
    said(folder, &["model", "register", model, "--name", "wildlife", "--input-example", photograph]);
    said(folder, &["run", "dags/backup.yaml"]);
    said(folder, &["run", "dags/drill.yaml"]);
    let drill = said(folder, &["backup", "drill", "--format", "json"]);
    let drill: Value = serde_json::from_str(&drill).unwrap();
    assert_eq!(drill["inference"], serde_json::json!({"result": "ran", "model": "models:/wildlife/1"}));
    let list = said(folder, &["backup", "list", "--format", "json"]);
    let list: Value = serde_json::from_str(&list).unwrap();
    assert_eq!(list.as_array().unwrap().len(), 1);
    assert_eq!(list[0]["what"], "all");
    let left = std::fs::read_dir(folder.join("home")).unwrap().flatten();
    let left: Vec<_> = left.map(|entry| entry.file_name().to_string_lossy().into_owned()).collect();
    assert!(!left.iter().any(|name| name.contains("safari-tmp")), "{left:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn tables_and_files_of_buckets_come_back() {
    let server = Server::start().await.unwrap();
    let bucket = server.bucket("house").await.unwrap();
    let folder = tempfile::tempdir().unwrap();
    let folder = folder.path();
    let safari = |args: &[&str]| {
        let mut command = safari(folder);
        command.envs(server.variables()).env("SAFARI_LAKE_URL", "s3://house/lake");
        command.env("SAFARI_REGISTRY_ARTIFACTS", "s3://house/artifacts");
        let output = command.args(args).output().unwrap();
        let said = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
        (output.status.success(), said(&output.stdout), said(&output.stderr))
    };
    let judged = || safari(&["sql", "--format", "csv", "select count(*) from evaluation"]).1.replace('\n', " ");
    let lake = Lake::open_with("s3://house/lake", &server.access().unwrap()).await.unwrap();
    for number in 0..3 {
        let transaction = Transaction::new(format!("append-{number}"), 1);
        lake.append_evaluation(&[row(number)], &transaction).await.unwrap();
    }
    bucket.put("artifacts/1/weights.pt", vec![7; 9_000_000].into()).await.unwrap();
    assert!(safari(&["model", "list"]).0);
    let (made, _, error) = safari(&["backup", "all"]);
    assert!(made, "{error}");

    lake.append_evaluation(&[row(3)], &Transaction::new("append-3", 1)).await.unwrap();
    let (restored, _, error) = safari(&["restore", "tables"]);
    assert!(!restored && error.contains("s3://house/lake/evaluation would be replaced"), "{error}");
    assert!(judged().ends_with(" 4 "), "{}", judged());
    let (restored, _, error) = safari(&["restore", "tables", "--force"]);
    assert!(restored, "{error}");
    assert!(judged().ends_with(" 3 "), "{}", judged());

    bucket.delete_folder("lake").await.unwrap();
    bucket.delete_folder("artifacts").await.unwrap();
    let (restored, _, error) = safari(&["restore", "all", "--force"]);
    assert!(restored, "{error}");
    assert!(judged().ends_with(" 3 "), "{}", judged());
    assert_eq!(bucket.get("artifacts/1/weights.pt").await.unwrap().len(), 9_000_000);
    // The table goes on from there.
    let lake = Lake::open_with("s3://house/lake", &server.access().unwrap()).await.unwrap();
    lake.append_evaluation(&[row(4)], &Transaction::new("append-4", 1)).await.unwrap();
    assert!(judged().ends_with(" 4 "), "{}", judged());
}

/// What a backup writes fits on no disk of this size: one message, and no backup.
const FULL: &str = r#"
set -u
mount -t tmpfs -o size=1m tmpfs "$DISK" || exit 77
"$SAFARI" --home "$HOUSE" --set backup.url="$DISK" backup all
echo "ended with $?"
"$SAFARI" --home "$HOUSE" --set backup.url="$DISK" backup list
mount -o remount,size=100m "$DISK"
"$SAFARI" --home "$HOUSE" --set backup.url="$DISK" --set backup.lease_seconds=1 backup all && echo "whole with room"
"#;

#[tokio::test(flavor = "multi_thread")]
async fn a_full_place_makes_no_backup_and_one_with_room_does() {
    let (folder, disk) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let folder = folder.path();
    fill(folder, 0).await;
    std::fs::write(folder.join("home/artifacts/1/large.bin"), noise(3_000_000)).unwrap();
    let mut command = Command::new("unshare");
    command.args(["--map-root-user", "--mount", "sh", "-c", FULL]).current_dir(common::root());
    command.env("DISK", disk.path()).env("HOUSE", folder.join("home")).env("SAFARI", env!("CARGO_BIN_EXE_safari"));
    let output = command.output().unwrap();
    let said = format!("{}{}", String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    if output.status.code() == Some(77) || said.contains("unshare failed") {
        eprintln!("SKIPPED: this machine lets nobody mount a file system of his own: {said}");
        return;
    }
    assert!(said.contains("ended with 1") && said.contains("no space is left"), "{said}");
    assert_eq!(said.matches("error: ").count(), 1, "{said}");
    assert!(said.contains("no backups in ") && said.contains("whole with room"), "{said}");
}

/// What is restored fits beside what is there on no disk of this size: one message, and nothing is replaced.
const NO_ROOM: &str = r#"
set -u
mount -t tmpfs -o size=16m tmpfs "$DISK" || exit 77
cp -r "$HOUSE"/. "$DISK"
safari() { "$SAFARI" --home "$DISK" --set backup.url="$BACKUPS" "$@"; }
safari backup all || exit 1
printf later > "$DISK/artifacts/1/later.bin"
safari restore all --force
echo "ended with $?"
cat "$DISK/artifacts/1/later.bin" && echo " is still there"
find "$DISK" '(' -name '*.restore-*' -o -name 'restore.journal' ')' -printf 'left: %p\n'
mount -o remount,size=100m "$DISK"
safari restore all --force
test ! -e "$DISK/artifacts/1/later.bin" || exit 1
cmp "$HOUSE/artifacts/1/large.bin" "$DISK/artifacts/1/large.bin" && echo "restored with room"
"#;

#[tokio::test(flavor = "multi_thread")]
async fn a_full_disk_replaces_nothing_and_one_with_room_does() {
    let (folder, disk) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let folder = folder.path();
    fill(folder, 0).await;
    std::fs::write(folder.join("home/artifacts/1/large.bin"), noise(9_000_000)).unwrap();
    let mut command = Command::new("unshare");
    command.args(["--map-root-user", "--mount", "sh", "-c", NO_ROOM]).current_dir(common::root());
    command.env("DISK", disk.path()).env("HOUSE", folder.join("home")).env("SAFARI", env!("CARGO_BIN_EXE_safari"));
    command.env("BACKUPS", folder.join("backups"));
    let output = command.output().unwrap();
    let said = format!("{}{}", String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    if output.status.code() == Some(77) || said.contains("unshare failed") {
        eprintln!("SKIPPED: this machine lets nobody mount a file system of his own: {said}");
        return;
    }
    assert!(said.contains("ended with 1") && said.contains("no space is left"), "{said}");
    assert_eq!(said.matches("error: ").count(), 1, "{said}");
    assert!(said.contains("later is still there") && said.contains("restored with room"), "{said}");
    assert!(!said.contains("left: "), "{said}");
}

/// Bytes that do not get smaller.
fn noise(size: usize) -> Vec<u8> {
    let mut state = 0x9e37_79b9_7f4a_7c15_u64;
    let next = || {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        state as u8
    };
    std::iter::repeat_with(next).take(size).collect()
}
