//! Questions to the state database.

use std::sync::Arc;

use serde_json::Value;
use sqlx::AnyConnection;
use sqlx::Row;
use sqlx::any::AnyRow;

use super::Store;
use super::types::{InstanceKind, RunCause, RunFilter, RunRecord, RunState, TaskState, TaskSummary};
use super::writer::read_id;
use crate::clock::Timestamp;
use crate::dag::{Dag, Params};
use crate::error::{Error, Result};
use crate::ids::{DagVersionId, RunId};
use crate::schedule::DataInterval;
use platform::database::Statement;

const DOING: &str = "reading the state of a run";
const RUN_COLUMNS: &str =
    "SELECT id, dag, dag_version_id, params, cause, interval_start, interval_end, state, failures, error, created_at,
            started_at, finished_at, batch FROM run";

impl Store {
    /// A run by its id.
    pub async fn run(&self, run: RunId) -> Result<RunRecord> {
        let sql = sqlx::AssertSqlSafe(format!("{RUN_COLUMNS} WHERE id = $1"));
        let row = sqlx::query(sql).bind(run.to_string()).fetch_optional(self.pool()).await.map_err(reading)?;
        run_record(&row.ok_or(Error::RunNotFound(run))?)
    }

    /// The newest runs, newest first.
    pub async fn runs(&self, most: u32) -> Result<Vec<RunRecord>> {
        self.runs_before(most, None, &RunFilter::default()).await
    }

    /// Runs, newest first; those made before another one if it is given.
    pub async fn runs_before(&self, most: u32, before: Option<RunId>, filter: &RunFilter) -> Result<Vec<RunRecord>> {
        let mut query = Statement::new(RUN_COLUMNS);
        query.push(" WHERE TRUE");
        if let Some(before) = before {
            query.push(" AND id < ").text(before.to_string());
        }
        if let Some(dag) = &filter.dag {
            query.push(" AND dag = ").text(dag.as_str());
        }
        if let Some(state) = filter.state {
            query.push(" AND state = ").word(state.as_str());
        }
        if let Some(cause) = filter.cause {
            query.push(" AND cause = ").word(cause.as_str());
        }
        query.push(" ORDER BY id DESC LIMIT ").literal(most);
        let rows = query.query().fetch_all(self.pool()).await.map_err(reading)?;
        rows.iter().map(run_record).collect()
    }

    /// Runs of exactly this DAG and these parameters that have not ended, oldest first.
    pub async fn unfinished_runs(&self, dag: &Dag, params: &Params) -> Result<Vec<RunId>> {
        // Sorted here: SQLite would go through all runs of the DAG for the order.
        let rows: Vec<(String,)> = sqlx::query_as(
            "SELECT run.id FROM run JOIN dag_version ON dag_version.id = run.dag_version_id
             WHERE run.dag = $1 AND run.state IN ('queued', 'running') AND run.params = $2 AND dag_version.sha256 = $3",
        )
        .bind(&dag.name)
        .bind(params.to_json().to_string())
        .bind(dag.sha256())
        .fetch_all(self.pool())
        .await
        .map_err(reading)?;
        let mut runs: Vec<RunId> = rows.iter().map(|(id,)| read_id(id)).collect::<Result<_>>()?;
        runs.sort_unstable();
        Ok(runs)
    }

    /// Processes of a host that have, or had, an attempt at a run under way.
    pub(crate) async fn processes_at_work(&self, run: RunId, host: &str) -> Result<Vec<u32>> {
        let rows: Vec<(i64,)> = sqlx::query_as(
            "SELECT DISTINCT a.owner_pid FROM attempt a JOIN task_instance t ON t.id = a.task_instance_id
             WHERE t.run_id = $1 AND a.state = 'running' AND a.owner_host = $2",
        )
        .bind(run.to_string())
        .bind(host)
        .fetch_all(self.pool())
        .await
        .map_err(reading)?;
        Ok(rows.into_iter().filter_map(|(pid,)| u32::try_from(pid).ok()).collect())
    }

    /// Runs with an attempt of this owner under way.
    pub(crate) async fn runs_of_owner(&self, owner_key: &str) -> Result<Vec<RunId>> {
        let rows: Vec<(String,)> = sqlx::query_as(
            "SELECT DISTINCT t.run_id FROM attempt a JOIN task_instance t ON t.id = a.task_instance_id
             WHERE a.owner_key = $1 AND a.state = 'running'",
        )
        .bind(owner_key)
        .fetch_all(self.pool())
        .await
        .map_err(reading)?;
        rows.iter().map(|(id,)| read_id(id)).collect()
    }

