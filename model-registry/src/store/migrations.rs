//! The registry's tables.

use platform::database::{Database, Engine, Migrations, Pending};

use crate::{Error, Result};

/// The list of the tables of runs, some of which have the names of the registry's.
const OF_RUNS: &str = "_sqlx_migrations";

pub(super) async fn run(database: &Database) -> Result<()> {
    let migrations = migrations(database.engine());
    let meets = migrations.would_meet(OF_RUNS, database).await;
    if meets.map_err(Error::database("looking for the tables' version"))? {
        return Err(Error::SharedDatabase);
    }
    Ok(migrations.run(database).await?)
}

/// Migrations that were not applied yet.
pub(super) async fn pending(database: &Database) -> Result<Vec<Pending>> {
    let pending = migrations(database.engine()).pending(database).await;
    pending.map_err(Error::database("looking for the tables' version"))
}

fn migrations(engine: Engine) -> Migrations {
    let first = for_engine(include_str!("../../migrations/0001_registry.sql"), engine);
    let second = include_str!("../../migrations/0002_newest_first.sql").to_owned();
    Migrations::new("_registry_migrations", [(1, "registry", first), (2, "newest first", second)])
}

/// Puts in the two words in which the databases differ.
fn for_engine(text: &str, engine: Engine) -> String {
    let (key, clustered) = match engine {
        Engine::Sqlite => ("INTEGER PRIMARY KEY AUTOINCREMENT", "WITHOUT ROWID"),
        Engine::Postgres => ("BIGSERIAL PRIMARY KEY", ""),
    };
    text.replace(" SERIAL_KEY", &format!(" {key}")).replace(") CLUSTERED", &format!(") {clustered}"))
}
