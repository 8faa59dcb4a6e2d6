//! Tasks of runs, their instances and attempts.

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use crate::clock::Timestamp;
use crate::state::{AttemptRecord, AttemptState, InstanceRecord, TaskState, TaskSummary};

/// A task of a run, the items of a mapped task taken together.
#[derive(Clone, Debug, Serialize, Deserialize, ToSchema)]
pub struct TaskView {
    /// Its name.
    pub task: String,
    /// The kind of its job.
    pub job: String,
    /// Where it stands.
    pub state: TaskState,
    /// Whether it is mapped over a list.
    pub mapped: bool,
    /// 1, or the items of a mapped task.
    pub instances: u64,
    /// Instances that succeeded.
    pub succeeded: u64,
    /// Instances that failed.
    pub failed: u64,
    /// Attempts of all instances.
    pub attempts: u64,
    /// One line for people; empty for a mapped task.
    pub summary: String,
    /// Why it failed.
    pub error: Option<String>,
    /// Start of the first attempt.
    pub started_at: Option<Timestamp>,
    /// End of the last.
    pub finished_at: Option<Timestamp>,
}

/// A task that is not mapped, or one item of a mapped task.
#[derive(Clone, Debug, Serialize, Deserialize, ToSchema)]
pub struct InstanceView {
    /// The item's place in the list that the task is mapped over; none for a task that is not mapped.
    pub map_index: Option<u32>,
    /// Where it stands.
    pub state: TaskState,
    /// One line for people.
    pub summary: String,
    /// Items that failed without failing it.
    pub failures: u64,
    /// Why it failed.
    pub error: Option<String>,
    /// Start of its first attempt.
    pub started_at: Option<Timestamp>,
    /// When it ended.
    pub finished_at: Option<Timestamp>,
    /// Its attempts, the first first.
    pub attempts: Vec<AttemptView>,
}

/// One try at an instance.
#[derive(Clone, Debug, Serialize, Deserialize, ToSchema)]
pub struct AttemptView {
    /// From 1.
    pub number: u32,
    /// Where it stands.
    pub state: AttemptState,
    /// Name of the host that ran it.
    pub host: String,
    /// Process id on that host.
    pub pid: u32,
    /// When it began.
    pub started_at: Timestamp,
    /// When it ended.
    pub finished_at: Option<Timestamp>,
    /// Others may take the instance over after this moment, if the attempt is still running.
    pub lease_until: Timestamp,
    /// Why it failed or was lost.
    pub error: Option<String>,
}

/// A page of the instances of a task, in the order of the list that it is mapped over.
#[derive(Clone, Debug, Serialize, Deserialize, ToSchema)]
pub struct Instances {
    /// The instances.
    pub instances: Vec<InstanceView>,
    /// `after` of the next page; none on the last.
    pub next: Option<u32>,
}

impl From<TaskSummary> for TaskView {
    fn from(task: TaskSummary) -> Self {
        Self {
            task: task.task,
            job: task.job,
            state: task.state,
            mapped: task.mapped,
            instances: task.instances,
            succeeded: task.succeeded,
            failed: task.failed,
            attempts: task.attempts,
            summary: task.summary,
            error: task.error,
            started_at: task.started_at,
            finished_at: task.finished_at,
        }
    }
}

impl From<(InstanceRecord, Vec<AttemptRecord>)> for InstanceView {
    fn from((instance, attempts): (InstanceRecord, Vec<AttemptRecord>)) -> Self {
        Self {
            map_index: instance.map_index,
            state: instance.state,
            summary: instance.summary,
            failures: instance.failures,
            error: instance.error,
            started_at: instance.started_at,
            finished_at: instance.finished_at,
            attempts: attempts.into_iter().map(AttemptView::from).collect(),
        }
    }
}

impl From<AttemptRecord> for AttemptView {
    fn from(attempt: AttemptRecord) -> Self {
        Self {
            number: attempt.number,
            state: attempt.state,
            host: attempt.owner.host,
            pid: attempt.owner.pid,
            started_at: attempt.started_at,
            finished_at: attempt.finished_at,
            lease_until: attempt.lease_until,
            error: attempt.error,
        }
    }
}
