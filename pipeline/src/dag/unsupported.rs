//! What the language has and this version does not act on: told when a DAG is to run, because a setting that is silently
//! without effect is worse than none.

use super::mistake::Place;
use super::{Dag, Task};

impl Dag {
    /// Every setting that has no effect in this version, with its place.
    pub(crate) fn unsupported(&self) -> Vec<(Place, String)> {
        let mut found = Vec::new();
        let mut dag = |used: bool, key: &str| {
            if used {
                found.push((Place { line: 1, column: 1 }, format!("`{key}` of the DAG")));
            }
        };
        dag(self.continuous.is_some(), "continuous");
        for task in self.tasks() {
            let keys = unsupported_in(task);
            found.extend(keys.into_iter().map(|key| (task.places.id, format!("`{key}` of task `{}`", task.id))));
        }
        found
    }
}

fn unsupported_in(task: &Task) -> Vec<&'static str> {
    let keys = [(task.cache.is_some(), "cache")];
    keys.into_iter().filter(|(used, _)| *used).map(|(_, key)| key).collect()
}
