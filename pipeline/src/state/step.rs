//! One step: everything that a worker has to say and wants to know, in one transaction.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use platform::database::Engine;
use serde_json::json;
use sqlx::AnyConnection;

use super::Plan;
use super::advance::advance;
use super::changes;
use super::claim::{ClaimRequest, Claimed, claim, limits, next_ready};
use super::ended::{Ended, record};
use super::lost::release;
use super::pools;
use super::rules::{Spoiled, verdict_on_run, verdict_on_stopped};
use super::types::{Owner, RunCause, RunState, TaskState};
use crate::clock::Timestamp;
use crate::dag::AlertEvent;
use crate::error::{Error, Result};
use crate::ids::{AttemptId, RunId};

const DOING: &str = "stepping a run";

/// What a worker asks of the store.
///
/// In this order, for each run: it begins if it has not; attempts of the dead are released; ends are recorded; tasks
/// downstream go on; the run ends when nothing is left. Then ready instances are claimed. Folding all this into one
/// transaction makes a chain of tasks cost one flush to the disk a task.
#[derive(Debug)]
pub(crate) struct Step {
    pub(crate) owner: Owner,
    pub(crate) now: Timestamp,
    pub(crate) lease: Duration,
    pub(crate) runs: Vec<RunStep>,
    pub(crate) claim: ClaimRequest,
}

/// What happens to one run in a step.
#[derive(Debug)]
pub(crate) struct RunStep {
    pub(crate) plan: Arc<Plan>,
    pub(crate) begin: Begin,
    pub(crate) lost: Option<LostRule>,
    pub(crate) ended: Arc<Vec<Ended>>,
}

/// Whether a queued run begins.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Begin {
    /// It stays as it is.
    No,
    /// If its DAG has fewer active runs than it allows.
    IfAllowed,
    /// Now, however many are active: a person waits for it.
    Now,
}

/// Which attempts of others are lost.
#[derive(Clone, Debug)]
pub(crate) struct LostRule {
    /// Those of dead processes of this host too, not only those whose lease ran out.
    pub(crate) take_over: bool,
    /// So many lost attempts in a row fail the instance.
    pub(crate) most_in_a_row: u32,
    /// All attempts that the worker knows to be its own. Given after the database went away: it may have committed a
    /// claim whose answer never came, and such attempts are lost too.
    pub(crate) known: Option<Arc<Vec<AttemptId>>>,
    /// Attempts whose process is surely dead.
    pub(crate) gone: Option<Arc<BTreeMap<AttemptId, Gone>>>,
}

/// An attempt whose process is surely dead.
#[derive(Clone, Debug)]
pub(crate) struct Gone {
    /// Who had it: if another has it now, it is not gone.
    pub(crate) owner_key: String,
    /// What became of the process.
    pub(crate) how: String,
}

/// What came of a step.
#[derive(Debug)]
pub(crate) struct StepDone {
    /// One for each run of the step, in its order.
    pub(crate) runs: Vec<RunDone>,
    /// Ours to run now.
    pub(crate) claimed: Vec<Claimed>,
    /// When the next instance becomes ready, if there was room left and one waits for its time.
    pub(crate) next_ready: Option<Timestamp>,
    /// Others may have something to do: instances became ready, or slots free, that this step did not claim, a run of
    /// another DAG may begin, or somebody is to be told.
    pub(crate) more: bool,
}

/// What came of a run in a step.
#[derive(Debug)]
pub(crate) struct RunDone {
    /// For each end given: whether it counted; an end that did not was fenced.
    pub(crate) counted: Vec<bool>,
    /// What else changed, in order.
    pub(crate) changes: Vec<Change>,
    /// Where the run stands now.
    pub(crate) state: RunState,
}

impl RunDone {
    /// Nothing counts, and nothing is to be said of a run that is not there.
    fn of_removed(step: &RunStep) -> Self {
        Self { counted: vec![false; step.ended.len()], changes: Vec::new(), state: RunState::Running }
    }
}

/// A change that the worker did not ask for by itself.
#[derive(Clone, Debug)]
pub(crate) enum Change {
    /// The items of a mapped task are known.
    Expanded { position: usize, instances: u64 },
    /// A task as a whole has ended.
    TaskEnded { position: usize, state: TaskState, error: Option<String> },
    /// An attempt was lost.
    Lost { position: usize, map_index: Option<u32>, failed: bool, how: String },
}

