//! Brings the tables of the state database up to date. A migration that was released never changes: it is a new file.

use std::time::Duration;

use platform::database::Database;
use sqlx::migrate::{MigrateError, Migration, MigrationType, Migrator};
use sqlx::{AnyPool, SqlSafeStr};

use crate::error::{Error, Result};

/// Version, what it is about, and its statements. Listed here and not found by `sqlx::migrate!`: that macro compiles
/// the drivers of both databases a second time.
const MIGRATIONS: &[(i64, &str, &str)] = &[
    (1, "state", include_str!("../../migrations/0001_state.sql")),
    (2, "telemetry", include_str!("../../migrations/0002_telemetry.sql")),
    (3, "run_of_state", include_str!("../../migrations/0003_run_of_state.sql")),
    (4, "run_of_version", include_str!("../../migrations/0004_run_of_version.sql")),
    (5, "pages_of_runs", include_str!("../../migrations/0005_pages_of_runs.sql")),
];

/// Two processes may find the same old tables at the same moment: the one that comes second looks again.
pub(super) async fn run(pool: &AnyPool) -> Result<()> {
    let migrator = migrator();
    let mut tries = 0;
    loop {
        match migrator.run(pool).await {
            Ok(()) => return Ok(()),
            Err(MigrateError::Execute(_) | MigrateError::ExecuteMigration(..)) if tries < 5 => {
                tries += 1;
                tokio::time::sleep(Duration::from_millis(50 * tries)).await;
            }
            Err(error) => return Err(Error::Migrate(error)),
        }
    }
}

/// Migrations that were not applied yet, such as `2 telemetry`.
pub(super) async fn pending(database: &Database) -> Result<Vec<String>> {
    let applied = database.applied_migrations("_sqlx_migrations").await.map_err(MigrateError::Execute)?;
    let pending = MIGRATIONS.iter().filter(|(version, ..)| !applied.contains(version));
    Ok(pending.map(|(version, description, _)| format!("{version} {description}")).collect())
}

fn migrator() -> Migrator {
    let migration = |&(version, description, sql): &(i64, &'static str, &'static str)| {
        Migration::new(version, description.into(), MigrationType::Simple, sql.into_sql_str(), false)
    };
    Migrator::with_migrations(MIGRATIONS.iter().map(migration).collect())
}
