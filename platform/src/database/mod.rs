//! Databases for state that must survive a crash: SQLite in a file, or a PostgreSQL server.
//!
//! Both are reached through sqlx's `Any`, so that callers write one SQL text: values as `$1`, types TEXT and BIGINT,
//! sums cast to BIGINT, `ON CONFLICT` and `RETURNING`.

mod listener;
mod migrations;
mod postgres;
mod sqlite;
mod statement;

use std::fmt;
use std::path::PathBuf;

use sqlx::AnyPool;

use crate::Result;

pub use listener::Listener;
pub use migrations::{Migrations, Pending};
pub use sqlite::{connect_sqlite, explain, open_sqlite};
pub use statement::Statement;

/// Where a database is.
#[derive(Clone, PartialEq, Eq)]
pub enum Address {
    /// A file on a local disk.
    Sqlite(PathBuf),
    /// `postgres://USER:PASSWORD@HOST/DATABASE`.
    Postgres(String),
}

/// The kind of a database.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Engine {
    /// One writer at a time, one host.
    Sqlite,
    /// Many writers on many hosts.
    Postgres,
}

/// A pool of connections to a database; clones share it.
#[derive(Clone, Debug)]
pub struct Database {
    pool: AnyPool,
    engine: Engine,
}

impl Database {
    /// Opens the database at `address`; a SQLite file and its folders are made if they are missing.
    ///
    /// # Errors
    /// What is wrong with the file or the server and what to do, never with a password in it.
    pub async fn open(address: &Address) -> Result<Self> {
        match address {
            Address::Sqlite(path) => open_sqlite(path).await,
            Address::Postgres(url) => postgres::open(url).await,
        }
    }

    /// A database whose pool was opened with settings of the caller's own.
    pub fn new(pool: AnyPool, engine: Engine) -> Self {
        Self { pool, engine }
    }

    /// The connections.
    pub fn pool(&self) -> &AnyPool {
        &self.pool
    }

    /// The kind of database.
    pub fn engine(&self) -> Engine {
        self.engine
    }

    /// The versions of migrations that `table`, sqlx's list of them, has; none if there is no such table.
    ///
    /// # Errors
    /// The database does not answer.
    pub async fn applied_migrations(&self, table: &str) -> sqlx::Result<Vec<i64>> {
        let there = match self.engine {
            Engine::Sqlite => "SELECT COUNT(*) FROM sqlite_master WHERE type = 'table' AND name = $1",
            Engine::Postgres => "SELECT COUNT(*) FROM pg_class WHERE oid = to_regclass($1)",
        };
        let there: i64 = sqlx::query_scalar(there).bind(table).fetch_one(&self.pool).await?;
        if there == 0 {
            return Ok(Vec::new());
        }
        // The name of a table cannot be a value; it is one of this program's own.
        let sql = sqlx::AssertSqlSafe(format!("SELECT version FROM {table} WHERE success ORDER BY version"));
        sqlx::query_scalar(sql).fetch_all(&self.pool).await
    }

    /// Listens to a channel of a PostgreSQL server, on one more connection than the pool's.
    ///
    /// # Errors
    /// [`crate::Error::ServerUnreachable`] and [`crate::Error::ServerRefused`], with the server's words.
    pub async fn listener(&self, channel: &str) -> Result<Listener> {
        Listener::open(self.pool.connect_options().database_url.as_str(), channel).await
    }

    /// The statement that begins a transaction which reads before it writes. SQLite must be told, because such a
    /// transaction could not become a writer later.
    pub fn begin_write(&self) -> &'static str {
        match self.engine {
            Engine::Sqlite => "BEGIN IMMEDIATE",
            Engine::Postgres => "BEGIN",
        }
    }
}

impl Address {
    /// The kind of database at this address.
    pub fn engine(&self) -> Engine {
        match self {
            Self::Sqlite(_) => Engine::Sqlite,
            Self::Postgres(_) => Engine::Postgres,
        }
    }
}

/// For people: the file, or the server without its password.
impl fmt::Display for Address {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Sqlite(path) => path.display().fmt(f),
            Self::Postgres(url) => f.write_str(&postgres::shown(url)),
        }
    }
}

impl fmt::Debug for Address {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}
