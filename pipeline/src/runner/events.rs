//! What a runner tells while it drives a run, and at its end.

use std::time::Duration;

use crate::ids::RunId;
use crate::state::{RunState, TaskState, TaskSummary};

/// Something that happened in a run. Counts are totals, so that a listener that missed events is right again with the
/// next one.
#[derive(Clone, Debug)]
pub enum RunEvent {
    /// The runner has begun to drive the run.
    RunStarted {
        /// Name of the DAG.
        dag: String,
        /// Instances that were done before.
        done_instances: u64,
        /// All tasks in topological order.
        tasks: Vec<TaskProgress>,
    },
    /// The first attempt at a task has begun.
    TaskStarted(TaskProgress),
    /// A task moved on.
    Progress(TaskProgress),
    /// An attempt failed and will be tried again.
    Retry {
        /// The task.
        task: String,
        /// The item of a mapped task.
        map_index: Option<u32>,
        /// Number of the attempt that failed.
        attempt: u32,
        /// Its error.
        error: String,
        /// Wait before the next attempt.
        delay: Duration,
    },
    /// An attempt was lost: its process died.
    Lost {
        /// The task.
        task: String,
        /// The item of a mapped task.
        map_index: Option<u32>,
        /// What happened to the process.
        how: String,
        /// Whether the instance was given up because this happened too often.
        failed: bool,
    },
    /// A task has ended.
    TaskFinished {
        /// Its last counts.
        progress: TaskProgress,
        /// One line for people; empty for a mapped task.
        summary: String,
        /// Why it failed.
        error: Option<String>,
    },
    /// The run has ended.
    RunFinished {
        /// How.
        state: RunState,
        /// Items that failed without failing their task.
        failures: u64,
        /// Seconds that the runner drove it.
        seconds: f64,
    },
}

/// How far a task is.
#[derive(Clone, Debug, PartialEq)]
pub struct TaskProgress {
    /// The task.
    pub task: String,
    /// Where it stands.
    pub state: TaskState,
    /// Whether it is mapped over a list.
    pub mapped: bool,
    /// Instances: 1, or the items of a mapped task (0 until they are known).
    pub instances: u64,
    /// Instances that have ended.
    pub finished: u64,
    /// Instances at work.
    pub running: u64,
    /// What the jobs counted as done, in ended and working instances together.
    pub items_done: u64,
    /// What they count in all, in ended and working instances together; instances not begun are not in it.
    pub items_total: u64,
    /// Items that failed without failing the task.
    pub failures: u64,
    /// Seconds since this runner began the task; 0 before.
    pub seconds: f64,
    /// Words of the job that spoke last.
    pub note: String,
}

/// How a run ended.
#[derive(Clone, Debug)]
pub struct RunOutcome {
    /// The run.
    pub run_id: RunId,
    /// Name of its DAG.
    pub dag: String,
    /// Succeeded, succeeded with failures, failed, or cancelled.
    pub state: RunState,
    /// Its tasks in topological order.
    pub tasks: Vec<TaskSummary>,
    /// Items that failed without failing their task.
    pub failures: u64,
    /// The first error of a failed run.
    pub first_error: Option<String>,
    /// Seconds that the runner drove it.
    pub seconds: f64,
}
