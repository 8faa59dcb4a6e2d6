//! What the API shows of DAGs, runs and tasks. Moments are RFC 3339 in UTC.

use serde::Serialize;
use serde_json::Value;
use utoipa::ToSchema;

use crate::clock::Timestamp;
use crate::state::{BackfillRecord, DagRecord, RunRecord, TaskSummary};

/// A DAG.
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct DagView {
    pub(super) name: String,
    /// The version that new runs have.
    pub(super) version: String,
    /// The file that a server reads it from.
    pub(super) file: Option<String>,
    /// Runs that are running.
    pub(super) active_runs: u64,
    /// Its schedule rests.
    pub(super) paused: bool,
    /// End of the last data interval that has a run.
    pub(super) done_until: Option<String>,
}

/// A run.
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct RunView {
    pub(super) id: String,
    pub(super) dag: String,
    /// The version of the DAG that it began with.
    pub(super) dag_version: String,
    /// manual, schedule, backfill, asset, dag or stream.
    pub(super) cause: String,
    /// queued, running, succeeded, succeeded_with_failures, failed or cancelled.
    pub(super) state: String,
    pub(super) params: Value,
    /// First moment of its data interval.
    pub(super) interval_start: Option<String>,
    /// The moment after the last of its data interval.
    pub(super) interval_end: Option<String>,
    /// Items that failed without failing a task.
    pub(super) failures: u64,
    pub(super) error: Option<String>,
    pub(super) created_at: String,
    pub(super) started_at: Option<String>,
    pub(super) finished_at: Option<String>,
}

/// A task of a run, the items of a mapped task taken together.
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct TaskView {
    pub(super) task: String,
    /// The kind of its job.
    pub(super) job: String,
    pub(super) state: String,
    pub(super) mapped: bool,
    /// 1, or the items of a mapped task.
    pub(super) instances: u64,
    pub(super) succeeded: u64,
    pub(super) failed: u64,
    pub(super) attempts: u64,
    pub(super) summary: String,
    pub(super) error: Option<String>,
    pub(super) started_at: Option<String>,
    pub(super) finished_at: Option<String>,
}

/// Runs of a DAG over a range of the past.
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct BackfillView {
    pub(super) id: String,
    pub(super) dag: String,
    /// The version of the DAG that its runs have.
    pub(super) dag_version: String,
    /// running, ended or cancelled.
    pub(super) state: String,
    pub(super) from: String,
    pub(super) to: String,
    /// Which intervals get a run: missing, failed or all.
    pub(super) rerun: String,
    pub(super) max_active: u64,
    pub(super) params: Value,
    /// End of the last data interval that was looked at.
    pub(super) done_until: String,
    pub(super) runs: u64,
    /// Runs that are queued or running.
    pub(super) active: u64,
    pub(super) failed: u64,
    /// Intervals left out because of the runs that they had.
    pub(super) skipped: u64,
    pub(super) created_at: String,
    pub(super) finished_at: Option<String>,
}

impl From<BackfillRecord> for BackfillView {
    fn from(backfill: BackfillRecord) -> Self {
        Self {
            id: backfill.id.to_string(),
            dag: backfill.dag,
            dag_version: backfill.version.to_string(),
            state: backfill.state.as_str().to_owned(),
            from: Timestamp::from(backfill.range.start).to_string(),
            to: Timestamp::from(backfill.range.end).to_string(),
            rerun: backfill.rerun.as_str().to_owned(),
            max_active: backfill.max_active,
            params: backfill.params.to_json(),
            done_until: backfill.done_until.to_string(),
            runs: backfill.runs,
            active: backfill.active,
            failed: backfill.failed,
            skipped: backfill.skipped,
            created_at: backfill.created_at.to_string(),
            finished_at: text(backfill.finished_at),
        }
    }
}

impl From<DagRecord> for DagView {
    fn from(dag: DagRecord) -> Self {
        Self {
            name: dag.name,
            version: dag.version.to_string(),
            file: dag.file,
            active_runs: dag.active_runs,
            paused: dag.paused,
            done_until: text(dag.done_until),
        }
    }
}

impl From<RunRecord> for RunView {
    fn from(run: RunRecord) -> Self {
        Self {
            id: run.id.to_string(),
            dag: run.dag,
            dag_version: run.dag_version.to_string(),
            cause: run.cause.as_str().to_owned(),
            state: run.state.as_str().to_owned(),
            params: run.params.to_json(),
            interval_start: run.interval.map(|interval| Timestamp::from(interval.start).to_string()),
            interval_end: run.interval.map(|interval| Timestamp::from(interval.end).to_string()),
            failures: run.failures,
            error: run.error,
            created_at: run.created_at.to_string(),
            started_at: text(run.started_at),
            finished_at: text(run.finished_at),
        }
    }
}

impl From<TaskSummary> for TaskView {
    fn from(task: TaskSummary) -> Self {
        Self {
            task: task.task,
            job: task.job,
            state: task.state.as_str().to_owned(),
            mapped: task.mapped,
            instances: task.instances,
            succeeded: task.succeeded,
            failed: task.failed,
            attempts: task.attempts,
            summary: task.summary,
            error: task.error,
            started_at: text(task.started_at),
            finished_at: text(task.finished_at),
        }
    }
}

fn text(moment: Option<Timestamp>) -> Option<String> {
    moment.map(|moment| moment.to_string())
}
