//! One step of a run: everything that its runner has to say and wants to know, in one transaction.

use std::sync::Arc;
use std::time::Duration;

use sqlx::SqliteConnection;

use super::Plan;
use super::advance::{Settled, advance};
use super::claim::{Claimed, Slots, claim};
use super::ended::{Ended, record};
use super::lost::release;
use super::types::{Owner, RunState, TaskState};
use crate::clock::Timestamp;
use crate::error::{Error, Result};

const DOING: &str = "stepping a run";

/// What a runner asks of the store.
///
/// In this order: the run begins if it has not; attempts of the dead are released (with `lost`); ends are recorded;
/// tasks downstream go on; ready instances are claimed; the run ends when nothing is left. Folding all this into one
/// transaction makes a chain of tasks cost one flush to the disk a task.
#[derive(Debug)]
pub(crate) struct Step {
    pub(crate) plan: Arc<Plan>,
    pub(crate) owner: Owner,
    pub(crate) now: Timestamp,
    pub(crate) lease: Duration,
    pub(crate) lost: Option<LostRule>,
    pub(crate) ended: Arc<Vec<Ended>>,
    pub(crate) slots: Slots,
}

/// Which attempts of others are lost.
#[derive(Clone, Copy, Debug)]
pub(crate) struct LostRule {
    /// Those of dead processes of this host too, not only those whose lease ran out.
    pub(crate) take_over: bool,
    /// So many lost attempts in a row fail the instance.
    pub(crate) most_in_a_row: u32,
}

/// What came of a step.
#[derive(Debug)]
pub(crate) struct StepDone {
    /// Ours to run now.
    pub(crate) claimed: Vec<Claimed>,
    /// For each end given: whether it counted; an end that did not was fenced.
    pub(crate) counted: Vec<bool>,
    /// What else changed, in order.
    pub(crate) changes: Vec<Change>,
    /// Where the run stands now.
    pub(crate) state: RunState,
    /// When the next instance becomes ready, if any waits for its retry.
    pub(crate) next_ready: Option<Timestamp>,
}

/// A change that the runner did not ask for by itself.
#[derive(Clone, Debug)]
pub(crate) enum Change {
    /// The items of a mapped task are known.
    Expanded { position: usize, instances: u64 },
    /// A task as a whole has ended.
    TaskEnded { position: usize, state: TaskState, error: Option<String> },
    /// An attempt was lost.
    Lost { position: usize, map_index: Option<u32>, failed: bool, how: String },
}

/// Takes a step within the writer's transaction.
pub(super) async fn step(connection: &mut SqliteConnection, request: &Step) -> Result<StepDone> {
    let Step { plan, owner, now, lease, lost, ended, slots } = request;
    let mut settled = Settled::default();
    let mut changes = Vec::new();
    let mut counted = Vec::with_capacity(ended.len());

    let mut state = if lost.is_some() { begin(connection, plan, *now).await? } else { RunState::Running };
    if let Some(rule) = lost {
        release(connection, plan, owner, *now, *rule, &mut settled, &mut changes).await?;
    }
    for end in ended.iter() {
        counted.push(record(connection, owner, *now, end, &mut settled, &mut changes).await?);
    }
    let may_end = lost.is_some() || !settled.ended.is_empty() || !settled.maps.is_empty();
    advance(connection, plan, *now, settled, &mut changes).await?;
    let mut claimed = Vec::new();
    if slots.free > 0 && !state.is_finished() {
        claimed = claim(connection, plan, owner, *now, now.plus(*lease), *slots).await?;
    }
    if may_end && claimed.is_empty() && !state.is_finished() {
        state = finish(connection, plan, *now).await?;
    }
    let next_ready =
        if claimed.is_empty() && slots.free > 0 { next_ready(connection, plan, *now).await? } else { None };
    Ok(StepDone { claimed, counted, changes, state, next_ready })
}

/// Marks the run as begun; gives where it stands.
async fn begin(connection: &mut SqliteConnection, plan: &Plan, now: Timestamp) -> Result<RunState> {
    let doing = |error| Error::database(DOING, error);
    sqlx::query("UPDATE run SET state = 'running', started_at = $1 WHERE id = $2 AND state = 'queued'")
        .bind(now.millis())
        .bind(plan.run.to_string())
        .execute(&mut *connection)
        .await
        .map_err(doing)?;
    let state: Option<(String,)> = sqlx::query_as("SELECT state FROM run WHERE id = $1")
        .bind(plan.run.to_string())
        .fetch_optional(connection)
        .await
        .map_err(doing)?;
    RunState::read(&state.ok_or(Error::RunNotFound(plan.run))?.0)
}

/// Ends the run when every task has ended; gives where it stands.
async fn finish(connection: &mut SqliteConnection, plan: &Plan, now: Timestamp) -> Result<RunState> {
    let doing = |error| Error::database(DOING, error);
    let run = plan.run.to_string();
    let open: Option<(i64,)> = sqlx::query_as(
        "SELECT 1 FROM task_instance WHERE run_id = $1 AND state IN ('waiting', 'ready', 'running') LIMIT 1",
    )
    .bind(&run)
    .fetch_optional(&mut *connection)
    .await
    .map_err(doing)?;
    if open.is_some() {
        return Ok(RunState::Running);
    }
    let failures: (i64,) = sqlx::query_as("SELECT COALESCE(SUM(failures), 0) FROM task_instance WHERE run_id = $1")
        .bind(&run)
        .fetch_one(&mut *connection)
        .await
        .map_err(doing)?;
    let failed: Option<(String, Option<String>)> = sqlx::query_as(
        "SELECT task, error FROM task_instance
         WHERE run_id = $1 AND state = 'failed' AND map_index = -1 ORDER BY finished_at, position LIMIT 1",
    )
    .bind(&run)
    .fetch_optional(&mut *connection)
    .await
    .map_err(doing)?;
    let (state, error) = match failed {
        Some((task, error)) => (RunState::Failed, Some(format!("task `{task}`: {}", error.unwrap_or_default()))),
        None if failures.0 > 0 => (RunState::SucceededWithFailures, None),
        None => (RunState::Succeeded, None),
    };
    sqlx::query(
        "UPDATE run SET state = $1, failures = $2, error = $3, finished_at = $4 WHERE id = $5 AND state = 'running'",
    )
    .bind(state.as_str())
    .bind(failures.0)
    .bind(error)
    .bind(now.millis())
    .bind(&run)
    .execute(connection)
    .await
    .map_err(doing)?;
    Ok(state)
}

/// When the first retry delay ends. What is ready already waits for room, not for time.
async fn next_ready(connection: &mut SqliteConnection, plan: &Plan, now: Timestamp) -> Result<Option<Timestamp>> {
    let next: (Option<i64>,) = sqlx::query_as(
        "SELECT MIN(ready_at) FROM task_instance WHERE run_id = $1 AND state = 'ready' AND ready_at > $2",
    )
    .bind(plan.run.to_string())
    .bind(now.millis())
    .fetch_one(connection)
    .await
    .map_err(|error| Error::database(DOING, error))?;
    Ok(next.0.map(Timestamp::from_millis))
}
