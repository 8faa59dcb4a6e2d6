//! The durable state of runs: what was started, what ended how, and who is at work on what.
//!
//! Invariants, kept by every transaction:
//! - a task instance is `running` exactly while one attempt of it is `running`, and that attempt's number is the
//!   instance's `attempts` (a mapped task is `running` while its items are not all finished);
//! - attempt numbers of an instance only grow, and an answer counts only from the attempt that is running;
//! - a finished state never changes, unless somebody lets the run go on ([`Store::reopen`]);
//! - a task leaves `waiting` in the transaction that ends the last task it needs.
//!
//! All writes go through one writer, which puts those that wait together into one transaction.

mod advance;
mod alerts;
mod assets;
mod attempts;
mod backfill;
mod cache;
mod changes;
mod children;
mod claim;
mod clean;
mod create;
mod depth;
mod ended;
mod instances;
mod known;
mod lost;
mod migrations;
mod pools;
mod read;
mod register;
mod reopen;
mod rules;
mod step;
mod stop;
mod streams;
mod telemetry;
mod types;
mod under_way;
mod versions;
mod watch;
mod writer;

use std::sync::Arc;
use std::time::Duration;

use platform::database::{Database, Pending};
use sqlx::AnyPool;

pub use assets::AssetEvent;
pub use backfill::{BackfillFilter, BackfillRecord, BackfillState, NewBackfill, Rerun};
pub use changes::{ChangeFilter, RunChange};
pub use clean::Removed;
pub use depth::Depth;
pub use register::DagRecord;
pub use reopen::Again;
pub use streams::{NewItem, StreamRecord};
pub use types::{
    AttemptRecord, AttemptState, InstanceKind, InstanceRecord, Owner, RunCause, RunFilter, RunRecord, RunState,
    TaskState, TaskSummary,
};
pub use under_way::Ticket;
pub use versions::{DagVersionRecord, Version};

pub(crate) use alerts::{DueAlert, Told};
pub(crate) use attempts::{AttemptFacts, Which};
pub(crate) use cache::{CachedOutput, Caching};
pub(crate) use claim::{ClaimRequest, Claimed, Offered, Takes};
pub(crate) use clean::Removal;
pub(crate) use create::Origin;
pub(crate) use ended::{End, Ended};
pub(crate) use step::{Begin, Change, Gone, LostRule, RunDone, RunStep, Step, StepDone};
pub(crate) use stop::Stop;
pub(crate) use telemetry::{InstanceAttempt, InstanceFacts};
pub(crate) use under_way::UnderWay;

use crate::clock::Timestamp;
use crate::dag::{Dag, Params};
use crate::error::{Error, Result};
use crate::ids::{AttemptId, RunId};
use crate::schedule::DataInterval;
use crate::template::Scope;

/// A handle to the state database; clones share one writer.
#[derive(Clone, Debug)]
pub struct Store {
    database: Database,
    writer: writer::Writer,
    dags: known::Dags,
    plans: known::Plans,
}

/// A run and what its transitions need to know of it.
#[derive(Debug)]
pub(crate) struct Plan {
    pub(crate) run: RunId,
    pub(crate) dag: Arc<Dag>,
    pub(crate) cause: RunCause,
    /// Parameters and run, without outputs.
    pub(crate) scope: Scope,
}

impl Store {
    /// Opens the store in a database and brings its tables up to date.
    pub async fn open(database: Database) -> Result<Self> {
        migrations::run(&database).await?;
        let writer = writer::Writer::start(database.clone());
        Ok(Self { database, writer, dags: known::Dags::default(), plans: known::Plans::default() })
    }

    /// The changes that the tables of a database need to be those of this version, such as `2 telemetry`.
    pub async fn pending(database: &Database) -> Result<Vec<Pending>> {
        migrations::pending(database).await
    }

