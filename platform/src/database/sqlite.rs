//! Pools on a SQLite file.

use std::path::Path;
use std::time::{Duration, Instant};

use sqlx::any::AnyPoolOptions;
use sqlx::{AnyConnection, AnyPool, Connection};
use url::Url;

use super::{Database, Engine};
use crate::error::io_reason;
use crate::{Error, Result};

/// What every connection begins with: foreign keys, a write-ahead log, a flush to the disk at every commit, 10 s of patience
/// with another connection's lock, and 1 MiB of pages, behind which the system's cache has the file.
const SETTINGS: [&str; 5] = [
    "PRAGMA busy_timeout = 10000",
    "PRAGMA cache_size = -1024",
    "PRAGMA foreign_keys = ON",
    "PRAGMA journal_mode = WAL",
    "PRAGMA synchronous = FULL",
];

/// As long as SQLite's own, `busy_timeout`.
const PATIENCE: Duration = Duration::from_secs(10);

/// Result codes: <https://sqlite.org/rescode.html>.
const BUSY: u32 = 5;
const LOCKED: u32 = 6;

/// Readers run beside one writer in WAL mode. More connections than cores and the writer's would only wait for one another.
fn max_connections() -> u32 {
    let cores = std::thread::available_parallelism().map_or(1, usize::from);
    u32::try_from(cores + 1).unwrap_or(u32::MAX).clamp(3, 16)
}

/// Opens the SQLite database at `path` as a pool, and makes the file and its folders if they are missing.
///
/// Every connection has foreign keys on, a write-ahead log, `synchronous = FULL` (a committed transaction survives a
/// power cut) and waits up to 10 s for a lock. The file must lie on a local disk: a write-ahead log needs shared memory
/// between its processes, which network file systems do not give.
///
/// # Errors
/// [`Error::NotADatabase`] when the file is something else or damaged, [`Error::Full`], [`Error::Denied`],
/// [`Error::DatabaseBusy`], or [`Error::Database`] with SQLite's words.
pub async fn open_sqlite(path: &Path) -> Result<Database> {
    if let Some(folder) = path.parent().filter(|folder| !folder.as_os_str().is_empty()) {
        tokio::fs::create_dir_all(folder).await.map_err(|error| folder_error(folder, &error))?;
    }
    if path.is_dir() {
        return Err(Error::NotADatabase { path: path.to_owned(), reason: "it is a folder".to_owned() });
    }
    sqlx::any::install_default_drivers();
    let url = url_of(path)?;
    // First without a pool, which tries again until its patience ends and then no longer knows what was wrong.
    let mut first = AnyConnection::connect(&url).await.map_err(|error| explain(path, &error))?;
    prepare(&mut first).await.map_err(|error| explain(path, &error))?;
    let pool = AnyPoolOptions::new()
        .max_connections(max_connections())
        // A file does not go away as a server does; each test would be two more changes of threads for a question.
        .test_before_acquire(false)
        .after_connect(|connection, _| Box::pin(prepare(connection)))
        .connect(&url)
        .await
        .map_err(|error| explain(path, &error))?;
    // Closed only now: the last connection to be closed clears the journal away.
    first.close().await.map_err(|error| explain(path, &error))?;
    check_journal(path, &pool).await?;
    Ok(Database::new(pool, Engine::Sqlite))
}

/// One connection to a database that exists, which changes no setting of the file, such as its journal.
///
/// # Errors
/// As [`open_sqlite`].
pub async fn connect_sqlite(path: &Path) -> Result<AnyConnection> {
    sqlx::any::install_default_drivers();
    let url = url_of(path)?.replace("?mode=rwc", "?mode=rw");
    AnyConnection::connect(&url).await.map_err(|error| explain(path, &error))
}

