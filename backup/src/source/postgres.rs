//! A PostgreSQL database as an archive of `pg_dump`, of one moment: that at which its rows were counted.

use std::collections::BTreeMap;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::Stdio;

use bytes::BytesMut;
use futures::{StreamExt, stream};
use percent_encoding::percent_decode_str;
use platform::database::{Address, Database};
use sqlx::any::Any;
use sqlx::pool::PoolConnection;
use sqlx::{AnyConnection, AssertSqlSafe};
use tokio::io::AsyncReadExt;
use tokio::process::{Child, ChildStderr, Command};
use tokio::task::JoinHandle;
use url::Url;

use crate::repository::blocking;
use crate::write::Body;
use crate::{Error, Result};

/// Where Debian puts the programs of each version.
const DEBIAN_FOLDER: &str = "/usr/lib/postgresql";

/// Bytes that are taken from a program at once.
const CHUNK: usize = 256 << 10;

/// Tables that are not the server's own, as statements name them.
const TABLES: &str = "SELECT quote_ident(schemaname) || '.' || quote_ident(tablename) FROM pg_tables \
    WHERE schemaname NOT IN ('pg_catalog', 'information_schema')";

/// The name of an archive in its part.
pub(crate) const ARCHIVE: &str = "database.dump";

/// A moment of a database that is kept while it is dumped.
#[derive(Debug)]
pub(crate) struct Moment {
    /// Rows of each table.
    pub(crate) rows: BTreeMap<String, u64>,
    url: String,
    snapshot: String,
    connection: PoolConnection<Any>,
    database: Database,
}

impl Moment {
    /// Holds the present moment of the database at `url`; none if it has no table.
    pub(crate) async fn hold(url: &str) -> Result<Option<Self>> {
        let address = Address::Postgres(url.to_owned());
        let database = Database::open(&address).await?;
        let mut connection = database.pool().acquire().await.map_err(Error::database(&address, "connecting"))?;
        for statement in
            ["SET idle_in_transaction_session_timeout = 0", "BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY"]
        {
            let begun = sqlx::query(statement).execute(&mut *connection).await;
            begun.map_err(Error::database(&address, "beginning"))?;
        }
        let snapshot: String = sqlx::query_scalar("SELECT pg_export_snapshot()")
            .fetch_one(&mut *connection)
            .await
            .map_err(Error::database(&address, "exporting its snapshot"))?;
        let rows = count(&mut connection, &address).await?;
        if rows.is_empty() {
            return Ok(None);
        }
        Ok(Some(Self { rows, url: url.to_owned(), snapshot, connection, database }))
    }

    /// The bytes of the archive, as `pg_dump` makes them. Not compressed: pieces are.
    pub(crate) fn dump(&self) -> Result<Body> {
        let mut command = program("pg_dump", &self.url);
        command.args(["--format=custom", "--compress=0", "--no-password", "--snapshot", &self.snapshot]);
        let mut child = command.stdout(Stdio::piped()).spawn().map_err(|error| not_started("pg_dump", &error))?;
        let (Some(output), complaints) = (child.stdout.take(), complaints(child.stderr.take())) else {
            return Err(Error::Program { program: "pg_dump", reason: "has no output".to_owned() });
        };
        let start = (child, output, Some(complaints));
        let chunks = stream::try_unfold(start, |(mut child, mut output, mut complaints)| async move {
            let mut chunk = BytesMut::with_capacity(CHUNK);
            let count = output.read_buf(&mut chunk).await.map_err(|error| not_started("pg_dump", &error))?;
            if count > 0 {
                return Ok(Some((chunk.freeze(), (child, output, complaints))));
            }
            ended("pg_dump", &mut child, complaints.take()).await?;
            Ok(None)
        });
        Ok(chunks.boxed())
    }

    /// Lets the moment go.
    pub(crate) async fn release(self) {
        drop(self.connection.close().await);
        self.database.pool().close().await;
    }
}

