//! Runs.

use serde::{Deserialize, Serialize};
use serde_json::Value;
use utoipa::ToSchema;

use super::TaskView;
use crate::clock::Timestamp;
use crate::ids::{DagVersionId, RunId};
use crate::schedule::DataInterval;
use crate::state::{RunCause, RunChange, RunRecord, RunState};

/// A run.
#[derive(Clone, Debug, Serialize, Deserialize, ToSchema)]
pub struct RunView {
    /// Its id.
    pub id: RunId,
    /// Name of its DAG.
    pub dag: String,
    /// The version of the DAG that it began with.
    pub dag_version: DagVersionId,
    /// What started it.
    pub cause: RunCause,
    /// Where it stands.
    pub state: RunState,
    /// Its parameters by name.
    #[schema(value_type = Object)]
    pub params: Value,
    /// First moment of its data interval.
    pub interval_start: Option<Timestamp>,
    /// The moment after the last of its data interval.
    pub interval_end: Option<Timestamp>,
    /// Items that failed without failing a task; known when it has ended.
    pub failures: u64,
    /// The first error of a failed run.
    pub error: Option<String>,
    /// When it was made.
    pub created_at: Timestamp,
    /// When it began.
    pub started_at: Option<Timestamp>,
    /// When it ended.
    pub finished_at: Option<Timestamp>,
}

/// A run and its tasks in topological order.
#[derive(Clone, Debug, Serialize, Deserialize, ToSchema)]
pub struct RunWithTasks {
    /// The run.
    pub run: RunView,
    /// Its tasks.
    pub tasks: Vec<TaskView>,
}

/// A page of runs, the newest first.
#[derive(Clone, Debug, Serialize, Deserialize, ToSchema)]
pub struct Runs {
    /// The runs.
    pub runs: Vec<RunView>,
    /// `before` of the next page; none on the last.
    pub next: Option<RunId>,
}

/// A run has come to a state: the `data` of an event.
#[derive(Clone, Debug, Serialize, Deserialize, ToSchema)]
pub struct RunChangeView {
    /// The run.
    pub run: RunId,
    /// Name of its DAG.
    pub dag: String,
    /// What started it.
    pub cause: RunCause,
    /// Where it stands since then.
    pub state: RunState,
    /// When.
    pub at: Timestamp,
}

impl RunView {
    /// The span of time that it is about.
    pub fn interval(&self) -> Option<DataInterval> {
        let (start, end) = (self.interval_start?, self.interval_end?);
        Some(DataInterval { start: start.time(), end: end.time() })
    }
}

impl From<RunRecord> for RunView {
    fn from(run: RunRecord) -> Self {
        Self {
            id: run.id,
            dag: run.dag,
            dag_version: run.dag_version,
            cause: run.cause,
            state: run.state,
            params: run.params.to_json(),
            interval_start: run.interval.map(|interval| interval.start.into()),
            interval_end: run.interval.map(|interval| interval.end.into()),
            failures: run.failures,
            error: run.error,
            created_at: run.created_at,
            started_at: run.started_at,
            finished_at: run.finished_at,
        }
    }
}

impl From<RunChange> for RunChangeView {
    fn from(change: RunChange) -> Self {
        let RunChange { run, dag, cause, state, at, .. } = change;
        Self { run, dag, cause, state, at }
    }
}
