//! The end of an attempt.

use sqlx::SqliteConnection;

use super::advance::Settled;
use super::claim::Claimed;
use super::step::Change;
use super::types::{AttemptState, Owner, TaskState};
use crate::clock::Timestamp;
use crate::error::{Error, Result};

const DOING: &str = "recording the end of an attempt";

/// An attempt that came back.
#[derive(Debug)]
pub(crate) struct Ended {
    pub(crate) claim: Claimed,
    pub(crate) end: End,
    /// Items that the job counted as done.
    pub(crate) items: u64,
}

/// How it came back.
#[derive(Debug)]
pub(crate) enum End {
    /// With an output, as JSON text.
    Succeeded { output: String, failures: u64, summary: String },
    /// With an error. It is tried again at `retry_at`, or never.
    Failed { error: String, retry_at: Option<Timestamp> },
    /// What it waits for is not there: it looks again at `at`. Nothing counts, and no trace of the attempt stays.
    Later { note: String, at: Timestamp },
    /// Stopped on request: it runs again when the run goes on, and nothing counts.
    Interrupted,
}

/// Records one end by compare-and-set on the attempt: an answer from an attempt that lost its instance changes nothing
/// and gives false.
pub(super) async fn record(
    connection: &mut SqliteConnection,
    owner: &Owner,
    now: Timestamp,
    ended: &Ended,
    settled: &mut Settled,
    changes: &mut Vec<Change>,
) -> Result<bool> {
    let Ended { claim, end, items } = ended;
    if let End::Later { note, at } = end {
        return look_again(connection, owner, claim, note, *at).await;
    }
    let (attempt_state, error) = match end {
        End::Succeeded { .. } => (AttemptState::Succeeded, None),
        End::Failed { error, .. } => (AttemptState::Failed, Some(error.as_str())),
        End::Later { .. } | End::Interrupted => (AttemptState::Lost, Some("stopped on request")),
    };
    let kept = sqlx::query(
        "UPDATE attempt SET state = $1, finished_at = $2, error = $3
         WHERE id = $4 AND owner_key = $5 AND number = $6 AND state = 'running'",
    )
    .bind(attempt_state.as_str())
    .bind(now.millis())
    .bind(error)
    .bind(claim.attempt.to_string())
    .bind(&owner.key)
    .bind(i64::from(claim.number))
    .execute(&mut *connection)
    .await
    .map_err(|error| Error::database(DOING, error))?;
    if kept.rows_affected() == 0 {
        return Ok(false);
    }
    let (state, output, failures, summary, ready_at, failed, lost) = match end {
        End::Succeeded { output, failures, summary } => {
            (TaskState::Succeeded, Some(output.as_str()), *failures, summary.as_str(), None, 0, None)
        }
        End::Failed { retry_at: Some(at), .. } => (TaskState::Ready, None, 0, "", Some(*at), 1, Some(0)),
        End::Failed { retry_at: None, .. } => (TaskState::Failed, None, 0, "", None, 1, Some(0)),
        End::Later { .. } | End::Interrupted => (TaskState::Ready, None, 0, "", None, 0, None),
    };
    let moved = sqlx::query(
        "UPDATE task_instance
         SET state = $1, output = $2, failures = $3, summary = $4, items = $5, error = $6, finished_at = $7,
             ready_at = COALESCE($8, ready_at), failed = failed + $9, lost_in_a_row = COALESCE($10, lost_in_a_row)
         WHERE id = $11 AND state = 'running' AND attempts = $12",
    )
    .bind(state.as_str())
    .bind(output)
    .bind(to_i64(failures))
    .bind(summary)
    .bind(to_i64(*items))
    .bind(error.filter(|_| !matches!(end, End::Interrupted)))
    .bind(state.is_finished().then(|| now.millis()))
    .bind(ready_at.map(Timestamp::millis))
    .bind(failed)
    .bind(lost)
    .bind(claim.instance.to_string())
    .bind(i64::from(claim.number))
    .execute(&mut *connection)
    .await
    .map_err(|error| Error::database(DOING, error))?;
    if moved.rows_affected() == 0 {
        return Err(Error::Corrupt { what: format!("a running attempt {} of an instance that is not", claim.attempt) });
    }
    settle(claim.position, claim.map_index, state, error.map(str::to_string), settled, changes);
    Ok(true)
}

/// Puts an instance back until `at`. Its attempt is removed: a sensor that waits for days would leave thousands.
async fn look_again(
    connection: &mut SqliteConnection,
    owner: &Owner,
    claim: &Claimed,
    note: &str,
    at: Timestamp,
) -> Result<bool> {
    let doing = |error| Error::database(DOING, error);
    let kept =
        sqlx::query("DELETE FROM attempt WHERE id = $1 AND owner_key = $2 AND number = $3 AND state = 'running'")
            .bind(claim.attempt.to_string())
            .bind(&owner.key)
            .bind(i64::from(claim.number))
            .execute(&mut *connection)
            .await
            .map_err(doing)?;
    if kept.rows_affected() == 0 {
        return Ok(false);
    }
    sqlx::query(
        "UPDATE task_instance SET state = 'ready', ready_at = $1, summary = $2, lost_in_a_row = 0
         WHERE id = $3 AND state = 'running' AND attempts = $4",
    )
    .bind(at.millis())
    .bind(note)
    .bind(claim.instance.to_string())
    .bind(i64::from(claim.number))
    .execute(connection)
    .await
    .map_err(doing)?;
    Ok(true)
}

/// Notes what the new state of an instance means for its task.
pub(super) fn settle(
    position: usize,
    map_index: Option<u32>,
    state: TaskState,
    error: Option<String>,
    settled: &mut Settled,
    changes: &mut Vec<Change>,
) {
    if !state.is_finished() {
        return;
    }
    if map_index.is_some() {
        settled.maps.push(position);
        return;
    }
    settled.ended.push(position);
    changes.push(Change::TaskEnded { position, state, error });
}

/// Counts are far below this limit; a job that reports nonsense must not break the record.
fn to_i64(count: u64) -> i64 {
    i64::try_from(count).unwrap_or(i64::MAX)
}
