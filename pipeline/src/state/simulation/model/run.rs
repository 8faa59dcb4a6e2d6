//! The transitions of one run in the model; see the modules `step`, `ended`, `lost`, `advance`, `stop` and `reopen`.

use std::collections::BTreeSet;

use serde_json::Value;

use super::super::super::reopen::{self, Chosen, choose};
use super::super::super::rules::{
    AfterEnd, AfterLoss, Spoiled, after_end, after_loss, given_up, not_run_because, upstream, verdict_on_items,
    verdict_on_run, verdict_on_stopped,
};
use super::super::super::*;
use super::super::rows::{AttemptName, HOST, InstanceRow, PID, RunNumber, RunRow, Stopped};
use super::{AnswerOfRun, AskedOfRun, Claim, Flaw, Model};
use crate::dag::{Decision, Task, Upstream};
use crate::template;

/// One run in a transaction, and what was found to follow so far.
pub(super) struct Transaction<'a> {
    model: &'a mut Model,
    run: RunNumber,
    dag: Arc<Dag>,
    now: Timestamp,
    stopping: bool,
    /// Tasks that have just ended.
    ended: Vec<usize>,
    /// Mapped tasks of which an item has just ended: one entry an item.
    maps: Vec<usize>,
    /// Waiting tasks whose needs may decide about them now.
    candidates: BTreeSet<usize>,
    went_on: bool,
}

impl<'a> Transaction<'a> {
    pub(super) fn new(model: &'a mut Model, run: RunNumber, now: Timestamp) -> Self {
        let row = &model.rows.runs[run];
        let (dag, stopping) = (Arc::clone(&model.rows.dags[row.dag].dag), row.facts.stopped.is_some());
        let (ended, maps, candidates) = (Vec::new(), Vec::new(), BTreeSet::new());
        Self { model, run, dag, now, stopping, ended, maps, candidates, went_on: false }
    }

    pub(super) fn step(mut self, owner: &str, asked: &AskedOfRun) -> AnswerOfRun {
        if self.row().facts.state == RunState::Queued {
            self.begin(asked.begin);
        }
        let lost = asked.most_lost.map_or(Vec::new(), |most| self.release(owner, most, asked.known.as_deref()));
        let counted = asked.ended.iter().map(|(claim, end)| self.record(owner, claim, end)).collect();
        let may_end = !self.ended.is_empty() || !self.maps.is_empty() || !self.candidates.is_empty();
        self.advance();
        if may_end && !self.went_on && self.row().facts.state == RunState::Running {
            self.finish();
        }
        AnswerOfRun { counted, lost, state: self.row().facts.state }
    }

    /// Cancels what has not begun; a run that has not begun ends.
    pub(super) fn stop(mut self, error: Option<&str>) {
        let now = self.now;
        let goes_on = self.model.has(Flaw::CancelledTasksGoOn);
        let facts = &mut self.row_mut().facts;
        let ends_now = facts.state == RunState::Queued;
        facts.stopped = Some(Stopped { at: now, error: error.map(str::to_owned) });
        facts.error = error.map(str::to_owned);
        if ends_now {
            facts.state = verdict_on_stopped(error);
            facts.finished_at = Some(now);
        }
        let row = self.row();
        let at_work: BTreeSet<usize> =
            row.instances.iter().filter(|one| one.is_at_work()).map(|one| one.position).collect();
        for one in &mut self.row_mut().instances {
            let has_no_item = one.kind == InstanceKind::Map && !at_work.contains(&one.position);
            let is_open = match one.state {
                TaskState::Waiting => true,
                TaskState::Ready => !goes_on,
                TaskState::Running => has_no_item,
                _ => false,
            };
            if is_open {
                (one.state, one.finished_at) = (TaskState::Cancelled, Some(now));
            }
        }
        if ends_now {
            let state = self.row().facts.state;
            return self.tell(state);
        }
        self.stopping = true;
        self.finish();
    }

