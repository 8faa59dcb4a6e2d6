//! A SQLite database, copied while others use it.
//!
//! `VACUUM INTO` writes one consistent moment of the database to a new file in one reading transaction: what the online
//! backup API does, which sqlx does not give, and smaller. Writers go on meanwhile.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use platform::database::{Address, connect_sqlite};
use sqlx::{AnyConnection, AssertSqlSafe, Connection};

use crate::{Error, Result};

/// Temporary folders are named so, with the process that made them.
const TEMPORARY: &str = ".safari-tmp-backup-";

/// A copy of a database, removed when this value is dropped.
#[derive(Debug)]
pub(crate) struct Copy {
    /// The file of the copy.
    pub(crate) path: PathBuf,
    /// Rows of each table.
    pub(crate) rows: BTreeMap<String, u64>,
    _folder: tempfile::TempDir,
}

/// Copies the database at `path` to a file beside it, checks the copy, and counts its rows.
pub(crate) async fn copy(path: &Path) -> Result<Copy> {
    let beside = path.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or(Path::new("."));
    remove_leftovers(beside);
    let folder = tempfile::Builder::new()
        .prefix(&format!("{TEMPORARY}{}-", std::process::id()))
        .tempdir_in(beside)
        .map_err(Error::file("write", beside))?;
    let (copied, address) = (folder.path().join("copy.db"), Address::Sqlite(path.to_owned()));
    let mut connection = connect_sqlite(path).await?;
    let vacuum = sqlx::query("VACUUM INTO $1").bind(copied.to_string_lossy().into_owned());
    vacuum.execute(&mut connection).await.map_err(|error| platform::database::explain(path, &error))?;
    // Whoever comes last clears the journal away; this connection has changed nothing.
    connection.close().await.map_err(Error::database(&address, "closing"))?;
    let rows = check(&copied, Depth::Quick).await?;
    Ok(Copy { path: copied, rows, _folder: folder })
}

/// How much of a database is looked at.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Depth {
    /// All pages, without comparing indexes with their tables.
    Quick,
    /// That too.
    Whole,
}

/// Looks whether a database that nobody uses is whole, and counts the rows of each table.
pub(crate) async fn check(path: &Path, depth: Depth) -> Result<BTreeMap<String, u64>> {
    let address = Address::Sqlite(path.to_owned());
    let mut connection = connect_sqlite(path).await?;
    let question = match depth {
        Depth::Quick => "PRAGMA quick_check(1)",
        Depth::Whole => "PRAGMA integrity_check(1)",
    };
    let answer: String = sqlx::query_scalar(question)
        .fetch_one(&mut connection)
        .await
        .map_err(|error| platform::database::explain(path, &error))?;
    if answer != "ok" {
        return Err(platform::Error::NotADatabase { path: path.to_owned(), reason: answer }.into());
    }
    let rows = count(&mut connection, &address).await?;
    connection.close().await.map_err(Error::database(&address, "closing"))?;
    Ok(rows)
}

async fn count(connection: &mut AnyConnection, address: &Address) -> Result<BTreeMap<String, u64>> {
    let tables: Vec<String> = sqlx::query_scalar(
        "SELECT name FROM sqlite_master WHERE type = 'table' AND name NOT LIKE 'sqlite\\_%' ESCAPE '\\'",
    )
    .fetch_all(&mut *connection)
    .await
    .map_err(Error::database(address, "listing tables"))?;
    let mut rows = BTreeMap::new();
    for table in tables {
        // A name cannot be a value; it is one of the database's own.
        let sql = AssertSqlSafe(format!("SELECT COUNT(*) FROM \"{}\"", table.replace('"', "\"\"")));
        let count: i64 = sqlx::query_scalar(sql)
            .fetch_one(&mut *connection)
            .await
            .map_err(Error::database(address, "counting rows"))?;
        rows.insert(table, count.unsigned_abs());
    }
    Ok(rows)
}

/// Removes copies of processes that were killed. What cannot be removed is left.
fn remove_leftovers(folder: &Path) {
    let Ok(entries) = std::fs::read_dir(folder) else { return };
    for entry in entries.flatten() {
        let name = entry.file_name().to_string_lossy().into_owned();
        let process = name.strip_prefix(TEMPORARY).and_then(|rest| rest.split('-').next());
        let Some(process) = process.and_then(|process| process.parse::<u32>().ok()) else { continue };
        if !Path::new(&format!("/proc/{process}")).exists() {
            let _left = std::fs::remove_dir_all(entry.path());
        }
    }
}
