//! Task instances of a run and their attempts, one by one.

use std::collections::HashMap;

use sqlx::any::AnyRow;

use super::Store;
use super::read::{count, get, json, reading, small};
use super::reopen::names;
use super::types::{AttemptRecord, AttemptState, InstanceKind, InstanceRecord, Owner, TaskState};
use super::writer::read_id;
use crate::clock::Timestamp;
use crate::error::{Error, Result};
use crate::ids::{RunId, TaskInstanceId};
use platform::database::Statement;

const INSTANCE_COLUMNS: &str = "SELECT id, task, map_index, kind, state, attempts, lost_in_a_row, output, failures,
    summary, error, started_at, finished_at FROM task_instance WHERE run_id = ";
const ATTEMPT_COLUMNS: &str = "SELECT a.id, a.task_instance_id, a.number, a.state, a.owner_host, a.owner_pid,
    a.owner_key, a.lease_until, a.started_at, a.finished_at, a.error
    FROM attempt a JOIN task_instance t ON t.id = a.task_instance_id WHERE t.run_id = ";

/// A task that is not mapped has one instance, in this place.
const NO_INDEX: i64 = -1;

impl Store {
    /// All task instances of a run: tasks in topological order, items of a mapped task after it in order.
    pub async fn instances(&self, run: RunId) -> Result<Vec<InstanceRecord>> {
        let mut query = Statement::new(INSTANCE_COLUMNS);
        query.text(run.to_string()).push(" ORDER BY position, map_index");
        let rows = query.query().fetch_all(self.pool()).await.map_err(reading)?;
        rows.iter().map(instance_record).collect()
    }

    /// All attempts of a run, in the order of their making.
    pub async fn attempts(&self, run: RunId) -> Result<Vec<AttemptRecord>> {
        let mut query = Statement::new(ATTEMPT_COLUMNS);
        query.text(run.to_string()).push(" ORDER BY a.id");
        let rows = query.query().fetch_all(self.pool()).await.map_err(reading)?;
        rows.iter().map(attempt_record).collect()
    }

    /// The instances of a task with their attempts, in the order of the list that it is mapped over; those behind an
    /// item if one is given. A task that is not mapped has one.
    ///
    /// # Errors
    /// [`Error::RunNotFound`], [`Error::TaskNotFound`], and errors of the database.
    pub async fn instances_of(
        &self,
        run: RunId,
        task: &str,
        most: u32,
        after: Option<u32>,
    ) -> Result<Vec<(InstanceRecord, Vec<AttemptRecord>)>> {
        let dag = self.dag(&self.run(run).await?).await?;
        if dag.position(task).is_none() {
            return Err(Error::TaskNotFound { run, task: task.to_owned(), names: names(&dag) });
        }
        let behind = after.map_or(NO_INDEX - 1, i64::from);
        let mut query = Statement::new(INSTANCE_COLUMNS);
        query.text(run.to_string()).push(" AND task = ").text(task);
        query.push(" AND kind <> 'map' AND map_index > ").number(behind);
        query.push(" ORDER BY map_index LIMIT ").number(i64::from(most));
        let rows = query.query().fetch_all(self.pool()).await.map_err(reading)?;
        let instances = rows.iter().map(instance_record).collect::<Result<Vec<_>>>()?;
        let Some(last) = instances.last() else { return Ok(Vec::new()) };

        let mut query = Statement::new(ATTEMPT_COLUMNS);
        query.text(run.to_string()).push(" AND t.task = ").text(task);
        query.push(" AND t.map_index > ").number(behind);
        query.push(" AND t.map_index <= ").number(last.map_index.map_or(NO_INDEX, i64::from));
        query.push(" ORDER BY a.number");
        let rows = query.query().fetch_all(self.pool()).await.map_err(reading)?;
        let mut attempts: HashMap<TaskInstanceId, Vec<AttemptRecord>> = HashMap::new();
        for row in &rows {
            let attempt = attempt_record(row)?;
            attempts.entry(attempt.instance).or_default().push(attempt);
        }
        let with_attempts = |instance: InstanceRecord| {
            let own = attempts.remove(&instance.id).unwrap_or_default();
            (instance, own)
        };
        Ok(instances.into_iter().map(with_attempts).collect())
    }
}

fn instance_record(row: &AnyRow) -> Result<InstanceRecord> {
    Ok(InstanceRecord {
        id: read_id(&get::<String>(row, "id")?)?,
        task: get(row, "task")?,
        map_index: u32::try_from(get::<i64>(row, "map_index")?).ok(),
        kind: InstanceKind::read(&get::<String>(row, "kind")?)?,
        state: TaskState::read(&get::<String>(row, "state")?)?,
        attempts: small(row, "attempts")?,
        lost_in_a_row: small(row, "lost_in_a_row")?,
        output: get::<Option<String>>(row, "output")?.as_deref().map(json).transpose()?,
        failures: count(row, "failures")?,
        summary: get(row, "summary")?,
        error: get(row, "error")?,
        started_at: moment(row, "started_at")?,
        finished_at: moment(row, "finished_at")?,
    })
}

fn attempt_record(row: &AnyRow) -> Result<AttemptRecord> {
    Ok(AttemptRecord {
        id: read_id(&get::<String>(row, "id")?)?,
        instance: read_id(&get::<String>(row, "task_instance_id")?)?,
        number: small(row, "number")?,
        state: AttemptState::read(&get::<String>(row, "state")?)?,
        owner: Owner { host: get(row, "owner_host")?, pid: small(row, "owner_pid")?, key: get(row, "owner_key")? },
        lease_until: Timestamp::from_millis(get(row, "lease_until")?),
        started_at: Timestamp::from_millis(get(row, "started_at")?),
        finished_at: moment(row, "finished_at")?,
        error: get(row, "error")?,
    })
}

fn moment(row: &AnyRow, name: &str) -> Result<Option<Timestamp>> {
    Ok(get::<Option<i64>>(row, name)?.map(Timestamp::from_millis))
}