    /// Puts a run that has ended back into the queue; false when nothing failed.
    pub(super) fn reopen(mut self, again: &Again) -> bool {
        let tasks = self.row().instances.iter().filter(|one| one.map_index.is_none()).map(|one| {
            let has_items = one.kind == InstanceKind::Map && one.items.is_some_and(|items| items > 0);
            reopen::Row { position: one.position, state: one.state, has_items }
        });
        let tasks: Vec<reopen::Row> = tasks.collect();
        // Its id is needed for the message alone.
        let Ok(Chosen { whole, items }) = choose(RunId::new(), &self.dag, again, &tasks) else { return false };
        for position in whole {
            self.begin_anew(position);
        }
        let now = self.now;
        for position in items {
            for one in self.row_mut().instances.iter_mut().filter(|one| one.position == position) {
                match (one.map_index, one.state) {
                    (Some(_), TaskState::Succeeded) => {}
                    (Some(_), _) => reset(one, now),
                    (None, _) => {
                        (one.state, one.error, one.finished_at) = (TaskState::Running, None, None);
                    }
                }
            }
        }
        let facts = &mut self.row_mut().facts;
        facts.state = RunState::Queued;
        (facts.stopped, facts.timeout_at, facts.error, facts.finished_at) = (None, None, None, None);
        facts.failures = 0;
        facts.started_at.get_or_insert(now);
        self.tell(RunState::Queued);
        true
    }

    fn row(&self) -> &RunRow {
        &self.model.rows.runs[self.run]
    }

    fn row_mut(&mut self) -> &mut RunRow {
        &mut self.model.rows.runs[self.run]
    }

    fn task(&self, position: usize) -> &Task {
        &self.dag.tasks()[position]
    }

    fn tell(&mut self, state: RunState) {
        self.model.told[self.run].push(state);
    }

    fn begin(&mut self, begin: Begin) {
        let free = self.model.has(Flaw::TooManyRuns);
        let dag = self.row().dag;
        let row = &mut self.model.rows.dags[dag];
        let allowed = begin == Begin::Now || row.active_runs < u64::from(row.dag.max_active_runs) || free;
        if begin == Begin::No || !allowed {
            return;
        }
        row.active_runs += 1;
        let (now, timeout) = (self.now, self.dag.timeout);
        let facts = &mut self.row_mut().facts;
        facts.state = RunState::Running;
        facts.timeout_at = timeout.map(|timeout| now.plus(timeout));
        let begun_before = facts.started_at.replace(facts.started_at.unwrap_or(now)).is_some();
        self.tell(RunState::Running);
        if begun_before {
            self.go_on();
            return;
        }
        let first = self.dag.tasks().iter().enumerate().filter(|(_, task)| task.may_go_first());
        self.candidates.extend(first.map(|(position, _)| position));
    }

    /// What a run that goes on begins with.
    fn go_on(&mut self) {
        for position in 0..self.dag.tasks().len() {
            let whole = self.row().find(position, None).expect("every task has a row");
            match (whole.state, whole.kind) {
                (TaskState::Waiting, _) => {
                    self.candidates.insert(position);
                }
                (TaskState::Running, InstanceKind::Map) => {
                    let most = self.task(position).parallelism.map_or(usize::MAX, |most| most as usize);
                    self.went_on |= self.let_items_go(position, most) > 0;
                }
                _ => {}
            }
        }
    }

    /// Gives up attempts of others whose lease has run out, and own ones that the worker does not know of.
    fn release(&mut self, owner: &str, most: u32, known: Option<&[AttemptName]>) -> Vec<(usize, Option<u32>, bool)> {
        let (run, now, stopping) = (self.run, self.now, self.stopping);
        let (blind, keeps) = (self.model.has(Flaw::NoLossIsSeen), self.model.has(Flaw::SlotsAreNotGivenBack));
        let mut told = Vec::new();
        let mut settled = Vec::new();
        for one in self.row_mut().instances.iter_mut().filter(|one| one.is_at_work()) {
            let (position, map_index) = (one.position, one.map_index);
            let Some(attempt) = one.tries.last_mut() else { continue };
            let name = AttemptName { run, position, map_index, number: attempt.number };
            let own = attempt.owner == owner;
            let is_lost = match own {
                true => known.is_some_and(|known| !known.contains(&name)),
                false => attempt.lease_until < now && !blind,
            };
            if !is_lost {
                continue;
            }
            (attempt.state, attempt.finished_at) = (AttemptState::Lost, Some(now));
            let AfterLoss { instance, lost_in_a_row, is_poison } = after_loss(one.lost_in_a_row, own, most, stopping);
            (one.state, one.ready_at, one.lost_in_a_row) = (instance, now, lost_in_a_row);
            one.finished_at = instance.is_finished().then_some(now);
            one.error = is_poison.then(|| given_up(lost_in_a_row, i64::from(PID), HOST));
            told.push((position, map_index, is_poison));
            settled.push((position, map_index, instance));
        }
        for (position, map_index, state) in settled {
            if !keeps {
                self.give_back(position);
            }
            self.settle(position, map_index, state);
        }
        told.sort_unstable();
        told
    }