    /// Runs with an attempt whose lease has run out.
    pub(crate) async fn runs_with_lost_attempts(&self, now: Timestamp) -> Result<Vec<RunId>> {
        let rows: Vec<(String,)> = sqlx::query_as(
            "SELECT DISTINCT t.run_id FROM attempt a JOIN task_instance t ON t.id = a.task_instance_id
             WHERE a.state = 'running' AND a.lease_until < $1",
        )
        .bind(now.millis())
        .fetch_all(self.pool())
        .await
        .map_err(reading)?;
        rows.iter().map(|(id,)| read_id(id)).collect()
    }

    /// Runs that were told to stop and have not ended.
    pub(crate) async fn stopping_runs(&self) -> Result<Vec<RunId>> {
        let rows: Vec<(String,)> = sqlx::query_as("SELECT id FROM run WHERE state = 'running' AND stop_at IS NOT NULL")
            .fetch_all(self.pool())
            .await
            .map_err(reading)?;
        rows.iter().map(|(id,)| read_id(id)).collect()
    }

    /// The DAG that a run started with.
    pub async fn dag(&self, run: &RunRecord) -> Result<Arc<Dag>> {
        self.dag_version(run.dag_version).await
    }

    /// A version of a DAG.
    pub async fn dag_version(&self, version: DagVersionId) -> Result<Arc<Dag>> {
        if let Some(dag) = self.dags.get(version) {
            return Ok(dag);
        }
        let (name, yaml): (String, String) = sqlx::query_as("SELECT dag, yaml FROM dag_version WHERE id = $1")
            .bind(version.to_string())
            .fetch_one(self.pool())
            .await
            .map_err(reading)?;
        let dag = Arc::new(Dag::parse(&format!("version {version} of dag `{name}`"), &yaml)?);
        self.dags.keep(version, &dag);
        Ok(dag)
    }

    /// The output of a task: of a mapped task the list of its items' outputs, in order. Nothing until it has ended.
    pub async fn output(&self, run: RunId, task: &str) -> Result<Option<Value>> {
        let mut connection = self.pool().acquire().await.map_err(reading)?;
        output_of(&mut connection, run, task).await
    }

    /// How the tasks of a run stand, in topological order.
    pub async fn tasks(&self, run: RunId) -> Result<Vec<TaskSummary>> {
        let record = self.run(run).await?;
        let dag = self.dag(&record).await?;
        let rows = sqlx::query(
            "SELECT task, kind, state, COUNT(*) AS count, CAST(SUM(attempts) AS BIGINT) AS attempts,
                    CAST(SUM(items) AS BIGINT) AS items, CAST(SUM(failures) AS BIGINT) AS failures,
                    MAX(summary) AS summary, MAX(error) AS error, MAX(instances) AS instances,
                    MIN(started_at) AS started_at, MAX(finished_at) AS finished_at
             FROM task_instance WHERE run_id = $1 GROUP BY task, kind, state",
        )
        .bind(run.to_string())
        .fetch_all(self.pool())
        .await
        .map_err(reading)?;
        let groups: Vec<Group> = rows.iter().map(Group::read).collect::<Result<_>>()?;
        Ok(dag.tasks().iter().filter_map(|task| summary(&task.id, &task.job, &groups)).collect())
    }
}

/// The output of a task, within a transaction.
pub(super) async fn output_of(connection: &mut AnyConnection, run: RunId, task: &str) -> Result<Option<Value>> {
    let found: Option<(String, String, Option<String>)> = sqlx::query_as(
        "SELECT kind, state, output FROM task_instance WHERE run_id = $1 AND task = $2 AND map_index = -1",
    )
    .bind(run.to_string())
    .bind(task)
    .fetch_optional(&mut *connection)
    .await
    .map_err(reading)?;
    let Some((kind, state, output)) = found else { return Ok(None) };
    if !TaskState::read(&state)?.is_finished() {
        return Ok(None);
    }
    if InstanceKind::read(&kind)? != InstanceKind::Map {
        return output.as_deref().map(json).transpose();
    }
    let items: Vec<(Option<String>,)> = sqlx::query_as(
        "SELECT output FROM task_instance WHERE run_id = $1 AND task = $2 AND map_index >= 0 ORDER BY map_index",
    )
    .bind(run.to_string())
    .bind(task)
    .fetch_all(connection)
    .await
    .map_err(reading)?;
    let items = items.iter().map(|(output,)| output.as_deref().map_or(Ok(Value::Null), json));
    Ok(Some(Value::Array(items.collect::<Result<_>>()?)))
}

/// Task instances of one task that are of one kind and in one state.
struct Group {
    task: String,
    kind: InstanceKind,
    state: TaskState,
    count: u64,
    attempts: u64,
    items: u64,
    failures: u64,
    summary: String,
    error: Option<String>,
    instances: Option<i64>,
    started_at: Option<i64>,
    finished_at: Option<i64>,
}

