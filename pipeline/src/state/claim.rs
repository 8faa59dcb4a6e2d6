//! Claims: a ready task instance gets a running attempt.

use std::collections::HashMap;

use sqlx::{QueryBuilder, Sqlite, SqliteConnection};

use super::Plan;
use super::types::Owner;
use super::writer::read_id;
use crate::clock::Timestamp;
use crate::error::{Error, Result};
use crate::ids::{AttemptId, TaskInstanceId};

const DOING: &str = "claiming tasks";
/// An instance under which the process died this often in a row is suspected of killing it, and runs alone from then
/// on: instances that only happened to run beside the guilty one are cleared.
const SUSPECT: i64 = 2;

/// An attempt that is ours to run.
#[derive(Clone, Debug)]
pub(crate) struct Claimed {
    pub(crate) attempt: AttemptId,
    pub(crate) instance: TaskInstanceId,
    /// The fencing token.
    pub(crate) number: u32,
    /// Place of the task in the DAG's topological order.
    pub(crate) position: usize,
    pub(crate) map_index: Option<u32>,
    /// JSON text of the item.
    pub(crate) item: Option<String>,
    /// Earlier attempts that count against the retries.
    pub(crate) failed: u32,
    /// Nothing else should run in this process meanwhile.
    pub(crate) alone: bool,
}

/// id, position, map_index, attempts, failed, item, lost_in_a_row
type Row = (String, i64, i64, i64, i64, Option<String>, i64);

/// Room for claims.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Slots {
    /// How many instances to claim at most.
    pub(crate) free: usize,
    /// Whether nothing of the run is at work in this process.
    pub(crate) idle: bool,
}

/// Claims ready instances, upstream tasks first, within each task's own limit; a suspect only when nothing else is left.
pub(super) async fn claim(
    connection: &mut SqliteConnection,
    plan: &Plan,
    owner: &Owner,
    now: Timestamp,
    lease_until: Timestamp,
    slots: Slots,
) -> Result<Vec<Claimed>> {
    let mut claimed = Vec::new();
    let mut free = free_by_task(connection, plan).await?;
    while claimed.len() < slots.free {
        let rows = ready(connection, plan, now, slots.free - claimed.len(), false, &free).await?;
        let mut taken = 0;
        for row in rows {
            let position = usize::try_from(row.1).unwrap_or(usize::MAX);
            if let Some(left) = free.get_mut(&position) {
                if *left == 0 {
                    continue;
                }
                *left -= 1;
            }
            taken += 1;
            if let Some(claim) = take(connection, owner, now, lease_until, row).await? {
                claimed.push(claim);
            }
        }
        if taken == 0 {
            break;
        }
    }
    if claimed.is_empty() && slots.idle && slots.free > 0 {
        for row in ready(connection, plan, now, 1, true, &free).await? {
            claimed.extend(take(connection, owner, now, lease_until, row).await?);
        }
    }
    Ok(claimed)
}

/// For every task with a limit of its own: how many more of it may run, whoever runs them.
async fn free_by_task(connection: &mut SqliteConnection, plan: &Plan) -> Result<HashMap<usize, usize>> {
    let limits = plan.dag.tasks().iter().enumerate().filter_map(|(position, task)| {
        task.parallelism.map(|limit| (position, usize::try_from(limit).unwrap_or(usize::MAX)))
    });
    let mut free: HashMap<usize, usize> = limits.collect();
    if free.is_empty() {
        return Ok(free);
    }
    let running: Vec<(i64, i64)> = sqlx::query_as(
        "SELECT position, COUNT(*) FROM task_instance
         WHERE run_id = $1 AND state = 'running' AND map_index >= 0 GROUP BY position",
    )
    .bind(plan.run.to_string())
    .fetch_all(connection)
    .await
    .map_err(|error| Error::database(DOING, error))?;
    for (position, count) in running {
        if let Some(left) = usize::try_from(position).ok().and_then(|position| free.get_mut(&position)) {
            *left = left.saturating_sub(usize::try_from(count).unwrap_or(usize::MAX));
        }
    }
    Ok(free)
}

/// Ready instances of tasks that have room.
async fn ready(
    connection: &mut SqliteConnection,
    plan: &Plan,
    now: Timestamp,
    most: usize,
    suspects: bool,
    free: &HashMap<usize, usize>,
) -> Result<Vec<Row>> {
    let mut query = QueryBuilder::<Sqlite>::new(
        "SELECT id, position, map_index, attempts, failed, item, lost_in_a_row FROM task_instance WHERE run_id = ",
    );
    query.push_bind(plan.run.to_string()).push(" AND state = 'ready' AND ready_at <= ").push_bind(now.millis());
    query.push(if suspects { " AND lost_in_a_row >= " } else { " AND lost_in_a_row < " }).push_bind(SUSPECT);
    let mut full: Vec<i64> =
        free.iter().filter(|(_, left)| **left == 0).map(|(position, _)| *position as i64).collect();
    full.sort_unstable();
    if !full.is_empty() {
        query.push(" AND position NOT IN (");
        let mut list = query.separated(", ");
        for position in full {
            list.push_bind(position);
        }
        query.push(")");
    }
    query.push(" ORDER BY position, map_index LIMIT ").push_bind(most as i64);
    query.build_query_as().fetch_all(connection).await.map_err(|error| Error::database(DOING, error))
}

/// Compare-and-set on one instance, and the attempt that runs it. Nothing when another was faster.
async fn take(
    connection: &mut SqliteConnection,
    owner: &Owner,
    now: Timestamp,
    lease_until: Timestamp,
    row: Row,
) -> Result<Option<Claimed>> {
    let doing = |error| Error::database(DOING, error);
    let (instance, position, map_index, attempts, failed, item, lost_in_a_row) = row;
    let number = attempts + 1;
    let moved = sqlx::query(
        "UPDATE task_instance SET state = 'running', attempts = $1, started_at = COALESCE(started_at, $2)
         WHERE id = $3 AND state = 'ready' AND attempts = $4",
    )
    .bind(number)
    .bind(now.millis())
    .bind(&instance)
    .bind(attempts)
    .execute(&mut *connection)
    .await
    .map_err(doing)?;
    if moved.rows_affected() == 0 {
        return Ok(None);
    }
    let attempt = AttemptId::new();
    sqlx::query(
        "INSERT INTO attempt (id, task_instance_id, number, state, owner_host, owner_pid, owner_key, lease_until, started_at)
         VALUES ($1, $2, $3, 'running', $4, $5, $6, $7, $8)",
    )
    .bind(attempt.to_string())
    .bind(&instance)
    .bind(number)
    .bind(&owner.host)
    .bind(i64::from(owner.pid))
    .bind(&owner.key)
    .bind(lease_until.millis())
    .bind(now.millis())
    .execute(connection)
    .await
    .map_err(doing)?;
    Ok(Some(Claimed {
        attempt,
        instance: read_id(&instance)?,
        number: u32::try_from(number).map_err(|_| Error::Corrupt { what: format!("attempt number {number}") })?,
        position: usize::try_from(position).map_err(|_| Error::Corrupt { what: format!("position {position}") })?,
        map_index: u32::try_from(map_index).ok(),
        item,
        failed: u32::try_from(failed).unwrap_or(u32::MAX),
        alone: lost_in_a_row >= SUSPECT,
    }))
}