    /// Records an end; false when its attempt is not the one that is running.
    fn record(&mut self, owner: &str, claim: &Claim, end: &End) -> bool {
        let (now, stopping) = (self.now, self.stopping);
        let unfenced = self.model.has(Flaw::NoFencing);
        let AttemptName { position, map_index, number, .. } = claim.name;
        let Some(one) = self.row_mut().find_mut(position, map_index) else { return false };
        let is_running = |state: AttemptState| state == AttemptState::Running || unfenced;
        let at = one
            .tries
            .iter()
            .position(|attempt| attempt.number == number && attempt.owner == owner && is_running(attempt.state));
        let Some(at) = at else { return false };
        if let (End::Later { at: again, .. }, false) = (end, stopping) {
            one.tries.remove(at);
            (one.state, one.ready_at, one.lost_in_a_row) = (TaskState::Ready, *again, 0);
            self.give_back(position);
            return true;
        }
        let AfterEnd { attempt, instance, error, again_at, is_failure } = after_end(end, stopping);
        (one.tries[at].state, one.tries[at].finished_at) = (attempt, Some(now));
        one.state = instance;
        one.ready_at = again_at.unwrap_or(one.ready_at);
        one.finished_at = instance.is_finished().then_some(now);
        one.error = error.filter(|_| !matches!(end, End::Interrupted)).map(str::to_owned);
        (one.output, one.failures) = match end {
            End::Succeeded { output, failures, .. } => (Some(output.clone()), *failures as i64),
            _ => (None, 0),
        };
        if is_failure {
            one.failed += 1;
            one.lost_in_a_row = 0;
        }
        self.give_back(position);
        self.settle(position, map_index, instance);
        true
    }

    fn give_back(&mut self, position: usize) {
        let task = self.task(position);
        let (pool, slots) = (create::pool_of(task).map(str::to_owned), i64::from(task.slots));
        if let Some(pool) = pool
            && let Some(row) = self.model.rows.pools.get_mut(&pool)
        {
            row.used -= slots;
        }
    }

    fn settle(&mut self, position: usize, map_index: Option<u32>, state: TaskState) {
        match map_index {
            _ if !state.is_finished() => {}
            Some(_) => self.maps.push(position),
            None => self.ended.push(position),
        }
    }

    /// Ends mapped tasks whose items have ended, and lets waiting tasks go on, until nothing more follows.
    fn advance(&mut self) {
        let mut maps = std::mem::take(&mut self.maps);
        maps.sort_unstable();
        for items in maps.chunk_by(|a, b| a == b) {
            self.items_ended(items[0], items.len());
        }
        loop {
            for ended in std::mem::take(&mut self.ended) {
                let downstream = self.task(ended).downstream.clone();
                if !self.model.has(Flaw::NothingFollows) {
                    self.candidates.extend(downstream);
                }
            }
            let candidates = std::mem::take(&mut self.candidates);
            if candidates.is_empty() || self.stopping {
                return;
            }
            for candidate in candidates {
                self.let_go(candidate);
            }
        }
    }

