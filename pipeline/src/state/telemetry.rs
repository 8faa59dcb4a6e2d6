//! How far receivers outside were told of runs, and what they are told.

use std::time::Duration;

use sqlx::Row as _;
use sqlx::any::AnyRow;

use super::Store;
use super::types::{AttemptState, InstanceKind, TaskState};
use super::writer::read_id;
use crate::clock::Timestamp;
use crate::error::{Error, Result};
use crate::ids::{RunId, TaskInstanceId};

const DOING: &str = "telling receivers outside of runs";

/// A task instance of a run that has ended, or an attempt at it.
#[derive(Clone, Debug)]
pub(crate) struct InstanceFacts {
    pub(crate) id: TaskInstanceId,
    pub(crate) task: String,
    /// Place of the task in the topological order of its DAG.
    pub(crate) position: i64,
    pub(crate) map_index: Option<u32>,
    pub(crate) state: TaskState,
    pub(crate) started_at: Timestamp,
    pub(crate) finished_at: Timestamp,
    pub(crate) error: Option<String>,
    /// The attempts whose records are kept, in their order.
    pub(crate) attempts: Vec<InstanceAttempt>,
}

/// An attempt at a task instance.
#[derive(Clone, Debug)]
pub(crate) struct InstanceAttempt {
    pub(crate) number: u32,
    pub(crate) state: AttemptState,
    pub(crate) host: String,
    pub(crate) process: i64,
    pub(crate) started_at: Timestamp,
    pub(crate) finished_at: Timestamp,
    pub(crate) error: Option<String>,
}

/// Where a page of instances ends.
#[derive(Clone, Copy, Debug)]
pub(crate) struct After {
    position: i64,
    map_index: i64,
}

impl InstanceFacts {
    /// To ask for those behind it.
    pub(crate) fn place(&self) -> After {
        After { position: self.position, map_index: self.map_index.map_or(-1, i64::from) }
    }
}

impl Store {
    /// Becomes the one who tells a receiver, until `now` + `lease`: the position of the last change that was told.
    /// Nothing while another does. A receiver that is new is told of what happens from now on.
    pub(crate) async fn take_telemetry(
        &self,
        receiver: &str,
        owner: &str,
        now: Timestamp,
        lease: Duration,
    ) -> Result<Option<i64>> {
        sqlx::query(
            "INSERT INTO telemetry (receiver, position, lease_until)
             SELECT $1, position, 0 FROM run_change_last WHERE TRUE ON CONFLICT (receiver) DO NOTHING",
        )
        .bind(receiver)
        .execute(self.pool())
        .await
        .map_err(doing)?;
        let taken: Option<(i64,)> = sqlx::query_as(
            "UPDATE telemetry SET owner = $2, lease_until = $3
             WHERE receiver = $1 AND (owner = $2 OR lease_until < $4) RETURNING position",
        )
        .bind(receiver)
        .bind(owner)
        .bind(now.plus(lease).millis())
        .bind(now.millis())
        .fetch_optional(self.pool())
        .await
        .map_err(doing)?;
        Ok(taken.map(|(position,)| position))
    }

    /// Notes that a receiver was told of all changes up to a position. False when another tells it meanwhile.
    pub(crate) async fn telemetry_told(
        &self,
        receiver: &str,
        owner: &str,
        position: i64,
        lease_until: Timestamp,
    ) -> Result<bool> {
        let noted = sqlx::query(
            "UPDATE telemetry SET position = $3, lease_until = $4
             WHERE receiver = $1 AND owner = $2 AND position <= $3",
        )
        .bind(receiver)
        .bind(owner)
        .bind(position)
        .bind(lease_until.millis())
        .execute(self.pool())
        .await
        .map_err(doing)?;
        Ok(noted.rows_affected() == 1)
    }

    /// Task instances of a run that were tried and have ended, in topological order, with their attempts.
    pub(crate) async fn instances_tried(
        &self,
        run: RunId,
        after: Option<After>,
        most: u32,
    ) -> Result<Vec<InstanceFacts>> {
        let after = after.unwrap_or(After { position: -1, map_index: -2 });
        let rows = sqlx::query(
            "SELECT t.id, t.task, t.position, t.map_index, t.state, t.started_at, t.finished_at, t.error,
                    a.number AS a_number, a.state AS a_state, a.owner_host AS a_host, a.owner_pid AS a_process,
                    a.started_at AS a_started_at, a.finished_at AS a_finished_at, a.error AS a_error
             FROM (SELECT * FROM task_instance
                   WHERE run_id = $1 AND kind <> $2 AND started_at IS NOT NULL AND finished_at IS NOT NULL
                     AND (position > $3 OR (position = $3 AND map_index > $4))
                   ORDER BY position, map_index LIMIT $5) AS t
             LEFT JOIN attempt a ON a.task_instance_id = t.id AND a.finished_at IS NOT NULL
             ORDER BY t.position, t.map_index, a.number",
        )
        .bind(run.to_string())
        .bind(InstanceKind::Map.as_str())
        .bind(after.position)
        .bind(after.map_index)
        .bind(i64::from(most))
        .fetch_all(self.pool())
        .await
        .map_err(doing)?;
        let mut found: Vec<InstanceFacts> = Vec::new();
        for row in &rows {
            let id: TaskInstanceId = read_id(&get::<String>(row, "id")?)?;
            if found.last().is_none_or(|last| last.id != id) {
                found.push(instance(row, id)?);
            }
            if let (Some(last), Some(attempt)) = (found.last_mut(), attempt(row)?) {
                last.attempts.push(attempt);
            }
        }
        Ok(found)
    }
}

fn instance(row: &AnyRow, id: TaskInstanceId) -> Result<InstanceFacts> {
    Ok(InstanceFacts {
        id,
        task: get(row, "task")?,
        position: get(row, "position")?,
        map_index: u32::try_from(get::<i64>(row, "map_index")?).ok(),
        state: TaskState::read(&get::<String>(row, "state")?)?,
        started_at: Timestamp::from_millis(get(row, "started_at")?),
        finished_at: Timestamp::from_millis(get(row, "finished_at")?),
        error: get(row, "error")?,
        attempts: Vec::new(),
    })
}

/// None for an instance whose attempts left no record, because what they looked for was not there yet.
fn attempt(row: &AnyRow) -> Result<Option<InstanceAttempt>> {
    let Some(number) = get::<Option<i64>>(row, "a_number")? else { return Ok(None) };
    Ok(Some(InstanceAttempt {
        number: u32::try_from(number).unwrap_or(u32::MAX),
        state: AttemptState::read(&get::<String>(row, "a_state")?)?,
        host: get(row, "a_host")?,
        process: get(row, "a_process")?,
        started_at: Timestamp::from_millis(get(row, "a_started_at")?),
        finished_at: Timestamp::from_millis(get(row, "a_finished_at")?),
        error: get(row, "a_error")?,
    }))
}

fn get<'r, T: sqlx::Decode<'r, sqlx::Any> + sqlx::Type<sqlx::Any>>(row: &'r AnyRow, name: &str) -> Result<T> {
    row.try_get(name).map_err(doing)
}

fn doing(error: sqlx::Error) -> Error {
    Error::database(DOING, error)
}
