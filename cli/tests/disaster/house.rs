//! What is lost and comes back, and who runs on it.

use std::os::unix::fs::PermissionsExt;
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, OnceLock};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use backup::cluster::ARCHIVE_TIMEOUT;
use chrono::{DateTime, TimeDelta, Utc};
use e2e::{postgres, seaweedfs};
use futures::TryStreamExt;
use platform::database::{Address, Database};
use platform::object_store::{Child as Stored, ObjectMeta, ObjectStore};
use reqwest::{Client, Method};
use serde_json::{Value, json};
use tempfile::TempDir;

use crate::common;
use crate::load::{ask, client, text};

/// The registered model of the load.
pub const MODEL: &str = "owl";

/// The DAG whose runs are the load.
const DAG: &str = "dag: mark\nmax_active_runs: 1\nparams:\n  n: {type: integer, default: 0}\n\
    tasks:\n  mark: {job: command, with: {command: ['true']}}\n";

/// A kilobyte a row, which does not get much smaller.
const FILLER: &str = "CREATE TABLE filler AS SELECT g AS id, \
    (SELECT string_agg(md5((g * 32 + i)::text), '') FROM generate_series(1, 32) i) AS text FROM generate_series(1, ROWS) g";

const MIB: usize = 1 << 20;

/// How much there is before the load.
#[derive(Debug, Clone, Copy)]
struct Size {
    /// Kilobytes of the database.
    rows: usize,
    /// Files of a megabyte.
    files: usize,
}

impl Size {
    fn chosen() -> Self {
        match std::env::var_os("LONG_TESTS") {
            Some(_) => Self { rows: 480_000, files: 500 },
            None => Self { rows: 16_000, files: 12 },
        }
    }
}

/// Databases, a bucket, and a place for backups in another bucket.
pub struct House {
    pub store: seaweedfs::Server,
    pub settings: Settings,
    postgres: postgres::Server,
    /// The address of the state's database.
    state: String,
    bucket: Arc<dyn ObjectStore>,
    size: Size,
    run: OnceLock<String>,
    _folder: TempDir,
}

