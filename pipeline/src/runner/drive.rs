//! One run from where it stands to its end.

use std::collections::{BTreeSet, HashSet};
use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, Instant};

use serde_json::Value;
use tokio::sync::{mpsc, watch};

use super::board::Board;
use super::dispatch::{Delivered, Order};
use super::events::{RunEvent, RunOutcome};
use super::flight::{Flight, Flights, Stop, failure};
use super::{Runner, RunnerOptions};
use crate::clock::Timestamp;
use crate::error::{Error, Result};
use crate::ids::AttemptId;
use crate::job::{Cancel, Job, JobContext, JobError, ProgressSink};
use crate::state::{Change, Claimed, End, Ended, LostRule, Owner, Plan, Slots, Step, StepDone, Store, TaskState};
use crate::template::{self, Scope};

/// How often progress is told.
const TICK: Duration = Duration::from_millis(200);

/// What the heartbeat found: the attempts that were still ours at a moment.
struct Kept {
    asked: Instant,
    attempts: HashSet<AttemptId>,
}

/// A run being driven.
pub(super) struct Drive<'a> {
    runner: &'a Runner,
    plan: Arc<Plan>,
    owner: Owner,
    work_dir: PathBuf,
    /// Parameters, run, and the outputs that templates have needed so far.
    scope: Scope,
    board: Board,
    flights: Flights,
    /// Ends not yet recorded.
    ended: Vec<Ended>,
    delivered: (mpsc::UnboundedSender<Delivered>, mpsc::UnboundedReceiver<Delivered>),
    interrupt: watch::Receiver<bool>,
    stopping: bool,
    done_before: u64,
    began: Instant,
    next_sweep: Instant,
    next_tick: Instant,
    next_ready: Option<Instant>,
}

impl<'a> Drive<'a> {
    pub(super) async fn new(runner: &'a Runner, plan: Arc<Plan>, owner: Owner, work_dir: PathBuf) -> Result<Self> {
        let tasks = runner.store.tasks(plan.run).await?;
        let now = Instant::now();
        Ok(Self {
            runner,
            scope: plan.scope.clone(),
            plan,
            owner,
            work_dir,
            board: Board::new(&tasks),
            flights: Flights::default(),
            ended: Vec::new(),
            delivered: mpsc::unbounded_channel(),
            interrupt: runner.interrupt.subscribe(),
            stopping: false,
            done_before: tasks.iter().map(|task| task.succeeded).sum(),
            began: now,
            next_sweep: now,
            next_tick: now + TICK,
            next_ready: None,
        })
    }

    /// Drives the run to its end.
    pub(super) async fn run(mut self) -> Result<RunOutcome> {
        let (report, mut kept) = mpsc::channel(1);
        let heart = tokio::spawn(beat(self.runner.store.clone(), self.owner.key.clone(), self.options().lease, report));
        let dag = self.plan.dag.name.clone();
        self.tell(RunEvent::RunStarted { dag, done_instances: self.done_before, tasks: self.board.all() });
        let result = self.steps(&mut kept).await;
        if result.is_err() {
            self.wind_down().await;
        }
        heart.abort();
        result?;
        self.outcome().await
    }

    async fn steps(&mut self, kept: &mut mpsc::Receiver<Kept>) -> Result<()> {
        let mut take_over = self.options().exclusive;
        loop {
            self.stopping |= *self.interrupt.borrow_and_update();
            if self.stopping {
                self.flights.stop_all(Stop::Interrupted, self.options().grace);
            }
            let done = self.step(take_over).await?;
            take_over = false;
            if done.state.is_finished() {
                return Ok(());
            }
            for claim in done.claimed {
                self.begin(claim).await?;
            }
            if !self.ended.is_empty() {
                continue;
            }
            if self.stopping && self.flights.len() == 0 {
                return Err(Error::Interrupted { run: self.plan.run });
            }
            self.wait(kept).await;
        }
    }

