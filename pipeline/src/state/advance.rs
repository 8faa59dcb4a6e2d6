//! What the end of a task means for the tasks downstream.

use sqlx::{QueryBuilder, Sqlite, SqliteConnection};

use super::Plan;
use super::create::ROWS_IN_ONE;
use super::read::output_of;
use super::step::Change;
use super::types::{InstanceKind, TaskState};
use crate::clock::Timestamp;
use crate::error::{Error, Result};
use crate::ids::TaskInstanceId;
use crate::template;

/// Items of one mapped task.
const MOST_ITEMS: usize = 100_000;
const DOING: &str = "letting tasks go on";

/// Tasks, by position, to look at.
#[derive(Default)]
pub(super) struct Settled {
    /// Tasks that have just ended.
    pub(super) ended: Vec<usize>,
    /// Mapped tasks of which an item has just ended.
    pub(super) maps: Vec<usize>,
    /// Waiting tasks whose needs may all have ended.
    pub(super) candidates: Vec<usize>,
}

/// What a waiting task does next, decided by the states of the tasks that it needs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Next {
    Wait,
    Go,
    Skip,
    FailWithUpstream,
}

/// Ends mapped tasks whose items have all ended, and lets waiting tasks go on, until nothing more follows.
pub(super) async fn advance(
    connection: &mut SqliteConnection,
    plan: &Plan,
    now: Timestamp,
    mut settled: Settled,
    changes: &mut Vec<Change>,
) -> Result<()> {
    settled.maps.sort_unstable();
    settled.maps.dedup();
    for map in std::mem::take(&mut settled.maps) {
        if end_map(connection, plan, map, now, changes).await? {
            settled.ended.push(map);
        }
    }
    loop {
        for ended in std::mem::take(&mut settled.ended) {
            if let Some(task) = plan.dag.tasks().get(ended) {
                settled.candidates.extend(&task.downstream);
            }
        }
        settled.candidates.sort_unstable();
        settled.candidates.dedup();
        if settled.candidates.is_empty() {
            return Ok(());
        }
        for candidate in std::mem::take(&mut settled.candidates) {
            if let Some(state) = let_go(connection, plan, candidate, now, changes).await?
                && state.is_finished()
            {
                settled.ended.push(candidate);
            }
        }
    }
}

fn decide(needs: &[TaskState]) -> Next {
    if needs.iter().any(|state| !state.is_finished()) {
        return Next::Wait;
    }
    if needs.iter().any(|state| matches!(state, TaskState::Failed | TaskState::UpstreamFailed)) {
        return Next::FailWithUpstream;
    }
    if needs.contains(&TaskState::Skipped) { Next::Skip } else { Next::Go }
}

/// Moves one waiting task; gives its new state, or nothing when it stays.
async fn let_go(
    connection: &mut SqliteConnection,
    plan: &Plan,
    position: usize,
    now: Timestamp,
    changes: &mut Vec<Change>,
) -> Result<Option<TaskState>> {
    let Some(task) = plan.dag.tasks().get(position) else { return Ok(None) };
    let mut needs = Vec::with_capacity(task.needs.len());
    for need in &task.needs {
        needs.push(state_of(connection, plan, need, changes).await?);
    }
    let (state, error) = match decide(&needs) {
        Next::Wait => return Ok(None),
        Next::Go if task.map.is_some() => return expand(connection, plan, position, now, changes).await,
        Next::Go => (TaskState::Ready, None),
        Next::Skip => (TaskState::Skipped, None),
        Next::FailWithUpstream => {
            let failed = task.needs.iter().zip(&needs).filter(|(_, state)| **state != TaskState::Succeeded);
            let names: Vec<&str> = failed.map(|(name, _)| name.as_str()).collect();
            (TaskState::UpstreamFailed, Some(format!("not run because of {}", names.join(", "))))
        }
    };
    move_task(connection, plan, position, TaskState::Waiting, state, error, now, changes).await
}

/// The state of a task as a whole; what ended in this transaction is known without asking.
async fn state_of(connection: &mut SqliteConnection, plan: &Plan, task: &str, changes: &[Change]) -> Result<TaskState> {
    let own = plan.dag.position(task);
    let ended = changes.iter().find_map(|change| match change {
        Change::TaskEnded { position, state, .. } if Some(*position) == own => Some(*state),
        _ => None,
    });
    if let Some(state) = ended {
        return Ok(state);
    }
    let state: (String,) =
        sqlx::query_as("SELECT state FROM task_instance WHERE run_id = $1 AND task = $2 AND map_index = -1")
            .bind(plan.run.to_string())
            .bind(task)
            .fetch_one(connection)
            .await
            .map_err(|error| Error::database(DOING, error))?;
    TaskState::read(&state.0)
}

