//! Attempts whose owner is gone.

use sqlx::AnyConnection;

use super::claim::STEP_OF_PRIORITY;
use super::pools::give_back;
use super::step::{Change, LostRule, RunTransaction};
use super::types::{Owner, TaskState};
use crate::clock::Timestamp;
use crate::error::{Error, Result};

const DOING: &str = "taking over lost attempts";

#[derive(sqlx::FromRow)]
struct Row {
    instance: String,
    attempt: String,
    position: i64,
    map_index: i64,
    lost_in_a_row: i64,
    pool: Option<String>,
    slots: i64,
    owner_host: String,
    owner_pid: i64,
}

/// Marks attempts of other owners lost whose lease ran out, or, on a take-over, all that ran on this host: the lock of
/// the run was free, so their process is dead. Their instances become ready again, without counting as a retry.
pub(super) async fn release(run: &mut RunTransaction<'_>, owner: &Owner, rule: LostRule) -> Result<()> {
    let LostRule { take_over, most_in_a_row } = rule;
    let (now, stopping) = (run.now, run.stopping);
    let rows: Vec<Row> = sqlx::query_as(
        "SELECT t.id AS instance, a.id AS attempt, t.position, t.map_index, t.lost_in_a_row, t.pool, t.slots,
                a.owner_host, a.owner_pid
         FROM task_instance t JOIN attempt a ON a.task_instance_id = t.id AND a.number = t.attempts
         WHERE t.run_id = $1 AND t.state = 'running' AND t.kind <> 'map' AND a.state = 'running'
           AND a.owner_key <> $2 AND (a.lease_until < $3 OR ($4 = 1 AND a.owner_host = $5))",
    )
    .bind(run.plan.run.to_string())
    .bind(&owner.key)
    .bind(now.millis())
    .bind(i64::from(take_over))
    .bind(&owner.host)
    .fetch_all(&mut *run.connection)
    .await
    .map_err(|error| Error::database(DOING, error))?;
    for row in rows {
        let lost = row.lost_in_a_row + 1;
        let poison = lost >= i64::from(most_in_a_row) && !stopping;
        let how = format!("process {} on {} died or stopped answering", row.owner_pid, row.owner_host);
        let error = poison.then(|| {
            format!(
                "the process died {lost} times in a row while running this (last: process {} on {}); \
                 look for a crash or too little memory, then start a new run",
                row.owner_pid, row.owner_host
            )
        });
        mark_lost(run.connection, &row.attempt, &how, now).await?;
        let state = match (stopping, poison) {
            (true, _) => TaskState::Cancelled,
            (false, true) => TaskState::Failed,
            (false, false) => TaskState::Ready,
        };
        let moved = sqlx::query(
            "UPDATE task_instance
             SET state = $1, ready_at = $2, turn = $2 - priority * $3, lost_in_a_row = $4, error = $5, finished_at = $6
             WHERE id = $7 AND state = 'running'",
        )
        .bind(state.as_str())
        .bind(now.millis())
        .bind(STEP_OF_PRIORITY.as_millis() as i64)
        .bind(lost)
        .bind(&error)
        .bind(state.is_finished().then(|| now.millis()))
        .bind(&row.instance)
        .execute(&mut *run.connection)
        .await
        .map_err(|error| Error::database(DOING, error))?;
        if moved.rows_affected() == 0 {
            return Err(Error::Corrupt {
                what: format!("a running attempt of instance {}, which is not", row.instance),
            });
        }
        give_back(run.connection, row.pool.as_deref(), row.slots).await?;
        let position = usize::try_from(row.position).unwrap_or(usize::MAX);
        let map_index = u32::try_from(row.map_index).ok();
        run.changes.push(Change::Lost { position, map_index, failed: poison, how });
        run.settle(position, map_index, state, error);
    }
    Ok(())
}

async fn mark_lost(connection: &mut AnyConnection, attempt: &str, how: &str, now: Timestamp) -> Result<()> {
    sqlx::query("UPDATE attempt SET state = 'lost', finished_at = $1, error = $2 WHERE id = $3 AND state = 'running'")
        .bind(now.millis())
        .bind(how)
        .bind(attempt)
        .execute(connection)
        .await
        .map_err(|error| Error::database(DOING, error))?;
    Ok(())
}
