//! The worker: claims attempts, sees to it that they run, and records how they end.

use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};
use std::sync::Arc;
use std::time::{Duration, Instant};

use tokio::sync::{mpsc, watch};

use super::dispatch::{Delivered, Order};
use super::events::RunOutcome;
use super::flight::{Flight, Flights, Stop, failure};
use super::work::{Prepared, Work};
use super::{Runner, RunnerOptions};
use crate::clock::Timestamp;
use crate::dag::{ExecutorKind, Resources};
use crate::error::{Error, Result};
use crate::ids::{AttemptId, RunId};
use crate::job::{Cancel, JobError, ProgressSink};
use crate::state::{
    Begin, Caching, ClaimRequest, Claimed, Ended, LostRule, Offered, Owner, RunStep, Step, StepDone, Store, Takes,
};

/// How often progress is told, and runs that were told to stop are looked for.
const TICK: Duration = Duration::from_millis(200);

/// How long it waits for a database that went away before it tries again: the first time, and at most.
const SHORTEST_PAUSE: Duration = Duration::from_millis(200);
const LONGEST_PAUSE: Duration = Duration::from_secs(2);

/// Questions whose answer takes longer were asked on a connection that is dead.
const LONGEST_ANSWER: Duration = Duration::from_secs(30);

/// How often a worker that drives a run alone looks whether somebody has stopped it.
const LOOK: Duration = Duration::from_secs(1);

/// What a worker works on.
#[derive(Clone, Debug)]
pub(super) enum Assignment {
    /// One run, to its end.
    Run(RunId),
    /// Whatever is ready, until it is interrupted.
    All {
        /// Only tasks of these queues and of none; empty for any.
        queues: Vec<String>,
    },
}

/// What the heartbeat found: the attempts that were still ours at a moment.
struct Kept {
    asked: Instant,
    attempts: HashSet<AttemptId>,
}

/// A worker within a process.
pub(super) struct Worker<'a> {
    runner: &'a Runner,
    assignment: Assignment,
    owner: Owner,
    runs: HashMap<RunId, Work<'a>>,
    flights: Flights,
    /// Claimed by another, for this worker to begin.
    given: Option<Claimed>,
    /// Ends not yet recorded.
    ended: Vec<Ended>,
    delivered: (mpsc::UnboundedSender<Delivered>, mpsc::UnboundedReceiver<Delivered>),
    interrupt: watch::Receiver<bool>,
    changed: watch::Receiver<u64>,
    drain: watch::Receiver<bool>,
    stopping: bool,
    /// Nothing more is claimed.
    draining: bool,
    /// No step has been taken yet.
    first: bool,
    /// The database went away: it may hold claims of ours that we do not know of.
    unsure: bool,
    next_sweep: Instant,
    next_tick: Instant,
    next_ready: Option<Instant>,
}

impl<'a> Worker<'a> {
    pub(super) fn new(runner: &'a Runner, assignment: Assignment, owner: Owner) -> Self {
        let now = Instant::now();
        Self {
            assignment,
            owner,
            runs: HashMap::new(),
            flights: Flights::default(),
            given: None,
            ended: Vec::new(),
            delivered: mpsc::unbounded_channel(),
            interrupt: runner.interrupt.subscribe(),
            changed: runner.store.changed(),
            drain: runner.drain.subscribe(),
            stopping: false,
            draining: false,
            first: true,
            unsure: false,
            next_sweep: now,
            next_tick: now + TICK,
            next_ready: None,
            runner,
        }
    }

    /// Works until the run has ended, and gives its outcome.
    pub(super) async fn drive(mut self, run: RunId) -> Result<RunOutcome> {
        let (runner, interrupt) = (self.runner, self.interrupt.clone());
        let work = until_it_answers(interrupt.clone(), || Work::load(runner, run)).await?;
        work.tell_start();
        self.runs.insert(run, work);
        self.work().await?;
        match self.runs.get(&run) {
            Some(work) => until_it_answers(interrupt, || work.outcome()).await,
            None => Err(Error::RunNotFound(run)),
        }
    }

