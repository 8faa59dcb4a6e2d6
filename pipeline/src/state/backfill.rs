//! Backfills: runs of a DAG over a range of the past, made by the scheduler as far as their own limit allows.

use serde::{Deserialize, Serialize};
use sqlx::Row as _;
use sqlx::any::AnyRow;
use utoipa::ToSchema;

use super::Store;
use super::types::{name_in, read_in};
use super::writer::read_id;
use crate::clock::Timestamp;
use crate::dag::{Dag, DagSchedule, Params};
use crate::error::{Error, Result};
use crate::ids::{BackfillId, DagVersionId, RunId};
use crate::schedule::DataInterval;
use platform::database::Statement;

const DOING: &str = "keeping the list of backfills";
const COLUMNS: &str =
    "SELECT backfill.id, dag_version_id, dag, params, range_start, range_end, rerun, max_active, state,
    done_until, skipped, created_at, finished_at,
    (SELECT COUNT(*) FROM run WHERE run.backfill_id = backfill.id AND run.state IN ('queued', 'running')) AS active,
    (SELECT COUNT(*) FROM run WHERE run.backfill_id = backfill.id AND run.state = 'failed') AS failed,
    (SELECT COUNT(*) FROM run WHERE run.backfill_id = backfill.id) AS runs
    FROM backfill";

/// Which intervals of its range a backfill makes runs for.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum Rerun {
    /// Those that have no run yet.
    #[default]
    Missing,
    /// Those whose runs all failed or were cancelled, too.
    Failed,
    /// All.
    All,
}

/// Where a backfill stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum BackfillState {
    /// It has intervals left, or runs that have not ended.
    Running,
    /// All its runs have ended.
    Ended,
    /// It was stopped.
    Cancelled,
}

/// A backfill to be made.
#[derive(Clone, Debug)]
pub struct NewBackfill {
    /// The range: intervals that lie within it.
    pub range: DataInterval,
    /// Parameters of all its runs.
    pub params: Params,
    /// Which intervals get a run.
    pub rerun: Rerun,
    /// Most runs of it that are queued or running at once, at least 1.
    pub max_active: u32,
}

/// Which backfills are wanted.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct BackfillFilter {
    /// Only of this DAG.
    pub dag: Option<String>,
    /// Only in this state.
    pub state: Option<BackfillState>,
}

/// A backfill as stored.
#[derive(Clone, Debug)]
pub struct BackfillRecord {
    /// Its id.
    pub id: BackfillId,
    /// Name of its DAG.
    pub dag: String,
    /// The version of the DAG that all its runs have.
    pub version: DagVersionId,
    /// Parameters of all its runs.
    pub params: Params,
    /// The range that it covers.
    pub range: DataInterval,
    /// Which intervals get a run.
    pub rerun: Rerun,
    /// Most runs of it that are queued or running at once.
    pub max_active: u64,
    /// Where it stands.
    pub state: BackfillState,
    /// The end of the last interval that was looked at.
    pub done_until: Timestamp,
    /// Intervals left out because of the runs that they had.
    pub skipped: u64,
    /// Runs that are queued or running.
    pub active: u64,
    /// Runs that failed.
    pub failed: u64,
    /// All its runs.
    pub runs: u64,
    /// When it was made.
    pub created_at: Timestamp,
    /// When it ended or was cancelled.
    pub finished_at: Option<Timestamp>,
}