    /// Records ends, lets the run go on, claims what there is room for.
    async fn step(&mut self, take_over: bool) -> Result<StepDone> {
        let ended = Arc::new(std::mem::take(&mut self.ended));
        let at_work = self.flights.len();
        let closed = self.stopping || self.flights.iter().any(|flight| flight.claim.alone);
        let free = if closed { 0 } else { self.options().parallelism.max(1).saturating_sub(at_work) };
        let now = Instant::now();
        let sweep = now >= self.next_sweep;
        if sweep {
            self.next_sweep = now + self.options().lease / 3;
        }
        let step = Step {
            plan: Arc::clone(&self.plan),
            owner: self.owner.clone(),
            now: Timestamp::now(),
            lease: self.options().lease,
            lost: sweep.then_some(LostRule { take_over, most_in_a_row: self.options().max_lost }),
            ended: Arc::clone(&ended),
            slots: Slots { free, idle: at_work == 0 },
        };
        let done = self.runner.store.step(step).await?;
        let wait = |at: Timestamp| Instant::now() + at.since(Timestamp::now());
        self.next_ready = done.next_ready.map(wait);
        self.tell_ends(&ended, &done.counted);
        self.tell_changes(&done.changes);
        Ok(done)
    }

    /// Begins a claimed attempt; one that cannot begin ends at once.
    async fn begin(&mut self, claim: Claimed) -> Result<()> {
        let (cancel_sender, cancel) = Cancel::new();
        let (abandon_sender, abandon) = watch::channel(false);
        let progress = ProgressSink::default();
        let position = claim.position;
        let plan = Arc::clone(&self.plan);
        let Some(task) = plan.dag.tasks().get(position) else {
            return Err(Error::Corrupt { what: format!("task position {position}, which the DAG does not have") });
        };
        if self.board.begin(position)
            && let Some(progress) = self.board.progress(position, std::slice::from_ref(&progress))
        {
            self.tell(RunEvent::TaskStarted(progress));
        }
        let prepared = match self.runner.registry.get(&task.job) {
            Some(job) => self.prepare(&claim, task, job).await?,
            None => Err(format!("this program has no job kind `{}`", task.job)),
        };
        let (job, with) = match prepared {
            Ok(prepared) => prepared,
            Err(message) => {
                let end = failure(JobError::permanent(message), task, claim.failed, Timestamp::now());
                self.ended.push(Ended { claim, end, items: 0 });
                return Ok(());
            }
        };
        let run = self.plan.run;
        let idempotency_key = match claim.map_index {
            Some(index) => format!("{run}/{}/{index}", task.id),
            None => format!("{run}/{}", task.id),
        };
        let context = JobContext {
            run_id: run,
            dag: self.plan.dag.name.clone(),
            task: task.id.clone(),
            map_index: claim.map_index,
            attempt: claim.number,
            idempotency_key,
            cancel,
            progress: progress.clone(),
            work_dir: self.work_dir.clone(),
        };
        let (attempt, began) = (claim.attempt, Instant::now());
        let deadline = task.timeout.map(|timeout| began + timeout);
        self.flights.insert(Flight {
            claim,
            progress,
            cancel: cancel_sender,
            abandon: abandon_sender,
            began,
            deadline,
            stop: None,
        });
        let done = self.delivered.0.clone();
        self.runner.dispatcher.deliver(Order { attempt, job, context, with, abandon, done });
        Ok(())
    }

    /// Renders what the job is given and lets the job check it; the inner error fails the attempt for good.
    async fn prepare(
        &mut self,
        claim: &Claimed,
        task: &crate::dag::Task,
        job: Arc<dyn Job>,
    ) -> Result<std::result::Result<(Arc<dyn Job>, Value), String>> {
        for used in &task.with_uses {
            if !self.scope.has_output(used) {
                let output = self.runner.store.output(self.plan.run, used).await?.unwrap_or_default();
                self.scope.add_output(used, &output);
            }
        }
        let item = claim.item.as_deref().map(serde_json::from_str::<Value>).transpose();
        let item = item.map_err(|error| Error::Corrupt { what: format!("an item that is not JSON ({error})") })?;
        let with = match (item, claim.map_index) {
            (Some(item), Some(index)) => template::render(&task.with, &self.scope.with_item(&item, index)),
            _ => template::render(&task.with, &self.scope),
        };
        Ok(with.and_then(|with| job.check(&with).map(|()| (job, with))))
    }

