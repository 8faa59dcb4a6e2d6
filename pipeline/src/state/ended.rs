//! The end of an attempt.

use serde_json::json;

use super::cache::Caching;
use super::claim::{Claimed, STEP_OF_PRIORITY};
use super::rules::{AfterEnd, after_end};
use super::step::RunTransaction;
use super::types::{Owner, TaskState};
use crate::clock::Timestamp;
use crate::dag::AlertEvent;
use crate::error::{Error, Result};

const DOING: &str = "recording the end of an attempt";

/// An attempt that came back.
#[derive(Clone, Debug)]
pub(crate) struct Ended {
    pub(crate) claim: Claimed,
    pub(crate) end: End,
    /// Items that the job counted as done.
    pub(crate) items: u64,
}

/// How it came back.
#[derive(Clone, Debug)]
pub(crate) enum End {
    /// With an output, as JSON text.
    Succeeded { output: String, failures: u64, summary: String, caching: Caching },
    /// With an error. It is tried again at `retry_at`, or never.
    Failed { error: String, retry_at: Option<Timestamp> },
    /// What it waits for is not there: it looks again at `at`. Nothing counts, and no trace of the attempt stays.
    Later { note: String, at: Timestamp },
    /// Stopped on request: it runs again when the run goes on, and nothing counts.
    Interrupted,
}

impl End {
    fn caching(&self) -> &Caching {
        match self {
            Self::Succeeded { caching, .. } => caching,
            _ => &Caching::None,
        }
    }
}

/// Records one end by compare-and-set on the attempt: an answer from an attempt that lost its instance changes nothing
/// and gives false. In a run that was told to stop, what has not succeeded is cancelled.
pub(super) async fn record(run: &mut RunTransaction<'_>, owner: &Owner, ended: &Ended) -> Result<bool> {
    let Ended { claim, end, items } = ended;
    let now = run.now;
    let cancelled = run.stopping && !matches!(end, End::Succeeded { .. });
    if let End::Later { note, at } = end
        && !cancelled
    {
        return look_again(run, owner, claim, note, *at).await;
    }
    let AfterEnd { attempt, instance: state, error, again_at, is_failure } = after_end(end, run.stopping);
    let kept = sqlx::query(
        "UPDATE attempt SET state = $1, finished_at = $2, error = $3
         WHERE id = $4 AND owner_key = $5 AND number = $6 AND state = 'running'",
    )
    .bind(attempt.as_str())
    .bind(now.millis())
    .bind(error)
    .bind(claim.attempt.to_string())
    .bind(&owner.key)
    .bind(i64::from(claim.number))
    .execute(&mut *run.connection)
    .await
    .map_err(|error| Error::database(DOING, error))?;
    if kept.rows_affected() == 0 {
        return Ok(false);
    }
    let (output, failures, summary) = match end {
        End::Succeeded { output, failures, summary, .. } => (Some(output.as_str()), *failures, summary.as_str()),
        _ => (None, 0, ""),
    };
    let moved = sqlx::query(
        "UPDATE task_instance
         SET state = $1, output = $2, failures = $3, summary = $4, items = $5, error = $6, finished_at = $7,
             ready_at = COALESCE($8, ready_at), turn = COALESCE($8, ready_at) - priority * $9,
             failed = failed + $10, lost_in_a_row = COALESCE($11, lost_in_a_row), cache_key = $12
         WHERE id = $13 AND state = 'running' AND attempts = $14",
    )
    .bind(state.as_str())
    .bind(output)
    .bind(to_i64(failures))
    .bind(summary)
    .bind(to_i64(*items))
    .bind(error.filter(|_| !matches!(end, End::Interrupted)))
    .bind(state.is_finished().then(|| now.millis()))
    .bind(again_at.map(Timestamp::millis))
    .bind(STEP_OF_PRIORITY.as_millis() as i64)
    .bind(i64::from(is_failure))
    .bind(is_failure.then_some(0_i64))
    .bind(end.caching().key().map(str::to_owned))
    .bind(claim.instance.to_string())
    .bind(i64::from(claim.number))
    .execute(&mut *run.connection)
    .await
    .map_err(|error| Error::database(DOING, error))?;
    if moved.rows_affected() == 0 {
        return Err(Error::Corrupt { what: format!("a running attempt {} of an instance that is not", claim.attempt) });
    }
    run.give_back(claim.pool.as_deref(), claim.slots).await?;
    // An output with failures may do better the next time.
    if let (Caching::Keep(key), 0, Some(output)) = (end.caching(), failures, output) {
        run.keep_output(key, output, to_i64(*items), summary).await?;
    }
    if let (End::Failed { error, retry_at: Some(at) }, false) = (end, cancelled) {
        let task = run.plan.dag.tasks().get(claim.position).map(|task| task.id.as_str());
        let fields = json!({
            "task": task, "map_index": claim.map_index, "attempt": claim.number, "error": error,
            "retry_at": at.to_string(),
        });
        run.alert(AlertEvent::Retry, fields).await?;
        // Others may have room when its time has come.
        run.concerns_others = true;
    }
    run.made_ready(claim.position, u64::from(state == TaskState::Ready));
    run.settle(claim.position, claim.map_index, state, error.map(str::to_string));
    Ok(true)
}

/// Puts an instance back until `at`. Its attempt is removed: a sensor that waits for days would leave thousands.
async fn look_again(
    run: &mut RunTransaction<'_>,
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
            .execute(&mut *run.connection)
            .await
            .map_err(doing)?;
    if kept.rows_affected() == 0 {
        return Ok(false);
    }
    sqlx::query(
        "UPDATE task_instance
         SET state = 'ready', ready_at = $1, turn = $1 - priority * $2, summary = $3, lost_in_a_row = 0
         WHERE id = $4 AND state = 'running' AND attempts = $5",
    )
    .bind(at.millis())
    .bind(STEP_OF_PRIORITY.as_millis() as i64)
    .bind(note)
    .bind(claim.instance.to_string())
    .bind(i64::from(claim.number))
    .execute(&mut *run.connection)
    .await
    .map_err(doing)?;
    run.give_back(claim.pool.as_deref(), claim.slots).await?;
    Ok(true)
}

/// Counts are far below this limit; a job that reports nonsense must not break the record.
fn to_i64(count: u64) -> i64 {
    i64::try_from(count).unwrap_or(i64::MAX)
}