    /// Works until it is interrupted: then jobs under way are told to stop, and what they did not finish is given back.
    pub(super) async fn serve(mut self) -> Result<()> {
        match self.work().await {
            Err(Error::Stopped) => Ok(()),
            other => other,
        }
    }

    /// Does one attempt that was claimed before, and nothing else.
    pub(super) async fn serve_one(mut self, claim: Claimed) -> Result<()> {
        self.draining = true;
        let interrupt = self.interrupt.clone();
        let (runner, run) = (self.runner, claim.run);
        let work = until_it_answers(interrupt, || Work::load(runner, run)).await?;
        self.runs.insert(run, work);
        self.given = Some(claim);
        self.serve().await
    }

    async fn work(&mut self) -> Result<()> {
        let (report, mut kept) = mpsc::channel(1);
        let heart = tokio::spawn(beat(self.runner.store.clone(), self.owner.key.clone(), self.options().lease, report));
        let result = self.steps(&mut kept).await;
        if result.is_err() {
            self.wind_down().await;
        }
        heart.abort();
        result
    }

    /// Works in rounds. A database that went away is waited for: attempts under way go on meanwhile.
    async fn steps(&mut self, kept: &mut mpsc::Receiver<Kept>) -> Result<()> {
        let mut pause = SHORTEST_PAUSE;
        loop {
            match self.round(kept).await {
                Ok(true) => return Ok(()),
                Ok(false) => pause = SHORTEST_PAUSE,
                Err(error) if error.is_outage() && !self.stopping => {
                    tracing::warn!(%error, "waiting for the state database; attempts under way go on");
                    self.unsure = true;
                    tokio::select! {
                        () = tokio::time::sleep(pause) => {}
                        Ok(()) = self.interrupt.changed() => self.stopping = true,
                    }
                    pause = (pause * 2).min(LONGEST_PAUSE);
                }
                Err(error) => return Err(error),
            }
        }
    }

    /// Records what ended, begins what was claimed, and waits for the next thing to do. True when the assigned run has
    /// ended.
    async fn round(&mut self, kept: &mut mpsc::Receiver<Kept>) -> Result<bool> {
        self.stopping |= *self.interrupt.borrow_and_update();
        self.draining |= self.stopping || *self.drain.borrow_and_update();
        if self.stopping {
            self.flights.stop_all(Stop::Interrupted, self.options().grace);
        }
        let (done, finished) = self.step().await?;
        if finished {
            return Ok(true);
        }
        for claim in self.given.take().into_iter().chain(done.claimed) {
            in_time(self.begin(claim)).await?;
        }
        self.forget_idle_runs();
        if !self.ended.is_empty() {
            return Ok(false);
        }
        if self.draining && self.flights.len() == 0 {
            return Err(match self.assignment {
                Assignment::Run(run) => Error::Interrupted { run },
                Assignment::All { .. } => Error::Stopped,
            });
        }
        self.wait(kept).await?;
        Ok(false)
    }

    /// Records ends, lets runs go on, claims what there is room for. True when the assigned run has ended.
    async fn step(&mut self) -> Result<(StepDone, bool)> {
        let now = Instant::now();
        let sweep = self.unsure || now >= self.next_sweep;
        let runs = in_time(self.run_steps(sweep)).await?;
        let at_work = self.flights.len();
        let closed = self.draining || self.flights.iter().any(|flight| flight.claim.alone);
        let free = if closed { 0 } else { self.options().parallelism.max(1).saturating_sub(at_work) };
        let (run, queues) = match &self.assignment {
            Assignment::Run(run) => (Some(*run), Vec::new()),
            Assignment::All { queues } => (None, queues.clone()),
        };
        let ended: Vec<Arc<Vec<Ended>>> = runs.iter().map(|run| Arc::clone(&run.ended)).collect();
        let ids: Vec<RunId> = runs.iter().map(|run| run.plan.run).collect();
        let step = Step {
            owner: self.owner.clone(),
            now: Timestamp::now(),
            lease: self.options().lease,
            runs,
            claim: ClaimRequest { free, idle: at_work == 0, run, queues, offer: self.offered(), takes: self.takes() },
        };
        let done = match self.runner.store.step(step).await {
            Ok(done) => done,
            Err(error) => {
                // Said again when the database is back: an end that was written before does not count twice.
                self.ended.extend(ended.iter().flat_map(|some| some.iter().cloned()));
                return Err(error);
            }
        };
        if sweep {
            self.next_sweep = now + self.options().lease / 3;
        }
        (self.first, self.unsure) = (false, false);
        self.next_ready = done.next_ready.map(|at| Instant::now() + at.since(Timestamp::now()));
        let mut finished = false;
        for ((run, ended), done) in ids.iter().zip(&ended).zip(&done.runs) {
            if let Some(work) = self.runs.get_mut(run) {
                work.tell_done(ended, done, &self.flights);
            }
            if done.state.is_finished() {
                finished |= self.run_has_ended(*run).await?;
            }
        }
        Ok((done, finished))
    }