    fn let_go(&mut self, position: usize) {
        let dag = Arc::clone(&self.dag);
        let task = &dag.tasks()[position];
        let needs = task.needs.iter().filter_map(|need| dag.position(need));
        let states: Vec<Upstream> = needs.map(|need| upstream(self.row().state_of(need))).collect();
        let decision = match task.trigger.decide(&states) {
            Decision::Wait if self.model.has(Flaw::TooEarly) && states.contains(&Upstream::Succeeded) => Decision::Go,
            decision => decision,
        };
        match decision {
            Decision::Wait => {}
            Decision::Skip => self.end_task(position, TaskState::Waiting, TaskState::Skipped, None),
            Decision::FailWithUpstream => {
                let error = not_run_because(task, &states);
                self.end_task(position, TaskState::Waiting, TaskState::UpstreamFailed, Some(error));
            }
            Decision::Go => match self.wanted(task) {
                Ok(false) => self.end_task(position, TaskState::Waiting, TaskState::Skipped, None),
                Err(error) => self.end_task(position, TaskState::Waiting, TaskState::Failed, Some(error)),
                Ok(true) if task.map.is_some() => self.expand(position),
                Ok(true) => self.make_ready(position),
            },
        }
    }

    fn wanted(&self, task: &Task) -> std::result::Result<bool, String> {
        let Some(when) = &task.when else { return Ok(true) };
        template::render_condition(when, &self.scope_with(&task.when_uses))
    }

    fn scope_with(&self, uses: &BTreeSet<String>) -> Scope {
        let mut scope = self.model.scopes[self.row().dag].clone();
        for used in uses {
            scope.add_output(used, &self.output_of(used));
        }
        scope
    }

    /// The output of a task: of a mapped one the list of its items'; null where there is none.
    fn output_of(&self, task: &str) -> Value {
        let read = |output: &Option<String>| {
            output.as_deref().map_or(Value::Null, |text| serde_json::from_str(text).expect("outputs are JSON"))
        };
        let row = self.row();
        let whole = self.dag.position(task).and_then(|position| row.find(position, None)).expect("a task has a row");
        match whole.kind {
            _ if !whole.state.is_finished() => Value::Null,
            InstanceKind::Map => Value::Array(row.items_of(whole.position).map(|item| read(&item.output)).collect()),
            _ => read(&whole.output),
        }
    }

    fn make_ready(&mut self, position: usize) {
        let now = self.now;
        let one = self.row_mut().find_mut(position, None).expect("every task has a row");
        if one.state == TaskState::Waiting {
            (one.state, one.ready_at) = (TaskState::Ready, now);
            self.went_on = true;
        }
    }

    /// Makes the items of a mapped task whose list can now be known.
    fn expand(&mut self, position: usize) {
        let dag = Arc::clone(&self.dag);
        let task = &dag.tasks()[position];
        let list = task.map.as_ref().map(|map| template::render(map, &self.scope_with(&task.map_uses)));
        let items = match list {
            Some(Ok(Value::Array(items))) => items,
            Some(Ok(_)) => {
                let error = "`map` gave no list; it must be a list of items".to_owned();
                return self.end_task(position, TaskState::Waiting, TaskState::Failed, Some(error));
            }
            Some(Err(error)) => {
                return self.end_task(position, TaskState::Waiting, TaskState::Failed, Some(format!("`map`: {error}")));
            }
            None => return,
        };
        let now = self.now;
        let whole = self.row_mut().find_mut(position, None).expect("every task has a row");
        if whole.state != TaskState::Waiting {
            return;
        }
        let is_empty = items.is_empty();
        whole.state = if is_empty { TaskState::Succeeded } else { TaskState::Running };
        whole.items = Some(items.len() as u64);
        whole.started_at = Some(now);
        whole.finished_at = is_empty.then_some(now);
        let attempts = whole.attempts;
        let at_once = match task.parallelism {
            Some(limit) if !self.model.has(Flaw::TooManyItems) => limit as usize,
            _ => usize::MAX,
        };
        for index in 0..items.len() {
            let mut item = InstanceRow::new(position, Some(index as u32), InstanceKind::Item, now, self.model.made);
            self.model.made += 1;
            item.attempts = attempts;
            item.state = if index < at_once { TaskState::Ready } else { TaskState::Waiting };
            self.row_mut().instances.push(item);
        }
        self.row_mut().instances.sort_by_key(|one| (one.position, one.map_index));
        self.went_on |= !is_empty;
        if is_empty {
            self.settle(position, None, TaskState::Succeeded);
        }
    }