    /// Waits until there is something to record or to claim.
    async fn wait(&mut self, kept: &mut mpsc::Receiver<Kept>) {
        loop {
            let times = [Some(self.next_tick), Some(self.next_sweep), self.next_ready, self.flights.next_deadline()];
            let wake = times.into_iter().flatten().min().unwrap_or_else(Instant::now);
            tokio::select! {
                Some(first) = self.delivered.1.recv() => {
                    self.land(first);
                    while let Ok(next) = self.delivered.1.try_recv() {
                        self.land(next);
                    }
                    return;
                }
                Some(kept) = kept.recv() => {
                    self.flights.stop_fenced(&kept.attempts, kept.asked, self.options().grace);
                }
                Ok(()) = self.interrupt.changed(), if !self.stopping => return,
                () = tokio::time::sleep_until(wake.into()) => {}
            }
            let now = Instant::now();
            if now >= self.next_tick {
                self.next_tick = now + TICK;
                self.tell_progress();
            }
            for late in self.flights.expire(now, self.options().grace) {
                if let Some(task) = self.plan.dag.tasks().get(late.claim.position) {
                    self.ended.push(late.give_up(task, Timestamp::now()));
                }
            }
            let ready = self.next_ready.is_some_and(|at| now >= at) && !self.stopping;
            if !self.ended.is_empty() || now >= self.next_sweep || ready {
                return;
            }
        }
    }

    /// Takes an attempt that came back.
    fn land(&mut self, delivered: Delivered) {
        let Some(flight) = self.flights.take(delivered.attempt) else { return };
        if let Some(task) = self.plan.dag.tasks().get(flight.claim.position) {
            self.ended.push(flight.end(delivered, task, Timestamp::now()));
        }
    }

    /// After an error: jobs are told to stop and get their grace time; their ends stay unrecorded.
    async fn wind_down(&mut self) {
        let grace = self.options().grace;
        self.flights.stop_all(Stop::Interrupted, grace);
        let until = tokio::time::Instant::now() + grace;
        while self.flights.len() > 0 {
            match tokio::time::timeout_at(until, self.delivered.1.recv()).await {
                Ok(Some(delivered)) => drop(self.flights.take(delivered.attempt)),
                _ => break,
            }
        }
        for flight in self.flights.iter() {
            flight.abandon.send_replace(true);
        }
    }

    async fn outcome(&self) -> Result<RunOutcome> {
        let record = self.runner.store.run(self.plan.run).await?;
        let seconds = self.began.elapsed().as_secs_f64();
        self.tell(RunEvent::RunFinished { state: record.state, failures: record.failures, seconds });
        Ok(RunOutcome {
            run_id: record.id,
            dag: record.dag,
            state: record.state,
            tasks: self.runner.store.tasks(self.plan.run).await?,
            failures: record.failures,
            first_error: record.error,
            seconds,
        })
    }

