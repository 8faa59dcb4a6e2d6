//! What ends and losses mean for attempts, tasks and runs: decisions that need no database. Transitions read what they
//! need, ask here, and write what comes of it; the model of the simulation asks here as well.

use super::claim::STEP_OF_PRIORITY;
use super::ended::End;
use super::types::{AttemptState, RunState, TaskState};
use crate::clock::Timestamp;
use crate::dag::{Dag, Task, Upstream};

/// What the end of an attempt makes of it and of its instance.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct AfterEnd<'a> {
    pub(super) attempt: AttemptState,
    pub(super) instance: TaskState,
    pub(super) error: Option<&'a str>,
    /// When the instance is ready again; none: as it was before the attempt.
    pub(super) again_at: Option<Timestamp>,
    /// It counts against the retries, and shows that its process did not die of it.
    pub(super) is_failure: bool,
}

/// What the loss of an attempt makes of its instance.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct AfterLoss {
    pub(super) instance: TaskState,
    pub(super) lost_in_a_row: i64,
    /// It is given up: too many processes died while running it.
    pub(super) is_poison: bool,
}

/// A task, or an item of one, that failed, was cancelled, or was not tried because of a failure.
#[derive(Clone, Debug)]
pub(super) struct Spoiled {
    /// Place of the task in the topological order, or of the item in its list.
    pub(super) place: usize,
    pub(super) state: TaskState,
    pub(super) error: Option<String>,
}

/// Whose turn an instance is: the smallest goes first.
pub(super) fn turn(ready_at: Timestamp, priority: i32) -> i64 {
    ready_at.millis() - i64::from(priority) * STEP_OF_PRIORITY.as_millis() as i64
}

/// In a run that was told to stop, what has not succeeded is cancelled.
pub(super) fn after_end(end: &End, stopping: bool) -> AfterEnd<'_> {
    let after = |attempt, instance| AfterEnd { attempt, instance, error: None, again_at: None, is_failure: false };
    match end {
        End::Succeeded { .. } => after(AttemptState::Succeeded, TaskState::Succeeded),
        _ if stopping => after(AttemptState::Cancelled, TaskState::Cancelled),
        End::Failed { error, retry_at } => {
            let instance = if retry_at.is_some() { TaskState::Ready } else { TaskState::Failed };
            let failed = after(AttemptState::Failed, instance);
            AfterEnd { error: Some(error), again_at: *retry_at, is_failure: true, ..failed }
        }
        End::Later { at, .. } => AfterEnd { again_at: Some(*at), ..after(AttemptState::Lost, TaskState::Ready) },
        End::Interrupted => {
            AfterEnd { error: Some("stopped on request"), ..after(AttemptState::Lost, TaskState::Ready) }
        }
    }
}

/// `lost_before`: losses in a row before this one. `own`: the worker that reports it is alive and did not know of it, so
/// that nobody died. `most`: so many losses in a row fail the instance.
pub(super) fn after_loss(lost_before: i64, own: bool, most: u32, stopping: bool) -> AfterLoss {
    let lost_in_a_row = if own { lost_before } else { lost_before + 1 };
    let is_poison = !own && lost_in_a_row >= i64::from(most) && !stopping;
    let instance = match (stopping, is_poison) {
        (true, _) => TaskState::Cancelled,
        (false, true) => TaskState::Failed,
        (false, false) => TaskState::Ready,
    };
    AfterLoss { instance, lost_in_a_row, is_poison }
}

/// Why an instance is given up whose processes died, the last of them this one.
pub(super) fn given_up(lost_in_a_row: i64, pid: i64, host: &str) -> String {
    format!(
        "the process died {lost_in_a_row} times in a row while running this (last: process {pid} on {host}); \
         look for a crash or too little memory, then start a new run"
    )
}

/// A task's state as its successors see it.
pub(super) fn upstream(state: TaskState) -> Upstream {
    match state {
        TaskState::Waiting | TaskState::Ready | TaskState::Running => Upstream::Pending,
        TaskState::Succeeded => Upstream::Succeeded,
        TaskState::Failed => Upstream::Failed,
        TaskState::UpstreamFailed | TaskState::Cancelled => Upstream::UpstreamFailed,
        TaskState::Skipped => Upstream::Skipped,
    }
}

/// Why a task was not tried, given how far the tasks in its `needs` have come.
pub(super) fn not_run_because(task: &Task, states: &[Upstream]) -> String {
    let guilty = |state: Upstream| !matches!(state, Upstream::Succeeded | Upstream::Pending);
    let failed = task.needs.iter().zip(states).filter(|(_, state)| guilty(**state));
    let names: Vec<&str> = failed.map(|(name, _)| name.as_str()).collect();
    format!("not run because of {}", names.join(", "))
}