    /// Some items of a mapped task have ended: waiting ones take their places, or the task has ended too.
    fn items_ended(&mut self, position: usize, count: usize) {
        let is_limited = self.task(position).parallelism.is_some();
        if is_limited && !self.stopping && self.let_items_go(position, count) > 0 {
            self.went_on = true;
            return;
        }
        let row = self.row();
        if row.items_of(position).any(|item| matches!(item.state, TaskState::Ready | TaskState::Running)) {
            return;
        }
        let spoiled = row.items_of(position).filter_map(|item| {
            let place = item.map_index? as usize;
            let is_spoiled = matches!(item.state, TaskState::Failed | TaskState::Cancelled);
            is_spoiled.then(|| Spoiled { place, state: item.state, error: item.error.clone() })
        });
        let (state, error) = verdict_on_items(&spoiled.collect::<Vec<_>>());
        self.end_task(position, TaskState::Running, state, error);
    }

    /// Makes waiting items ready; gives how many.
    fn let_items_go(&mut self, position: usize, most: usize) -> usize {
        let now = self.now;
        let items = self.row_mut().instances.iter_mut().filter(|one| one.position == position);
        let waiting = items.filter(|one| one.map_index.is_some() && one.state == TaskState::Waiting);
        let mut count = 0;
        for one in waiting.take(most) {
            (one.state, one.ready_at) = (TaskState::Ready, now);
            count += 1;
        }
        count
    }

    /// Ends a task as a whole that is in a state.
    fn end_task(&mut self, position: usize, from: TaskState, to: TaskState, error: Option<String>) {
        let now = self.now;
        let one = self.row_mut().find_mut(position, None).expect("every task has a row");
        if one.state == from {
            (one.state, one.error, one.finished_at) = (to, error, Some(now));
            self.settle(position, None, to);
        }
    }

    /// Ends the run when every task has ended.
    fn finish(&mut self) {
        let now = self.now;
        let row = self.row();
        if row.instances.iter().any(|one| !one.state.is_finished()) {
            return;
        }
        let failures: i64 = row.instances.iter().map(|one| one.failures).sum();
        let (state, error) = match &row.facts.stopped {
            Some(Stopped { error, .. }) => (verdict_on_stopped(error.as_deref()), error.clone()),
            None => verdict_on_run(&self.dag, &self.spoiled(), failures),
        };
        let dag = row.dag;
        let facts = &mut self.row_mut().facts;
        (facts.state, facts.failures, facts.error, facts.finished_at) = (state, failures, error, Some(now));
        self.model.rows.dags[dag].active_runs -= 1;
        self.tell(state);
    }

    /// Tasks that failed or were not tried because of a failure, in the order of their ends.
    fn spoiled(&self) -> Vec<Spoiled> {
        let whole = self.row().instances.iter().filter(|one| one.map_index.is_none());
        let is_spoiled = |one: &&InstanceRow| matches!(one.state, TaskState::Failed | TaskState::UpstreamFailed);
        let mut spoiled: Vec<&InstanceRow> = whole.filter(is_spoiled).collect();
        spoiled.sort_by_key(|one| (one.finished_at, one.position));
        let read = |one: &InstanceRow| Spoiled { place: one.position, state: one.state, error: one.error.clone() };
        spoiled.into_iter().map(read).collect()
    }

    /// A task waits as if it had never run. Its items are forgotten, and new ones count on from their attempts.
    fn begin_anew(&mut self, position: usize) {
        let (now, back) = (self.now, self.model.has(Flaw::NumbersGoBack));
        let row = self.row_mut();
        let last = row.instances.iter().filter(|one| one.position == position).map(|one| one.attempts).max();
        row.instances.retain(|one| one.position != position || one.map_index.is_none());
        let one = row.find_mut(position, None).expect("every task has a row");
        one.attempts = last.filter(|_| !back).unwrap_or(0);
        one.items = None;
        reset(one, now);
    }
}

/// An instance waits again; its attempts stay.
fn reset(one: &mut InstanceRow, now: Timestamp) {
    (one.state, one.ready_at) = (TaskState::Waiting, now);
    (one.failed, one.lost_in_a_row, one.failures) = (0, 0, 0);
    (one.output, one.error, one.started_at, one.finished_at) = (None, None, None, None);
}
