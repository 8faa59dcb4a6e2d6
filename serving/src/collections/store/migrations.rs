//! The tables of collections.

use platform::database::{Database, Engine, Migrations, Pending};

use crate::{Error, Result};

pub(super) async fn run(database: &Database) -> Result<()> {
    migrations(database.engine()).run(database).await.map_err(|error| Error::Tables(error.into()))
}

/// Migrations that were not applied yet.
pub(super) async fn pending(database: &Database) -> Result<Vec<Pending>> {
    let pending = migrations(database.engine()).pending(database).await;
    pending.map_err(Error::database("looking for the tables' version"))
}

fn migrations(engine: Engine) -> Migrations {
    // The one word in which the databases differ: a number that is given once.
    let key = match engine {
        Engine::Sqlite => " INTEGER PRIMARY KEY AUTOINCREMENT",
        Engine::Postgres => " BIGSERIAL PRIMARY KEY",
    };
    let first = include_str!("../../../migrations/0001_collections.sql").replace(" SERIAL_KEY", key);
    Migrations::new("_collections_migrations", [(1, "collections", first)])
}