/// How a mapped task whose items have all ended has gone; `spoiled`: those that failed or were cancelled, in order.
pub(super) fn verdict_on_items(spoiled: &[Spoiled]) -> (TaskState, Option<String>) {
    let failed: Vec<&Spoiled> = spoiled.iter().filter(|item| item.state == TaskState::Failed).collect();
    let Some(first) = failed.first() else {
        let state = if spoiled.is_empty() { TaskState::Succeeded } else { TaskState::Cancelled };
        return (state, None);
    };
    let (index, why) = (first.place, first.error.clone().unwrap_or_default());
    let error = match failed.len() {
        1 => format!("item {index}: {why}"),
        count => format!("{count} items failed; the first, item {index}: {why}"),
    };
    (TaskState::Failed, Some(error))
}

/// How a run whose tasks have all ended has gone, and its first error. `spoiled`: tasks that failed or were not tried
/// because of a failure, in the order of their ends; `failures`: items that failed without failing their task.
///
/// It has failed when a task failed and nothing came after it: a failed task whose successors handled the failure
/// (`trigger: all_done`) fails the run only if one of the last tasks failed too.
pub(super) fn verdict_on_run(dag: &Dag, spoiled: &[Spoiled], failures: i64) -> (RunState, Option<String>) {
    let is_last = |place: usize| dag.tasks().get(place).is_none_or(|task| task.downstream.is_empty());
    // Without a failed one there is a cancelled one before it: the run goes on without that.
    let first = spoiled.iter().find(|task| task.state == TaskState::Failed).or(spoiled.first());
    match first {
        Some(first) if spoiled.iter().any(|task| is_last(task.place)) => {
            let task = dag.tasks().get(first.place).map_or("", |task| task.id.as_str());
            (RunState::Failed, Some(format!("task `{task}`: {}", first.error.clone().unwrap_or_default())))
        }
        None if failures == 0 => (RunState::Succeeded, None),
        _ => (RunState::SucceededWithFailures, None),
    }
}

/// How a run ends that was told to stop: failed for a reason, or cancelled on somebody's wish.
pub(super) fn verdict_on_stopped(reason: Option<&str>) -> RunState {
    if reason.is_some() { RunState::Failed } else { RunState::Cancelled }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    fn spoiled(place: usize, state: TaskState) -> Spoiled {
        Spoiled { place, state, error: Some(format!("e{place}")) }
    }

    #[test]
    fn a_run_fails_with_its_last_tasks_and_names_the_first_error() {
        let yaml = "dag: d\ntasks:\n  a: {job: x}\n  b: {job: x, needs: [a], trigger: all_done}\n";
        let dag = Dag::parse("d.yaml", yaml).unwrap();
        let (a, b) = (spoiled(0, TaskState::Failed), spoiled(1, TaskState::Failed));
        assert_eq!(verdict_on_run(&dag, &[], 0), (RunState::Succeeded, None));
        assert_eq!(verdict_on_run(&dag, &[], 2), (RunState::SucceededWithFailures, None));
        assert_eq!(
            verdict_on_run(&dag, std::slice::from_ref(&a), 0),
            (RunState::SucceededWithFailures, None),
            "b handled it"
        );
        assert_eq!(verdict_on_run(&dag, &[a, b], 0), (RunState::Failed, Some("task `a`: e0".to_owned())));
        let not_tried = spoiled(1, TaskState::UpstreamFailed);
        assert_eq!(verdict_on_run(&dag, &[not_tried], 0), (RunState::Failed, Some("task `b`: e1".to_owned())));
    }

    #[test]
    fn items_fail_their_task_before_they_cancel_it() {
        let (failed, cancelled) = (spoiled(3, TaskState::Failed), spoiled(1, TaskState::Cancelled));
        assert_eq!(verdict_on_items(&[]), (TaskState::Succeeded, None));
        assert_eq!(verdict_on_items(std::slice::from_ref(&cancelled)), (TaskState::Cancelled, None));
        let both = verdict_on_items(&[cancelled, failed.clone()]);
        assert_eq!(both, (TaskState::Failed, Some("item 3: e3".to_owned())));
        let two = verdict_on_items(&[failed.clone(), failed]).1;
        assert_eq!(two.as_deref(), Some("2 items failed; the first, item 3: e3"));
    }

    #[test]
    fn losses_in_a_row_give_an_instance_up_unless_nobody_died_or_the_run_stops() {
        let after = |own, stopping| {
            let after = after_loss(4, own, 5, stopping);
            (after.instance, after.lost_in_a_row, after.is_poison)
        };
        assert_eq!(after(false, false), (TaskState::Failed, 5, true));
        assert_eq!(after(true, false), (TaskState::Ready, 4, false));
        assert_eq!(after(false, true), (TaskState::Cancelled, 5, false));
    }
}