impl Group {
    fn read(row: &AnyRow) -> Result<Self> {
        Ok(Self {
            task: get(row, "task")?,
            kind: InstanceKind::read(&get::<String>(row, "kind")?)?,
            state: TaskState::read(&get::<String>(row, "state")?)?,
            count: count(row, "count")?,
            attempts: count(row, "attempts")?,
            items: count(row, "items")?,
            failures: count(row, "failures")?,
            summary: get(row, "summary")?,
            error: get(row, "error")?,
            instances: get(row, "instances")?,
            started_at: get(row, "started_at")?,
            finished_at: get(row, "finished_at")?,
        })
    }
}

fn summary(id: &str, job: &str, groups: &[Group]) -> Option<TaskSummary> {
    let own: Vec<&Group> = groups.iter().filter(|group| group.task == id).collect();
    let whole = own.iter().find(|group| group.kind != InstanceKind::Item)?;
    let mapped = whole.kind == InstanceKind::Map;
    let parts: Vec<&&Group> = own.iter().filter(|group| !mapped || group.kind == InstanceKind::Item).collect();
    let in_state = |state| parts.iter().filter(|group| group.state == state).map(|group| group.count).sum::<u64>();
    let started = parts.iter().filter_map(|group| group.started_at).min().or(whole.started_at);
    let finished = whole.finished_at;
    Some(TaskSummary {
        task: id.to_string(),
        job: job.to_string(),
        state: whole.state,
        mapped,
        instances: if mapped { whole.instances.and_then(|n| u64::try_from(n).ok()).unwrap_or(0) } else { 1 },
        succeeded: in_state(TaskState::Succeeded),
        failed: in_state(TaskState::Failed),
        attempts: parts.iter().map(|group| group.attempts).sum(),
        items: parts.iter().map(|group| group.items).sum(),
        failures: parts.iter().map(|group| group.failures).sum(),
        summary: whole.summary.clone(),
        error: whole.error.clone(),
        started_at: started.map(Timestamp::from_millis),
        finished_at: finished.map(Timestamp::from_millis),
    })
}

fn run_record(row: &AnyRow) -> Result<RunRecord> {
    let id: RunId = read_id(&get::<String>(row, "id")?)?;
    let params = Params::from_json(json(&get::<String>(row, "params")?)?);
    Ok(RunRecord {
        id,
        dag: get(row, "dag")?,
        dag_version: read_id(&get::<String>(row, "dag_version_id")?)?,
        params: params.ok_or_else(|| Error::Corrupt { what: format!("parameters of run {id} that are no object") })?,
        cause: RunCause::read(&get::<String>(row, "cause")?)?,
        interval: interval(row)?,
        state: RunState::read(&get::<String>(row, "state")?)?,
        failures: count(row, "failures")?,
        error: get(row, "error")?,
        created_at: Timestamp::from_millis(get(row, "created_at")?),
        batch: get::<Option<i64>>(row, "batch")?.and_then(|number| u64::try_from(number).ok()),
        started_at: get::<Option<i64>>(row, "started_at")?.map(Timestamp::from_millis),
        finished_at: get::<Option<i64>>(row, "finished_at")?.map(Timestamp::from_millis),
    })
}

fn interval(row: &AnyRow) -> Result<Option<DataInterval>> {
    let moment =
        |name| Ok::<_, Error>(get::<Option<i64>>(row, name)?.map(|millis| Timestamp::from_millis(millis).time()));
    let (start, end) = (moment("interval_start")?, moment("interval_end")?);
    Ok(start.zip(end).map(|(start, end)| DataInterval { start, end }))
}

pub(super) fn get<'r, T: sqlx::Decode<'r, sqlx::Any> + sqlx::Type<sqlx::Any>>(
    row: &'r AnyRow,
    name: &str,
) -> Result<T> {
    row.try_get(name).map_err(reading)
}

pub(super) fn count(row: &AnyRow, name: &str) -> Result<u64> {
    Ok(u64::try_from(get::<i64>(row, name)?).unwrap_or(0))
}

pub(super) fn small(row: &AnyRow, name: &str) -> Result<u32> {
    Ok(u32::try_from(get::<i64>(row, name)?).unwrap_or(u32::MAX))
}

pub(super) fn json(text: &str) -> Result<Value> {
    serde_json::from_str(text).map_err(|error| Error::Corrupt { what: format!("JSON that cannot be read ({error})") })
}

pub(super) fn reading(error: sqlx::Error) -> Error {
    Error::database(DOING, error)
}
