//! What the module `state` promises, looked for in the rows after every step.

use std::collections::{BTreeMap, BTreeSet};

use super::super::rules::upstream;
use super::super::*;
use super::rows::{AttemptName, DagRow, InstanceRow, MOST_LOST, Rows, RunNumber, RunRow};
use crate::dag::{Decision, TriggerRule, Upstream};

/// Why a promise is broken.
pub(super) type Breach = String;
pub(super) type Verdict<T = ()> = std::result::Result<T, Breach>;
/// A task instance, over the lives of its row.
type Place = (RunNumber, usize, Option<u32>);

/// Looks at a history, and remembers what must not change.
#[derive(Debug, Default)]
pub(super) struct Watch {
    /// Attempt numbers only grow.
    numbers: BTreeMap<Place, u32>,
    /// What has ended stays as it is unless its run goes on.
    finished: BTreeMap<Place, TaskState>,
    /// Attempts that have ended, and those of them whose answer counted.
    ended: BTreeMap<AttemptName, AttemptState>,
    counted: BTreeSet<AttemptName>,
    /// Runs that were told to stop or let go on, in which tasks may not have ended as their needs say.
    touched: BTreeSet<RunNumber>,
    /// Runs that were looked at when they had ended.
    settled: BTreeMap<RunNumber, RunState>,
}

impl Watch {
    /// A run was told to stop.
    pub(super) fn stopped(&mut self, run: RunNumber) {
        self.touched.insert(run);
    }

    /// A run that had ended goes on.
    pub(super) fn reopened(&mut self, run: RunNumber) {
        self.touched.insert(run);
        self.settled.remove(&run);
        self.finished.retain(|(of, ..), _| *of != run);
    }

    /// Whether a run has ended and was looked at since.
    pub(super) fn is_settled(&self, run: RunNumber) -> bool {
        self.settled.contains_key(&run)
    }

    /// The answer of an attempt counted.
    pub(super) fn counts(&mut self, name: AttemptName) -> Verdict {
        let before = self.ended.get(&name).copied();
        hold(before.is_none(), || format!("an answer counts although its attempt is {before:?}: {name:?}"))?;
        hold(self.counted.insert(name), || format!("an answer counts twice: {name:?}"))
    }

    /// Looks at everything that may have changed; `told`: the states of runs as their followers know them.
    pub(super) fn look(&mut self, rows: &Rows, told: &[Vec<RunState>]) -> Verdict {
        let mut used: BTreeMap<&str, (i64, usize)> = BTreeMap::new();
        for (number, run) in rows.runs.iter().enumerate() {
            if let Some(settled) = self.settled.get(&number) {
                hold(run.facts.state == *settled, || format!("run {number} was {settled:?}: {:?}", run.facts))?;
                continue;
            }
            let dag = &rows.dags[run.dag].dag;
            let about = |breach: Breach| format!("{breach}\nin run {number} of {}\n{:?}", dag.yaml(), run.facts);
            self.look_at_run(number, run, dag, &mut used).map_err(about)?;
            if run.facts.state.is_finished() {
                self.settled.insert(number, run.facts.state);
                check_told(run.facts.state, &told[number]).map_err(about)?;
            }
        }
        for (at, row) in rows.dags.iter().enumerate() {
            let runs: Vec<&RunRow> = rows.runs.iter().filter(|run| run.dag == at).collect();
            check_dag(row, &runs).map_err(|breach| format!("{breach}\nof {}", row.dag.yaml()))?;
        }
        for (name, pool) in &rows.pools {
            let (slots, attempts) = used.get(name.as_str()).copied().unwrap_or_default();
            hold(pool.used == slots, || format!("pool {name} counts {} slots, and {slots} are used", pool.used))?;
            // A task that is wider than its pool has it for itself.
            let fits = slots <= pool.slots || attempts == 1;
            hold(fits, || format!("{attempts} attempts use {slots} of {} slots of pool {name}", pool.slots))?;
        }
        Ok(())
    }

