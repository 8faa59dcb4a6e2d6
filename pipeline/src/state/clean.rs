//! Removing runs that ended long ago, in small transactions. Any number of processes may do it at once: each run is looked
//! at again under its lock, and what is gone is gone.
//!
//! A run stays while something still needs it: a task that waits for it, a run that it started, an alert that was not
//! told, the schedule or a backfill that has not written down that the run's interval is done. What lies outside the
//! database is noted in `removal` and removed afterwards, so that a crash forgets none of it.

use platform::database::Engine;
use sqlx::{AnyConnection, AssertSqlSafe};

use super::Store;
use super::writer::read_id;
use crate::clock::Timestamp;
use crate::error::{Error, Result};
use crate::ids::RunId;
use platform::database::Statement;

const DOING: &str = "removing old runs";

/// Updates of assets that are removed in one transaction.
const EVENTS_AT_ONCE: i64 = 500;

/// Runs that ended before `$1` and that nothing but runs of their own needs any more.
const IS_OLD: &str = "
    run.state NOT IN ('queued', 'running') AND run.finished_at < $1
    AND NOT EXISTS (SELECT 1 FROM run parent WHERE parent.id = run.parent_run_id
                      AND (parent.finished_at IS NULL OR parent.finished_at >= $1))
    AND NOT EXISTS (SELECT 1 FROM alert WHERE alert.run_id = run.id AND alert.state = 'waiting')
    AND NOT EXISTS (SELECT 1 FROM backfill WHERE backfill.state = 'running' AND backfill.dag = run.dag
                      AND (backfill.id = run.backfill_id
                           OR run.interval_start >= backfill.range_start AND run.interval_end <= backfill.range_end))
    AND (run.cause <> 'schedule'
         OR EXISTS (SELECT 1 FROM dag WHERE dag.name = run.dag AND dag.done_until >= run.interval_end))";

/// Runs that a run has started go before it.
const IS_LEAF: &str = "NOT EXISTS (SELECT 1 FROM run child WHERE child.parent_run_id = run.id)";

/// What was removed, or would be.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Removed {
    /// Runs.
    pub runs: u64,
    /// Their task instances.
    pub task_instances: u64,
    /// The attempts at these.
    pub attempts: u64,
    /// Versions of DAGs that nothing refers to any more.
    pub dag_versions: u64,
    /// Runs that stay and whose logs are removed.
    pub logs: u64,
}

impl Removed {
    /// Both together.
    pub fn and(self, other: Self) -> Self {
        Self {
            runs: self.runs + other.runs,
            task_instances: self.task_instances + other.task_instances,
            attempts: self.attempts + other.attempts,
            dag_versions: self.dag_versions + other.dag_versions,
            logs: self.logs + other.logs,
        }
    }
}

/// A run of which something outside the database is to be removed.
#[derive(Clone, Debug)]
pub(crate) struct Removal {
    pub(crate) run: RunId,
    pub(crate) dag: String,
    /// The run is gone; else only its logs are to go.
    pub(crate) whole: bool,
}

impl Store {
    /// Removes at most so many runs that ended before a moment; none when there are no more.
    pub(crate) async fn remove_runs(&self, before: Timestamp, most: u32) -> Result<Removed> {
        let sql =
            format!("SELECT run.id FROM run WHERE {IS_OLD} AND {IS_LEAF} ORDER BY run.finished_at, run.id LIMIT $2");
        let runs: Vec<(String,)> = sqlx::query_as(AssertSqlSafe(sql))
            .bind(before.millis())
            .bind(i64::from(most))
            .fetch_all(self.pool())
            .await
            .map_err(doing)?;
        let mut removed = Removed::default();
        for (run,) in runs {
            let mut transaction = self.pool().begin_with(self.database.begin_write()).await.map_err(doing)?;
            let one = remove_run(&mut transaction, self.database.engine(), &run, before).await?;
            transaction.commit().await.map_err(doing)?;
            removed = removed.and(one);
        }
        Ok(removed)
    }