/// One run within a transaction, and what its transitions have found so far.
pub(super) struct RunTransaction<'a> {
    pub(super) connection: &'a mut AnyConnection,
    pub(super) plan: &'a Plan,
    pub(super) now: Timestamp,
    /// The run was told to stop.
    pub(super) stopping: bool,
    pub(super) settled: Settled,
    pub(super) changes: Vec<Change>,
    /// States of tasks as a whole that are known, by position.
    pub(super) states: BTreeMap<usize, TaskState>,
    /// How many instances became ready, by their task's position.
    pub(super) readied: BTreeMap<usize, u64>,
    /// Slots that were given back, by pool.
    pub(super) freed: BTreeMap<String, i64>,
    /// Runs of other DAGs may begin, an instance waits for its time, or somebody is to be told.
    pub(super) concerns_others: bool,
}

/// What the runs of a step left for whoever claims next.
#[derive(Default)]
struct Left {
    readied: BTreeMap<(RunId, usize), u64>,
    freed: BTreeMap<String, i64>,
    concerns_others: bool,
}

/// Tasks, by position, to look at.
#[derive(Default)]
pub(super) struct Settled {
    /// Tasks that have just ended.
    pub(super) ended: Vec<usize>,
    /// Mapped tasks of which an item has just ended: one entry an item.
    pub(super) maps: Vec<usize>,
    /// Waiting tasks whose needs may decide about them now.
    pub(super) candidates: Vec<usize>,
}

/// Takes a step within the writer's transaction.
pub(super) async fn step(connection: &mut AnyConnection, engine: Engine, request: &Step) -> Result<StepDone> {
    let Step { owner, now, lease, runs, claim: wanted } = request;
    let mut done = Vec::with_capacity(runs.len());
    let mut left = Left::default();
    for one in runs {
        done.push(match run_step(connection, engine, owner, *now, one, &mut left).await {
            // It ended long ago and was removed: attempts that come back now are fenced like others of an ended run.
            Err(Error::RunNotFound(_)) => RunDone::of_removed(one),
            other => other?,
        });
    }
    let mut claimed = Vec::new();
    let mut next = None;
    if wanted.free > 0 {
        let limits = limits(connection, wanted).await?;
        claimed = claim(connection, engine, owner, *now, now.plus(*lease), &limits).await?;
        if claimed.is_empty() {
            next = next_ready(connection, *now, &limits).await?;
        }
    }
    let more = left.after(&claimed);
    Ok(StepDone { runs: done, claimed, next_ready: next, more })
}

async fn run_step(
    connection: &mut AnyConnection,
    engine: Engine,
    owner: &Owner,
    now: Timestamp,
    request: &RunStep,
    left: &mut Left,
) -> Result<RunDone> {
    let plan = request.plan.as_ref();
    let Locked { mut state, stopping, begun_before } = lock(connection, engine, plan.run).await?;
    let mut run = RunTransaction::new(connection, plan, now, stopping);
    if state == RunState::Queued && run.begin(request.begin, begun_before).await? {
        state = RunState::Running;
    }
    if let Some(rule) = &request.lost {
        release(&mut run, owner, rule).await?;
    }
    let counted = record(&mut run, owner, &request.ended).await?;
    let may_end = run.settled.is_something();
    advance(&mut run).await?;
    if may_end && run.readied.is_empty() && state == RunState::Running {
        state = run.finish().await?;
    }
    let RunTransaction { changes, readied, freed, concerns_others, .. } = run;
    left.readied.extend(readied.into_iter().map(|(position, count)| ((plan.run, position), count)));
    left.concerns_others |= concerns_others;
    for (pool, slots) in freed {
        *left.freed.entry(pool).or_default() += slots;
    }
    Ok(RunDone { counted, changes, state })
}

impl Left {
    /// Whether there is something left after a claim.
    fn after(&self, claimed: &[Claimed]) -> bool {
        let claims = |run: RunId, position: usize| {
            claimed.iter().filter(|one| one.run == run && one.position == position).count() as u64
        };
        let taken = |pool: &str| -> i64 {
            claimed.iter().filter(|one| one.pool.as_deref() == Some(pool)).map(|one| one.slots).sum()
        };
        self.concerns_others
            || self.readied.iter().any(|(&(run, position), &count)| claims(run, position) < count)
            || self.freed.iter().any(|(pool, &slots)| taken(pool) < slots)
    }
}

