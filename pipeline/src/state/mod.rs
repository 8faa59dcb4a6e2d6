//! The durable state of runs: what was started, what ended how, and who is at work on what.
//!
//! Invariants, kept by every transaction:
//! - a task instance is `running` exactly while one attempt of it is `running`, and that attempt's number is the
//!   instance's `attempts` (a mapped task is `running` while its items are not all finished);
//! - attempt numbers of an instance only grow, and an answer counts only from the attempt that is running;
//! - a finished state never changes;
//! - a task leaves `waiting` in the transaction that ends the last task it needs.
//!
//! All writes go through one writer, which puts those that wait together into one transaction.

mod advance;
mod claim;
mod create;
mod ended;
mod lost;
mod read;
mod step;
mod types;
mod writer;

use std::sync::Arc;
use std::time::Duration;

use sqlx::SqlitePool;
use sqlx::migrate::{MigrateError, Migrator};

pub use types::{
    AttemptRecord, AttemptState, InstanceKind, InstanceRecord, Owner, RunRecord, RunState, TaskState, TaskSummary,
};

pub(crate) use claim::{Claimed, Slots};
pub(crate) use ended::{End, Ended};
pub(crate) use step::{Change, LostRule, Step, StepDone};

use crate::clock::Timestamp;
use crate::dag::{Dag, Params};
use crate::error::{Error, Result};
use crate::ids::{AttemptId, RunId};
use crate::template::Scope;

static MIGRATIONS: Migrator = sqlx::migrate!("./migrations");

/// A handle to the state database; clones share one writer.
#[derive(Clone, Debug)]
pub struct Store {
    pool: SqlitePool,
    writer: writer::Writer,
}

/// A run and what its transitions need to know of it.
#[derive(Debug)]
pub(crate) struct Plan {
    pub(crate) run: RunId,
    pub(crate) dag: Dag,
    /// Parameters and run, without outputs.
    pub(crate) scope: Scope,
}

impl Store {
    /// Opens the store on a pool of at least two connections and brings its tables up to date.
    pub async fn open(pool: SqlitePool) -> Result<Self> {
        migrate(&pool).await?;
        let writer = writer::Writer::start(pool.clone());
        Ok(Self { pool, writer })
    }

    /// Makes a run of `dag` with `params` in state queued; its tasks wait or are ready. All in one transaction.
    pub async fn create_run(&self, dag: &Dag, params: &Params, now: Timestamp) -> Result<RunId> {
        let run = RunId::new();
        let plan = Plan { run, dag: dag.clone(), scope: scope(run, dag, params, now) };
        self.writer.create(create::Create { plan, params: params.to_json().to_string(), now }).await?;
        Ok(run)
    }

    /// What the transitions of a run need: the DAG that it started with and its parameters.
    pub(crate) async fn plan(&self, run: RunId) -> Result<Arc<Plan>> {
        let record = self.run(run).await?;
        let dag = self.dag(&record).await?;
        let scope = scope(run, &dag, &record.params, record.created_at);
        Ok(Arc::new(Plan { run, dag, scope }))
    }

    /// Takes one step of a run: see [`Step`].
    pub(crate) async fn step(&self, step: Step) -> Result<StepDone> {
        self.writer.step(step).await
    }

    /// Renews the leases of all running attempts of an owner; gives those that are still its own.
    pub(crate) async fn renew(&self, owner_key: &str, now: Timestamp, lease: Duration) -> Result<Vec<AttemptId>> {
        self.writer.renew(owner_key.to_string(), now.plus(lease)).await
    }
}

/// Parameters and facts of the run, as templates see them.
fn scope(run: RunId, dag: &Dag, params: &Params, started_at: Timestamp) -> Scope {
    let facts = serde_json::json!({"id": run.to_string(), "dag": dag.name, "started_at": started_at.to_string()});
    Scope::new(&params.to_json(), &facts)
}

/// Two processes may find the same old tables at the same moment: the one that comes second looks again.
async fn migrate(pool: &SqlitePool) -> Result<()> {
    let mut tries = 0;
    loop {
        match MIGRATIONS.run(pool).await {
            Ok(()) => return Ok(()),
            Err(MigrateError::Execute(_) | MigrateError::ExecuteMigration(..)) if tries < 5 => {
                tries += 1;
                tokio::time::sleep(Duration::from_millis(50 * tries)).await;
            }
            Err(error) => return Err(Error::Migrate(error)),
        }
    }
}

#[cfg(test)]
mod tests;
