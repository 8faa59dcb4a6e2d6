//! DAGs as they stand now: which text new runs have, and how far their schedules are.

use std::sync::Arc;

use sqlx::{AnyConnection, Connection};

use super::Store;
use super::assets::subscribe;
use super::create::keep_dag;
use super::streams::open_stream;
use super::writer::read_id;
use crate::clock::Timestamp;
use crate::dag::Dag;
use crate::error::{Error, Result};
use crate::ids::{DagVersionId, RunId};
use platform::database::Statement;

const DOING: &str = "keeping the list of DAGs";
const COLUMNS: &str = "SELECT name, dag_version_id, file, active_runs, paused, done_until FROM dag";

/// A DAG as it stands now.
#[derive(Clone, Debug)]
pub struct DagRecord {
    /// Its name.
    pub name: String,
    /// The version that new runs have.
    pub version: DagVersionId,
    /// Where a server read it; nothing when no server has it any more, and its schedule rests.
    pub file: Option<String>,
    /// Runs that are running.
    pub active_runs: u64,
    /// Whether its schedule rests because somebody said so.
    pub paused: bool,
    /// The end of the last data interval that the schedule has made a run for, or need not.
    pub done_until: Option<Timestamp>,
}

impl Store {
    /// Makes a DAG's text the version of its new runs. A schedule that was not known before begins now, unless it is to
    /// catch up.
    pub async fn register(&self, dag: &Dag, now: Timestamp) -> Result<()> {
        let doing = |error| Error::database(DOING, error);
        let mut connection = self.pool().acquire().await.map_err(doing)?;
        let mut transaction = connection.begin_with(self.database.begin_write()).await.map_err(doing)?;
        keep_dag(&mut transaction, dag, now).await?;
        let done_until = dag.schedule_begins(now.time()).map(|begins| Timestamp::from(begins).millis());
        sqlx::query(
            "UPDATE dag SET file = $1, max_active_runs = $2, done_until = COALESCE(done_until, $3),
                    dag_version_id = (SELECT id FROM dag_version WHERE dag = $4 AND sha256 = $5)
             WHERE name = $4",
        )
        .bind(dag.file())
        .bind(i64::from(dag.max_active_runs))
        .bind(done_until)
        .bind(&dag.name)
        .bind(dag.sha256())
        .execute(&mut *transaction)
        .await
        .map_err(doing)?;
        subscribe(&mut transaction, dag).await?;
        if dag.continuous.is_some() {
            open_stream(&mut transaction, &dag.name).await?;
        }
        // Its schedule may owe runs.
        self.say(&mut transaction).await.map_err(doing)?;
        transaction.commit().await.map_err(doing)?;
        self.writer.tell_others();
        Ok(())
    }

    /// The DAG has no file any more: its schedule rests.
    pub async fn unregister(&self, name: &str) -> Result<()> {
        sqlx::query("UPDATE dag SET file = NULL WHERE name = $1")
            .bind(name)
            .execute(self.pool())
            .await
            .map(drop)
            .map_err(|error| Error::database(DOING, error))
    }

    /// Lets the schedule of a DAG rest, or go on. Intervals that end while it rests are made up for only if the DAG
    /// catches up.
    pub async fn pause(&self, name: &str, paused: bool) -> Result<()> {
        let pause = sqlx::query("UPDATE dag SET paused = $1 WHERE name = $2").bind(i64::from(paused)).bind(name);
        let done = self.write_and_tell(pause).await.map_err(|error| Error::database(DOING, error))?;
        if done.rows_affected() == 0 {
            return Err(Error::DagNotFound(name.to_owned()));
        }
        Ok(())
    }

    /// All DAGs by name.
    pub async fn dags(&self) -> Result<Vec<DagRecord>> {
        let mut query = Statement::new(COLUMNS);
        query.push(" ORDER BY name");
        self.dag_records(query).await
    }