    fn tell_ends(&mut self, ended: &[Ended], counted: &[bool]) {
        for (Ended { claim, end, items }, counted) in ended.iter().zip(counted) {
            let task = self.task_name(claim.position);
            if !counted {
                tracing::warn!(
                    task,
                    index = claim.map_index,
                    attempt = claim.number,
                    "a fenced attempt came back; its answer does not count"
                );
                continue;
            }
            match end {
                End::Succeeded { failures, summary, .. } => {
                    self.board.end_instance(claim.position, *items, *failures, summary);
                }
                End::Failed { error, retry_at: Some(at) } => {
                    let delay = at.since(Timestamp::now());
                    tracing::warn!(
                        task,
                        index = claim.map_index,
                        attempt = claim.number,
                        error,
                        "attempt failed, will be tried again"
                    );
                    self.tell(RunEvent::Retry {
                        task,
                        map_index: claim.map_index,
                        attempt: claim.number,
                        error: error.clone(),
                        delay,
                    });
                }
                End::Failed { error, retry_at: None } => {
                    tracing::warn!(task, index = claim.map_index, attempt = claim.number, error, "attempt failed");
                    self.board.end_instance(claim.position, 0, 0, "");
                }
                End::Later { note, .. } => self.board.note(claim.position, note.clone()),
                End::Interrupted => {}
            }
        }
    }

    fn tell_changes(&mut self, changes: &[Change]) {
        for change in changes {
            match change {
                Change::Expanded { position, instances } => self.board.expand(*position, *instances),
                Change::Lost { position, map_index, failed, how } => {
                    if *failed {
                        self.board.end_instance(*position, 0, 0, "");
                    }
                    let (task, map_index, how) = (self.task_name(*position), *map_index, how.clone());
                    tracing::warn!(task, index = map_index, how, "attempt lost");
                    self.tell(RunEvent::Lost { task, map_index, how, failed: *failed });
                }
                Change::TaskEnded { position, state, error } => {
                    let summary = self.board.end_task(*position, *state);
                    if let Some(progress) = self.board.progress(*position, &[]) {
                        self.tell(RunEvent::TaskFinished { progress, summary, error: error.clone() });
                    }
                }
            }
        }
        let expanded = changes.iter().filter_map(|change| match change {
            Change::Expanded { position, .. } => Some(*position),
            _ => None,
        });
        for position in expanded.collect::<Vec<_>>() {
            self.tell_task(position);
        }
    }

    /// Tells the progress of tasks of which a job said something since the last time, and of mapped tasks at work.
    fn tell_progress(&mut self) {
        let mut moved = BTreeSet::new();
        let mut notes = Vec::new();
        for flight in self.flights.iter() {
            let position = flight.claim.position;
            if flight.progress.take_changed() {
                notes.push((position, flight.progress.note()));
            }
            if flight.claim.map_index.is_some() || notes.last().is_some_and(|(noted, _)| *noted == position) {
                moved.insert(position);
            }
        }
        for (position, note) in notes {
            self.board.note(position, note);
        }
        for position in moved {
            self.tell_task(position);
        }
    }

    fn tell_task(&self, position: usize) {
        let working = self.flights.iter().filter(|flight| flight.claim.position == position);
        let working: Vec<ProgressSink> = working.map(|flight| flight.progress.clone()).collect();
        if let Some(progress) = self.board.progress(position, &working)
            && progress.state != TaskState::Waiting
        {
            self.tell(RunEvent::Progress(progress));
        }
    }

    /// Nobody may be listening.
    fn tell(&self, event: RunEvent) {
        drop(self.runner.events.send((self.plan.run, event)));
    }

    fn task_name(&self, position: usize) -> String {
        self.plan.dag.tasks().get(position).map(|task| task.id.clone()).unwrap_or_default()
    }

    fn options(&self) -> &RunnerOptions {
        &self.runner.options
    }
}

/// Renews the leases of an owner for as long as it drives. A database that fails now may do better the next time.
async fn beat(store: Store, owner_key: String, lease: Duration, report: mpsc::Sender<Kept>) {
    loop {
        tokio::time::sleep(lease / 3).await;
        let asked = Instant::now();
        match store.renew(&owner_key, Timestamp::now(), lease).await {
            Ok(attempts) => {
                let attempts = attempts.into_iter().collect();
                if report.send(Kept { asked, attempts }).await.is_err() {
                    return;
                }
            }
            Err(error) => tracing::warn!(%error, "could not renew the leases of running attempts"),
        }
    }
}
