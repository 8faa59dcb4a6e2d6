//! Runs that have ended and are to go on.

use std::collections::BTreeSet;

use platform::database::Engine;
use sqlx::AnyConnection;

use super::Plan;
use super::cache;
use super::changes;
use super::step::{RunTransaction, lock};
use super::types::{InstanceKind, RunState, TaskState};
use crate::clock::Timestamp;
use crate::dag::Dag;
use crate::error::{Error, Result};
use crate::ids::RunId;
use platform::database::Statement;

const DOING: &str = "letting a run go on";

/// What of a run that has ended is done again. Everything keeps its idempotency key, and attempts count on.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Again {
    /// The tasks that failed, were cancelled or never ran, and all that comes after them. Items of a mapped task that
    /// succeeded stay.
    Failed,
    /// One task, whether it failed or not.
    Task {
        /// Its name.
        task: String,
        /// And all that comes after it.
        downstream: bool,
    },
}

/// A wish to let a run go on.
#[derive(Debug)]
pub(crate) struct Reopen {
    pub(crate) again: Again,
    pub(crate) now: Timestamp,
}

/// Which tasks are done again, by position.
#[derive(Debug, Default)]
pub(super) struct Chosen {
    /// As if they had never run.
    pub(super) whole: BTreeSet<usize>,
    /// Mapped tasks of which only the items that did not succeed run again.
    pub(super) items: BTreeSet<usize>,
}

/// A task as a whole, as it stands.
pub(super) struct Row {
    pub(super) position: usize,
    pub(super) state: TaskState,
    /// A mapped task whose items are known.
    pub(super) has_items: bool,
}

/// Puts a run that has ended back into the queue, with the chosen tasks waiting.
pub(super) async fn reopen(
    connection: &mut AnyConnection,
    engine: Engine,
    plan: &Plan,
    request: &Reopen,
) -> Result<RunState> {
    let Reopen { again, now } = request;
    let locked = lock(connection, engine, plan.run).await?;
    if !locked.state.is_finished() {
        return Err(Error::RunNotFinished { run: plan.run, state: locked.state });
    }
    let rows = tasks(connection, plan).await?;
    let chosen = choose(plan.run, &plan.dag, again, &rows)?;
    if matches!(again, Again::Task { .. }) {
        cache::forget(connection, plan, &chosen.whole).await?;
    }
    forget_items(connection, plan, &chosen.whole).await?;
    reset(connection, plan, &chosen, *now).await?;
    // A run that was cancelled before it began goes on as well: any of its tasks may be the first, not only those that
    // need no other.
    sqlx::query(
        "UPDATE run SET state = 'queued', stop_at = NULL, stop_error = NULL, error = NULL, finished_at = NULL,
                timeout_at = NULL, failures = 0, logs_removed = 0, started_at = COALESCE(started_at, $1) WHERE id = $2",
    )
    .bind(now.millis())
    .bind(plan.run.to_string())
    .execute(&mut *connection)
    .await
    .map_err(|error| Error::database(DOING, error))?;
    changes::note(connection, plan.run, RunState::Queued, *now).await?;
    // Its logs were to go by age; now they are of use again.
    sqlx::query("DELETE FROM removal WHERE run_id = $1")
        .bind(plan.run.to_string())
        .execute(&mut *connection)
        .await
        .map_err(|error| Error::database(DOING, error))?;
    Ok(RunState::Queued)
}

impl RunTransaction<'_> {
    /// What a run that goes on begins with: its waiting tasks are looked at, and waiting items go.
    pub(super) async fn go_on(&mut self) -> Result<()> {
        let waiting: Vec<(i64, String)> = sqlx::query_as(
            "SELECT position, state FROM task_instance
             WHERE run_id = $1 AND map_index = -1 AND (state = 'waiting' OR state = 'running' AND kind = 'map')",
        )
        .bind(self.plan.run.to_string())
        .fetch_all(&mut *self.connection)
        .await
        .map_err(|error| Error::database(DOING, error))?;
        for (position, state) in waiting {
            let position = usize::try_from(position).unwrap_or(usize::MAX);
            if state == TaskState::Waiting.as_str() {
                self.settled.candidates.push(position);
                continue;
            }
            let limit = self.plan.dag.tasks().get(position).and_then(|task| task.parallelism);
            let most = limit.map_or(i64::MAX, i64::from);
            let ready = self.let_items_go(position, most).await?;
            self.made_ready(position, ready);
        }
        Ok(())
    }
}

async fn tasks(connection: &mut AnyConnection, plan: &Plan) -> Result<Vec<Row>> {
    let rows: Vec<(i64, String, String, Option<i64>)> = sqlx::query_as(
        "SELECT position, state, kind, instances FROM task_instance
         WHERE run_id = $1 AND map_index = -1 ORDER BY position",
    )
    .bind(plan.run.to_string())
    .fetch_all(connection)
    .await
    .map_err(|error| Error::database(DOING, error))?;
    let read = |(position, state, kind, instances): (i64, String, String, Option<i64>)| {
        let has_items = InstanceKind::read(&kind)? == InstanceKind::Map && instances.is_some_and(|count| count > 0);
        let position = usize::try_from(position).unwrap_or(usize::MAX);
        Ok(Row { position, state: TaskState::read(&state)?, has_items })
    };
    rows.into_iter().map(read).collect()
}