    /// True when it was the run that this worker was for.
    async fn run_has_ended(&mut self, run: RunId) -> Result<bool> {
        if let Assignment::Run(assigned) = self.assignment {
            return Ok(assigned == run);
        }
        if let Some(work) = self.runs.remove(&run) {
            work.outcome().await?;
        }
        Ok(false)
    }

    /// What there is to say about each run.
    async fn run_steps(&mut self, sweep: bool) -> Result<Vec<RunStep>> {
        let mut swept = BTreeSet::new();
        if sweep {
            match self.assignment {
                Assignment::Run(run) => drop(swept.insert(run)),
                Assignment::All { .. } => {
                    swept.extend(self.runner.store.runs_with_lost_attempts(Timestamp::now()).await?);
                }
            }
        }
        if self.unsure {
            swept.extend(self.runner.store.runs_of_owner(&self.owner.key).await?);
        }
        let take_over = self.first && self.may_take_over().await?;
        let begin = if matches!(self.assignment, Assignment::Run(_)) { Begin::Now } else { Begin::No };
        // A run that somebody else has ended is not among those with something to say.
        let assigned = match self.assignment {
            Assignment::Run(run) => Some(run),
            Assignment::All { .. } => None,
        };
        let mut plans = BTreeMap::new();
        for run in swept.iter().copied().chain(assigned).chain(self.ended.iter().map(|end| end.claim.run)) {
            let plan = match self.runs.get(&run) {
                Some(work) => Arc::clone(&work.plan),
                None => self.runner.store.plan(run).await?,
            };
            plans.insert(run, plan);
        }
        let known = self.unsure.then(|| Arc::new(self.known_attempts()));
        // Nothing below can fail: from here on the ends are the step's.
        let mut ended: BTreeMap<RunId, Vec<Ended>> = BTreeMap::new();
        for end in std::mem::take(&mut self.ended) {
            ended.entry(end.claim.run).or_default().push(end);
        }
        let step = |(run, plan)| {
            let rule = LostRule { take_over, most_in_a_row: self.options().max_lost, known: known.clone(), gone: None };
            let lost = swept.contains(&run).then_some(rule);
            RunStep { plan, begin, lost, ended: Arc::new(ended.remove(&run).unwrap_or_default()) }
        };
        Ok(plans.into_iter().map(step).collect())
    }

    /// Attempts that are under way here, or have ended and are not recorded yet.
    fn known_attempts(&self) -> Vec<AttemptId> {
        let flying = self.flights.iter().map(|flight| flight.claim.attempt);
        flying.chain(self.ended.iter().map(|end| end.claim.attempt)).collect()
    }

    /// Whether attempts of this host at the assigned run are surely left behind: the lock of the run is ours, and no other
    /// process that has one lives. (A server on the same database works on all runs without locks.)
    async fn may_take_over(&self) -> Result<bool> {
        let Assignment::Run(run) = self.assignment else { return Ok(false) };
        if !self.options().exclusive {
            return Ok(false);
        }
        let processes = self.runner.store.processes_at_work(run, &self.owner.host).await?;
        let lives = |pid: u32| pid != self.owner.pid && std::path::Path::new(&format!("/proc/{pid}")).exists();
        Ok(!processes.into_iter().any(lives))
    }