/// A run as the transaction found it.
pub(super) struct Locked {
    pub(super) state: RunState,
    /// It was told to stop.
    pub(super) stopping: bool,
    /// It has run, and goes on.
    pub(super) begun_before: bool,
}

/// Where the run stands. On PostgreSQL its row is locked, so that the steps of one run
/// come one after the other: two ends at once would each see the other task still running, and what needs both would
/// wait for ever.
pub(super) async fn lock(connection: &mut AnyConnection, engine: Engine, run: RunId) -> Result<Locked> {
    let sql = match engine {
        Engine::Sqlite => "SELECT state, stop_at, started_at FROM run WHERE id = $1",
        Engine::Postgres => "SELECT state, stop_at, started_at FROM run WHERE id = $1 FOR UPDATE",
    };
    let found: Option<(String, Option<i64>, Option<i64>)> = sqlx::query_as(sql)
        .bind(run.to_string())
        .fetch_optional(connection)
        .await
        .map_err(|error| Error::database(DOING, error))?;
    let (state, stop_at, started_at) = found.ok_or(Error::RunNotFound(run))?;
    Ok(Locked { state: RunState::read(&state)?, stopping: stop_at.is_some(), begun_before: started_at.is_some() })
}

impl Settled {
    fn is_something(&self) -> bool {
        !self.ended.is_empty() || !self.maps.is_empty() || !self.candidates.is_empty()
    }
}

impl<'a> RunTransaction<'a> {
    pub(super) fn new(connection: &'a mut AnyConnection, plan: &'a Plan, now: Timestamp, stopping: bool) -> Self {
        let (settled, changes) = (Settled::default(), Vec::new());
        let (states, readied, freed) = (BTreeMap::new(), BTreeMap::new(), BTreeMap::new());
        Self { connection, plan, now, stopping, settled, changes, states, readied, freed, concerns_others: false }
    }

    /// Notes that instances of a task became ready.
    pub(super) fn made_ready(&mut self, position: usize, count: u64) {
        if count > 0 {
            *self.readied.entry(position).or_default() += count;
        }
    }

    /// Gives back the slots of an attempt that has ended.
    pub(super) async fn give_back(&mut self, pool: Option<&str>, slots: i64) -> Result<()> {
        let Some(pool) = pool else { return Ok(()) };
        *self.freed.entry(pool.to_owned()).or_default() += slots;
        pools::give_back(self.connection, pool, slots).await
    }

    /// Notes what the new state of an instance means for its task.
    pub(super) fn settle(&mut self, position: usize, map_index: Option<u32>, state: TaskState, error: Option<String>) {
        if !state.is_finished() {
            return;
        }
        if map_index.is_some() {
            self.settled.maps.push(position);
            return;
        }
        self.settled.ended.push(position);
        self.states.insert(position, state);
        self.changes.push(Change::TaskEnded { position, state, error });
    }

    /// Lets a queued run begin, and its first tasks go; false when it stays queued.
    async fn begin(&mut self, begin: Begin, begun_before: bool) -> Result<bool> {
        let doing = |error| Error::database(DOING, error);
        // A backfill has a limit of its own, and makes no more runs than that.
        if begin == Begin::No || !self.is_backfill() && !self.count_as_active(begin).await? {
            return Ok(false);
        }
        sqlx::query(
            "UPDATE run SET state = 'running', started_at = COALESCE(started_at, $1), timeout_at = $2
             WHERE id = $3 AND state = 'queued'",
        )
        .bind(self.now.millis())
        .bind(self.plan.dag.timeout.map(|timeout| self.now.plus(timeout).millis()))
        .bind(self.plan.run.to_string())
        .execute(&mut *self.connection)
        .await
        .map_err(doing)?;
        changes::note(self.connection, self.plan.run, RunState::Running, self.now).await?;
        if begun_before {
            self.go_on().await?;
            return Ok(true);
        }
        let first = self.plan.dag.tasks().iter().enumerate().filter(|(_, task)| task.may_go_first());
        self.settled.candidates.extend(first.map(|(position, _)| position));
        Ok(true)
    }

