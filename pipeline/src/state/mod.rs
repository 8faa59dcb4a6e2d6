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
mod dags;
mod depth;
mod ended;
mod lost;
mod pools;
mod read;
mod register;
mod statement;
mod step;
mod stop;
mod types;
mod writer;

use std::sync::Arc;
use std::time::Duration;

use platform::database::Database;
use sqlx::AnyPool;
use sqlx::migrate::{MigrateError, Migrator};

pub use depth::Depth;
pub use register::DagRecord;
pub use types::{
    AttemptRecord, AttemptState, InstanceKind, InstanceRecord, Owner, RunCause, RunRecord, RunState, TaskState,
    TaskSummary,
};

pub(crate) use claim::{ClaimRequest, Claimed};
pub(crate) use ended::{End, Ended};
pub(crate) use step::{Begin, Change, LostRule, RunDone, RunStep, Step, StepDone};
pub(crate) use stop::Stop;

use crate::clock::Timestamp;
use crate::dag::{Dag, Params};
use crate::error::{Error, Result};
use crate::ids::{AttemptId, RunId};
use crate::schedule::DataInterval;
use crate::template::Scope;

static MIGRATIONS: Migrator = sqlx::migrate!("./migrations");

/// A handle to the state database; clones share one writer.
#[derive(Clone, Debug)]
pub struct Store {
    database: Database,
    writer: writer::Writer,
    dags: dags::Dags,
}

/// A run and what its transitions need to know of it.
#[derive(Debug)]
pub(crate) struct Plan {
    pub(crate) run: RunId,
    pub(crate) dag: Arc<Dag>,
    /// Parameters and run, without outputs.
    pub(crate) scope: Scope,
}

impl Store {
    /// Opens the store in a database and brings its tables up to date.
    pub async fn open(database: Database) -> Result<Self> {
        migrate(database.pool()).await?;
        let writer = writer::Writer::start(database.clone());
        Ok(Self { database, writer, dags: dags::Dags::default() })
    }

    /// Makes a run of `dag` with `params` in state queued, all its tasks waiting. All in one transaction.
    pub async fn create_run(&self, dag: &Dag, params: &Params, now: Timestamp) -> Result<RunId> {
        let interval = dag.interval_at(now.time());
        let run = self.create(dag, params, RunCause::Manual, Some(interval), now).await?;
        run.ok_or_else(|| Error::Corrupt { what: "two runs with one identifier".to_owned() })
    }

    /// Makes a run for whatever cause. Nothing when the schedule has made one for this interval before.
    pub(crate) async fn create(
        &self,
        dag: &Dag,
        params: &Params,
        cause: RunCause,
        interval: Option<DataInterval>,
        now: Timestamp,
    ) -> Result<Option<RunId>> {
        let run = RunId::new();
        let dag = Arc::new(dag.clone());
        let scope = scope(run, &dag, params, cause, interval, now);
        let plan = Plan { run, dag, scope };
        let params = params.to_json().to_string();
        let made = self.writer.create(create::Create { plan, params, cause, interval, now }).await?;
        Ok(made.then_some(run))
    }

    /// Tells a run to stop: what has not begun is cancelled at once, attempts under way are told to end. Gives where it
    /// stands; a run that has ended stays as it is.
    pub async fn cancel(&self, run: RunId, now: Timestamp) -> Result<RunState> {
        self.stop(self.plan(run).await?, Stop { error: None, now }).await
    }

    /// Tells a run to stop, for whatever reason.
    pub(crate) async fn stop(&self, plan: Arc<Plan>, stop: Stop) -> Result<RunState> {
        self.writer.stop(plan, stop).await
    }

    /// What the transitions of a run need: the DAG that it started with and its parameters.
    pub(crate) async fn plan(&self, run: RunId) -> Result<Arc<Plan>> {
        let record = self.run(run).await?;
        let dag = self.dag(&record).await?;
        let scope = scope(run, &dag, &record.params, record.cause, record.interval, record.created_at);
        Ok(Arc::new(Plan { run, dag, scope }))
    }

    /// Connections for questions.
    pub(crate) fn pool(&self) -> &AnyPool {
        self.database.pool()
    }

    /// Changes when a commit of this process left something to do.
    pub(crate) fn changed(&self) -> tokio::sync::watch::Receiver<u64> {
        self.writer.changed()
    }

    /// Takes a step: see [`Step`].
    pub(crate) async fn step(&self, step: Step) -> Result<StepDone> {
        self.writer.step(step).await
    }

    /// Renews the leases of all running attempts of an owner; gives those that are still its own.
    pub(crate) async fn renew(&self, owner_key: &str, now: Timestamp, lease: Duration) -> Result<Vec<AttemptId>> {
        self.writer.renew(owner_key.to_string(), now.plus(lease)).await
    }
}

/// Parameters and facts of the run, as templates see them.
fn scope(
    run: RunId,
    dag: &Dag,
    params: &Params,
    cause: RunCause,
    interval: Option<DataInterval>,
    made_at: Timestamp,
) -> Scope {
    let logical = interval.map_or(made_at, |interval| interval.start.into());
    let facts = serde_json::json!({
        "id": run.to_string(),
        "dag": dag.name,
        "started_at": made_at.to_string(),
        "logical_date": logical.to_string(),
        "trigger": cause.as_str(),
    });
    let scope = Scope::new(&params.to_json(), &facts);
    match interval {
        Some(interval) => scope.with_interval(&interval),
        None => scope,
    }
}

/// Two processes may find the same old tables at the same moment: the one that comes second looks again.
async fn migrate(pool: &AnyPool) -> Result<()> {
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

// The same tests on both databases; they look at the name of their module.
#[cfg(test)]
#[path = "tests.rs"]
#[allow(clippy::duplicate_mod, reason = "two databases")]
mod on_postgres;
#[cfg(test)]
#[path = "tests.rs"]
#[allow(clippy::duplicate_mod, reason = "two databases")]
mod on_sqlite;
