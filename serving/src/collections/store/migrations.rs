//! Brings the tables of collections up to date. A migration that was released never changes: it is a new file.

use std::time::Duration;

use platform::database::{Database, Engine};
use sqlx::migrate::{MigrateError, Migration, MigrationType, Migrator};
use sqlx::{AssertSqlSafe, SqlSafeStr};

use crate::collections::{Error, Result};

/// Version, what it is about, and its statements.
const MIGRATIONS: &[(i64, &str, &str)] =
    &[(1, "collections", include_str!("../../../migrations/0001_collections.sql"))];

/// The tables may lie in a database with others, such as the registry's, which have migrations of their own.
const TABLE: &str = "_collections_migrations";

/// Two processes may find the same old tables at the same moment: the one that comes second looks again.
pub(super) async fn run(database: &Database) -> Result<()> {
    let migrator = migrator(database.engine());
    let mut tries = 0;
    loop {
        match migrator.run(database.pool()).await {
            Ok(()) => return Ok(()),
            Err(MigrateError::Execute(_) | MigrateError::ExecuteMigration(..)) if tries < 5 => {
                tries += 1;
                tokio::time::sleep(Duration::from_millis(50 * tries)).await;
            }
            Err(error) => return Err(error.into()),
        }
    }
}

/// Migrations that were not applied yet.
pub(super) async fn pending(database: &Database) -> Result<Vec<String>> {
    let applied =
        database.applied_migrations(TABLE).await.map_err(Error::database("looking for the tables' version"))?;
    let pending = MIGRATIONS.iter().filter(|(version, ..)| !applied.contains(version));
    Ok(pending.map(|(version, description, _)| format!("{version} {description}")).collect())
}

fn migrator(engine: Engine) -> Migrator {
    let key = match engine {
        Engine::Sqlite => " INTEGER PRIMARY KEY AUTOINCREMENT",
        Engine::Postgres => " BIGSERIAL PRIMARY KEY",
    };
    let migration = |&(version, description, text): &(i64, &'static str, &'static str)| {
        let sql = AssertSqlSafe(text.replace(" SERIAL_KEY", key)).into_sql_str();
        Migration::new(version, description.into(), MigrationType::Simple, sql, false)
    };
    let mut migrator = Migrator::with_migrations(MIGRATIONS.iter().map(migration).collect());
    migrator.dangerous_set_table_name(TABLE);
    migrator
}