    /// Counts the run for its DAG; false when the DAG allows no more.
    async fn count_as_active(&mut self, begin: Begin) -> Result<bool> {
        let sql = match begin {
            Begin::IfAllowed => {
                "UPDATE dag SET active_runs = active_runs + 1 WHERE name = $1 AND active_runs < max_active_runs"
            }
            Begin::Now | Begin::No => "UPDATE dag SET active_runs = active_runs + 1 WHERE name = $1",
        };
        let counted = sqlx::query(sql)
            .bind(&self.plan.dag.name)
            .execute(&mut *self.connection)
            .await
            .map_err(|error| Error::database(DOING, error))?;
        Ok(counted.rows_affected() > 0)
    }

    /// Ends the run when every task has ended; gives where it stands.
    pub(super) async fn finish(&mut self) -> Result<RunState> {
        let doing = |error| Error::database(DOING, error);
        let run = self.plan.run.to_string();
        let open: Option<(i64,)> = sqlx::query_as(
            "SELECT CAST(1 AS BIGINT) FROM task_instance
             WHERE run_id = $1 AND state IN ('waiting', 'ready', 'running') LIMIT 1",
        )
        .bind(&run)
        .fetch_optional(&mut *self.connection)
        .await
        .map_err(doing)?;
        if open.is_some() {
            return Ok(RunState::Running);
        }
        let (failures,): (i64,) =
            sqlx::query_as("SELECT CAST(COALESCE(SUM(failures), 0) AS BIGINT) FROM task_instance WHERE run_id = $1")
                .bind(&run)
                .fetch_one(&mut *self.connection)
                .await
                .map_err(doing)?;
        let (state, error) = self.verdict(failures).await?;
        sqlx::query(
            "UPDATE run SET state = $1, failures = $2, error = $3, finished_at = $4 WHERE id = $5 AND state = 'running'",
        )
        .bind(state.as_str())
        .bind(failures)
        .bind(&error)
        .bind(self.now.millis())
        .bind(&run)
        .execute(&mut *self.connection)
        .await
        .map_err(doing)?;
        changes::note(self.connection, self.plan.run, state, self.now).await?;
        let event = if state == RunState::Failed { AlertEvent::Failure } else { AlertEvent::Success };
        if state != RunState::Cancelled {
            let failures = u64::try_from(failures).unwrap_or(0);
            let fields = json!({ "state": state.as_str(), "failures": failures, "error": error });
            self.alert(event, fields).await?;
        }
        if !self.is_backfill() {
            sqlx::query("UPDATE dag SET active_runs = active_runs - 1 WHERE name = $1")
                .bind(&self.plan.dag.name)
                .execute(&mut *self.connection)
                .await
                .map_err(doing)?;
        }
        Ok(state)
    }

    fn is_backfill(&self) -> bool {
        self.plan.cause == RunCause::Backfill
    }

    /// How a run whose tasks have all ended has gone, and its first error.
    async fn verdict(&mut self, failures: i64) -> Result<(RunState, Option<String>)> {
        let doing = |error| Error::database(DOING, error);
        let run = self.plan.run.to_string();
        let (stop_at, stop_error): (Option<i64>, Option<String>) =
            sqlx::query_as("SELECT stop_at, stop_error FROM run WHERE id = $1")
                .bind(&run)
                .fetch_one(&mut *self.connection)
                .await
                .map_err(doing)?;
        if stop_at.is_some() {
            return Ok((verdict_on_stopped(stop_error.as_deref()), stop_error));
        }
        let rows: Vec<(i64, String, Option<String>)> = sqlx::query_as(
            "SELECT position, state, error FROM task_instance
             WHERE run_id = $1 AND state IN ('failed', 'upstream_failed') AND map_index = -1
             ORDER BY finished_at, position",
        )
        .bind(&run)
        .fetch_all(&mut *self.connection)
        .await
        .map_err(doing)?;
        let read = |(position, state, error): (i64, String, Option<String>)| {
            let place = usize::try_from(position).unwrap_or(usize::MAX);
            Ok(Spoiled { place, state: TaskState::read(&state)?, error })
        };
        let spoiled: Vec<Spoiled> = rows.into_iter().map(read).collect::<Result<_>>()?;
        Ok(verdict_on_run(&self.plan.dag, &spoiled, failures))
    }
}
