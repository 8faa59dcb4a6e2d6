//! Brings the registry's tables up to date. A migration that was released never changes: it is a new file.

use std::time::Duration;

use platform::database::{Database, Engine};
use sqlx::migrate::{MigrateError, Migration, MigrationType, Migrator};
use sqlx::{AssertSqlSafe, SqlSafeStr};

use crate::{Error, Result};

/// Version, what it is about, and its statements.
const MIGRATIONS: &[(i64, &str, &str)] = &[(1, "registry", include_str!("../../migrations/0001_registry.sql"))];

/// The tables may lie in a database with others, such as the state of runs, which has migrations of its own.
const TABLE: &str = "_registry_migrations";

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
    let migration = |&(version, description, text): &(i64, &'static str, &'static str)| {
        let sql = AssertSqlSafe(for_engine(text, engine)).into_sql_str();
        Migration::new(version, description.into(), MigrationType::Simple, sql, false)
    };
    let mut migrator = Migrator::with_migrations(MIGRATIONS.iter().map(migration).collect());
    migrator.dangerous_set_table_name(TABLE);
    migrator
}

/// Puts in the two words in which the databases differ.
fn for_engine(text: &str, engine: Engine) -> String {
    let (key, clustered) = match engine {
        Engine::Sqlite => ("INTEGER PRIMARY KEY AUTOINCREMENT", "WITHOUT ROWID"),
        Engine::Postgres => ("BIGSERIAL PRIMARY KEY", ""),
    };
    text.replace(" SERIAL_KEY", &format!(" {key}")).replace(") CLUSTERED", &format!(") {clustered}"))
}