async fn prepare(connection: &mut AnyConnection) -> sqlx::Result<()> {
    let began = Instant::now();
    for setting in SETTINGS {
        // SQLite itself does not wait when the journal changes, nor when another process clears its own away.
        while let Err(error) = sqlx::query(setting).execute(&mut *connection).await {
            if !is_busy(&error) || began.elapsed() > PATIENCE {
                return Err(error);
            }
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    }
    Ok(())
}

fn is_busy(error: &sqlx::Error) -> bool {
    let sqlx::Error::Database(failure) = error else { return false };
    failure.code().and_then(|code| code.parse::<u32>().ok()).is_some_and(|code| matches!(code & 0xff, BUSY | LOCKED))
}

/// The URL of a database file, which need not exist yet.
fn url_of(path: &Path) -> Result<String> {
    let absolute = std::path::absolute(path).map_err(|error| folder_error(path, &error))?;
    let unusable = || Error::NotADatabase { path: path.to_owned(), reason: "its path cannot be a URL".to_owned() };
    let file = Url::from_file_path(&absolute).map_err(|()| unusable())?;
    // A `sqlite:` URL takes its path as it is written, percent signs decoded.
    Ok(format!("sqlite://{}?mode=rwc", file.path()))
}

/// Puts a failure of the database at `path` into words: full disk, not a database, locked, read-only, or SQLite's own.
pub fn explain(path: &Path, error: &sqlx::Error) -> Error {
    let database = |reason: String| Error::Database { path: path.to_owned(), reason };
    match error {
        sqlx::Error::Database(failure) => {
            let code = failure.code().and_then(|code| code.parse::<u32>().ok()).unwrap_or(0);
            let reason = failure.message().to_owned();
            from_sqlite_code(path, code, reason)
        }
        sqlx::Error::Io(failure) => match Error::from_io("write", path, failure) {
            Error::ObjectStore { .. } => database(io_reason(failure)),
            known => known,
        },
        sqlx::Error::PoolTimedOut => Error::DatabaseBusy { path: path.to_owned() },
        other => database(other.to_string()),
    }
}

/// SQLite's primary result codes are the low byte of the extended ones: <https://sqlite.org/rescode.html>.
fn from_sqlite_code(path: &Path, code: u32, reason: String) -> Error {
    const READONLY: u32 = 8;
    const IO: u32 = 10;
    const CORRUPT: u32 = 11;
    const FULL: u32 = 13;
    const CANNOT_OPEN: u32 = 14;
    const NOT_A_DATABASE: u32 = 26;
    let path = path.to_owned();
    match code & 0xff {
        BUSY | LOCKED => Error::DatabaseBusy { path },
        FULL => Error::Full { uri: path.display().to_string() },
        CORRUPT | NOT_A_DATABASE => Error::NotADatabase { path, reason },
        READONLY | CANNOT_OPEN => Error::Denied {
            uri: path.display().to_string(),
            reason,
            advice: "check the owner and the mode of the file and its folder, or set `home` to another place"
                .to_owned(),
        },
        IO => {
            let reason = format!("{reason} (code {code}), check the disk and its free space");
            Error::Database { path, reason }
        }
        _ => Error::Database { path, reason: format!("{reason} (code {code})") },
    }
}

fn folder_error(folder: &Path, error: &std::io::Error) -> Error {
    match Error::from_io("write", folder, error) {
        Error::ObjectStore { .. } => Error::Database {
            path: folder.to_owned(),
            reason: format!("the folder cannot be made: {}", io_reason(error)),
        },
        known => known,
    }
}

async fn check_journal(path: &Path, pool: &AnyPool) -> Result<()> {
    let mode: String =
        sqlx::query_scalar("PRAGMA journal_mode").fetch_one(pool).await.map_err(|error| explain(path, &error))?;
    if mode.eq_ignore_ascii_case("wal") {
        return Ok(());
    }
    Err(Error::Database {
        path: path.to_owned(),
        reason: format!(
            "its file system allows no write-ahead log (journal mode is {mode}), put `home` on a local disk"
        ),
    })
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    async fn pragma(database: &Database, name: &'static str) -> i64 {
        sqlx::query_scalar(name).fetch_one(database.pool()).await.unwrap()
    }

    #[tokio::test]
    async fn opens_with_folders_and_safe_settings() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("a b/c%20?#/state.db");
        let database = open_sqlite(&path).await.unwrap();
        assert_eq!(pragma(&database, "PRAGMA foreign_keys").await, 1);
        assert_eq!(pragma(&database, "PRAGMA synchronous").await, 2, "2 is FULL");
        assert_eq!(pragma(&database, "PRAGMA busy_timeout").await, 10_000);
        sqlx::query("CREATE TABLE t (x INTEGER PRIMARY KEY)").execute(database.pool()).await.unwrap();
        sqlx::query("INSERT INTO t VALUES (7)").execute(database.pool()).await.unwrap();
        database.pool().close().await;
        let database = open_sqlite(&path).await.unwrap();
        assert_eq!(pragma(&database, "SELECT x FROM t").await, 7);
    }

    #[tokio::test]
    async fn many_opens_at_once_succeed() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("state.db");
        let opens = (0..12).map(|_| open_sqlite(&path));
        for opened in futures::future::join_all(opens).await {
            opened.unwrap();
        }
    }

    #[tokio::test(flavor = "multi_thread")]
    async fn opening_and_closing_at_once_never_meets_a_lock() {
        for _ in 0..20 {
            let folder = tempfile::tempdir().unwrap();
            let path = folder.path().join("state.db");
            let opens = (0..6).map(|_| {
                let path = path.clone();
                tokio::spawn(async move { open_sqlite(&path).await.unwrap().pool().close().await })
            });
            for opened in futures::future::join_all(opens).await {
                opened.unwrap();
            }
        }
    }

    #[tokio::test]
    async fn a_file_that_is_no_database_is_said_so() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("state.db");
        std::fs::write(&path, "these are the notes of a ranger, not a database".repeat(40)).unwrap();
        let error = open_sqlite(&path).await.unwrap_err();
        assert!(matches!(error, Error::NotADatabase { .. }), "{error}");
        assert!(error.to_string().contains("state.db is not a usable SQLite database"), "{error}");
        let error = open_sqlite(folder.path()).await.unwrap_err();
        assert!(error.to_string().contains("it is a folder"), "{error}");
    }

    #[tokio::test]
    async fn a_parent_that_is_a_file_is_an_error() {
        let folder = tempfile::tempdir().unwrap();
        std::fs::write(folder.path().join("file"), "x").unwrap();
        let error = open_sqlite(&folder.path().join("file/state.db")).await.unwrap_err();
        assert!(error.to_string().contains("the folder cannot be made"), "{error}");
    }

    #[tokio::test]
    async fn a_full_database_is_reported_as_full() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("state.db");
        let database = open_sqlite(&path).await.unwrap();
        let mut connection = database.pool().acquire().await.unwrap();
        sqlx::query("CREATE TABLE t (x BLOB)").execute(&mut *connection).await.unwrap();
        sqlx::query("PRAGMA max_page_count = 10").execute(&mut *connection).await.unwrap();
        let failure =
            sqlx::query("INSERT INTO t VALUES (zeroblob(1000000))").execute(&mut *connection).await.unwrap_err();
        let error = explain(&path, &failure);
        assert!(matches!(error, Error::Full { .. }), "{error}");
    }
}
