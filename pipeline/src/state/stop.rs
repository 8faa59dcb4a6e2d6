//! Telling a run to stop.

use platform::database::Engine;
use sqlx::AnyConnection;

use super::Plan;
use super::changes;
use super::rules::verdict_on_stopped;
use super::step::{Locked, RunTransaction, lock};
use super::types::RunState;
use crate::clock::Timestamp;
use crate::error::{Error, Result};

const DOING: &str = "stopping a run";

/// A wish to stop a run.
#[derive(Clone, Debug)]
pub(crate) struct Stop {
    /// Why the run then counts as failed; without it, as cancelled.
    pub(crate) error: Option<String>,
    pub(crate) now: Timestamp,
}

/// Cancels what has not begun; attempts under way are told by their workers, and the run ends with the last of them.
/// Gives where the run stands. A run that has ended stays as it is.
pub(super) async fn stop(
    connection: &mut AnyConnection,
    engine: Engine,
    plan: &Plan,
    request: &Stop,
) -> Result<RunState> {
    let doing = |error| Error::database(DOING, error);
    let run = plan.run.to_string();
    let Locked { state, stopping, .. } = lock(connection, engine, plan.run).await?;
    if state.is_finished() || stopping {
        return Ok(state);
    }
    let ends_now = state == RunState::Queued;
    let state = if ends_now { verdict_on_stopped(request.error.as_deref()) } else { state };
    sqlx::query("UPDATE run SET state = $1, stop_at = $2, stop_error = $3, error = $3, finished_at = $4 WHERE id = $5")
        .bind(state.as_str())
        .bind(request.now.millis())
        .bind(&request.error)
        .bind(ends_now.then(|| request.now.millis()))
        .bind(&run)
        .execute(&mut *connection)
        .await
        .map_err(doing)?;
    // A mapped task ends with its last item; without one at work it ends here.
    sqlx::query(
        "UPDATE task_instance SET state = 'cancelled', finished_at = $1
         WHERE run_id = $2 AND (state IN ('waiting', 'ready') OR state = 'running' AND kind = 'map' AND NOT EXISTS
           (SELECT 1 FROM task_instance item WHERE item.run_id = task_instance.run_id
              AND item.position = task_instance.position AND item.map_index >= 0 AND item.state = 'running'))",
    )
    .bind(request.now.millis())
    .bind(&run)
    .execute(&mut *connection)
    .await
    .map_err(doing)?;
    if ends_now {
        changes::note(connection, plan.run, state, request.now).await?;
        return Ok(state);
    }
    RunTransaction::new(connection, plan, request.now, true).finish().await
}
