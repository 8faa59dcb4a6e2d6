//! The tables of identity.

use crate::database::{Database, Migrations, Pending};
use crate::{Error, Result};

pub(super) async fn run(database: &Database) -> Result<()> {
    migrations().run(database).await.map_err(Error::IdentityTables)
}

pub(super) async fn pending(database: &Database) -> Result<Vec<Pending>> {
    migrations().pending(database).await.map_err(Error::identity("looking for its tables' version"))
}

fn migrations() -> Migrations {
    let first = include_str!("../../../migrations/0001_identity.sql");
    Migrations::new("_identity_migrations", [(1, "identity", first.to_owned())])
}