impl Rerun {
    /// All values with their names.
    pub const ALL: [(Self, &'static str); 3] =
        [(Self::Missing, "missing"), (Self::Failed, "failed"), (Self::All, "all")];

    /// The name on the command line and in the database.
    pub fn as_str(self) -> &'static str {
        name_in(&Self::ALL, self)
    }
}

impl BackfillState {
    const ALL: [(Self, &'static str); 3] =
        [(Self::Running, "running"), (Self::Ended, "ended"), (Self::Cancelled, "cancelled")];

    /// The name in the database.
    pub fn as_str(self) -> &'static str {
        name_in(&Self::ALL, self)
    }
}

impl BackfillRecord {
    /// The first interval that was not looked at yet.
    pub(crate) fn next_interval(&self, dag: &Dag) -> Option<DataInterval> {
        let DagSchedule::Time(timetable) = &dag.schedule else { return None };
        timetable.intervals_between(self.done_until.time(), self.range.end).next()
    }
}

impl Store {
    /// Makes a backfill of the version that new runs of a DAG have now. A scheduler makes its runs.
    ///
    /// # Errors
    /// [`Error::DagNotFound`], and [`Error::NoIntervals`] when no interval of the DAG's schedule lies within the range.
    pub async fn backfill(&self, dag: &str, new: &NewBackfill, now: Timestamp) -> Result<BackfillId> {
        let current = self.current_dag(dag).await?;
        let intervals = match &current.schedule {
            DagSchedule::Time(timetable) => {
                timetable.intervals_between(new.range.start, new.range.end).next().is_some()
            }
            _ => false,
        };
        if !intervals {
            return Err(Error::NoIntervals { dag: dag.to_owned(), range: new.range.to_string() });
        }
        let id = BackfillId::new();
        let write = sqlx::query(
            "INSERT INTO backfill (id, dag_version_id, dag, params, range_start, range_end, rerun, max_active, state,
                                   done_until, created_at)
             SELECT $1, id, dag, $2, $3, $4, $5, $6, 'running', $3, $7 FROM dag_version WHERE dag = $8 AND sha256 = $9",
        )
        .bind(id.to_string())
        .bind(new.params.to_json().to_string())
        .bind(Timestamp::from(new.range.start).millis())
        .bind(Timestamp::from(new.range.end).millis())
        .bind(new.rerun.as_str())
        .bind(i64::from(new.max_active.max(1)))
        .bind(now.millis())
        .bind(&current.name)
        .bind(current.sha256());
        self.write_and_tell(write).await.map_err(writing)?;
        Ok(id)
    }

    /// Backfills, newest first; those made before another one if it is given.
    pub async fn backfills(
        &self,
        most: u32,
        before: Option<BackfillId>,
        filter: &BackfillFilter,
    ) -> Result<Vec<BackfillRecord>> {
        let mut query = Statement::new(COLUMNS);
        query.push(" WHERE TRUE");
        if let Some(before) = before {
            query.push(" AND backfill.id < ").text(before.to_string());
        }
        if let Some(dag) = &filter.dag {
            query.push(" AND backfill.dag = ").text(dag.as_str());
        }
        if let Some(state) = filter.state {
            query.push(" AND backfill.state = ").text(state.as_str());
        }
        query.push(" ORDER BY backfill.id DESC LIMIT ").number(i64::from(most));
        self.backfill_records(query).await
    }

    /// A backfill by its id.
    pub async fn backfill_record(&self, id: BackfillId) -> Result<BackfillRecord> {
        let mut query = Statement::new(COLUMNS);
        query.push(" WHERE backfill.id = ").text(id.to_string());
        self.backfill_records(query).await?.pop().ok_or(Error::BackfillNotFound(id))
    }

    /// Stops a backfill for good: no more runs are made, and those that have not ended are cancelled.
    pub async fn cancel_backfill(&self, id: BackfillId, now: Timestamp) -> Result<BackfillRecord> {
        sqlx::query("UPDATE backfill SET state = 'cancelled', finished_at = $1 WHERE id = $2 AND state = 'running'")
            .bind(now.millis())
            .bind(id.to_string())
            .execute(self.pool())
            .await
            .map_err(writing)?;
        let open: Vec<(String,)> =
            sqlx::query_as("SELECT id FROM run WHERE backfill_id = $1 AND state IN ('queued', 'running')")
                .bind(id.to_string())
                .fetch_all(self.pool())
                .await
                .map_err(writing)?;
        for (run,) in open {
            self.cancel(read_id::<RunId>(&run)?, now).await?;
        }
        self.backfill_record(id).await
    }