/// Makes the items of a mapped task whose list can now be known.
async fn expand(
    connection: &mut SqliteConnection,
    plan: &Plan,
    position: usize,
    now: Timestamp,
    changes: &mut Vec<Change>,
) -> Result<Option<TaskState>> {
    let Some(task) = plan.dag.tasks().get(position) else { return Ok(None) };
    let mut scope = plan.scope.clone();
    for used in &task.map_uses {
        let output = output_of(connection, plan.run, used).await?.unwrap_or_default();
        scope.add_output(used, &output);
    }
    let items = task.map.as_ref().map_or(Ok(serde_json::Value::Null), |map| template::render(map, &scope));
    let items = match items {
        Ok(serde_json::Value::Array(items)) if items.len() <= MOST_ITEMS => items,
        other => {
            let error = match other {
                Ok(serde_json::Value::Array(items)) => {
                    format!("`map` gave {} items, more than the {MOST_ITEMS} allowed; make larger items", items.len())
                }
                Ok(_) => "`map` gave no list; it must be a list of items".to_string(),
                Err(error) => format!("`map`: {error}"),
            };
            return move_task(
                connection,
                plan,
                position,
                TaskState::Waiting,
                TaskState::Failed,
                Some(error),
                now,
                changes,
            )
            .await;
        }
    };
    let state = if items.is_empty() { TaskState::Succeeded } else { TaskState::Running };
    let moved = sqlx::query(
        "UPDATE task_instance SET state = $1, instances = $2, started_at = $3, finished_at = $4
         WHERE run_id = $5 AND task = $6 AND map_index = -1 AND state = 'waiting'",
    )
    .bind(state.as_str())
    .bind(items.len() as i64)
    .bind(now.millis())
    .bind(state.is_finished().then(|| now.millis()))
    .bind(plan.run.to_string())
    .bind(&task.id)
    .execute(&mut *connection)
    .await
    .map_err(|error| Error::database(DOING, error))?;
    if moved.rows_affected() == 0 {
        return Ok(None);
    }
    let count = items.len();
    let rows: Vec<(usize, String)> = items.iter().map(serde_json::Value::to_string).enumerate().collect();
    for chunk in rows.chunks(ROWS_IN_ONE) {
        let mut query = QueryBuilder::<Sqlite>::new(
            "INSERT INTO task_instance (id, run_id, task, map_index, kind, position, state, ready_at, item) ",
        );
        query.push_values(chunk, |mut row, (index, item)| {
            row.push_bind(TaskInstanceId::new().to_string())
                .push_bind(plan.run.to_string())
                .push_bind(&task.id)
                .push_bind(*index as i64)
                .push_bind(InstanceKind::Item.as_str())
                .push_bind(position as i64)
                .push_bind(TaskState::Ready.as_str())
                .push_bind(now.millis())
                .push_bind(item);
        });
        query.build().execute(&mut *connection).await.map_err(|error| Error::database(DOING, error))?;
    }
    changes.push(Change::Expanded { position, instances: count as u64 });
    if state.is_finished() {
        changes.push(Change::TaskEnded { position, state, error: None });
    }
    Ok(Some(state))
}

/// Ends a mapped task when its last item has ended.
async fn end_map(
    connection: &mut SqliteConnection,
    plan: &Plan,
    position: usize,
    now: Timestamp,
    changes: &mut Vec<Change>,
) -> Result<bool> {
    let doing = |error| Error::database(DOING, error);
    let run = plan.run.to_string();
    let open: Option<(i64,)> = sqlx::query_as(
        "SELECT 1 FROM task_instance
         WHERE run_id = $1 AND state IN ('ready', 'running') AND position = $2 AND map_index >= 0 LIMIT 1",
    )
    .bind(&run)
    .bind(position as i64)
    .fetch_optional(&mut *connection)
    .await
    .map_err(doing)?;
    if open.is_some() {
        return Ok(false);
    }
    let failed: Vec<(i64, Option<String>)> = sqlx::query_as(
        "SELECT map_index, error FROM task_instance
         WHERE run_id = $1 AND state = 'failed' AND position = $2 AND map_index >= 0 ORDER BY map_index",
    )
    .bind(&run)
    .bind(position as i64)
    .fetch_all(&mut *connection)
    .await
    .map_err(doing)?;
    let (state, error) = match failed.first() {
        None => (TaskState::Succeeded, None),
        Some((index, first)) => {
            let first = first.clone().unwrap_or_default();
            let error = match failed.len() {
                1 => format!("item {index}: {first}"),
                count => format!("{count} items failed; the first, item {index}: {first}"),
            };
            (TaskState::Failed, Some(error))
        }
    };
    let moved = move_task(connection, plan, position, TaskState::Running, state, error, now, changes).await?;
    Ok(moved.is_some())
}

/// Compare-and-set on the row of a task as a whole.
#[allow(clippy::too_many_arguments)]
async fn move_task(
    connection: &mut SqliteConnection,
    plan: &Plan,
    position: usize,
    from: TaskState,
    to: TaskState,
    error: Option<String>,
    now: Timestamp,
    changes: &mut Vec<Change>,
) -> Result<Option<TaskState>> {
    let Some(task) = plan.dag.tasks().get(position) else { return Ok(None) };
    let moved = sqlx::query(
        "UPDATE task_instance SET state = $1, error = $2, ready_at = $3, finished_at = $4
         WHERE run_id = $5 AND task = $6 AND map_index = -1 AND state = $7",
    )
    .bind(to.as_str())
    .bind(&error)
    .bind(now.millis())
    .bind(to.is_finished().then(|| now.millis()))
    .bind(plan.run.to_string())
    .bind(&task.id)
    .bind(from.as_str())
    .execute(&mut *connection)
    .await
    .map_err(|error| Error::database(DOING, error))?;
    if moved.rows_affected() == 0 {
        return Ok(None);
    }
    if to.is_finished() {
        changes.push(Change::TaskEnded { position, state: to, error });
    }
    Ok(Some(to))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_task_goes_on_only_when_all_needs_ended_well() {
        use TaskState::{Failed, Ready, Running, Skipped, Succeeded, UpstreamFailed, Waiting};
        assert_eq!(decide(&[]), Next::Go);
        assert_eq!(decide(&[Succeeded, Succeeded]), Next::Go);
        for open in [Waiting, Ready, Running] {
            assert_eq!(decide(&[Succeeded, open]), Next::Wait);
            assert_eq!(decide(&[Failed, open]), Next::Wait);
        }
        assert_eq!(decide(&[Succeeded, Failed]), Next::FailWithUpstream);
        assert_eq!(decide(&[UpstreamFailed, Skipped]), Next::FailWithUpstream);
        assert_eq!(decide(&[Skipped, Succeeded]), Next::Skip);
    }
}
