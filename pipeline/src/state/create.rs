//! Making a run.

use std::sync::Arc;

use platform::database::Engine;
use sqlx::AnyConnection;

use super::Plan;
use super::assets;
use super::changes;
use super::step::{Locked, lock};
use super::streams;
use super::types::{InstanceKind, RunCause, RunState, TaskState};
use crate::clock::Timestamp;
use crate::dag::{DEFAULT_POOL, Dag};
use crate::error::{Error, Result};
use crate::ids::{BackfillId, DagVersionId, RunId, TaskInstanceId};
use crate::schedule::DataInterval;
use platform::database::Statement;

/// Rows in one INSERT: far below the number of values that SQLite and PostgreSQL take.
pub(super) const ROWS_IN_ONE: usize = 200;

/// Slots of a pool that a task names and nobody made.
const SLOTS_OF_NEW_POOL: i64 = 1;

const DOING: &str = "making a run";

/// What makes a run.
#[derive(Clone, Debug)]
pub(crate) enum Origin {
    /// A person or program.
    Manual,
    /// The schedule of its DAG.
    Schedule,
    /// A backfill.
    Backfill(BackfillId),
    /// Assets that were updated.
    Assets(Vec<String>),
    /// A batch of what has come in for a continuous DAG.
    Stream,
    /// A task of another run, by its idempotency key.
    Task { parent: RunId, key: String },
}

impl Origin {
    pub(crate) fn cause(&self) -> RunCause {
        match self {
            Self::Manual => RunCause::Manual,
            Self::Schedule => RunCause::Schedule,
            Self::Backfill(_) => RunCause::Backfill,
            Self::Assets(_) => RunCause::Asset,
            Self::Stream => RunCause::Stream,
            Self::Task { .. } => RunCause::Dag,
        }
    }
}

/// A run to be made.
pub(crate) struct Create {
    pub(super) plan: Arc<Plan>,
    pub(super) params: String,
    pub(super) origin: Origin,
    pub(super) interval: Option<DataInterval>,
    pub(super) now: Timestamp,
}

impl Create {
    /// When the run is late: counted from the end of its data interval if the schedule has made it, else from now.
    fn deadline(&self) -> Option<Timestamp> {
        let due = match (&self.origin, self.interval) {
            (Origin::Schedule, Some(interval)) => interval.end.into(),
            _ => self.now,
        };
        self.plan.dag.deadline.map(|deadline| due.plus(deadline))
    }
}

