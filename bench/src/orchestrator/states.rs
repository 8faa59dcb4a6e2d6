//! The databases in which the orchestrator's state is measured.

use pipeline::Store;
use platform::database::{Address, Database, Engine};
use tempfile::TempDir;

use crate::error::{Error, Result};

/// An engine, with what it needs to run.
pub(super) enum States {
    /// A file in the folder for temporary files.
    Sqlite,
    /// A server of our own that flushes as it would in production.
    Postgres(e2e::postgres::Server),
}

/// An empty state and a folder for logs; both are gone with the value.
pub(super) struct State {
    pub(super) home: TempDir,
    pub(super) address: Address,
    pub(super) store: Store,
}

impl States {
    /// An empty state.
    pub(super) async fn fresh(&self) -> Result<State> {
        let home = tempfile::tempdir().map_err(Error::io(std::env::temp_dir()))?;
        let address = match self {
            Self::Sqlite => Address::Sqlite(home.path().join("state.db")),
            Self::Postgres(server) => {
                Address::Postgres(server.database().await.map_err(|error| postgres(&error.to_string()))?)
            }
        };
        let store = Store::open(Database::open(&address).await?).await?;
        Ok(State { home, address, store })
    }

    /// The kind of database.
    pub(super) fn engine(&self) -> Engine {
        match self {
            Self::Sqlite => Engine::Sqlite,
            Self::Postgres(_) => Engine::Postgres,
        }
    }
}

/// A PostgreSQL server that flushes to the disk.
pub(super) async fn start_postgres() -> Result<States> {
    let server = e2e::postgres::Server::start_durable().await.map_err(|error| postgres(&error.to_string()))?;
    Ok(States::Postgres(server))
}

fn postgres(reason: &str) -> Error {
    Error::failed("PostgreSQL", reason)
}