    /// Begins a claimed attempt; one that cannot begin ends at once.
    async fn begin(&mut self, claim: Claimed) -> Result<()> {
        if !self.runs.contains_key(&claim.run) {
            let work = Work::load(self.runner, claim.run).await?;
            work.tell_start();
            self.runs.insert(claim.run, work);
        }
        let Some(work) = self.runs.get_mut(&claim.run) else { return Err(Error::RunNotFound(claim.run)) };
        work.measure(&claim);
        let progress = ProgressSink::default();
        work.tell_task_start(claim.position, &progress);
        let Prepared { job, with, cache, given, masker } = match work.prepare(&claim).await? {
            Ok(prepared) => prepared,
            Err(message) => {
                let end = failure(JobError::permanent(message), work.task(claim.position)?, &claim, Timestamp::now());
                self.ended.push(Ended { claim, end, items: 0 });
                return Ok(());
            }
        };
        if let Some(cache) = &cache
            && let Some((end, items)) = work.earlier(cache).await?
        {
            self.ended.push(Ended { claim, end, items });
            return Ok(());
        }
        let (cancel_sender, cancel) = Cancel::new();
        let (abandon_sender, abandon) = watch::channel(false);
        let log = work.log(&claim, masker.clone())?;
        let context = work.context(&claim, cancel, progress.clone(), log.as_ref(), masker.clone())?;
        let attempt = claim.attempt;
        let task = work.task(claim.position)?;
        let mut flight = Flight::new(claim, task, progress, cancel_sender, abandon_sender);
        flight.caching = cache.map_or(Caching::None, |cache| Caching::Keep(cache.key));
        flight.masker = masker;
        self.flights.insert(flight);
        let done = self.delivered.0.clone();
        self.runner.dispatcher.deliver(Order { attempt, job, context, with, given, log, abandon, done });
        Ok(())
    }

    /// Waits until there is something to record or to claim.
    async fn wait(&mut self, kept: &mut mpsc::Receiver<Kept>) -> Result<()> {
        let room = self.flights.len() < self.options().parallelism.max(1) && !self.draining;
        let every = if self.options().exclusive { LOOK } else { self.options().poll };
        let poll = room.then(|| Instant::now() + every);
        loop {
            let tick = (self.flights.len() > 0).then_some(self.next_tick);
            let ready = self.next_ready.filter(|_| room);
            let times = [tick, Some(self.next_sweep), ready, poll, self.flights.next_deadline()];
            let wake = times.into_iter().flatten().min().unwrap_or_else(Instant::now);
            tokio::select! {
                Some(first) = self.delivered.1.recv() => {
                    self.land(first)?;
                    while let Ok(next) = self.delivered.1.try_recv() {
                        self.land(next)?;
                    }
                    return Ok(());
                }
                Some(kept) = kept.recv() => {
                    self.flights.stop_fenced(&kept.attempts, kept.asked, self.options().grace);
                }
                Ok(()) = self.interrupt.changed(), if !self.stopping => return Ok(()),
                Ok(()) = self.drain.changed(), if !self.draining => return Ok(()),
                Ok(()) = self.changed.changed(), if room => return Ok(()),
                () = tokio::time::sleep_until(wake.into()) => {}
            }
            let now = Instant::now();
            if now >= self.next_tick {
                self.next_tick = now + TICK;
                in_time(self.tick()).await?;
            }
            for late in self.flights.expire(now, self.options().grace) {
                if let Some(work) = self.runs.get(&late.claim.run) {
                    let task = work.task(late.claim.position)?;
                    let ended = late.give_up(task, Timestamp::now());
                    self.ended.push(ended);
                }
            }
            let ready = self.next_ready.is_some_and(|at| now >= at) && !self.draining;
            let polls = poll.is_some_and(|at| now >= at);
            if !self.ended.is_empty() || now >= self.next_sweep || ready || polls {
                return Ok(());
            }
        }
    }

