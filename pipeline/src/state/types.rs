//! States and records of the store.

use std::fmt;

use serde::{Deserialize, Serialize};
use serde_json::Value;
use utoipa::ToSchema;

use crate::clock::Timestamp;
use crate::dag::Params;
use crate::error::{Error, Result};
use crate::ids::{AttemptId, DagVersionId, RunId, TaskInstanceId};
use crate::schedule::DataInterval;

/// Where a run stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum RunState {
    /// Made, not yet begun.
    Queued,
    /// Begun. Also a run whose process died or was interrupted: it goes on when it is started again.
    Running,
    /// Every task succeeded without a failed item.
    Succeeded,
    /// Every task succeeded, and some items failed within them.
    SucceededWithFailures,
    /// A task failed.
    Failed,
    /// Ended on request, never to go on.
    Cancelled,
}

/// Where a task, or an item of a mapped task, stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum TaskState {
    /// Tasks upstream have not ended.
    Waiting,
    /// May run now, or after its retry delay.
    Ready,
    /// An attempt is under way; a mapped task: its items are.
    Running,
    /// Done.
    Succeeded,
    /// Failed with no retries left; a mapped task: an item did.
    Failed,
    /// Left out.
    Skipped,
    /// A task upstream failed.
    UpstreamFailed,
    /// Its run was stopped before it had ended.
    Cancelled,
}

/// Where an attempt stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum AttemptState {
    /// Under way.
    Running,
    /// Gave an output.
    Succeeded,
    /// Gave an error.
    Failed,
    /// Its process died, let its lease run out, or was interrupted.
    Lost,
    /// Its run was stopped.
    Cancelled,
}

/// What started a run.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum RunCause {
    /// A person, or a program through an API.
    #[default]
    Manual,
    /// The clock.
    Schedule,
    /// A backfill over a range of the past.
    Backfill,
    /// An asset that was updated.
    Asset,
    /// A task of another DAG.
    Dag,
    /// A batch of a continuous DAG.
    Stream,
}

/// What a row of `task_instance` stands for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum InstanceKind {
    /// A task that runs once.
    Single,
    /// A mapped task as a whole.
    Map,
    /// One item of a mapped task.
    Item,
}

impl RunState {
    /// All states with their names.
    pub const ALL: [(Self, &'static str); 6] = [
        (Self::Queued, "queued"),
        (Self::Running, "running"),
        (Self::Succeeded, "succeeded"),
        (Self::SucceededWithFailures, "succeeded_with_failures"),
        (Self::Failed, "failed"),
        (Self::Cancelled, "cancelled"),
    ];

    /// Whether nothing more will happen in the run.
    pub fn is_finished(self) -> bool {
        !matches!(self, Self::Queued | Self::Running)
    }

    /// The name in the database.
    pub fn as_str(self) -> &'static str {
        name_in(&Self::ALL, self)
    }

    pub(super) fn read(name: &str) -> Result<Self> {
        read_in(&Self::ALL, name, "run")
    }
}

impl TaskState {
    const ALL: [(Self, &'static str); 8] = [
        (Self::Waiting, "waiting"),
        (Self::Ready, "ready"),
        (Self::Running, "running"),
        (Self::Succeeded, "succeeded"),
        (Self::Failed, "failed"),
        (Self::Skipped, "skipped"),
        (Self::UpstreamFailed, "upstream_failed"),
        (Self::Cancelled, "cancelled"),
    ];

    /// Whether nothing more will happen to the task.
    pub fn is_finished(self) -> bool {
        !matches!(self, Self::Waiting | Self::Ready | Self::Running)
    }

    /// The name in the database.
    pub fn as_str(self) -> &'static str {
        name_in(&Self::ALL, self)
    }

    pub(super) fn read(name: &str) -> Result<Self> {
        read_in(&Self::ALL, name, "task")
    }
}

impl AttemptState {
    const ALL: [(Self, &'static str); 5] = [
        (Self::Running, "running"),
        (Self::Succeeded, "succeeded"),
        (Self::Failed, "failed"),
        (Self::Lost, "lost"),
        (Self::Cancelled, "cancelled"),
    ];

    /// The name in the database.
    pub fn as_str(self) -> &'static str {
        name_in(&Self::ALL, self)
    }

    pub(super) fn read(name: &str) -> Result<Self> {
        read_in(&Self::ALL, name, "attempt")
    }
}

impl RunCause {
    /// All causes with their names.
    pub const ALL: [(Self, &'static str); 6] = [
        (Self::Manual, "manual"),
        (Self::Schedule, "schedule"),
        (Self::Backfill, "backfill"),
        (Self::Asset, "asset"),
        (Self::Dag, "dag"),
        (Self::Stream, "stream"),
    ];

    /// The name in the database and in templates.
    pub fn as_str(self) -> &'static str {
        name_in(&Self::ALL, self)
    }