    /// What [`Store::remove_runs`] would remove, called until nothing is left.
    pub(crate) async fn removable(&self, before: Timestamp) -> Result<Removed> {
        // A run stays with all that it hangs from.
        let sql = format!(
            "WITH RECURSIVE kept (id, parent) AS (
               SELECT run.id, run.parent_run_id FROM run WHERE NOT ({IS_OLD})
               UNION SELECT run.id, run.parent_run_id FROM run JOIN kept ON kept.parent = run.id)
             SELECT COUNT(*), CAST(COALESCE(SUM(instances), 0) AS BIGINT), CAST(COALESCE(SUM(tries), 0) AS BIGINT) FROM (
               SELECT (SELECT COUNT(*) FROM task_instance t WHERE t.run_id = run.id) AS instances,
                      (SELECT COUNT(*) FROM attempt a JOIN task_instance t ON t.id = a.task_instance_id
                       WHERE t.run_id = run.id) AS tries
               FROM run WHERE run.id NOT IN (SELECT id FROM kept)) AS gone"
        );
        let (runs, task_instances, attempts): (i64, i64, i64) =
            sqlx::query_as(AssertSqlSafe(sql)).bind(before.millis()).fetch_one(self.pool()).await.map_err(doing)?;
        let count = |number: i64| u64::try_from(number).unwrap_or(0);
        Ok(Removed {
            runs: count(runs),
            task_instances: count(task_instances),
            attempts: count(attempts),
            ..Removed::default()
        })
    }

    /// Removes what runs have left behind that nothing refers to any more: backfills, updates of assets from outside,
    /// versions of DAGs. Gives the count of these versions.
    pub(crate) async fn remove_unused(&self, before: Timestamp) -> Result<u64> {
        self.delete(
            "DELETE FROM backfill WHERE state <> 'running' AND finished_at < $1
               AND NOT EXISTS (SELECT 1 FROM run WHERE run.backfill_id = backfill.id)",
            before,
        )
        .await?;
        while self.remove_asset_events(before).await? == EVENTS_AT_ONCE.cast_unsigned() {}
        self.delete(
            "DELETE FROM dag_version WHERE created_at < $1
               AND NOT EXISTS (SELECT 1 FROM run WHERE run.dag_version_id = dag_version.id)
               AND NOT EXISTS (SELECT 1 FROM dag WHERE dag.dag_version_id = dag_version.id)
               AND NOT EXISTS (SELECT 1 FROM backfill WHERE backfill.dag_version_id = dag_version.id)",
            before,
        )
        .await
    }

    /// Notes that the logs of at most so many runs that ended before a moment are to be removed; gives how many.
    pub(crate) async fn remove_logs(&self, before: Timestamp, most: u32) -> Result<u64> {
        let mut transaction = self.pool().begin_with(self.database.begin_write()).await.map_err(doing)?;
        let runs: Vec<(String, String)> = sqlx::query_as(
            "UPDATE run SET logs_removed = 1 WHERE logs_removed = 0 AND id IN
               (SELECT id FROM run WHERE logs_removed = 0 AND finished_at < $1 ORDER BY finished_at LIMIT $2)
             RETURNING id, dag",
        )
        .bind(before.millis())
        .bind(i64::from(most))
        .fetch_all(&mut *transaction)
        .await
        .map_err(doing)?;
        for (run, dag) in &runs {
            note_removal(&mut transaction, run, dag, false).await?;
        }
        transaction.commit().await.map_err(doing)?;
        Ok(runs.len() as u64)
    }

    /// Removals that are to be done, after the run `after`.
    pub(crate) async fn removals(&self, after: Option<RunId>, most: u32) -> Result<Vec<Removal>> {
        let rows: Vec<(String, String, i64)> =
            sqlx::query_as("SELECT run_id, dag, whole FROM removal WHERE run_id > $1 ORDER BY run_id LIMIT $2")
                .bind(after.map(|run| run.to_string()).unwrap_or_default())
                .bind(i64::from(most))
                .fetch_all(self.pool())
                .await
                .map_err(doing)?;
        let read =
            |(run, dag, whole): (String, String, i64)| Ok(Removal { run: read_id(&run)?, dag, whole: whole != 0 });
        rows.into_iter().map(read).collect()
    }

    /// These removals are done.
    pub(crate) async fn removals_done(&self, removals: &[Removal]) -> Result<()> {
        for whole in [false, true] {
            let mut delete = Statement::new("DELETE FROM removal WHERE whole = ");
            delete.number(i64::from(whole)).push(" AND run_id IN ").row();
            // No run: a list has at least one value.
            delete.text("");
            for removal in removals.iter().filter(|removal| removal.whole == whole) {
                delete.text(removal.run.to_string());
            }
            delete.end_row();
            delete.query().execute(self.pool()).await.map_err(doing)?;
        }
        Ok(())
    }

    async fn remove_asset_events(&self, before: Timestamp) -> Result<u64> {
        let done = sqlx::query(
            "DELETE FROM asset_event WHERE id IN
               (SELECT id FROM asset_event WHERE run_id IS NULL AND created_at < $1 ORDER BY created_at LIMIT $2)",
        )
        .bind(before.millis())
        .bind(EVENTS_AT_ONCE)
        .execute(self.pool())
        .await
        .map_err(doing)?;
        Ok(done.rows_affected())
    }

    async fn delete(&self, sql: &'static str, before: Timestamp) -> Result<u64> {
        let done = sqlx::query(sql).bind(before.millis()).execute(self.pool()).await.map_err(doing)?;
        Ok(done.rows_affected())
    }
}

