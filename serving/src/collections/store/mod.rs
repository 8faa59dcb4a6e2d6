//! Sightings, profiles and photographs. Rows are in SQLite or PostgreSQL, the bytes of photographs in an object store.
//!
//! Questions go to the pool; changes go through `Store::write`, one transaction each.

mod leaderboard;
mod migrations;
mod mine;
mod pictures;
mod profiles;
mod rows;
mod sightings;
mod summary;

use std::sync::Arc;

use chrono::TimeDelta;
use platform::database::{Address, Database, Engine, Pending};
use platform::object_store::ObjectStore;
use sqlx::{Any, AnyConnection, AnyPool, Transaction};
use tokio::sync::{Mutex, OwnedMutexGuard};

pub(crate) use leaderboard::{Standing, Standings};
pub(crate) use mine::Pages;
pub(crate) use pictures::{Picture, sha256};
pub(crate) use profiles::{LONGEST_NAME, Profile};
pub(crate) use rows::{Seen, Source};
pub(crate) use sightings::{Added, Changes, Filter, Near, NewSighting, Order, Whose};
pub(crate) use summary::BestPicture;

use super::{Error, Result};

/// A photograph is written within this time, or its object counts as left behind.
pub(crate) const UPLOAD_TIME: TimeDelta = TimeDelta::hours(1);

/// A handle to tables and photographs; clones share it.
#[derive(Clone, Debug)]
pub(crate) struct Store {
    database: Database,
    objects: Arc<dyn ObjectStore>,
    /// On SQLite one writer at a time. Waiting here is fair and costs nothing; waiting for SQLite's own lock is neither.
    writer: Arc<Mutex<()>>,
}

/// A transaction that changes something. Dropped without [`Write::commit`], it changes nothing.
pub(crate) struct Write {
    transaction: Transaction<'static, Any>,
    _turn: Option<OwnedMutexGuard<()>>,
}

/// Migrations that the tables in a database lack.
pub(super) async fn pending(database: &Database) -> Result<Vec<Pending>> {
    migrations::pending(database).await
}

/// Makes the tables those of this version.
pub(super) async fn migrate(database: &Database) -> Result<()> {
    migrations::run(database).await
}

impl Store {
    /// Opens the tables. SQLite's are brought up to date; those of a PostgreSQL server, which others may use at the same
    /// moment, must be those of this version already: `safari migrate` makes them so.
    ///
    /// # Errors
    /// [`Error::OldTables`], and what is wrong with the database.
    pub(crate) async fn open_current(address: &Address, objects: Arc<dyn ObjectStore>) -> Result<Self> {
        let database = Database::open(address).await?;
        if database.engine() == Engine::Sqlite {
            migrations::run(&database).await?;
        } else if !migrations::pending(&database).await?.is_empty() {
            return Err(Error::OldTables { database: address.to_string() });
        }
        Ok(Self { database, objects, writer: Arc::default() })
    }

    /// The key that signs detections: made once for each database, so that replicas share it.
    pub(crate) async fn token_key(&self) -> Result<String> {
        let fresh = hex::encode(rand::random::<[u8; 32]>());
        let mut write = self.write().await?;
        sqlx::query("INSERT INTO token_key (no, secret) VALUES (1, $1) ON CONFLICT (no) DO NOTHING")
            .bind(fresh)
            .execute(write.connection())
            .await
            .map_err(Error::database("making the key of detections"))?;
        write.commit().await?;
        sqlx::query_scalar("SELECT secret FROM token_key WHERE no = 1")
            .fetch_one(self.pool())
            .await
            .map_err(Error::database("reading the key of detections"))
    }

    /// The connections, for questions.
    pub(crate) fn pool(&self) -> &AnyPool {
        self.database.pool()
    }

    /// Begins a change. On SQLite it is the only one; on PostgreSQL lock the rows that decide ([`Store::for_update`]).
    pub(crate) async fn write(&self) -> Result<Write> {
        let turn = match self.database.engine() {
            Engine::Sqlite => Some(Arc::clone(&self.writer).lock_owned().await),
            Engine::Postgres => None,
        };
        let begin = self.database.begin_write();
        let transaction = self.pool().begin_with(begin).await.map_err(Error::database("beginning a change"))?;
        Ok(Write { transaction, _turn: turn })
    }

    /// The end of a SELECT that locks its rows: nothing on SQLite, where a writer is alone.
    pub(crate) fn for_update(&self) -> &'static str {
        match self.database.engine() {
            Engine::Sqlite => "",
            Engine::Postgres => " FOR UPDATE",
        }
    }
}

impl Write {
    /// The connection of this change.
    pub(crate) fn connection(&mut self) -> &mut AnyConnection {
        &mut self.transaction
    }

    /// Makes the change last.
    pub(crate) async fn commit(self) -> Result<()> {
        self.transaction.commit().await.map_err(Error::database("committing a change"))
    }
}