    /// Makes a run of `dag` with `params` in state queued, all its tasks waiting. All in one transaction.
    pub async fn create_run(&self, dag: &Dag, params: &Params, now: Timestamp) -> Result<RunId> {
        let interval = dag.interval_at(now.time());
        let run = self.create(dag, params, Origin::Manual, Some(interval), now).await?;
        run.ok_or_else(|| Error::Corrupt { what: "two runs with one identifier".to_owned() })
    }

    /// Makes a run for whatever cause. Nothing when there is one for the same interval or task already: see [`Origin`].
    pub(crate) async fn create(
        &self,
        dag: &Dag,
        params: &Params,
        origin: Origin,
        interval: Option<DataInterval>,
        now: Timestamp,
    ) -> Result<Option<RunId>> {
        if dag.continuous.is_some() != matches!(origin, Origin::Stream) {
            return Err(Error::Continuous(dag.name.clone()));
        }
        let run = RunId::new();
        let dag = Arc::new(dag.clone());
        let scope = scope(run, &dag, params, origin.cause(), interval, now);
        let plan = Arc::new(Plan { run, dag, cause: origin.cause(), scope });
        let params = params.to_json().to_string();
        // Of a batch more becomes known when it is made.
        let is_whole = !matches!(origin, Origin::Stream);
        let request = create::Create { plan: Arc::clone(&plan), params, origin, interval, now };
        let made = self.writer.create(request).await?;
        if made && is_whole {
            self.plans.keep(run, &plan);
        }
        Ok(made.then_some(run))
    }

    /// Tells a run to stop, and the runs that its tasks have started: what has not begun is cancelled at once, attempts
    /// under way are told to end. Gives where it stands; a run that has ended stays as it is.
    pub async fn cancel(&self, run: RunId, now: Timestamp) -> Result<RunState> {
        self.stop(self.plan(run).await?, Stop { error: None, now }).await
    }

    /// Tells a run to stop, for whatever reason, and then what it has started: a run that stops starts nothing more.
    pub(crate) async fn stop(&self, plan: Arc<Plan>, stop: Stop) -> Result<RunState> {
        let before = self.run(plan.run).await?.state;
        if before.is_finished() {
            return Ok(before);
        }
        let mut open = vec![plan.run];
        let state = self.writer.stop(plan, stop.clone()).await?;
        while let Some(parent) = open.pop() {
            for child in self.unfinished_children(parent).await? {
                self.writer.stop(self.plan(child).await?, stop.clone()).await?;
                open.push(child);
            }
        }
        Ok(state)
    }

    /// Lets a run that has ended go on: it is queued again, with the chosen tasks waiting.
    ///
    /// # Errors
    /// [`Error::RunNotFinished`], [`Error::NothingFailed`] and [`Error::TaskNotFound`]; then nothing has changed.
    pub async fn reopen(&self, run: RunId, again: Again, now: Timestamp) -> Result<RunState> {
        self.writer.reopen(self.plan(run).await?, reopen::Reopen { again, now }).await
    }

    /// What the transitions of a run need: the DAG that it started with and its parameters.
    pub(crate) async fn plan(&self, run: RunId) -> Result<Arc<Plan>> {
        if let Some(plan) = self.plans.get(run) {
            return Ok(plan);
        }
        let record = self.run(run).await?;
        let dag = self.dag(&record).await?;
        let mut scope = scope(run, &dag, &record.params, record.cause, record.interval, record.created_at);
        if let Some(number) = record.batch {
            scope = scope.with_batch(&self.batch(run, &dag.name, number).await?);
        }
        let plan = Arc::new(Plan { run, dag, cause: record.cause, scope });
        self.plans.keep(run, &plan);
        Ok(plan)
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

#[cfg(test)]
mod simulation;

// The same tests on both databases; they look at the name of their module.
#[cfg(test)]
#[path = "tests.rs"]
#[allow(clippy::duplicate_mod, reason = "two databases")]
mod on_postgres;
#[cfg(test)]
#[path = "tests.rs"]
#[allow(clippy::duplicate_mod, reason = "two databases")]
mod on_sqlite;
