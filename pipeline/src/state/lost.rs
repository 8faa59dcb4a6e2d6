//! Attempts whose owner is gone.

use sqlx::SqliteConnection;

use super::Plan;
use super::advance::Settled;
use super::ended::settle;
use super::step::{Change, LostRule};
use super::types::{Owner, TaskState};
use crate::clock::Timestamp;
use crate::error::{Error, Result};

const DOING: &str = "taking over lost attempts";

/// id, attempt's id, position, map_index, lost_in_a_row, owner_host, owner_pid
type Row = (String, String, i64, i64, i64, String, i64);

/// Marks attempts of other owners lost whose lease ran out, or, on a take-over, all that ran on this host: the lock of
/// the run was free, so their process is dead. Their instances become ready again, without counting as a retry.
pub(super) async fn release(
    connection: &mut SqliteConnection,
    plan: &Plan,
    owner: &Owner,
    now: Timestamp,
    rule: LostRule,
    settled: &mut Settled,
    changes: &mut Vec<Change>,
) -> Result<()> {
    let LostRule { take_over, most_in_a_row } = rule;
    let rows: Vec<Row> = sqlx::query_as(
        "SELECT t.id, a.id, t.position, t.map_index, t.lost_in_a_row, a.owner_host, a.owner_pid
         FROM task_instance t JOIN attempt a ON a.task_instance_id = t.id AND a.number = t.attempts
         WHERE t.run_id = $1 AND t.state = 'running' AND t.kind <> 'map' AND a.state = 'running'
           AND a.owner_key <> $2 AND (a.lease_until < $3 OR ($4 = 1 AND a.owner_host = $5))",
    )
    .bind(plan.run.to_string())
    .bind(&owner.key)
    .bind(now.millis())
    .bind(i64::from(take_over))
    .bind(&owner.host)
    .fetch_all(&mut *connection)
    .await
    .map_err(|error| Error::database(DOING, error))?;
    for (instance, attempt, position, map_index, lost_before, host, pid) in rows {
        let lost = lost_before + 1;
        let poison = lost >= i64::from(most_in_a_row);
        let how = format!("process {pid} on {host} died or stopped answering");
        let error = poison.then(|| {
            format!(
                "the process died {lost} times in a row while running this (last: process {pid} on {host}); \
                 look for a crash or too little memory, then start a new run"
            )
        });
        mark_lost(connection, &attempt, &how, now).await?;
        let state = if poison { TaskState::Failed } else { TaskState::Ready };
        let moved = sqlx::query(
            "UPDATE task_instance SET state = $1, ready_at = $2, lost_in_a_row = $3, error = $4, finished_at = $5
             WHERE id = $6 AND state = 'running'",
        )
        .bind(state.as_str())
        .bind(now.millis())
        .bind(lost)
        .bind(&error)
        .bind(poison.then(|| now.millis()))
        .bind(&instance)
        .execute(&mut *connection)
        .await
        .map_err(|error| Error::database(DOING, error))?;
        if moved.rows_affected() == 0 {
            return Err(Error::Corrupt { what: format!("a running attempt of instance {instance}, which is not") });
        }
        let position = usize::try_from(position).unwrap_or(usize::MAX);
        let map_index = u32::try_from(map_index).ok();
        changes.push(Change::Lost { position, map_index, failed: poison, how });
        settle(position, map_index, state, error, settled, changes);
    }
    Ok(())
}

async fn mark_lost(connection: &mut SqliteConnection, attempt: &str, how: &str, now: Timestamp) -> Result<()> {
    sqlx::query("UPDATE attempt SET state = 'lost', finished_at = $1, error = $2 WHERE id = $3 AND state = 'running'")
        .bind(now.millis())
        .bind(how)
        .bind(attempt)
        .execute(connection)
        .await
        .map_err(|error| Error::database(DOING, error))?;
    Ok(())
}
