//! Where the log of an attempt lies in the store.

use crate::ids::RunId;

/// Names an attempt.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct LogKey {
    /// Name of the DAG.
    pub dag: String,
    /// The run.
    pub run: RunId,
    /// The task.
    pub task: String,
    /// The item of a mapped task.
    pub map_index: Option<u32>,
    /// Number of the attempt.
    pub attempt: u32,
}

impl LogKey {
    /// The folder of all logs of a run.
    pub fn folder(dag: &str, run: RunId) -> String {
        format!("{dag}/{run}")
    }

    /// The whole log, once the attempt has ended: `<dag>/<run>/<task>[/<index>]/<attempt>.jsonl`.
    pub fn whole(&self) -> String {
        format!("{}.jsonl", self.stem())
    }

    /// A part of it, from 0, while the attempt runs.
    pub(super) fn part(&self, number: u32) -> String {
        format!("{}.parts/{number:06}.jsonl", self.stem())
    }

    fn stem(&self) -> String {
        let folder = Self::folder(&self.dag, self.run);
        match self.map_index {
            Some(index) => format!("{folder}/{}/{index}/{}", self.task, self.attempt),
            None => format!("{folder}/{}/{}", self.task, self.attempt),
        }
    }
}