    fn look_at_run<'a>(
        &mut self,
        number: RunNumber,
        run: &RunRow,
        dag: &'a Dag,
        used: &mut BTreeMap<&'a str, (i64, usize)>,
    ) -> Verdict {
        let goes_on = run.instances.iter().any(|one| one.state == TaskState::Ready || one.is_at_work());
        let is_running = run.facts.state == RunState::Running;
        hold(!is_running || goes_on, || "a run is lost: nothing of it is ready or at work".to_owned())?;
        for one in &run.instances {
            let task = &dag.tasks()[one.position];
            let about = |breach: Breach| format!("{breach}: task {} {one:?}", task.id);
            self.look_at_instance(number, one).map_err(about)?;
            let open = !one.state.is_finished();
            hold(!open || !run.facts.state.is_finished(), || about("a run ended before its tasks".to_owned()))?;
            let goes_on = matches!(one.state, TaskState::Waiting | TaskState::Ready);
            hold(!goes_on || run.facts.stopped.is_none(), || about("its run was stopped".to_owned()))?;
            if one.is_at_work()
                && let Some(pool) = create::pool_of(task)
            {
                let (slots, attempts) = used.entry(pool).or_default();
                *slots += i64::from(task.slots);
                *attempts += 1;
            }
            if let (Some(limit), None) = (task.parallelism, one.map_index) {
                let busy = |item: &&InstanceRow| matches!(item.state, TaskState::Ready | TaskState::Running);
                let busy = run.items_of(one.position).filter(busy).count();
                hold(busy <= limit as usize, || about(format!("{busy} items go at once")))?;
            }
            self.check_upstream(number, run, dag, one).map_err(about)?;
        }
        Ok(())
    }

    /// One live attempt at most, the newest; what has ended does not change.
    fn look_at_instance(&mut self, run: RunNumber, one: &InstanceRow) -> Verdict {
        let place = (run, one.position, one.map_index);
        let running = one.tries.iter().filter(|attempt| attempt.state == AttemptState::Running);
        let running: Vec<u32> = running.map(|attempt| attempt.number).collect();
        let wanted = if one.is_at_work() { vec![one.attempts] } else { Vec::new() };
        hold(running == wanted, || format!("attempts {running:?} are live, not {wanted:?}"))?;
        let before = self.numbers.insert(place, one.attempts).unwrap_or(0);
        hold(before <= one.attempts, || format!("its number goes back from {before}"))?;
        let numbers: BTreeSet<u32> = one.tries.iter().map(|attempt| attempt.number).collect();
        hold(numbers.len() == one.tries.len(), || "two attempts have one number".to_owned())?;
        for attempt in one.tries.iter().filter(|attempt| attempt.state != AttemptState::Running) {
            let name = AttemptName { run, position: one.position, map_index: one.map_index, number: attempt.number };
            let before = *self.ended.entry(name).or_insert(attempt.state);
            hold(before == attempt.state, || format!("attempt {} was {before}", attempt.number))?;
        }
        let is_given_up = one.state.is_finished() || one.lost_in_a_row < i64::from(MOST_LOST);
        hold(is_given_up, || format!("it is tried again after {} losses in a row", one.lost_in_a_row))?;
        let succeeded = one.tries.iter().filter(|attempt| attempt.state == AttemptState::Succeeded).count();
        let was_tried = one.kind != InstanceKind::Map && one.state == TaskState::Succeeded;
        hold(!was_tried || succeeded > 0, || "it succeeded without an attempt".to_owned())?;
        if one.state.is_finished() {
            let before = *self.finished.entry(place).or_insert(one.state);
            hold(before == one.state, || format!("it was {before}"))?;
        } else {
            let before = self.finished.get(&place);
            hold(before.is_none(), || format!("it had ended as {before:?}"))?;
        }
        Ok(())
    }

    /// No task goes before those that it needs, and none waits when they have decided about it.
    fn check_upstream(&self, number: RunNumber, run: &RunRow, dag: &Dag, one: &InstanceRow) -> Verdict {
        let task = &dag.tasks()[one.position];
        let needs = task.needs.iter().filter_map(|need| dag.position(need));
        let needs: Vec<Upstream> = needs.map(|need| upstream(run.state_of(need))).collect();
        let decision = task.trigger.decide(&needs);
        let says = || format!("its needs say {decision:?}: {needs:?}");
        let goes = matches!(one.state, TaskState::Ready | TaskState::Running);
        // Of a mapped task that failed only those items go again that failed, whatever its needs came to meanwhile.
        let is_chosen = self.touched.contains(&number) && one.kind != InstanceKind::Single;
        hold(!goes || is_chosen || may_go(task.trigger, &needs), says)?;
        if one.map_index.is_some() {
            hold(run.state_of(one.position) != TaskState::Waiting, || "an item is there before its list".to_owned())?;
            return Ok(());
        }
        let waits = one.state == TaskState::Waiting;
        let has_begun = run.facts.state == RunState::Running;
        hold(!waits || !has_begun || decision == Decision::Wait, says)?;
        if !has_begun || self.touched.contains(&number) {
            return Ok(());
        }
        let fits = match one.state {
            TaskState::Waiting => decision == Decision::Wait,
            TaskState::UpstreamFailed => decision == Decision::FailWithUpstream,
            TaskState::Skipped => match decision {
                Decision::Skip => true,
                // Its own condition has left it out.
                Decision::Go => task.when.is_some(),
                // The one case that `decide` tells of: skipped early, and another need has failed since.
                Decision::FailWithUpstream => needs.contains(&Upstream::Skipped),
                Decision::Wait => false,
            },
            _ => decision == Decision::Go,
        };
        hold(fits, says)
    }
}

