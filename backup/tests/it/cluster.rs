//! A PostgreSQL server under load is destroyed and comes back as it was at a moment, compared with a ledger row by row.

use std::os::unix::fs::PermissionsExt;
use std::process::Command;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use backup::Error;
use backup::cluster::{ARCHIVE_TIMEOUT, Cluster, Extent};
use chrono::{DateTime, TimeDelta, Utc};
use e2e::postgres::Server;
use platform::config::Config;
use platform::database::{Address, Database};
use platform::object_store::{AwsAccess, DEFAULT_REGION};

/// A row that was written: when that was asked for, and when the server had said yes.
#[derive(Clone, Copy, Debug)]
struct Entry {
    id: i64,
    asked: DateTime<Utc>,
    answered: DateTime<Utc>,
}

/// Writes rows until it is told to stop or the server is gone, and keeps a ledger of those that were answered.
struct Load {
    ledger: Arc<Mutex<Vec<Entry>>>,
    stop: Arc<AtomicBool>,
    task: tokio::task::JoinHandle<()>,
}

impl Load {
    async fn start(url: &str, first: i64) -> Self {
        let database = Database::open(&Address::Postgres(url.to_owned())).await.unwrap();
        let (ledger, stop) = (Arc::new(Mutex::new(Vec::new())), Arc::new(AtomicBool::new(false)));
        let (writes, stopped) = (Arc::clone(&ledger), Arc::clone(&stop));
        let task = tokio::spawn(async move {
            for id in first.. {
                let asked = Utc::now();
                let insert = sqlx::query("INSERT INTO entry VALUES ($1, 'seen')").bind(id).execute(database.pool());
                if stopped.load(Ordering::SeqCst) || insert.await.is_err() {
                    return;
                }
                writes.lock().unwrap().push(Entry { id, asked, answered: Utc::now() });
                tokio::time::sleep(Duration::from_millis(2)).await;
            }
        });
        Self { ledger, stop, task }
    }

    async fn end(self) -> Vec<Entry> {
        self.stop.store(true, Ordering::SeqCst);
        let _ended = self.task.await;
        std::mem::take(&mut *self.ledger.lock().unwrap())
    }
}

/// The server is destroyed and its files are gone.
async fn destroy(server: &mut Server) {
    server.kill().await.unwrap();
    std::fs::remove_dir_all(server.data()).unwrap();
}

/// Whether pgBackRest is here; says so if not.
fn is_installed() -> bool {
    let found = Command::new("pgbackrest").arg("version").output().is_ok();
    if !found {
        eprintln!("SKIPPED: pgbackrest is not installed; run scripts/setup --test");
    }
    found
}