/// Removes a run and all rows that belong to it, if that is still right.
async fn remove_run(connection: &mut AnyConnection, engine: Engine, run: &str, before: Timestamp) -> Result<Removed> {
    let lock = match engine {
        Engine::Sqlite => "",
        Engine::Postgres => " FOR UPDATE",
    };
    let sql = format!("SELECT run.dag FROM run WHERE {IS_OLD} AND {IS_LEAF} AND run.id = $2{lock}");
    let found: Option<(String,)> = sqlx::query_as(AssertSqlSafe(sql))
        .bind(before.millis())
        .bind(run)
        .fetch_optional(&mut *connection)
        .await
        .map_err(doing)?;
    let Some((dag,)) = found else { return Ok(Removed::default()) };
    let mut counts = [0; 7];
    let deletes = [
        "DELETE FROM attempt WHERE task_instance_id IN (SELECT id FROM task_instance WHERE run_id = $1)",
        "DELETE FROM task_instance WHERE run_id = $1",
        "DELETE FROM alert WHERE run_id = $1",
        "DELETE FROM asset_event WHERE run_id = $1",
        "DELETE FROM cached_output WHERE run_id = $1",
        "DELETE FROM run_change WHERE run_id = $1",
        "DELETE FROM run WHERE id = $1",
    ];
    for (count, sql) in counts.iter_mut().zip(deletes) {
        *count = sqlx::query(sql).bind(run).execute(&mut *connection).await.map_err(doing)?.rows_affected();
    }
    note_removal(connection, run, &dag, true).await?;
    let [attempts, task_instances, .., runs] = counts;
    Ok(Removed { runs, task_instances, attempts, ..Removed::default() })
}

async fn note_removal(connection: &mut AnyConnection, run: &str, dag: &str, whole: bool) -> Result<()> {
    sqlx::query(
        "INSERT INTO removal (run_id, dag, whole) VALUES ($1, $2, $3)
         ON CONFLICT (run_id) DO UPDATE SET whole = excluded.whole",
    )
    .bind(run)
    .bind(dag)
    .bind(i64::from(whole))
    .execute(connection)
    .await
    .map(drop)
    .map_err(doing)
}

fn doing(error: sqlx::Error) -> Error {
    Error::database(DOING, error)
}
