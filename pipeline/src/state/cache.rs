//! Outputs that later tasks may take instead of being done.

use std::collections::BTreeSet;

use sqlx::AnyConnection;

use super::step::RunTransaction;
use super::writer::read_id;
use super::{Plan, Store};
use crate::clock::Timestamp;
use crate::error::{Error, Result};
use crate::ids::RunId;

const DOING: &str = "looking for an earlier output";

/// What the output of an attempt has to do with the cache.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) enum Caching {
    /// Nothing.
    #[default]
    None,
    /// Its output is kept under this key.
    Keep(String),
    /// It was taken from there; nothing was done.
    Taken(String),
}

/// An output in the cache.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct CachedOutput {
    /// The run that made it.
    pub(crate) run: RunId,
    /// JSON text.
    pub(crate) output: String,
    pub(crate) items: u64,
    pub(crate) summary: String,
}

impl Caching {
    pub(super) fn key(&self) -> Option<&str> {
        match self {
            Self::None => None,
            Self::Keep(key) | Self::Taken(key) => Some(key),
        }
    }
}

impl Store {
    /// The output that is kept under a key, if it is not older than `since`.
    pub(crate) async fn cached_output(&self, key: &str, since: Option<Timestamp>) -> Result<Option<CachedOutput>> {
        let found: Option<(String, String, i64, String)> = sqlx::query_as(
            "SELECT run_id, output, items, summary FROM cached_output WHERE key = $1 AND created_at >= $2",
        )
        .bind(key)
        .bind(since.map_or(i64::MIN, Timestamp::millis))
        .fetch_optional(self.pool())
        .await
        .map_err(|error| Error::database(DOING, error))?;
        let read = |(run, output, items, summary): (String, String, i64, String)| {
            Ok(CachedOutput { run: read_id(&run)?, output, items: u64::try_from(items).unwrap_or(0), summary })
        };
        found.map(read).transpose()
    }

    /// Forgets outputs: all, or those of one DAG. Gives how many there were.
    pub async fn forget_cached_outputs(&self, dag: Option<&str>) -> Result<u64> {
        let delete = match dag {
            None => sqlx::query("DELETE FROM cached_output"),
            Some(dag) => sqlx::query("DELETE FROM cached_output WHERE run_id IN (SELECT id FROM run WHERE dag = $1)")
                .bind(dag.to_owned()),
        };
        let done = delete.execute(self.pool()).await;
        Ok(done.map_err(|error| Error::database(DOING, error))?.rows_affected())
    }
}

impl RunTransaction<'_> {
    /// Keeps an output in the place of an older one.
    pub(super) async fn keep_output(&mut self, key: &str, output: &str, items: i64, summary: &str) -> Result<()> {
        sqlx::query(
            "INSERT INTO cached_output (key, run_id, output, items, summary, created_at) VALUES ($1, $2, $3, $4, $5, $6)
             ON CONFLICT (key) DO UPDATE SET run_id = $2, output = $3, items = $4, summary = $5, created_at = $6",
        )
        .bind(key)
        .bind(self.plan.run.to_string())
        .bind(output)
        .bind(items)
        .bind(summary)
        .bind(self.now.millis())
        .execute(&mut *self.connection)
        .await
        .map(drop)
        .map_err(|error| Error::database("keeping an output", error))
    }
}

/// Tasks that somebody wants done again are not to find what they gave before.
pub(super) async fn forget(connection: &mut AnyConnection, plan: &Plan, positions: &BTreeSet<usize>) -> Result<()> {
    let cached = |position: &&usize| plan.dag.tasks().get(**position).is_some_and(|task| task.cache.is_some());
    for position in positions.iter().filter(cached) {
        sqlx::query(
            "DELETE FROM cached_output WHERE key IN
               (SELECT cache_key FROM task_instance WHERE run_id = $1 AND position = $2)",
        )
        .bind(plan.run.to_string())
        .bind(*position as i64)
        .execute(&mut *connection)
        .await
        .map_err(|error| Error::database("forgetting outputs", error))?;
    }
    Ok(())
}
