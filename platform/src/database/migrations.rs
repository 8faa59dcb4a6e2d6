//! Brings a set of tables up to date. A migration that was released never changes: it is a new one.

use std::fmt;
use std::time::Duration;

use sqlx::migrate::{MigrateError, Migration, MigrationType, Migrator};
use sqlx::{AssertSqlSafe, SqlSafeStr};

use super::Database;

/// How often it looks again when another process changes the same tables.
const TRIES: u32 = 5;
const PAUSE: Duration = Duration::from_millis(50);

/// The migrations of a set of tables, which may lie in a database beside others. Listed by their callers and not found by
/// `sqlx::migrate!`: that macro compiles the drivers of both databases a second time.
#[derive(Debug)]
pub struct Migrations {
    table: &'static str,
    list: Vec<Migration>,
}

/// A migration that a database lacks.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Pending {
    /// Its number.
    pub version: i64,
    /// What it is about.
    pub description: String,
    /// Its statements, which are carried out in one transaction.
    pub sql: String,
}

/// Such as `2 telemetry`.
impl fmt::Display for Pending {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "{} {}", self.version, self.description)
    }
}

impl Migrations {
    /// `table` lists those that were applied. Each has a number, what it is about, and its statements, which must come from
    /// the program.
    pub fn new(table: &'static str, list: impl IntoIterator<Item = (i64, &'static str, String)>) -> Self {
        let migration = |(version, description, sql): (i64, &'static str, String)| {
            let sql = AssertSqlSafe(sql).into_sql_str();
            Migration::new(version, description.into(), MigrationType::Simple, sql, false)
        };
        Self { table, list: list.into_iter().map(migration).collect() }
    }

    /// Applies those that were not applied yet. Two processes may find the same old tables at the same moment: the one that
    /// comes second looks again.
    ///
    /// # Errors
    /// The database does not answer, or is of a newer version.
    pub async fn run(self, database: &Database) -> Result<(), MigrateError> {
        let mut migrator = Migrator::with_migrations(self.list);
        migrator.dangerous_set_table_name(self.table);
        let mut tries = 0;
        loop {
            match migrator.run(database.pool()).await {
                Err(MigrateError::Execute(_) | MigrateError::ExecuteMigration(..)) if tries < TRIES => {
                    tries += 1;
                    tokio::time::sleep(PAUSE * tries).await;
                }
                done => return done,
            }
        }
    }

    /// Whether a database that has none of these tables has those that `other`, another set's list, tells of.
    ///
    /// # Errors
    /// The database does not answer.
    pub async fn would_meet(&self, other: &str, database: &Database) -> sqlx::Result<bool> {
        let ours = database.applied_migrations(self.table).await?;
        Ok(ours.is_empty() && !database.applied_migrations(other).await?.is_empty())
    }

    /// Those that were not applied yet, in their order.
    ///
    /// # Errors
    /// The database does not answer.
    pub async fn pending(&self, database: &Database) -> sqlx::Result<Vec<Pending>> {
        let applied = database.applied_migrations(self.table).await?;
        let pending = self.list.iter().filter(|migration| !applied.contains(&migration.version));
        let told = |migration: &Migration| Pending {
            version: migration.version,
            description: migration.description.to_string(),
            sql: migration.sql.as_str().to_owned(),
        };
        Ok(pending.map(told).collect())
    }
}
