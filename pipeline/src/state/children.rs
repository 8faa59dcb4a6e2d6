//! Runs that tasks of other runs have started.

use super::Store;
use super::writer::read_id;
use crate::error::{Error, Result};
use crate::ids::RunId;

const DOING: &str = "looking at the runs that a task started";

/// Deeper than any sensible nesting: a DAG that runs itself ends here.
const DEEPEST: u32 = 10;

impl Store {
    /// The run that a task has started, by the task's idempotency key.
    pub(crate) async fn child(&self, key: &str) -> Result<Option<RunId>> {
        let found: Option<(String,)> = sqlx::query_as("SELECT id FROM run WHERE parent_key = $1")
            .bind(key)
            .fetch_optional(self.pool())
            .await
            .map_err(|error| Error::database(DOING, error))?;
        found.map(|(id,)| read_id(&id)).transpose()
    }

    /// The task has told that this run failed: its next attempt starts another one.
    pub(crate) async fn disown(&self, child: RunId, key: &str) -> Result<()> {
        sqlx::query("UPDATE run SET parent_key = $1 WHERE id = $2")
            .bind(format!("{key}#{child}"))
            .bind(child.to_string())
            .execute(self.pool())
            .await
            .map(drop)
            .map_err(|error| Error::database(DOING, error))
    }

    /// Runs that a run's tasks have started and that have not ended.
    pub(crate) async fn unfinished_children(&self, run: RunId) -> Result<Vec<RunId>> {
        let rows: Vec<(String,)> =
            sqlx::query_as("SELECT id FROM run WHERE parent_run_id = $1 AND state IN ('queued', 'running')")
                .bind(run.to_string())
                .fetch_all(self.pool())
                .await
                .map_err(|error| Error::database(DOING, error))?;
        rows.into_iter().map(|(id,)| read_id(&id)).collect()
    }

    /// Whether a run lies so deep below the one that somebody asked for that its tasks may start no more runs.
    pub(crate) async fn is_deepest(&self, run: RunId) -> Result<bool> {
        let mut at = run.to_string();
        for _ in 0..DEEPEST {
            let parent: Option<(Option<String>,)> = sqlx::query_as("SELECT parent_run_id FROM run WHERE id = $1")
                .bind(&at)
                .fetch_optional(self.pool())
                .await
                .map_err(|error| Error::database(DOING, error))?;
            match parent.and_then(|(parent,)| parent) {
                Some(parent) => at = parent,
                None => return Ok(false),
            }
        }
        Ok(true)
    }
}
