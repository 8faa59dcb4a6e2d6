//! What the registry keeps, in SQLite or PostgreSQL.
//!
//! Questions go to the pool; changes go through `Store::write`, one transaction each, in which everything that belongs
//! to a change is written: the rows, what webhooks are to be told, the audit.

mod aliases;
mod deliveries;
pub(crate) mod experiments;
mod gc;
pub(crate) mod inputs;
mod json;
pub(crate) mod logged_models;
mod metrics;
mod migrations;
mod model_rows;
mod names;
mod outbox;
mod parts;
mod promotions;
mod registered_models;
mod registry_search;
pub(crate) mod run_log;
#[cfg(test)]
mod run_plans;
pub(crate) mod run_search;
pub(crate) mod runs;
pub(crate) mod sets;
mod sources;
mod uploads;
mod version_rows;
mod versions;
mod webhooks;

use std::sync::Arc;

use platform::database::{Address, Database, Engine, Pending};
use sqlx::{Any, AnyConnection, AnyPool, Transaction};
use tokio::sync::{Mutex, Notify, OwnedMutexGuard};

pub(crate) use deliveries::{Attempted, DueDelivery};
pub(crate) use gc::{Doomed, Kind, Orphan};
pub(crate) use promotions::HistoryQuery;
pub(crate) use registry_search::{Page, Search};
pub(crate) use versions::NewVersion;
pub(crate) use webhooks::{Webhook, WebhookFields, WebhookStatus};

use crate::clock::now_millis;
use crate::{Error, ExperimentId, Result};

pub(crate) use uploads::Upload;

/// A handle to the tables; clones share it.
#[derive(Clone, Debug)]
pub struct Store {
    database: Database,
    /// Where the files of experiments are by default: the root of artifact URIs.
    artifact_root: Arc<str>,
    /// On SQLite one writer at a time. Waiting here is fair and costs nothing; waiting for SQLite's own lock is neither.
    writer: Arc<Mutex<()>>,
    /// Woken when a change is committed of which webhooks are to be told.
    told: Arc<Notify>,
}

/// A transaction that changes something. Dropped without [`Write::commit`], it changes nothing.
pub(crate) struct Write {
    transaction: Transaction<'static, Any>,
    /// Woken at the commit when webhooks are to be told.
    told: Option<Arc<Notify>>,
    _turn: Option<OwnedMutexGuard<()>>,
}

impl Store {
    /// Opens the tables, makes or updates them, and makes the experiment `Default` if it is not there.
    ///
    /// `artifact_root` is what artifact URIs begin with, such as `mlflow-artifacts:`.
    ///
    /// # Errors
    /// What is wrong with the database and what to do.
    pub async fn open(address: &Address, artifact_root: &str) -> Result<Self> {
        let database = Database::open(address).await?;
        migrations::run(&database).await?;
        let store =
            Self { database, artifact_root: artifact_root.into(), writer: Arc::default(), told: Arc::default() };
        store.make_default_experiment().await?;
        Ok(store)
    }

    /// As [`Store::open`], but the tables of a PostgreSQL server, which others may use at the same moment, must be those of
    /// this version already: `safari migrate` makes them so.
    ///
    /// # Errors
    /// [`Error::OldTables`], and what is wrong with the database.
    pub async fn open_current(address: &Address, artifact_root: &str) -> Result<Self> {
        if address.engine() == Engine::Postgres && !Self::pending(address).await?.is_empty() {
            return Err(Error::OldTables { database: address.to_string() });
        }
        Self::open(address, artifact_root).await
    }

    /// The changes that the tables need to be those of this version, such as `1 registry`. A SQLite file that does not
    /// exist is made.
    ///
    /// # Errors
    /// What is wrong with the database and what to do.
    pub async fn pending(address: &Address) -> Result<Vec<Pending>> {
        let database = Database::open(address).await?;
        let pending = migrations::pending(&database).await;
        database.pool().close().await;
        pending
    }

    /// The connections, for questions.
    pub(crate) fn pool(&self) -> &AnyPool {
        self.database.pool()
    }

    /// The kind of database.
    pub(crate) fn engine(&self) -> Engine {
        self.database.engine()
    }

    /// What artifact URIs begin with, such as `mlflow-artifacts:`.
    pub(crate) fn artifact_root(&self) -> &str {
        &self.artifact_root
    }

    /// Begins a change. On SQLite it is the only one; on PostgreSQL lock the rows that decide (`FOR UPDATE`, see
    /// [`Store::for_update`]).
    pub(crate) async fn write(&self) -> Result<Write> {
        let turn = match self.engine() {
            Engine::Sqlite => Some(Arc::clone(&self.writer).lock_owned().await),
            Engine::Postgres => None,
        };
        let begin = self.database.begin_write();
        let transaction = self.pool().begin_with(begin).await.map_err(Error::database("beginning a change"))?;
        Ok(Write { transaction, told: None, _turn: turn })
    }

    /// The end of a SELECT that locks its rows: nothing on SQLite, where a writer is alone.
    pub(crate) fn for_update(&self) -> &'static str {
        match self.engine() {
            Engine::Sqlite => "",
            Engine::Postgres => " FOR UPDATE",
        }
    }

    async fn make_default_experiment(&self) -> Result<()> {
        let now = now_millis();
        let id = ExperimentId::DEFAULT;
        sqlx::query(
            "INSERT INTO experiment (id, name, artifact_location, lifecycle, created_at, updated_at)
             VALUES ($1, 'Default', $2, 'active', $3, $3) ON CONFLICT DO NOTHING",
        )
        .bind(id.0)
        .bind(format!("{}/{id}", self.artifact_root))
        .bind(now)
        .execute(self.pool())
        .await
        .map_err(Error::database("making the experiment Default"))?;
        Ok(())
    }
}

impl Write {
    /// The connection of this change.
    pub(crate) fn connection(&mut self) -> &mut AnyConnection {
        &mut self.transaction
    }

    /// Makes the change last.
    pub(crate) async fn commit(self) -> Result<()> {
        self.transaction.commit().await.map_err(Error::database("committing a change"))?;
        if let Some(told) = self.told {
            told.notify_one();
        }
        Ok(())
    }
}