/// What of a run is done again.
pub(super) fn choose(run: RunId, dag: &Dag, again: &Again, rows: &[Row]) -> Result<Chosen> {
    let mut chosen = Chosen::default();
    match again {
        Again::Failed => {
            let failed =
                |row: &&Row| matches!(row.state, TaskState::Failed | TaskState::UpstreamFailed | TaskState::Cancelled);
            for row in rows.iter().filter(failed) {
                chosen.whole.extend(after(dag, row.position));
                if row.has_items {
                    chosen.items.insert(row.position);
                } else {
                    chosen.whole.insert(row.position);
                }
            }
            if chosen.whole.is_empty() && chosen.items.is_empty() {
                return Err(Error::NothingFailed(run));
            }
            // What comes after a failed task begins anew even if only some of its own items failed.
            chosen.items.retain(|position| !chosen.whole.contains(position));
        }
        Again::Task { task, downstream } => {
            let missing = || Error::TaskNotFound { run, task: task.clone(), names: names(dag) };
            let position = dag.position(task).ok_or_else(missing)?;
            chosen.whole.insert(position);
            if *downstream {
                chosen.whole.extend(after(dag, position));
            }
        }
    }
    Ok(chosen)
}

/// All tasks of a DAG, for a message.
pub(super) fn names(dag: &Dag) -> String {
    dag.tasks().iter().map(|task| task.id.as_str()).collect::<Vec<_>>().join(", ")
}

/// All tasks that come after one, by position.
fn after(dag: &Dag, position: usize) -> BTreeSet<usize> {
    let mut found = BTreeSet::new();
    let mut open = vec![position];
    while let Some(next) = open.pop() {
        let downstream = dag.tasks().get(next).map_or(&[][..], |task| &task.downstream);
        open.extend(downstream.iter().filter(|position| found.insert(**position)));
    }
    found
}

/// Removes the items of mapped tasks, whose lists may be others the next time. New items count on from the attempts of
/// these, so that an attempt of before stays void.
async fn forget_items(connection: &mut AnyConnection, plan: &Plan, positions: &BTreeSet<usize>) -> Result<()> {
    let doing = |error| Error::database(DOING, error);
    let mapped = positions.iter().filter(|position| plan.dag.tasks().get(**position).is_some_and(|t| t.map.is_some()));
    for position in mapped {
        let run = plan.run.to_string();
        let position = *position as i64;
        sqlx::query(
            "UPDATE task_instance SET attempts =
               (SELECT COALESCE(MAX(item.attempts), 0) FROM task_instance item
                WHERE item.run_id = $1 AND item.position = $2)
             WHERE run_id = $1 AND position = $2 AND map_index = -1",
        )
        .bind(&run)
        .bind(position)
        .execute(&mut *connection)
        .await
        .map_err(doing)?;
        sqlx::query(
            "DELETE FROM attempt WHERE task_instance_id IN
               (SELECT id FROM task_instance WHERE run_id = $1 AND position = $2 AND map_index >= 0)",
        )
        .bind(&run)
        .bind(position)
        .execute(&mut *connection)
        .await
        .map_err(doing)?;
        sqlx::query("DELETE FROM task_instance WHERE run_id = $1 AND position = $2 AND map_index >= 0")
            .bind(&run)
            .bind(position)
            .execute(&mut *connection)
            .await
            .map_err(doing)?;
    }
    Ok(())
}

async fn reset(connection: &mut AnyConnection, plan: &Plan, chosen: &Chosen, now: Timestamp) -> Result<()> {
    let set = "SET state = 'waiting', failed = 0, lost_in_a_row = 0, output = NULL, items = 0, failures = 0,
                   summary = '', error = NULL, cache_key = NULL, started_at = NULL, finished_at = NULL, ready_at = ";
    for position in &chosen.whole {
        let mut update = Statement::new("UPDATE task_instance ");
        update.push(set).number(now.millis()).push(", instances = NULL WHERE map_index = -1 AND run_id = ");
        run_it(connection, plan, *position, update).await?;
    }
    for position in &chosen.items {
        let mut items = Statement::new("UPDATE task_instance ");
        items.push(set).number(now.millis()).push(" WHERE map_index >= 0 AND state <> 'succeeded' AND run_id = ");
        run_it(connection, plan, *position, items).await?;
        let whole = Statement::new(
            "UPDATE task_instance SET state = 'running', error = NULL, finished_at = NULL
             WHERE map_index = -1 AND run_id = ",
        );
        run_it(connection, plan, *position, whole).await?;
    }
    Ok(())
}

async fn run_it(connection: &mut AnyConnection, plan: &Plan, position: usize, mut update: Statement) -> Result<()> {
    update.text(plan.run.to_string()).push(" AND position = ").number(position as i64);
    update.query().execute(connection).await.map_err(|error| Error::database(DOING, error))?;
    Ok(())
}
