//! The end of an attempt.

use std::collections::HashSet;

use platform::database::Statement;
use serde_json::json;

use super::cache::Caching;
use super::claim::{Claimed, STEP_OF_PRIORITY};
use super::create::ROWS_IN_ONE;
use super::rules::{AfterEnd, after_end};
use super::step::RunTransaction;
use super::types::{Owner, TaskState};
use super::writer::read_id;
use crate::clock::Timestamp;
use crate::dag::AlertEvent;
use crate::error::{Error, Result};
use crate::ids::AttemptId;

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

    /// Output, failures and summary.
    fn result(&self) -> (Option<&str>, u64, &str) {
        match self {
            Self::Succeeded { output, failures, summary, .. } => (Some(output), *failures, summary),
            _ => (None, 0, ""),
        }
    }
}

/// Records ends by compare-and-set on the attempts, all in two statements however many they are. An answer from an attempt
/// that lost its instance changes nothing. Gives for each end whether it counted. In a run that was told to stop, what has
/// not succeeded is cancelled.
pub(super) async fn record(run: &mut RunTransaction<'_>, owner: &Owner, ended: &[Ended]) -> Result<Vec<bool>> {
    let mut open = HashSet::with_capacity(ended.len());
    // Of several ends of one attempt the first is its end.
    let firsts: Vec<bool> = ended.iter().map(|one| open.insert(one.claim.attempt)).collect();
    let candidates = ended.iter().zip(&firsts).filter_map(|(one, first)| first.then_some(one));
    let is_later = |one: &&Ended| !run.stopping && matches!(one.end, End::Later { .. });
    let (later, last): (Vec<&Ended>, Vec<&Ended>) = candidates.partition(is_later);
    let mut counted = HashSet::with_capacity(ended.len());
    for one in later {
        if let End::Later { note, at } = &one.end
            && look_again(run, owner, &one.claim, note, *at).await?
        {
            counted.insert(one.claim.attempt);
        }
    }
    for chunk in last.chunks(ROWS_IN_ONE) {
        let kept = end_attempts(run, owner, chunk).await?;
        let chunk: Vec<&Ended> = chunk.iter().copied().filter(|one| kept.contains(&one.claim.attempt)).collect();
        end_instances(run, &chunk).await?;
        for one in &chunk {
            consequences(run, one).await?;
        }
        counted.extend(kept);
    }
    Ok(ended.iter().zip(firsts).map(|(one, first)| first && counted.contains(&one.claim.attempt)).collect())
}

/// Gives those that were at work until now.
async fn end_attempts(run: &mut RunTransaction<'_>, owner: &Owner, ended: &[&Ended]) -> Result<HashSet<AttemptId>> {
    let mut update = Statement::new("UPDATE attempt SET state = ended.column3, error = ended.column4, finished_at = ");
    update.number(run.now.millis()).push(" FROM (VALUES ");
    for Ended { claim, end, .. } in ended {
        let after = after_end(end, run.stopping);
        let number = i64::from(claim.number);
        update.row().text(claim.attempt.to_string()).number(number);
        update.text(after.attempt.as_str()).maybe_text(after.error).end_row();
    }
    update.push(
        ") AS ended WHERE attempt.id = ended.column1 AND attempt.number = ended.column2 AND attempt.state = 'running'
           AND attempt.owner_key = ",
    );
    update.text(owner.key.as_str()).push(" RETURNING id");
    let kept: Vec<(String,)> = update.query_as().fetch_all(&mut *run.connection).await.map_err(doing)?;
    kept.iter().map(|(id,)| read_id(id)).collect()
}

/// Moves the instances of attempts that have just ended.
async fn end_instances(run: &mut RunTransaction<'_>, ended: &[&Ended]) -> Result<()> {
    if ended.is_empty() {
        return Ok(());
    }
    // Values of one column have one type on PostgreSQL, so that those which may be missing need no cast.
    let mut update = Statement::new(
        "UPDATE task_instance
         SET state = ended.column3, output = ended.column4, failures = ended.column5, summary = ended.column6,
             items = ended.column7, error = ended.column8, finished_at = ended.column9,
             ready_at = COALESCE(ended.column10, ready_at),
             turn = COALESCE(ended.column10, ready_at) - priority * ",
    );
    update.number(STEP_OF_PRIORITY.as_millis() as i64).push(
        ", failed = failed + ended.column11, lost_in_a_row = COALESCE(ended.column12, lost_in_a_row),
           cache_key = ended.column13
         FROM (VALUES ",
    );
    for Ended { claim, end, items } in ended {
        let AfterEnd { instance: state, error, again_at, is_failure, .. } = after_end(end, run.stopping);
        let (output, failures, summary) = end.result();
        update
            .row()
            .text(claim.instance.to_string())
            .number(i64::from(claim.number))
            .text(state.as_str())
            .maybe_text(output)
            .number(to_i64(failures))
            .text(summary)
            .number(to_i64(*items))
            .maybe_text(error.filter(|_| !matches!(end, End::Interrupted)))
            .maybe_number(state.is_finished().then(|| run.now.millis()))
            .maybe_number(again_at.map(Timestamp::millis))
            .number(i64::from(is_failure))
            .maybe_number(is_failure.then_some(0))
            .maybe_text(end.caching().key())
            .end_row();
    }
    update.push(
        ") AS ended WHERE task_instance.id = ended.column1 AND task_instance.attempts = ended.column2
           AND task_instance.state = 'running'",
    );
    let moved = update.query().execute(&mut *run.connection).await.map_err(doing)?;
    if moved.rows_affected() != ended.len() as u64 {
        let first = ended.first().map(|one| one.claim.attempt.to_string()).unwrap_or_default();
        let what = format!("a running attempt of an instance that is not, {first} or one that ended with it");
        return Err(Error::Corrupt { what });
    }
    Ok(())
}

/// What follows from an end that counted.
async fn consequences(run: &mut RunTransaction<'_>, ended: &Ended) -> Result<()> {
    let Ended { claim, end, items } = ended;
    let AfterEnd { instance: state, error, .. } = after_end(end, run.stopping);
    run.give_back(claim.pool.as_deref(), claim.slots).await?;
    // An output with failures may do better the next time.
    if let (Caching::Keep(key), (Some(output), 0, summary)) = (end.caching(), end.result()) {
        run.keep_output(key, output, to_i64(*items), summary).await?;
    }
    if let (End::Failed { error, retry_at: Some(at) }, false) = (end, run.stopping) {
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
    Ok(())
}

/// Puts an instance back until `at`. Its attempt is removed: a sensor that waits for days would leave thousands.
async fn look_again(
    run: &mut RunTransaction<'_>,
    owner: &Owner,
    claim: &Claimed,
    note: &str,
    at: Timestamp,
) -> Result<bool> {
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

fn doing(error: sqlx::Error) -> Error {
    Error::database(DOING, error)
}