    pub(super) fn read(name: &str) -> Result<Self> {
        read_in(&Self::ALL, name, "run cause")
    }
}

impl InstanceKind {
    const ALL: [(Self, &'static str); 3] = [(Self::Single, "single"), (Self::Map, "map"), (Self::Item, "item")];

    /// The name in the database.
    pub fn as_str(self) -> &'static str {
        name_in(&Self::ALL, self)
    }

    pub(super) fn read(name: &str) -> Result<Self> {
        read_in(&Self::ALL, name, "instance kind")
    }
}

impl fmt::Display for RunState {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.as_str().replace('_', " "))
    }
}

impl fmt::Display for TaskState {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.as_str().replace('_', " "))
    }
}

impl fmt::Display for AttemptState {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// Who runs an attempt: a runner within a process on a host.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Owner {
    /// Name of the host.
    pub host: String,
    /// Process id.
    pub pid: u32,
    /// Random; no two runners have the same.
    pub key: String,
}

/// A run as stored.
#[derive(Clone, Debug)]
pub struct RunRecord {
    /// Its id.
    pub id: RunId,
    /// Name of its DAG.
    pub dag: String,
    /// The text of the DAG that it started with.
    pub dag_version: DagVersionId,
    /// Its parameters.
    pub params: Params,
    /// What started it.
    pub cause: RunCause,
    /// The span of time that it is about.
    pub interval: Option<DataInterval>,
    /// Its number among the batches of a continuous DAG.
    pub batch: Option<u64>,
    /// Where it stands.
    pub state: RunState,
    /// Failed items in all tasks; known when the run has ended.
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

/// Which runs are wanted.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct RunFilter {
    /// Only of this DAG.
    pub dag: Option<String>,
    /// Only in this state.
    pub state: Option<RunState>,
    /// Only those that this has started.
    pub cause: Option<RunCause>,
}

/// A task instance as stored.
#[derive(Clone, Debug)]
pub struct InstanceRecord {
    /// Its id.
    pub id: TaskInstanceId,
    /// Its task.
    pub task: String,
    /// The item's place in the list, for an item of a mapped task.
    pub map_index: Option<u32>,
    /// What it stands for.
    pub kind: InstanceKind,
    /// Where it stands.
    pub state: TaskState,
    /// Number of its last attempt; 0 before the first.
    pub attempts: u32,
    /// Attempts lost in a row, up to now.
    pub lost_in_a_row: u32,
    /// Its output.
    pub output: Option<Value>,
    /// Failed items within it.
    pub failures: u64,
    /// One line for people.
    pub summary: String,
    /// Why it failed.
    pub error: Option<String>,
    /// Start of its first attempt.
    pub started_at: Option<Timestamp>,
    /// When it ended.
    pub finished_at: Option<Timestamp>,
}

/// An attempt as stored.
#[derive(Clone, Debug)]
pub struct AttemptRecord {
    /// Its id.
    pub id: AttemptId,
    /// What it tried.
    pub instance: TaskInstanceId,
    /// Its number, the fencing token.
    pub number: u32,
    /// Where it stands.
    pub state: AttemptState,
    /// Who ran it.
    pub owner: Owner,
    /// Others may take the instance over after this moment.
    pub lease_until: Timestamp,
    /// When it began.
    pub started_at: Timestamp,
    /// When it ended.
    pub finished_at: Option<Timestamp>,
    /// Why it failed or was lost.
    pub error: Option<String>,
}

/// How a task of a run went, its items taken together.
#[derive(Clone, Debug)]
pub struct TaskSummary {
    /// Its name.
    pub task: String,
    /// The kind of its job.
    pub job: String,
    /// Where it stands.
    pub state: TaskState,
    /// Whether it is mapped over a list.
    pub mapped: bool,
    /// Instances: 1, or the items of a mapped task (0 until they are known).
    pub instances: u64,
    /// Instances that succeeded.
    pub succeeded: u64,
    /// Instances that failed.
    pub failed: u64,
    /// Attempts of all instances.
    pub attempts: u64,
    /// What the jobs counted as done.
    pub items: u64,
    /// Items that failed without failing the task.
    pub failures: u64,
    /// One line for people; empty for a mapped task.
    pub summary: String,
    /// Why it failed.
    pub error: Option<String>,
    /// Start of the first attempt.
    pub started_at: Option<Timestamp>,
    /// End of the last.
    pub finished_at: Option<Timestamp>,
}

pub(super) fn name_in<T: PartialEq + Copy>(all: &[(T, &'static str)], value: T) -> &'static str {
    all.iter().find(|(other, _)| *other == value).map_or("", |(_, name)| name)
}

pub(super) fn read_in<T: Copy>(all: &[(T, &'static str)], name: &str, what: &str) -> Result<T> {
    all.iter()
        .find(|(_, known)| *known == name)
        .map(|(value, _)| *value)
        .ok_or_else(|| Error::Corrupt { what: format!("{what} state `{name}`") })
}