    /// Tells progress, and tells attempts of runs that were stopped.
    async fn tick(&mut self) -> Result<()> {
        if self.flights.len() == 0 {
            return Ok(());
        }
        for work in self.runs.values_mut() {
            work.tell_progress(&self.flights);
        }
        for run in self.runner.store.stopping_runs().await? {
            self.flights.stop_run(run, self.options().grace);
        }
        Ok(())
    }

    /// Takes an attempt that came back.
    fn land(&mut self, delivered: Delivered) -> Result<()> {
        let Some(flight) = self.flights.take(delivered.attempt) else { return Ok(()) };
        let Some(work) = self.runs.get(&flight.claim.run) else { return Ok(()) };
        let task = work.task(flight.claim.position)?;
        let ended = flight.end(delivered, task, Timestamp::now());
        self.ended.push(ended);
        Ok(())
    }

    /// Runs of which nothing is at work here are read again when they come back.
    fn forget_idle_runs(&mut self) {
        if matches!(self.assignment, Assignment::All { .. }) {
            let busy: HashSet<RunId> = self.flights.iter().map(|flight| flight.claim.run).collect();
            let waiting: HashSet<RunId> = self.ended.iter().map(|end| end.claim.run).collect();
            self.runs.retain(|run, _| busy.contains(run) || waiting.contains(run));
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

    /// What this worker has and has left. A run that it is assigned it does whatever tasks ask for.
    fn offered(&self) -> Option<Offered> {
        let offer = self.options().offer.clone().filter(|_| matches!(self.assignment, Assignment::All { .. }))?;
        let take = |left: Resources, flight: &Flight| left.less(flight.claim.resources).unwrap_or_default();
        let left = self.flights.iter().fold(offer.resources, take);
        Some(Offered { offer, left })
    }

    /// A run that it is assigned it does wherever tasks were to run.
    fn takes(&self) -> Takes {
        let is_default = self.options().default_executor == ExecutorKind::Worker;
        match self.assignment {
            Assignment::Run(_) => Takes::Any,
            Assignment::All { .. } => Takes::Of { executor: ExecutorKind::Worker, is_default },
        }
    }

    fn options(&self) -> &'a RunnerOptions {
        &self.runner.options
    }
}

/// Asks until the database answers or the worker is interrupted.
pub(super) async fn until_it_answers<T, A>(
    mut interrupt: watch::Receiver<bool>,
    mut ask: impl FnMut() -> A,
) -> Result<T>
where
    A: Future<Output = Result<T>>,
{
    let mut pause = SHORTEST_PAUSE;
    loop {
        match in_time(ask()).await {
            Err(error) if error.is_outage() && !*interrupt.borrow() => {
                tracing::warn!(%error, "waiting for the state database");
            }
            answered => return answered,
        }
        tokio::select! {
            () = tokio::time::sleep(pause) => {}
            Ok(()) = interrupt.changed() => {}
        }
        pause = (pause * 2).min(LONGEST_PAUSE);
    }
}

/// Gives up questions that nobody answers.
async fn in_time<T>(asking: impl Future<Output = Result<T>>) -> Result<T> {
    let late = |_| {
        let reason = format!("no answer within {} s", LONGEST_ANSWER.as_secs());
        Err(Error::DatabaseUnreachable { doing: "asking how runs stand", reason })
    };
    tokio::time::timeout(LONGEST_ANSWER, asking).await.unwrap_or_else(late)
}

/// Renews the leases of an owner for as long as it works. A database that fails now may do better soon, and the lease
/// runs: it tries again sooner than it would otherwise.
async fn beat(store: Store, owner_key: String, lease: Duration, report: mpsc::Sender<Kept>) {
    let mut wait = lease / 3;
    loop {
        tokio::time::sleep(wait).await;
        let asked = Instant::now();
        match store.renew(&owner_key, Timestamp::now(), lease).await {
            Ok(attempts) => {
                wait = lease / 3;
                let attempts = attempts.into_iter().collect();
                if report.send(Kept { asked, attempts }).await.is_err() {
                    return;
                }
            }
            Err(error) => {
                wait = (lease / 20).min(Duration::from_secs(1));
                tracing::warn!(%error, "could not renew the leases of running attempts");
            }
        }
    }
}