    /// DAGs by name; those behind a name if it is given.
    pub async fn dags_after(&self, most: u32, after: Option<&str>, paused: Option<bool>) -> Result<Vec<DagRecord>> {
        let mut query = Statement::new(COLUMNS);
        query.push(" WHERE TRUE");
        if let Some(after) = after {
            query.push(" AND name > ").text(after);
        }
        if let Some(paused) = paused {
            query.push(" AND paused = ").number(i64::from(paused));
        }
        query.push(" ORDER BY name LIMIT ").number(i64::from(most));
        self.dag_records(query).await
    }

    /// A DAG by its name.
    pub async fn dag_record(&self, name: &str) -> Result<DagRecord> {
        let mut query = Statement::new(COLUMNS);
        query.push(" WHERE name = ").text(name);
        self.dag_records(query).await?.pop().ok_or_else(|| Error::DagNotFound(name.to_owned()))
    }

    async fn dag_records(&self, query: Statement) -> Result<Vec<DagRecord>> {
        type Row = (String, String, Option<String>, i64, i64, Option<i64>);
        let rows: Vec<Row> =
            query.query_as().fetch_all(self.pool()).await.map_err(|error| Error::database(DOING, error))?;
        let record = |(name, version, file, active_runs, paused, done_until): Row| {
            Ok(DagRecord {
                name,
                version: read_id(&version)?,
                file,
                active_runs: u64::try_from(active_runs).unwrap_or(0),
                paused: paused != 0,
                done_until: done_until.map(Timestamp::from_millis),
            })
        };
        rows.into_iter().map(record).collect()
    }

    /// The text that new runs of a DAG have.
    pub async fn current_dag(&self, name: &str) -> Result<Arc<Dag>> {
        let version: Option<(String,)> = sqlx::query_as("SELECT dag_version_id FROM dag WHERE name = $1")
            .bind(name)
            .fetch_optional(self.pool())
            .await
            .map_err(|error| Error::database(DOING, error))?;
        let (version,) = version.ok_or_else(|| Error::DagNotFound(name.to_owned()))?;
        self.dag_version(read_id(&version)?).await
    }

    /// The schedule has made its runs up to `until`.
    pub(crate) async fn schedule_done(&self, name: &str, until: Timestamp) -> Result<()> {
        sqlx::query("UPDATE dag SET done_until = $1 WHERE name = $2 AND (done_until IS NULL OR done_until < $1)")
            .bind(until.millis())
            .bind(name)
            .execute(self.pool())
            .await
            .map(drop)
            .map_err(|error| Error::database(DOING, error))
    }

    /// Queued runs whose DAG allows more active ones, the oldest first.
    pub(crate) async fn startable_runs(&self, most: u32) -> Result<Vec<RunId>> {
        let mut query = Statement::new(
            "SELECT run.id FROM run JOIN dag ON dag.name = run.dag
             WHERE run.state = 'queued' AND (run.cause = 'backfill' OR dag.active_runs < dag.max_active_runs)
             ORDER BY run.id LIMIT ",
        );
        query.literal(most);
        let rows: Vec<(String,)> =
            query.query_as().fetch_all(self.pool()).await.map_err(|error| Error::database(DOING, error))?;
        rows.iter().map(|(run,)| read_id(run)).collect()
    }

    /// Runs whose time is up.
    pub(crate) async fn overdue_runs(&self, now: Timestamp) -> Result<Vec<RunId>> {
        let sql = "SELECT id FROM run WHERE state = 'running' AND stop_at IS NULL AND timeout_at <= $1";
        let mut connection = self.pool().acquire().await.map_err(|error| Error::database(DOING, error))?;
        run_ids(&mut connection, sql, now.millis()).await
    }
}

async fn run_ids(connection: &mut AnyConnection, sql: &'static str, value: i64) -> Result<Vec<RunId>> {
    let rows: Vec<(String,)> =
        sqlx::query_as(sql).bind(value).fetch_all(connection).await.map_err(|error| Error::database(DOING, error))?;
    rows.iter().map(|(id,)| read_id(id)).collect()
}