/// Puts an archive into an empty database: all of it, or nothing and an error.
pub(crate) async fn restore(url: &str, mut archive: Body) -> Result<()> {
    let mut command = reading_much_at_once("pg_restore", url);
    command.args(["--single-transaction", "--exit-on-error", "--no-owner", "--no-privileges", "--no-password"]);
    // It writes to a database only when one is named, and reads its archive from standard input.
    command.arg("--dbname").arg(database_name(url));
    command.stdin(Stdio::piped()).stdout(Stdio::null());
    let mut child = command.spawn().map_err(|error| not_started("pg_restore", &error))?;
    let complaints = complaints(child.stderr.take());
    let input = child.stdin.take().and_then(|pipe| pipe.into_owned_fd().ok());
    let mut input = input.map(std::fs::File::from);
    while let Some(chunk) = archive.next().await {
        let chunk = chunk?;
        let Some(mut pipe) = input.take() else { break };
        // Megabytes at once, rather than waking the runtime for each 64 KiB of room in the pipe.
        input = blocking(move || {
            // It has ended if this fails: its own words say why.
            Ok(pipe.write_all(&chunk).is_ok().then_some(pipe))
        })
        .await?;
    }
    drop(input);
    ended("pg_restore", &mut child, Some(complaints)).await
}

/// Rows of each table of the database at `url`.
pub(crate) async fn rows(url: &str) -> Result<BTreeMap<String, u64>> {
    let address = Address::Postgres(url.to_owned());
    let database = Database::open(&address).await?;
    let mut connection = database.pool().acquire().await.map_err(Error::database(&address, "connecting"))?;
    let rows = count(&mut connection, &address).await?;
    drop(connection);
    database.pool().close().await;
    Ok(rows)
}

/// Whether the database at `url` has a table.
pub(crate) async fn has_tables(url: &str) -> Result<bool> {
    let address = Address::Postgres(url.to_owned());
    let database = Database::open(&address).await?;
    let there: sqlx::Result<bool> =
        sqlx::query_scalar(AssertSqlSafe(format!("SELECT EXISTS ({TABLES})"))).fetch_one(database.pool()).await;
    database.pool().close().await;
    there.map_err(Error::database(&address, "listing tables"))
}

/// The name of the database in a URL.
pub(crate) fn database_name(url: &str) -> String {
    let path = Url::parse(url).ok().map(|url| url.path().trim_start_matches('/').to_owned()).unwrap_or_default();
    percent_decode_str(&path).decode_utf8_lossy().into_owned()
}

/// The same URL with another database.
pub(crate) fn with_database(url: &str, name: &str) -> String {
    let Ok(mut parsed) = Url::parse(url) else { return url.to_owned() };
    parsed.set_path(name);
    parsed.into()
}

async fn count(connection: &mut AnyConnection, address: &Address) -> Result<BTreeMap<String, u64>> {
    let tables: Vec<String> = sqlx::query_scalar(TABLES)
        .fetch_all(&mut *connection)
        .await
        .map_err(Error::database(address, "listing tables"))?;
    let mut rows = BTreeMap::new();
    for table in tables {
        // A name cannot be a value; it is one of the database's own.
        let count: i64 = sqlx::query_scalar(AssertSqlSafe(format!("SELECT COUNT(*) FROM {table}")))
            .fetch_one(&mut *connection)
            .await
            .map_err(Error::database(address, "counting rows"))?;
        rows.insert(table, count.unsigned_abs());
    }
    Ok(rows)
}

/// A program of PostgreSQL's on a database. The password goes by a variable: arguments are seen by everybody.
fn program(name: &str, url: &str) -> Command {
    start(&found(name), url)
}

fn start(program: &Path, url: &str) -> Command {
    let mut command = Command::new(program);
    command.envs(variables(url)).stdin(Stdio::null()).stderr(Stdio::piped()).kill_on_drop(true);
    command
}

/// The same for a program that reads its standard input. The C library would have it read a pipe 4 KiB at a time, which took a
/// tenth of a restoration; where there is `stdbuf`, of the coreutils, it reads more.
fn reading_much_at_once(name: &str, url: &str) -> Command {
    let (Some(stdbuf), Some(path)) = (in_path(Path::new("stdbuf")), in_path(&found(name))) else {
        return program(name, url);
    };
    let mut command = start(&stdbuf, url);
    command.arg("--input=256K").arg(path);
    command
}

/// Where a program is that is called so.
fn in_path(program: &Path) -> Option<PathBuf> {
    let folders = std::env::var_os("PATH")?;
    // A whole path stays as it is.
    std::env::split_paths(&folders).map(|folder| folder.join(program)).find(|path| path.is_file())
}

