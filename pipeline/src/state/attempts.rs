//! What logs begin and end with: the attempts of a run with their times.

use sqlx::Row as _;
use sqlx::any::AnyRow;

use super::Store;
use super::types::{AttemptState, TaskState};
use crate::clock::Timestamp;
use crate::error::{Error, Result};
use crate::ids::RunId;
use platform::database::Statement;

const DOING: &str = "looking at the attempts of a run";

/// Which attempts of a run.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Which {
    /// Of this task; none: of all.
    pub(crate) task: Option<String>,
    /// Of this item of a mapped task; none: of all.
    pub(crate) map_index: Option<u32>,
    /// With this number; none: the last of each task instance.
    pub(crate) attempt: Option<u32>,
}

/// An attempt as its log tells of it.
#[derive(Clone, Debug)]
pub(crate) struct AttemptFacts {
    pub(crate) id: String,
    pub(crate) task: String,
    pub(crate) map_index: Option<u32>,
    pub(crate) number: u32,
    pub(crate) state: AttemptState,
    pub(crate) host: String,
    pub(crate) process: i64,
    pub(crate) started_at: Timestamp,
    pub(crate) finished_at: Option<Timestamp>,
    pub(crate) error: Option<String>,
}

impl Store {
    /// Attempts of a run, in the order of their beginning.
    pub(crate) async fn attempt_facts(&self, run: RunId, which: &Which) -> Result<Vec<AttemptFacts>> {
        let mut query = Statement::new(
            "SELECT a.id, t.task, t.map_index, a.number, a.state, a.owner_host, a.owner_pid, a.started_at,
                    a.finished_at, a.error
             FROM task_instance t JOIN attempt a ON a.task_instance_id = t.id WHERE t.run_id = ",
        );
        query.text(run.to_string());
        narrow(&mut query, which);
        match which.attempt {
            Some(number) => query.push(" AND a.number = ").number(i64::from(number)),
            None => query.push(" AND a.number = (SELECT MAX(b.number) FROM attempt b WHERE b.task_instance_id = t.id)"),
        };
        query.push(" ORDER BY a.started_at, t.position, t.map_index");
        let rows = query.query().fetch_all(self.pool()).await.map_err(doing)?;
        rows.iter().map(facts).collect()
    }

    /// An attempt as it stands now; none for one that was removed, because what it looked for was not there yet.
    pub(crate) async fn attempt_now(&self, attempt: &AttemptFacts) -> Result<Option<AttemptFacts>> {
        let mut query = Statement::new(
            "SELECT a.id, t.task, t.map_index, a.number, a.state, a.owner_host, a.owner_pid, a.started_at,
                    a.finished_at, a.error
             FROM attempt a JOIN task_instance t ON t.id = a.task_instance_id WHERE a.id = ",
        );
        query.text(attempt.id.as_str());
        query.query().fetch_optional(self.pool()).await.map_err(doing)?.as_ref().map(facts).transpose()
    }

    /// Whether the chosen tasks of a run have all ended.
    pub(crate) async fn have_ended(&self, run: RunId, which: &Which) -> Result<bool> {
        let mut query = Statement::new("SELECT DISTINCT t.state FROM task_instance t WHERE t.run_id = ");
        query.text(run.to_string());
        narrow(&mut query, which);
        let states: Vec<(String,)> = query.query_as().fetch_all(self.pool()).await.map_err(doing)?;
        let states: Vec<TaskState> = states.iter().map(|(state,)| TaskState::read(state)).collect::<Result<_>>()?;
        Ok(states.into_iter().all(TaskState::is_finished))
    }
}

fn narrow(query: &mut Statement, which: &Which) {
    if let Some(task) = &which.task {
        query.push(" AND t.task = ").text(task.as_str());
    }
    if let Some(index) = which.map_index {
        query.push(" AND t.map_index = ").number(i64::from(index));
    }
}

fn facts(row: &AnyRow) -> Result<AttemptFacts> {
    let text = |name: &str| row.try_get::<String, _>(name).map_err(doing);
    let number = |name: &str| row.try_get::<i64, _>(name).map_err(doing);
    Ok(AttemptFacts {
        id: text("id")?,
        task: text("task")?,
        map_index: u32::try_from(number("map_index")?).ok(),
        number: u32::try_from(number("number")?).unwrap_or(u32::MAX),
        state: AttemptState::read(&text("state")?)?,
        host: text("owner_host")?,
        process: number("owner_pid")?,
        started_at: Timestamp::from_millis(number("started_at")?),
        finished_at: row.try_get::<Option<i64>, _>("finished_at").map_err(doing)?.map(Timestamp::from_millis),
        error: row.try_get("error").map_err(doing)?,
    })
}

fn doing(error: sqlx::Error) -> Error {
    Error::database(DOING, error)
}
