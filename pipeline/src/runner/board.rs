//! The counts of a run's tasks while it is driven.

use std::time::Instant;

use super::events::TaskProgress;
use crate::job::ProgressSink;
use crate::state::{TaskState, TaskSummary};

/// One line a task.
#[derive(Debug)]
pub(super) struct Board {
    lines: Vec<Line>,
}

#[derive(Debug)]
struct Line {
    task: String,
    mapped: bool,
    state: TaskState,
    instances: u64,
    finished: u64,
    items: u64,
    failures: u64,
    began: Option<Instant>,
    seconds: f64,
    summary: String,
    note: String,
}

impl Board {
    /// From what the store knows.
    pub(super) fn new(tasks: &[TaskSummary]) -> Self {
        let lines = tasks.iter().map(|task| Line {
            task: task.task.clone(),
            mapped: task.mapped,
            state: task.state,
            instances: task.instances,
            finished: task.succeeded + task.failed,
            items: task.items,
            failures: task.failures,
            began: None,
            seconds: 0.0,
            summary: task.summary.clone(),
            note: String::new(),
        });
        Self { lines: lines.collect() }
    }

    /// An attempt of a task begins; true for the first since the runner began.
    pub(super) fn begin(&mut self, position: usize) -> bool {
        let Some(line) = self.lines.get_mut(position) else { return false };
        line.state = TaskState::Running;
        if line.began.is_some() {
            return false;
        }
        line.began = Some(Instant::now());
        true
    }

    /// An instance has ended.
    pub(super) fn end_instance(&mut self, position: usize, items: u64, failures: u64, summary: &str) {
        let Some(line) = self.lines.get_mut(position) else { return };
        line.finished += 1;
        line.items += items;
        line.failures += failures;
        if !line.mapped {
            summary.clone_into(&mut line.summary);
        }
    }

    /// The items of a mapped task are known.
    pub(super) fn expand(&mut self, position: usize, instances: u64) {
        if let Some(line) = self.lines.get_mut(position) {
            line.instances = instances;
            line.state = TaskState::Running;
        }
    }

    /// A task as a whole has ended; gives its summary.
    pub(super) fn end_task(&mut self, position: usize, state: TaskState) -> String {
        let Some(line) = self.lines.get_mut(position) else { return String::new() };
        line.state = state;
        line.seconds = line.began.map_or(0.0, |began| began.elapsed().as_secs_f64());
        line.summary.clone()
    }

    /// A job said something.
    pub(super) fn note(&mut self, position: usize, note: String) {
        if let Some(line) = self.lines.get_mut(position) {
            line.note = note;
        }
    }

    /// How far a task is, given the sinks of its working instances.
    pub(super) fn progress(&self, position: usize, working: &[ProgressSink]) -> Option<TaskProgress> {
        let line = self.lines.get(position)?;
        let counts = working.iter().map(ProgressSink::counts);
        let (done, total) = counts.fold((0, 0), |(d, t), (done, total)| (d + done, t + total.max(done)));
        let seconds = match line.began {
            Some(began) if !line.state.is_finished() => began.elapsed().as_secs_f64(),
            _ => line.seconds,
        };
        Some(TaskProgress {
            task: line.task.clone(),
            state: line.state,
            mapped: line.mapped,
            instances: line.instances,
            finished: line.finished,
            running: working.len() as u64,
            items_done: line.items + done,
            items_total: line.items + total,
            failures: line.failures,
            seconds,
            note: line.note.clone(),
        })
    }

    /// All tasks, with nothing at work.
    pub(super) fn all(&self) -> Vec<TaskProgress> {
        (0..self.lines.len()).filter_map(|position| self.progress(position, &[])).collect()
    }
}