    pub(crate) async fn running_backfills(&self) -> Result<Vec<BackfillRecord>> {
        let mut query = Statement::new(COLUMNS);
        query.push(" WHERE state = 'running' ORDER BY backfill.id");
        self.backfill_records(query).await
    }

    /// Whether an interval is to have a run of this backfill, by the runs that it has.
    pub(crate) async fn wants_backfill(&self, backfill: &BackfillRecord, interval: DataInterval) -> Result<bool> {
        if backfill.rerun == Rerun::All {
            return Ok(true);
        }
        let mut query = Statement::new("SELECT id FROM run WHERE dag = ");
        query.text(backfill.dag.as_str());
        query.push(" AND interval_start = ").number(Timestamp::from(interval.start).millis());
        query.push(" AND interval_end = ").number(Timestamp::from(interval.end).millis());
        if backfill.rerun == Rerun::Failed {
            query.push(" AND state NOT IN ('failed', 'cancelled')");
        }
        // Its own run of the interval does not count: another scheduler may just have made it.
        query.push(" AND (backfill_id IS NULL OR backfill_id <> ").text(backfill.id.to_string()).push(") LIMIT 1");
        let found: Option<(String,)> = query.query_as().fetch_optional(self.pool()).await.map_err(writing)?;
        Ok(found.is_none())
    }

    /// The intervals up to `until` were looked at.
    pub(crate) async fn backfill_done(&self, id: BackfillId, until: Timestamp, skipped: bool) -> Result<()> {
        sqlx::query("UPDATE backfill SET done_until = $1, skipped = skipped + $2 WHERE id = $3 AND done_until < $1")
            .bind(until.millis())
            .bind(i64::from(skipped))
            .bind(id.to_string())
            .execute(self.pool())
            .await
            .map(drop)
            .map_err(writing)
    }

    pub(crate) async fn end_backfill(&self, id: BackfillId, now: Timestamp) -> Result<()> {
        sqlx::query("UPDATE backfill SET state = 'ended', finished_at = $1 WHERE id = $2 AND state = 'running'")
            .bind(now.millis())
            .bind(id.to_string())
            .execute(self.pool())
            .await
            .map(drop)
            .map_err(writing)
    }

    async fn backfill_records(&self, query: Statement) -> Result<Vec<BackfillRecord>> {
        let rows = query.query().fetch_all(self.pool()).await.map_err(writing)?;
        rows.iter().map(record).collect()
    }
}

fn record(row: &AnyRow) -> Result<BackfillRecord> {
    let text = |name: &str| row.try_get::<String, _>(name).map_err(writing);
    let number = |name: &str| row.try_get::<i64, _>(name).map_err(writing);
    let count = |name: &str| number(name).map(|count| u64::try_from(count).unwrap_or(0));
    let moment = |name: &str| number(name).map(Timestamp::from_millis);
    let id: BackfillId = read_id(&text("id")?)?;
    let params = serde_json::from_str(&text("params")?).ok().and_then(Params::from_json);
    Ok(BackfillRecord {
        id,
        dag: text("dag")?,
        version: read_id(&text("dag_version_id")?)?,
        params: params
            .ok_or_else(|| Error::Corrupt { what: format!("parameters of backfill {id} that are no object") })?,
        range: DataInterval { start: moment("range_start")?.time(), end: moment("range_end")?.time() },
        rerun: read_in(&Rerun::ALL, &text("rerun")?, "backfill")?,
        max_active: count("max_active")?,
        state: read_in(&BackfillState::ALL, &text("state")?, "backfill")?,
        done_until: moment("done_until")?,
        skipped: count("skipped")?,
        active: count("active")?,
        failed: count("failed")?,
        runs: count("runs")?,
        created_at: moment("created_at")?,
        finished_at: row.try_get::<Option<i64>, _>("finished_at").map_err(writing)?.map(Timestamp::from_millis),
    })
}

fn writing(error: sqlx::Error) -> Error {
    Error::database(DOING, error)
}
