//! The tables of the state of runs.

use platform::database::{Database, Migrations, Pending};
use sqlx::migrate::MigrateError;

use crate::error::{Error, Result};

const MIGRATIONS: [(i64, &str, &str); 6] = [
    (1, "state", include_str!("../../migrations/0001_state.sql")),
    (2, "telemetry", include_str!("../../migrations/0002_telemetry.sql")),
    (3, "run_of_state", include_str!("../../migrations/0003_run_of_state.sql")),
    (4, "run_of_version", include_str!("../../migrations/0004_run_of_version.sql")),
    (5, "pages_of_runs", include_str!("../../migrations/0005_pages_of_runs.sql")),
    (6, "executor", include_str!("../../migrations/0006_executor.sql")),
];

/// The list of the registry's tables, some of which have the names of those of runs.
const OF_REGISTRY: &str = "_registry_migrations";

pub(super) async fn run(database: &Database) -> Result<()> {
    let migrations = migrations();
    if migrations.would_meet(OF_REGISTRY, database).await.map_err(MigrateError::Execute)? {
        return Err(Error::SharedDatabase);
    }
    migrations.run(database).await.map_err(Error::Migrate)
}

/// Migrations that were not applied yet.
pub(super) async fn pending(database: &Database) -> Result<Vec<Pending>> {
    Ok(migrations().pending(database).await.map_err(MigrateError::Execute)?)
}

fn migrations() -> Migrations {
    let owned = |(version, description, sql): (i64, &'static str, &str)| (version, description, sql.to_owned());
    Migrations::new("_sqlx_migrations", MIGRATIONS.map(owned))
}