/// Starts the server, waits until it has replayed its log, and gives the rows that it has.
async fn come_back(server: &mut Server, url: &str) -> Vec<i64> {
    server.start_again().await.unwrap();
    let database = Database::open(&Address::Postgres(url.to_owned())).await.unwrap();
    let began = Instant::now();
    loop {
        let recovering: bool =
            sqlx::query_scalar("SELECT pg_is_in_recovery()").fetch_one(database.pool()).await.unwrap();
        if !recovering {
            break;
        }
        assert!(began.elapsed() < Duration::from_secs(120), "it replays for two minutes");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    let ids = sqlx::query_scalar("SELECT id FROM entry ORDER BY id").fetch_all(database.pool()).await.unwrap();
    database.pool().close().await;
    ids
}

#[tokio::test(flavor = "multi_thread")]
async fn a_server_that_is_destroyed_under_load_comes_back_at_a_moment_and_at_the_end_of_its_log() {
    if !is_installed() {
        return;
    }
    let folder = tempfile::tempdir().unwrap();
    // The server's owner must come by.
    std::fs::set_permissions(folder.path(), std::fs::Permissions::from_mode(0o755)).unwrap();
    let home = folder.path().join("home");
    let of = |url: &str, data: &std::path::Path, socket: &std::path::Path| {
        let flags = [
            ("home", home.to_string_lossy().into_owned()),
            ("state.url", url.to_owned()),
            ("backup.url", folder.path().join("backups").to_string_lossy().into_owned()),
            ("backup.postgres_data", data.to_string_lossy().into_owned()),
            ("backup.postgres_socket", socket.to_string_lossy().into_owned()),
        ];
        let flags: Vec<_> = flags.into_iter().map(|(key, value)| (key.to_owned(), value)).collect();
        Cluster::of(&Config::load(None, &flags).unwrap()).unwrap()
    };
    // What the server calls does not depend on where its files are.
    let command = of("postgres://localhost/x", folder.path(), folder.path()).archive_command();
    let (archive, timeout) = (format!("archive_command={command}"), format!("archive_timeout={ARCHIVE_TIMEOUT}"));
    let settings = ["fsync=off", "wal_level=replica", "archive_mode=on", archive.as_str(), timeout.as_str()];
    let mut server = Server::start_with(&settings).await.unwrap();
    let url = server.database().await.unwrap();
    let cluster = of(&url, &server.data(), &server.socket());

    let lines = cluster.set_up().await.unwrap();
    assert!(lines.iter().any(|line| line.contains(&command)), "{lines:?}");
    let database = Database::open(&Address::Postgres(url.clone())).await.unwrap();
    sqlx::query("CREATE TABLE entry (id BIGINT PRIMARY KEY, text TEXT)").execute(database.pool()).await.unwrap();
    if std::env::var_os("LONG_TESTS").is_some() {
        let fill = "CREATE TABLE filler AS SELECT g AS id, repeat(md5(g::text), 30) AS text FROM generate_series(1, 1000000) g";
        sqlx::query(fill).execute(database.pool()).await.unwrap();
    }
    let load = Load::start(&url, 1).await;
    let copy = cluster.back_up(Extent::Full).await.unwrap();
    assert_eq!((copy.extent.as_str(), copy.damaged), ("full", false));
    tokio::time::sleep(Duration::from_secs(3)).await;
    let at = Utc::now();
    // What is written later reaches the archive too, and must not come back.
    tokio::time::sleep(Duration::from_secs(2 * u64::from(ARCHIVE_TIMEOUT))).await;
    let error = cluster.restore(Some(at), true).await.unwrap_err();
    assert!(matches!(error, Error::ClusterRuns { .. }), "{error}");
    let ledger = load.end().await;
    database.pool().close().await;
    destroy(&mut server).await;

    let began = Instant::now();
    cluster.restore(Some(at), false).await.unwrap();
    let found = come_back(&mut server, &url).await;
    println!("RTO to a moment: {:.1} s for {} bytes of files", began.elapsed().as_secs_f64(), copy.bytes);
    let must: Vec<i64> = ledger.iter().filter(|entry| entry.answered <= at).map(|entry| entry.id).collect();
    let may = ledger.iter().filter(|entry| entry.asked <= at).count();
    let came_later = ledger.len() - may;
    assert!(must.len() > 100 && came_later > 100, "{} before, {came_later} after", must.len());
    assert!(found.len() >= must.len() && found.len() <= may, "{} of {} to {may}", found.len(), must.len());
    assert_eq!(found, (1..=found.len() as i64).collect::<Vec<_>>(), "no row is missing in between");

    // Again, without a moment: all that reached the archive.
    cluster.back_up(Extent::Diff).await.unwrap();
    assert_eq!(cluster.list().await.unwrap().len(), 2);
    let first = found.len() as i64 + 1;
    let load = Load::start(&url, first).await;
    tokio::time::sleep(Duration::from_secs(3 * u64::from(ARCHIVE_TIMEOUT))).await;
    let destroyed_at = Utc::now();
    destroy(&mut server).await;
    let ledger = load.end().await;
    let began = Instant::now();
    cluster.restore(None, false).await.unwrap();
    let found = come_back(&mut server, &url).await;
    println!("RTO to the end: {:.1} s", began.elapsed().as_secs_f64());
    let last = *found.last().unwrap();
    assert_eq!(found, (1..=last).collect::<Vec<_>>(), "no row is missing in between");
    let newest = ledger.iter().rfind(|entry| entry.id <= last).expect("rows since the last moment");
    let lost = destroyed_at - newest.answered;
    println!("RPO: {:.1} s", lost.as_seconds_f64());
    assert!(lost < TimeDelta::seconds(30), "lost {lost}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_server_that_archives_to_a_bucket_over_tls_comes_back_though_the_home_is_lost_too() {
    if !is_installed() {
        return;
    }
    let store = e2e::seaweedfs::Server::start_secure().await.unwrap();
    store.bucket("backups").await.unwrap();
    let secure = store.secure().unwrap().clone();
    let folder = tempfile::tempdir().unwrap();
    std::fs::set_permissions(folder.path(), std::fs::Permissions::from_mode(0o755)).unwrap();
    let (home, certificates) = (folder.path().join("home"), folder.path().join("ca.pem"));
    std::fs::write(&certificates, &secure.certificate).unwrap();
    let of = |endpoint: &str, url: &str, data: &std::path::Path, socket: &std::path::Path| {
        let flags = [
            ("home", home.to_string_lossy().into_owned()),
            ("state.url", url.to_owned()),
            ("backup.url", "s3://backups/house".to_owned()),
            ("backup.postgres_data", data.to_string_lossy().into_owned()),
            ("backup.postgres_socket", socket.to_string_lossy().into_owned()),
        ];
        let flags: Vec<_> = flags.into_iter().map(|(key, value)| (key.to_owned(), value)).collect();
        let access = AwsAccess::with_keys(endpoint, DEFAULT_REGION, store.access_key(), store.secret_key()).unwrap();
        Cluster::of(&Config::load(None, &flags).unwrap()).unwrap().with_access(access, Some(certificates.clone()))
    };
    let command = of(&secure.endpoint, "postgres://localhost/x", folder.path(), folder.path()).archive_command();
    let archive = format!("archive_command={command}");
    let settings = ["fsync=off", "wal_level=replica", "archive_mode=on", archive.as_str()];
    let keys =
        [("PGBACKREST_REPO1_S3_KEY", store.access_key()), ("PGBACKREST_REPO1_S3_KEY_SECRET", store.secret_key())];
    let mut server = Server::start_in(&settings, &keys).await.unwrap();
    let url = server.database().await.unwrap();
    let insecure = of(store.endpoint(), &url, &server.data(), &server.socket());
    let error = insecure.set_up().await.unwrap_err().to_string();
    assert!(error.contains("over TLS only") && error.contains(store.endpoint()), "{error}");

    let cluster = of(&secure.endpoint, &url, &server.data(), &server.socket());
    cluster.set_up().await.unwrap();
    let configuration = std::fs::read_to_string(home.join("pgbackrest.conf")).unwrap();
    assert!(!configuration.contains(store.secret_key()), "keys are not in files");
    let database = Database::open(&Address::Postgres(url.clone())).await.unwrap();
    sqlx::query("CREATE TABLE entry (id BIGINT PRIMARY KEY, text TEXT)").execute(database.pool()).await.unwrap();
    let copy = cluster.back_up(Extent::Full).await.unwrap();
    assert_eq!(cluster.list().await.unwrap(), [copy]);
    let insert = "INSERT INTO entry SELECT g, 'seen' FROM generate_series(1, 1000) g";
    sqlx::query(insert).execute(database.pool()).await.unwrap();
    archived(&database).await;
    database.pool().close().await;
    destroy(&mut server).await;
    std::fs::remove_dir_all(&home).unwrap();

    cluster.restore(None, false).await.unwrap();
    let found = come_back(&mut server, &url).await;
    assert_eq!(found, (1..=1000).collect::<Vec<_>>());
}

/// Waits until what was written until now is in the archive.
async fn archived(database: &Database) {
    let wanted: String = sqlx::query_scalar("SELECT CAST(pg_walfile_name(pg_switch_wal()) AS TEXT)")
        .fetch_one(database.pool())
        .await
        .unwrap();
    let began = Instant::now();
    loop {
        let last: Option<String> = sqlx::query_scalar("SELECT CAST(last_archived_wal AS TEXT) FROM pg_stat_archiver")
            .fetch_one(database.pool())
            .await
            .unwrap();
        if last.is_some_and(|last| last >= wanted) {
            return;
        }
        assert!(began.elapsed() < Duration::from_secs(60), "{wanted} is not archived");
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
}
