//! Making a run.

use sqlx::AnyConnection;

use super::Plan;
use super::statement::Statement;
use super::types::{InstanceKind, RunCause, RunState, TaskState};
use crate::clock::Timestamp;
use crate::dag::{DEFAULT_POOL, Dag};
use crate::error::{Error, Result};
use crate::ids::{DagVersionId, TaskInstanceId};
use crate::schedule::DataInterval;

/// Rows in one INSERT: far below the number of values that SQLite and PostgreSQL take.
pub(super) const ROWS_IN_ONE: usize = 200;

/// Slots of a pool that a task names and nobody made.
const SLOTS_OF_NEW_POOL: i64 = 1;

const DOING: &str = "making a run";

/// A run to be made.
pub(crate) struct Create {
    pub(super) plan: Plan,
    pub(super) params: String,
    pub(super) cause: RunCause,
    pub(super) interval: Option<DataInterval>,
    pub(super) now: Timestamp,
}

/// Writes the DAG's text if it is new, the run, and one row a task, all waiting. Gives false and writes nothing when the
/// schedule has made a run for the interval before.
pub(super) async fn create(connection: &mut AnyConnection, request: &Create) -> Result<bool> {
    let doing = |error| Error::database(DOING, error);
    let Create { plan, params, cause, interval, now } = request;
    keep_dag(connection, &plan.dag, *now).await?;
    let made = sqlx::query(
        "INSERT INTO run (id, dag_version_id, dag, params, cause, interval_start, interval_end, state, created_at)
         SELECT $1, id, dag, $2, $3, $4, $5, $6, $7 FROM dag_version WHERE dag = $8 AND sha256 = $9
         ON CONFLICT DO NOTHING",
    )
    .bind(plan.run.to_string())
    .bind(params)
    .bind(cause.as_str())
    .bind(interval.map(|interval| Timestamp::from(interval.start).millis()))
    .bind(interval.map(|interval| Timestamp::from(interval.end).millis()))
    .bind(RunState::Queued.as_str())
    .bind(now.millis())
    .bind(&plan.dag.name)
    .bind(plan.dag.sha256())
    .execute(&mut *connection)
    .await
    .map_err(doing)?;
    if made.rows_affected() == 0 {
        return Ok(false);
    }
    let tasks: Vec<_> = plan.dag.tasks().iter().enumerate().collect();
    for chunk in tasks.chunks(ROWS_IN_ONE) {
        let mut insert = Statement::new(
            "INSERT INTO task_instance
               (id, run_id, task, map_index, kind, position, state, ready_at, priority, queue, pool, slots) VALUES ",
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