fn variables(url: &str) -> Vec<(&'static str, String)> {
    let Ok(url) = Url::parse(url) else { return Vec::new() };
    let decoded = |text: &str| percent_decode_str(text).decode_utf8_lossy().into_owned();
    let mut variables = vec![("PGDATABASE", decoded(url.path().trim_start_matches('/')))];
    variables.extend(url.host_str().map(|host| ("PGHOST", decoded(host.trim_matches(['[', ']'])))));
    variables.extend(url.port().map(|port| ("PGPORT", port.to_string())));
    variables.extend((!url.username().is_empty()).then(|| ("PGUSER", decoded(url.username()))));
    variables.extend(url.password().map(|password| ("PGPASSWORD", decoded(password))));
    for (key, value) in url.query_pairs() {
        let name = match key.as_ref() {
            "sslmode" | "ssl-mode" => "PGSSLMODE",
            "sslrootcert" | "ssl-root-cert" | "ssl-ca" => "PGSSLROOTCERT",
            "sslcert" | "ssl-cert" => "PGSSLCERT",
            "sslkey" | "ssl-key" => "PGSSLKEY",
            "host" | "hostaddr" => "PGHOST",
            "port" => "PGPORT",
            "user" => "PGUSER",
            "password" => "PGPASSWORD",
            "dbname" => "PGDATABASE",
            _ => continue,
        };
        variables.push((name, value.into_owned()));
    }
    variables
}

/// The newest of those that Debian puts apart, so that it is no older than the server; else the one of the `PATH`.
fn found(name: &str) -> PathBuf {
    let version = |folder: &Path| folder.file_name().and_then(|name| name.to_str()?.parse::<u32>().ok());
    let versions = std::fs::read_dir(DEBIAN_FOLDER).into_iter().flatten().flatten().map(|entry| entry.path());
    let there = versions.filter(|folder| folder.join("bin").join(name).is_file());
    let newest = there.max_by_key(|folder| version(folder));
    newest.map_or_else(|| PathBuf::from(name), |folder| folder.join("bin").join(name))
}

fn not_started(program: &'static str, error: &std::io::Error) -> Error {
    let reason = match error.kind() {
        std::io::ErrorKind::NotFound => {
            "is not installed: install PostgreSQL's client programs (Debian: postgresql-client)".to_owned()
        }
        _ => format!("cannot be run: {error}"),
    };
    Error::Program { program, reason }
}

/// What it says on standard error, its end.
fn complaints(pipe: Option<ChildStderr>) -> JoinHandle<String> {
    tokio::spawn(async move {
        let mut said = Vec::new();
        if let Some(pipe) = pipe {
            // A program that says more than this has said enough.
            let _said = pipe.take(64 << 10).read_to_end(&mut said).await;
        }
        String::from_utf8_lossy(&said).into_owned()
    })
}

async fn ended(program: &'static str, child: &mut Child, complaints: Option<JoinHandle<String>>) -> Result<()> {
    let status = child.wait().await.map_err(|error| not_started(program, &error))?;
    if status.success() {
        return Ok(());
    }
    let said = match complaints {
        Some(complaints) => complaints.await.unwrap_or_default(),
        None => String::new(),
    };
    let said = said.lines().filter(|line| !line.trim().is_empty()).collect::<Vec<_>>().join("; ");
    Err(Error::Program { program, reason: format!("failed ({status}): {said}") })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_url_becomes_variables_and_no_arguments() {
        let url = "postgres://safari:s%40crt@db.example:5433/wild%20life?sslmode=require&statement-cache-capacity=1";
        let variables = variables(url);
        for expected in [
            ("PGDATABASE", "wild life"),
            ("PGHOST", "db.example"),
            ("PGPORT", "5433"),
            ("PGUSER", "safari"),
            ("PGPASSWORD", "s@crt"),
            ("PGSSLMODE", "require"),
        ] {
            assert!(variables.contains(&(expected.0, expected.1.to_owned())), "{expected:?}");
        }
        assert_eq!(variables.len(), 6);
        assert_eq!(database_name(url), "wild life");
        assert!(with_database(url, "other").contains("5433/other?sslmode"));
    }
}
