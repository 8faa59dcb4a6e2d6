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
use platform::database::{Address, Database, Engine};
use platform::object_store::ObjectStore;
use sqlx::{Any, AnyConnection, AnyPool, Transaction};
use tokio::sync::{Mutex, OwnedMutexGuard};

pub(crate) use leaderboard::{Standing, Standings};
pub(crate) use mine::Pages;
pub(crate) use pictures::{Picture, Upload, sha256};
pub(crate) use profiles::{LONGEST_NAME, Profile};
pub(crate) use rows::Seen;
pub use rows::Source;
pub(crate) use sightings::{Added, Changes, Filter, Near, NewSighting, Order, Whose};
pub(crate) use summary::{BestPicture, Tally};

use super::{Error, Result};

/// A photograph is written within this time, or its object counts as left behind.
pub(crate) const UPLOAD_TIME: TimeDelta = TimeDelta::hours(1);

/// A handle to tables and photographs; clones share it.
#[derive(Clone, Debug)]
pub struct Store {
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

impl Store {
    /// Opens the tables, and makes or updates them.
    ///
    /// # Errors
    /// What is wrong with the database and what to do.
    pub async fn open(address: &Address, objects: Arc<dyn ObjectStore>) -> Result<Self> {
        let database = Database::open(address).await?;
        migrations::run(&database).await?;
        Ok(Self { database, objects, writer: Arc::default() })
    }

    /// As [`Store::open`], but the tables of a PostgreSQL server, which others may use at the same moment, must be those of
    /// this version already: `safari migrate` makes them so.
    ///
    /// # Errors
    /// [`Error::OldTables`], and what is wrong with the database.
    pub async fn open_current(address: &Address, objects: Arc<dyn ObjectStore>) -> Result<Self> {
        if address.engine() == Engine::Postgres && !Self::pending(address).await?.is_empty() {
            return Err(Error::OldTables { database: address.to_string() });
        }
        Self::open(address, objects).await
    }

    /// The changes that the tables need to be those of this version, such as `1 collections`.
    ///
    /// # Errors
    /// What is wrong with the database and what to do.
    pub async fn pending(address: &Address) -> Result<Vec<String>> {
        let database = Database::open(address).await?;
        let pending = migrations::pending(&database).await;
        database.pool().close().await;
        pending
    }

    /// Makes the tables those of this version.
    ///
    /// # Errors
    /// What is wrong with the database and what to do.
    pub async fn migrate(address: &Address) -> Result<()> {
        let database = Database::open(address).await?;
        let done = migrations::run(&database).await;
        database.pool().close().await;
        done
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
