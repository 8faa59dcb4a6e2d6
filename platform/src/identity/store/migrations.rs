//! Brings the tables of identity up to date. A migration that was released never changes: it is a new file.

use std::time::Duration;

use sqlx::SqlSafeStr;
use sqlx::migrate::{MigrateError, Migration, MigrationType, Migrator};

use crate::database::Database;
use crate::{Error, Result};

/// Version, what it is about, and its statements.
const MIGRATIONS: &[(i64, &str, &str)] = &[(1, "identity", include_str!("../../../migrations/0001_identity.sql"))];

/// The tables lie in a database with others, which have migrations of their own.
const TABLE: &str = "_identity_migrations";

/// Two processes may find the same old tables at the same moment: the one that comes second looks again.
pub(super) async fn run(database: &Database) -> Result<()> {
    let mut migrator = Migrator::with_migrations(MIGRATIONS.iter().map(migration).collect());
    migrator.dangerous_set_table_name(TABLE);
    let mut tries = 0;
    loop {
        match migrator.run(database.pool()).await {
            Ok(()) => return Ok(()),
            Err(MigrateError::Execute(_) | MigrateError::ExecuteMigration(..)) if tries < 5 => {
                tries += 1;
                tokio::time::sleep(Duration::from_millis(50 * tries)).await;
            }
            Err(error) => return Err(Error::IdentityTables(error)),
        }
    }
}

/// Migrations that were not applied yet, such as `1 identity`.
pub(super) async fn pending(database: &Database) -> Result<Vec<String>> {
    let applied =
        database.applied_migrations(TABLE).await.map_err(Error::identity("looking for its tables' version"))?;
    let pending = MIGRATIONS.iter().filter(|(version, ..)| !applied.contains(version));
    Ok(pending.map(|(version, description, _)| format!("{version} {description}")).collect())
}

fn migration(&(version, description, sql): &(i64, &'static str, &'static str)) -> Migration {
    Migration::new(version, description.into(), MigrationType::Simple, sql.into_sql_str(), false)
}
