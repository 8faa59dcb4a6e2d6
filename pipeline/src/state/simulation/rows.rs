//! The state of a history as rows: what the model keeps, and what is read from the tables to be compared with it.

use std::collections::BTreeMap;

use super::super::*;

/// Where all workers are.
pub(super) const HOST: &str = "host";
pub(super) const PID: u32 = 1;

/// So many lost attempts in a row fail an instance; two make it a suspect.
pub(super) const MOST_LOST: u32 = 3;

/// A run by the order of its making, from 0.
pub(super) type RunNumber = usize;

/// All rows of one history.
#[derive(Clone, Debug, Default)]
pub(super) struct Rows {
    /// By name.
    pub(super) dags: Vec<DagRow>,
    /// In the order of their making.
    pub(super) runs: Vec<RunRow>,
    pub(super) pools: BTreeMap<String, PoolRow>,
}

#[derive(Clone, Debug)]
pub(super) struct DagRow {
    pub(super) dag: Arc<Dag>,
    pub(super) active_runs: u64,
    pub(super) paused: bool,
    pub(super) done_until: Option<Timestamp>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct PoolRow {
    pub(super) slots: i64,
    pub(super) used: i64,
}

#[derive(Clone, Debug)]
pub(super) struct RunRow {
    /// Place of its DAG.
    pub(super) dag: usize,
    pub(super) facts: RunFacts,
    /// By position and place in the list.
    pub(super) instances: Vec<InstanceRow>,
}

/// A run without its tasks.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct RunFacts {
    pub(super) cause: RunCause,
    /// Milliseconds.
    pub(super) interval: Option<(i64, i64)>,
    pub(super) state: RunState,
    pub(super) stopped: Option<Stopped>,
    pub(super) timeout_at: Option<Timestamp>,
    pub(super) failures: i64,
    pub(super) error: Option<String>,
    pub(super) started_at: Option<Timestamp>,
    pub(super) finished_at: Option<Timestamp>,
}

/// A run was told to stop.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Stopped {
    pub(super) at: Timestamp,
    pub(super) error: Option<String>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct InstanceRow {
    pub(super) position: usize,
    pub(super) map_index: Option<u32>,
    pub(super) kind: InstanceKind,
    pub(super) state: TaskState,
    pub(super) ready_at: Timestamp,
    /// Number of the last attempt, the fencing token.
    pub(super) attempts: u32,
    pub(super) failed: u32,
    pub(super) lost_in_a_row: i64,
    /// Items of a mapped task, once known.
    pub(super) items: Option<u64>,
    /// JSON text.
    pub(super) output: Option<String>,
    pub(super) failures: i64,
    pub(super) error: Option<String>,
    pub(super) started_at: Option<Timestamp>,
    pub(super) finished_at: Option<Timestamp>,
    /// By number.
    pub(super) tries: Vec<AttemptRow>,
    /// Place in the order in which instances were made; known to the model alone.
    pub(super) made: u64,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct AttemptRow {
    pub(super) number: u32,
    pub(super) state: AttemptState,
    pub(super) owner: String,
    pub(super) lease_until: Timestamp,
    pub(super) finished_at: Option<Timestamp>,
}

/// An attempt by what it tries and its fencing token, which no two attempts have in common.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct AttemptName {
    pub(super) run: RunNumber,
    pub(super) position: usize,
    pub(super) map_index: Option<u32>,
    pub(super) number: u32,
}

impl RunRow {
    pub(super) fn find(&self, position: usize, map_index: Option<u32>) -> Option<&InstanceRow> {
        self.instances.iter().find(|one| one.position == position && one.map_index == map_index)
    }

    pub(super) fn find_mut(&mut self, position: usize, map_index: Option<u32>) -> Option<&mut InstanceRow> {
        self.instances.iter_mut().find(|one| one.position == position && one.map_index == map_index)
    }

    /// The state of a task as a whole.
    pub(super) fn state_of(&self, position: usize) -> TaskState {
        self.find(position, None).expect("every task has a row").state
    }

    pub(super) fn items_of(&self, position: usize) -> impl Iterator<Item = &InstanceRow> {
        self.instances.iter().filter(move |one| one.position == position && one.map_index.is_some())
    }
}

impl InstanceRow {
    /// An instance that waits.
    pub(super) fn new(position: usize, map_index: Option<u32>, kind: InstanceKind, now: Timestamp, made: u64) -> Self {
        Self {
            position,
            map_index,
            kind,
            state: TaskState::Waiting,
            ready_at: now,
            attempts: 0,
            failed: 0,
            lost_in_a_row: 0,
            items: None,
            output: None,
            failures: 0,
            error: None,
            started_at: None,
            finished_at: None,
            tries: Vec::new(),
            made,
        }
    }

    /// An attempt of it is under way: it is no mapped task whose items are.
    pub(super) fn is_at_work(&self) -> bool {
        self.state == TaskState::Running && self.kind != InstanceKind::Map
    }

    /// The row without what has no meaning in its state and without what only one side knows.
    pub(super) fn comparable(&self) -> Self {
        let ready_at = if self.state == TaskState::Ready { self.ready_at } else { Timestamp::from_millis(0) };
        Self { ready_at, made: 0, ..self.clone() }
    }
}
