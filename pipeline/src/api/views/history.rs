//! Removing what ended long ago.

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use crate::state::Removed;

/// What would be removed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct RemovableView {
    /// Runs.
    pub runs: u64,
    /// Their task instances.
    pub task_instances: u64,
    /// The attempts at these.
    pub attempts: u64,
}

/// What was removed.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct RemovedView {
    /// Runs.
    pub runs: u64,
    /// Their task instances.
    pub task_instances: u64,
    /// The attempts at these.
    pub attempts: u64,
    /// Versions of DAGs that nothing refers to any more; removed when no run is left to be removed.
    pub dag_versions: u64,
    /// Whether there may be more to remove: ask again.
    pub more: bool,
}

/// Outputs that were forgotten.
#[derive(Clone, Copy, Debug, Serialize, Deserialize, ToSchema)]
pub struct Forgotten {
    /// How many.
    pub outputs: u64,
}

impl RemovedView {
    /// What was removed, and whether there may be more.
    pub fn new(removed: Removed, more: bool) -> Self {
        let Removed { runs, task_instances, attempts, dag_versions, logs: _ } = removed;
        Self { runs, task_instances, attempts, dag_versions, more }
    }

    /// Both together; whether there is more says the later.
    pub fn and(self, later: Self) -> Self {
        Self {
            runs: self.runs + later.runs,
            task_instances: self.task_instances + later.task_instances,
            attempts: self.attempts + later.attempts,
            dag_versions: self.dag_versions + later.dag_versions,
            more: later.more,
        }
    }
}

impl From<Removed> for RemovableView {
    fn from(removed: Removed) -> Self {
        let Removed { runs, task_instances, attempts, .. } = removed;
        Self { runs, task_instances, attempts }
    }
}