/// What each rule promises of the tasks that are needed when a task goes, whatever `decide` says.
fn may_go(rule: TriggerRule, needs: &[Upstream]) -> bool {
    let is_failure = |need: &Upstream| matches!(need, Upstream::Failed | Upstream::UpstreamFailed);
    let (succeeded, failed) = (needs.contains(&Upstream::Succeeded), needs.iter().any(is_failure));
    let all_ended = !needs.contains(&Upstream::Pending);
    match rule {
        _ if needs.is_empty() => true,
        TriggerRule::Always => true,
        TriggerRule::AllSuccess => needs.iter().all(|need| *need == Upstream::Succeeded),
        TriggerRule::AllDone => all_ended,
        TriggerRule::AllFailed => needs.iter().all(is_failure),
        TriggerRule::OneSuccess => succeeded,
        TriggerRule::OneFailed => failed,
        TriggerRule::NoneFailed => all_ended && !failed,
        TriggerRule::NoneFailedMinOneSuccess => all_ended && !failed && succeeded,
    }
}

/// Whether nothing is left to do: what a history must come to.
pub(super) fn all_have_ended(rows: &Rows) -> bool {
    rows.runs.iter().all(|run| run.facts.state.is_finished())
}

fn hold(is_so: bool, breach: impl FnOnce() -> Breach) -> Verdict {
    if is_so { Ok(()) } else { Err(breach()) }
}

/// All that a run came to is told to those who follow it.
fn check_told(state: RunState, told: &[RunState]) -> Verdict {
    let ends = (told.first(), told.last());
    hold(ends == (Some(&RunState::Queued), Some(&state)), || format!("followers are told {told:?}"))?;
    for (before, after) in told.iter().zip(told.iter().skip(1)) {
        let is_possible = match before {
            RunState::Queued => *after == RunState::Running || after.is_finished(),
            RunState::Running => after.is_finished(),
            _ => *after == RunState::Queued,
        };
        hold(is_possible, || format!("followers are told {told:?}"))?;
    }
    Ok(())
}

/// Active runs are counted and bounded; each interval has one run, and none is left out.
fn check_dag(row: &DagRow, runs: &[&RunRow]) -> Verdict {
    let active = runs.iter().filter(|run| run.facts.state == RunState::Running).count() as u64;
    hold(row.active_runs == active, || format!("{active} runs are active, not {}", row.active_runs))?;
    hold(active <= u64::from(row.dag.max_active_runs), || format!("{active} runs are active"))?;
    let scheduled = runs.iter().filter(|run| run.facts.cause == RunCause::Schedule);
    let mut intervals: Vec<(i64, i64)> = scheduled.filter_map(|run| run.facts.interval).collect();
    intervals.sort_unstable();
    let catches_up = matches!(&row.dag.schedule, crate::dag::DagSchedule::Time(timetable) if timetable.catch_up);
    for (one, next) in intervals.iter().zip(intervals.iter().skip(1)) {
        hold(one.0 != next.0, || format!("two runs for the interval from {}", one.0))?;
        hold(one.1 <= next.0, || format!("intervals overlap at {}", next.0))?;
        hold(!catches_up || one.1 == next.0, || format!("no run for the interval from {}", one.1))?;
    }
    if let (Some(last), Some(until)) = (intervals.last(), row.done_until) {
        let until = until.millis();
        hold(last.1 == until, || format!("the schedule is done until {until}, and the last run until {}", last.1))?;
    }
    Ok(())
}