/// Writes the DAG's text if it is new, the run, and one row a task, all waiting. Gives false and writes nothing when the
/// schedule or backfill has made a run for the interval before, the task has started one or its own run stops, or
/// no batch is due.
pub(super) async fn create(connection: &mut AnyConnection, engine: Engine, request: &Create) -> Result<bool> {
    let doing = |error| Error::database(DOING, error);
    let Create { plan, params, origin, interval, now } = request;
    let backfill = match origin {
        Origin::Backfill(id) => Some(id.to_string()),
        _ => None,
    };
    let (parent, key) = match origin {
        Origin::Task { parent, key } => (Some(parent.to_string()), Some(key.as_str())),
        _ => (None, None),
    };
    if let Origin::Task { parent, .. } = origin {
        let Locked { state, stopping, .. } = lock(connection, engine, *parent).await?;
        if stopping || state.is_finished() {
            return Ok(false);
        }
    }
    if let Origin::Assets(assets) = origin
        && !assets::take(connection, &plan.dag.name, assets).await?
    {
        return Ok(false);
    }
    let batch = match (origin, &plan.dag.continuous) {
        (Origin::Stream, Some(continuous)) => {
            let next = streams::next_batch(connection, engine, &plan.dag.name, continuous, *now).await?;
            let Some(number) = next else { return Ok(false) };
            Some((number, continuous.max_batch))
        }
        _ => None,
    };
    keep_dag(connection, &plan.dag, *now).await?;
    let made = sqlx::query(
        "INSERT INTO run (id, dag_version_id, dag, params, cause, interval_start, interval_end, state, created_at,
                          backfill_id, parent_run_id, parent_key, deadline_at, batch)
         SELECT $1, id, dag, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12 FROM dag_version WHERE dag = $13 AND sha256 = $14
         ON CONFLICT DO NOTHING",
    )
    .bind(plan.run.to_string())
    .bind(params)
    .bind(origin.cause().as_str())
    .bind(interval.map(|interval| Timestamp::from(interval.start).millis()))
    .bind(interval.map(|interval| Timestamp::from(interval.end).millis()))
    .bind(RunState::Queued.as_str())
    .bind(now.millis())
    .bind(backfill)
    .bind(parent)
    .bind(key)
    .bind(request.deadline().map(Timestamp::millis))
    .bind(batch.map(|(number, _)| number))
    .bind(&plan.dag.name)
    .bind(plan.dag.sha256())
    .execute(&mut *connection)
    .await
    .map_err(doing)?;
    if made.rows_affected() == 0 {
        return Ok(false);
    }
    if let Some((number, most)) = batch {
        streams::fill_batch(connection, plan.run, &plan.dag.name, number, most).await?;
    }
    changes::note(connection, plan.run, RunState::Queued, *now).await?;
    let tasks: Vec<_> = plan.dag.tasks().iter().enumerate().collect();
    for chunk in tasks.chunks(ROWS_IN_ONE) {
        let mut insert = Statement::new(
            "INSERT INTO task_instance
               (id, run_id, task, map_index, kind, position, state, ready_at, priority, queue, pool, slots, labels,
                cpu_millis, memory_bytes, gpus, executor) VALUES ",
        );
        for (position, task) in chunk {
            let kind = if task.map.is_some() { InstanceKind::Map } else { InstanceKind::Single };
            insert
                .row()
                .text(TaskInstanceId::new().to_string())
                .text(plan.run.to_string())
                .text(task.id.as_str())
                .number(-1)
                .text(kind.as_str())
                .number(*position as i64)
                .text(TaskState::Waiting.as_str())
                .number(now.millis())
                .number(i64::from(task.priority))
                .maybe_text(task.queue.as_deref())
                .maybe_text(pool_of(task))
                .number(i64::from(task.slots))
                .maybe_text(task.labels_text().as_deref())
                .number(i64::from(task.resources.cpu_millis))
                .number(i64::try_from(task.resources.memory_bytes).unwrap_or(i64::MAX))
                .number(i64::from(task.resources.gpus))
                .maybe_text(task.executor_text())
                .end_row();
        }
        insert.query().execute(&mut *connection).await.map_err(doing)?;
    }
    Ok(true)
}

/// The pool that a task takes slots of. The default pool has no bound but the workers', so nothing is counted for it.
pub(super) fn pool_of(task: &crate::dag::Task) -> Option<&str> {
    Some(task.pool.as_str()).filter(|pool| *pool != DEFAULT_POOL)
}

/// Writes what a run needs to know of its DAG: its text, its name, and its pools.
pub(super) async fn keep_dag(connection: &mut AnyConnection, dag: &Dag, now: Timestamp) -> Result<()> {
    let doing = |error| Error::database(DOING, error);
    sqlx::query(
        "INSERT INTO dag_version (id, dag, sha256, yaml, created_at) VALUES ($1, $2, $3, $4, $5)
         ON CONFLICT (dag, sha256) DO NOTHING",
    )
    .bind(DagVersionId::new().to_string())
    .bind(&dag.name)
    .bind(dag.sha256())
    .bind(dag.yaml())
    .bind(now.millis())
    .execute(&mut *connection)
    .await
    .map_err(doing)?;
    sqlx::query(
        "INSERT INTO dag (name, dag_version_id, max_active_runs)
         SELECT dag, id, $1 FROM dag_version WHERE dag = $2 AND sha256 = $3 ON CONFLICT (name) DO NOTHING",
    )
    .bind(i64::from(dag.max_active_runs))
    .bind(&dag.name)
    .bind(dag.sha256())
    .execute(&mut *connection)
    .await
    .map_err(doing)?;
    let mut pools: Vec<&str> = dag.tasks().iter().filter_map(pool_of).collect();
    pools.sort_unstable();
    pools.dedup();
    for pool in pools {
        sqlx::query("INSERT INTO pool (name, slots) VALUES ($1, $2) ON CONFLICT (name) DO NOTHING")
            .bind(pool)
            .bind(SLOTS_OF_NEW_POOL)
            .execute(&mut *connection)
            .await
            .map_err(doing)?;
    }
    Ok(())
}
