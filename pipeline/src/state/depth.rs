//! How much is waiting and running, over all runs. Answered from partial indexes: ended runs cost nothing.

use super::Store;
use crate::clock::Timestamp;
use crate::error::{Error, Result};

/// What is waiting and running.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Depth {
    /// Runs that have not begun.
    pub queued_runs: i64,
    /// Runs under way.
    pub running_runs: i64,
    /// Task instances that may run now.
    pub ready: i64,
    /// Attempts under way.
    pub running: i64,
    /// How long the oldest of the ready instances has waited, in milliseconds.
    pub oldest_ready_millis: i64,
}

impl Store {
    /// What is waiting and running at `now`.
    pub async fn depth(&self, now: Timestamp) -> Result<Depth> {
        // Both conditions on running runs: the first is that of the partial index.
        let found: (i64, i64, i64, i64, Option<i64>) = sqlx::query_as(
            "SELECT (SELECT COUNT(*) FROM run WHERE state = 'queued'),
                    (SELECT COUNT(*) FROM run WHERE state IN ('queued', 'running') AND state = 'running'),
                    (SELECT COUNT(*) FROM task_instance WHERE state = 'ready' AND ready_at <= $1),
                    (SELECT COUNT(*) FROM attempt WHERE state = 'running'),
                    (SELECT MIN(ready_at) FROM task_instance WHERE state = 'ready' AND ready_at <= $1)",
        )
        .bind(now.millis())
        .fetch_one(self.pool())
        .await
        .map_err(|error| Error::database("counting what waits", error))?;
        let (queued_runs, running_runs, ready, running, oldest) = found;
        let oldest_ready_millis = oldest.map_or(0, |oldest| now.millis() - oldest);
        Ok(Depth { queued_runs, running_runs, ready, running, oldest_ready_millis })
    }
}
