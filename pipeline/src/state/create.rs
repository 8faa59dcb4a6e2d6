//! Making a run.

use sqlx::{QueryBuilder, Sqlite, SqliteConnection};

use super::Plan;
use super::advance::{Settled, advance};
use super::types::{InstanceKind, RunState, TaskState};
use crate::clock::Timestamp;
use crate::error::{Error, Result};
use crate::ids::{DagVersionId, TaskInstanceId};

/// Rows in one INSERT: far below the number of values that SQLite and PostgreSQL take.
pub(super) const ROWS_IN_ONE: usize = 200;

/// A run to be made.
pub(crate) struct Create {
    pub(super) plan: Plan,
    pub(super) params: String,
    pub(super) now: Timestamp,
}

/// Writes the DAG's text if it is new, the run, and one row a task.
pub(super) async fn create(connection: &mut SqliteConnection, request: &Create) -> Result<()> {
    let doing = |error| Error::database("making a run", error);
    let Create { plan, params, now } = request;
    sqlx::query(
        "INSERT INTO dag_version (id, dag, sha256, yaml, created_at) VALUES ($1, $2, $3, $4, $5)
         ON CONFLICT (dag, sha256) DO NOTHING",
    )
    .bind(DagVersionId::new().to_string())
    .bind(&plan.dag.name)
    .bind(plan.dag.sha256())
    .bind(plan.dag.yaml())
    .bind(now.millis())
    .execute(&mut *connection)
    .await
    .map_err(doing)?;
    sqlx::query(
        "INSERT INTO run (id, dag_version_id, dag, params, state, created_at)
         SELECT $1, id, dag, $2, $3, $4 FROM dag_version WHERE dag = $5 AND sha256 = $6",
    )
    .bind(plan.run.to_string())
    .bind(params)
    .bind(RunState::Queued.as_str())
    .bind(now.millis())
    .bind(&plan.dag.name)
    .bind(plan.dag.sha256())
    .execute(&mut *connection)
    .await
    .map_err(doing)?;

    let tasks: Vec<_> = plan.dag.tasks().iter().enumerate().collect();
    for chunk in tasks.chunks(ROWS_IN_ONE) {
        let mut query = QueryBuilder::<Sqlite>::new(
            "INSERT INTO task_instance (id, run_id, task, map_index, kind, position, state, ready_at) ",
        );
        query.push_values(chunk, |mut row, (position, task)| {
            let kind = if task.map.is_some() { InstanceKind::Map } else { InstanceKind::Single };
            row.push_bind(TaskInstanceId::new().to_string())
                .push_bind(plan.run.to_string())
                .push_bind(&task.id)
                .push_bind(-1_i64)
                .push_bind(kind.as_str())
                .push_bind(*position as i64)
                .push_bind(TaskState::Waiting.as_str())
                .push_bind(now.millis());
        });
        query.build().execute(&mut *connection).await.map_err(doing)?;
    }
    let roots = plan.dag.tasks().iter().enumerate().filter(|(_, task)| task.needs.is_empty());
    let roots: Vec<usize> = roots.map(|(position, _)| position).collect();
    advance(connection, plan, *now, Settled { candidates: roots, ..Settled::default() }, &mut Vec::new()).await
}