/// What every command is given.
#[derive(Debug, Clone)]
pub struct Settings {
    folder: PathBuf,
    variables: Vec<(&'static str, String)>,
    /// For pgBackRest, which speaks to buckets over TLS only.
    secure: [(&'static str, String); 2],
}

impl Settings {
    /// The program on this house.
    pub fn safari(&self, args: &[&str]) -> Command {
        let mut command = common::safari(&self.folder);
        command.args(args).envs(self.variables.iter().map(|(name, value)| (name, value)));
        command
    }

    /// The same for commands that speak to pgBackRest.
    pub fn cluster(&self, args: &[&str]) -> Command {
        let mut command = self.safari(args);
        command.envs(self.secure.iter().map(|(name, value)| (name, value)));
        command
    }
}

/// What a command that must succeed prints.
pub fn said(mut command: Command) -> String {
    let output = command.output().unwrap();
    let args: Vec<_> = command.get_args().collect();
    assert!(output.status.success(), "{args:?}: {}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout).unwrap()
}

/// A registry, and a server of runs.
pub struct Services {
    pub registry: String,
    pub server: String,
    _processes: [common::Server; 2],
}

impl House {
    /// Servers with empty databases, the archive of whose log is set up as docs/backup.md says.
    pub async fn build() -> Self {
        let store = seaweedfs::Server::start_secure().await.unwrap();
        let bucket = store.bucket("house").await.unwrap();
        store.bucket("backups").await.unwrap();
        let keys =
            [("PGBACKREST_REPO1_S3_KEY", store.access_key()), ("PGBACKREST_REPO1_S3_KEY_SECRET", store.secret_key())];
        // A measurement flushes to the disk; a test does without.
        let flags: &[&str] = if std::env::var_os("LONG_TESTS").is_some() { &[] } else { &["fsync=off"] };
        let mut postgres = postgres::Server::start_in(flags, &keys).await.unwrap();
        let (state, registry) = (postgres.database().await.unwrap(), postgres.database().await.unwrap());

        let folder = tempfile::tempdir().unwrap();
        // The server's owner must come by.
        std::fs::set_permissions(folder.path(), std::fs::Permissions::from_mode(0o755)).unwrap();
        std::fs::create_dir_all(folder.path().join("dags")).unwrap();
        std::fs::write(folder.path().join("dags/mark.yaml"), DAG).unwrap();
        let secure = store.secure().unwrap();
        let certificates = folder.path().join("ca.pem");
        std::fs::write(&certificates, &secure.certificate).unwrap();
        let mut variables = Vec::from(store.variables());
        variables.extend([
            ("SAFARI_STATE_URL", state.clone()),
            ("SAFARI_REGISTRY_DATABASE", registry),
            ("SAFARI_REGISTRY_ARTIFACTS", "s3://house/artifacts".to_owned()),
            ("SAFARI_LAKE_URL", "s3://house/lake".to_owned()),
            ("SAFARI_BACKUP_URL", "s3://backups/house".to_owned()),
            ("SAFARI_BACKUP_POSTGRES_DATA", postgres.data().to_string_lossy().into_owned()),
            ("SAFARI_BACKUP_POSTGRES_SOCKET", postgres.socket().to_string_lossy().into_owned()),
        ]);
        let secure = [
            ("AWS_ENDPOINT_URL", secure.endpoint.clone()),
            ("SSL_CERT_FILE", certificates.to_string_lossy().into_owned()),
        ];
        let settings = Settings { folder: folder.path().to_owned(), variables, secure };
        said(settings.safari(&["migrate"]));
        let lines = said(settings.cluster(&["backup", "cluster", "setup"]));
        let configuration = postgres.data().join("postgresql.conf");
        let before = std::fs::read_to_string(&configuration).unwrap();
        std::fs::write(&configuration, format!("{before}\n{lines}")).unwrap();
        postgres.restart().await.unwrap();
        let (size, run) = (Size::chosen(), OnceLock::new());
        Self { store, settings, postgres, state, bucket, size, run, _folder: folder }
    }

    /// What was there before.
    pub async fn fill(&self) {
        let database = self.database().await;
        let sql = FILLER.replace("ROWS", &self.size.rows.to_string());
        sqlx::query(sqlx::AssertSqlSafe(sql)).execute(database.pool()).await.unwrap();
        database.pool().close().await;
        let mut bytes = vec![0; MIB];
        let mut state = 7_u64;
        for file in 0..self.size.files {
            for byte in &mut bytes {
                state ^= state << 13;
                state ^= state >> 7;
                state ^= state << 17;
                *byte = state as u8;
            }
            self.bucket.put(&format!("artifacts/0/before/{file}.bin"), bytes.clone().into()).await.unwrap();
        }
    }

    /// The place of the tables.
    pub fn lake(&self) -> String {
        "s3://house/lake".to_owned()
    }

    /// The registry's run whose metric is logged.
    pub fn run(&self) -> String {
        self.run.get().unwrap().clone()
    }

    /// Starts the registry and the server of runs, and waits until both answer.
    pub async fn serve(&self) -> Services {
        let [registry, server] = [(); 2].map(|()| format!("127.0.0.1:{}", e2e::free_port().unwrap()));
        let dags = self.settings.folder.join("dags").to_string_lossy().into_owned();
        let processes = [
            common::Server::start(self.settings.safari(&["registry", "--listen", &registry])),
            common::Server::start(self.settings.safari(&[
                "server",
                "--registry",
                "off",
                "--slots",
                "1",
                "--listen",
                &server,
                "--dags",
                &dags,
            ])),
        ];
        let client = client();
        let services = Services {
            registry: format!("http://{registry}"),
            server: format!("http://{server}"),
            _processes: processes,
        };
        answers(&client, &format!("{}/health", services.registry)).await;
        answers(&client, &format!("{}/api/v1/dags/mark", services.server)).await;
        if self.run.get().is_none() {
            let mlflow = |path: &str, body| {
                ask(&client, Method::POST, format!("{}/api/2.0/mlflow/{path}", services.registry), body)
            };
            mlflow("registered-models/create", json!({"name": MODEL})).await.unwrap();
            let made = mlflow("runs/create", json!({"experiment_id": "0"})).await.unwrap();
            self.run.set(text(&made["run"]["info"]["run_id"])).unwrap();
        }
        services
    }

    /// Waits until what was written until now is in the archive.
    pub async fn archive(&self) {
        let database = self.database().await;
        let wanted: String = sqlx::query_scalar("SELECT CAST(pg_walfile_name(pg_switch_wal()) AS TEXT)")
            .fetch_one(database.pool())
            .await
            .unwrap();
        let sql = "SELECT COALESCE(CAST(last_archived_wal AS TEXT), '') FROM pg_stat_archiver";
        let began = Instant::now();
        loop {
            let last: String = sqlx::query_scalar(sql).fetch_one(database.pool()).await.unwrap();
            // A line of time comes before a place in it; both are as long as those of others.
            if last >= wanted {
                break;
            }
            assert!(began.elapsed() < Duration::from_secs(60), "{wanted} is not archived, but {last:?}");
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
        database.pool().close().await;
    }

    /// Waits until the server has given away by itself a piece of its log that it began after `since`.
    pub async fn wait_for_archive(&self, since: DateTime<Utc>) {
        let database = self.database().await;
        let wanted = (since + TimeDelta::seconds(i64::from(ARCHIVE_TIMEOUT))).timestamp_millis();
        let sql =
            "SELECT CAST(COALESCE(EXTRACT(EPOCH FROM last_archived_time) * 1000, 0) AS BIGINT) FROM pg_stat_archiver";
        let began = Instant::now();
        loop {
            let last: i64 = sqlx::query_scalar(sql).fetch_one(database.pool()).await.unwrap();
            if last > wanted {
                break;
            }
            assert!(began.elapsed() < Duration::from_secs(60), "nothing is archived: {}", self.log_of_postgres());
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
        database.pool().close().await;
    }

    /// The end of what the database server has written.
    fn log_of_postgres(&self) -> String {
        let text = std::fs::read_to_string(self.postgres.socket().join("log")).unwrap_or_default();
        let lines: Vec<&str> = text.lines().collect();
        lines[lines.len().saturating_sub(40)..].join("\n")
    }

    /// All processes of the database server die while others write, and its files are gone.
    pub async fn lose_server(&mut self) {
        self.postgres.kill().await.unwrap();
        std::fs::remove_dir_all(self.postgres.data()).unwrap();
    }

    /// The registry and the server of runs die as well, and everything in the bucket is gone.
    pub async fn lose_bucket(&self, services: Services) {
        drop(services);
        for child in self.bucket.children("").await.unwrap() {
            match child {
                Stored::Folder(folder) => self.bucket.delete_folder(&folder).await.unwrap(),
                Stored::Object(meta) => self.bucket.delete(&meta.key).await.unwrap(),
            }
        }
        let left: Vec<ObjectMeta> = self.bucket.list("").try_collect().await.unwrap();
        assert!(left.is_empty(), "{left:?}");
    }

    /// Starts the server on the files that were restored, and waits until it has replayed its log.
    pub async fn start_postgres(&mut self) {
        self.postgres.start_again().await.unwrap();
        let database = self.database().await;
        let began = Instant::now();
        while sqlx::query_scalar("SELECT pg_is_in_recovery()").fetch_one(database.pool()).await.unwrap() {
            assert!(began.elapsed() < Duration::from_secs(120), "it replays for two minutes");
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
        database.pool().close().await;
    }

    /// Bytes that were restored: the server's files, and what these restorations tell.
    pub fn bytes(&self, restored: &[&Value]) -> u64 {
        let copies = said(self.settings.cluster(&["backup", "cluster", "list", "--format", "json"]));
        let copies: Value = serde_json::from_str(&copies).unwrap();
        let files = copies.as_array().unwrap().last().unwrap()["bytes"].as_u64().unwrap();
        let parts = restored.iter().flat_map(|told| told["parts"].as_array().unwrap());
        files + parts.map(|part| part["bytes"].as_u64().unwrap()).sum::<u64>()
    }

    async fn database(&self) -> Database {
        Database::open(&Address::Postgres(self.state.clone())).await.unwrap()
    }
}

async fn answers(client: &Client, url: &str) {
    let began = Instant::now();
    while !client.get(url).send().await.is_ok_and(|answer| answer.status().is_success()) {
        assert!(began.elapsed() < Duration::from_secs(60), "{url} does not answer");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

/// Backups of files and of tables, one after the other, until the machine that makes them is lost.
pub struct Backups {
    lost: Arc<AtomicBool>,
    rounds: Arc<AtomicUsize>,
    thread: JoinHandle<()>,
}

impl Backups {
    pub fn start(settings: &Settings) -> Self {
        let (lost, rounds) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicUsize::new(0)));
        let (settings, is_lost, counted) = (settings.clone(), Arc::clone(&lost), Arc::clone(&rounds));
        let thread = std::thread::spawn(move || {
            loop {
                for what in ["files", "tables"] {
                    let mut command = settings.safari(&["backup", what]);
                    let child = command.stdout(Stdio::null()).stderr(Stdio::inherit()).spawn().unwrap();
                    if !ends_well(child, &is_lost) {
                        return;
                    }
                }
                counted.fetch_add(1, Ordering::SeqCst);
            }
        });
        Self { lost, rounds, thread }
    }

    /// Waits until one backup of each was made.
    pub async fn wait_for_round(&self) {
        let began = Instant::now();
        while self.rounds.load(Ordering::SeqCst) == 0 {
            assert!(began.elapsed() < Duration::from_secs(60) && !self.thread.is_finished(), "no backup is made");
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    }

    /// Kills the one that is being made.
    pub fn end(self) {
        self.lost.store(true, Ordering::SeqCst);
        self.thread.join().unwrap();
    }
}

/// Whether a process has ended before the machine was lost, with which it is killed.
fn ends_well(mut child: Child, lost: &AtomicBool) -> bool {
    loop {
        if lost.load(Ordering::SeqCst) {
            child.kill().unwrap();
            child.wait().unwrap();
            return false;
        }
        if let Some(status) = child.try_wait().unwrap() {
            assert!(status.success(), "a backup under load failed: {status}");
            return true;
        }
        std::thread::sleep(Duration::from_millis(10));
    }
}
