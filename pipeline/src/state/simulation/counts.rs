//! What was done to the histories and what came of them.

use std::collections::BTreeMap;

use super::rows::Rows;

/// Each of these must have happened often before a test may say that nothing came of it.
const FAULTS: [&str; 17] = [
    "answers lost",
    "answers late",
    "answers fenced",
    "answers of the dead",
    "attempts lost",
    "cancelled",
    "clock set ahead",
    "clock set back",
    "deaths",
    "given up",
    "heartbeats missing",
    "outages",
    "reopened",
    "schedulers late",
    "standing still",
    "timed out",
    "two schedulers",
];

/// All ends that a run or a task can have.
const ENDS: [&str; 9] = [
    "run cancelled",
    "run failed",
    "run succeeded",
    "run succeeded_with_failures",
    "task cancelled",
    "task failed",
    "task skipped",
    "task succeeded",
    "task upstream_failed",
];

#[derive(Debug, Default)]
pub(super) struct Counts {
    pub(super) histories: usize,
    pub(super) steps: usize,
    pub(super) runs: usize,
    pub(super) faults: BTreeMap<&'static str, usize>,
    pub(super) ends: BTreeMap<String, usize>,
}

impl Counts {
    /// Something was done, or came of it, so often.
    pub(super) fn happened(&mut self, fault: &'static str, times: usize) {
        debug_assert!(FAULTS.contains(&fault), "{fault}");
        *self.faults.entry(fault).or_default() += times;
    }

    /// Counts how runs and tasks have ended.
    pub(super) fn ended(&mut self, rows: &Rows) {
        self.histories += 1;
        self.runs += rows.runs.len();
        for run in &rows.runs {
            *self.ends.entry(format!("run {}", run.facts.state.as_str())).or_default() += 1;
            for one in run.instances.iter().filter(|one| one.map_index.is_none()) {
                *self.ends.entry(format!("task {}", one.state.as_str())).or_default() += 1;
            }
        }
    }

    pub(super) fn add(&mut self, other: Self) {
        let Self { histories, steps, runs, faults, ends } = other;
        self.histories += histories;
        self.steps += steps;
        self.runs += runs;
        for (fault, times) in faults {
            *self.faults.entry(fault).or_default() += times;
        }
        for (end, times) in ends {
            *self.ends.entry(end).or_default() += times;
        }
    }

    /// Fails unless every fault happened and every end was reached.
    pub(super) fn assert_that_all_happened(&self) {
        for fault in FAULTS {
            let times = self.faults.get(fault).copied().unwrap_or(0);
            assert!(times > 10, "`{fault}` happened only {times} times: {self:?}");
        }
        for end in ENDS {
            let times = self.ends.get(end).copied().unwrap_or(0);
            assert!(times > 10, "`{end}` was reached only {times} times: {self:?}");
        }
    }
}
