//! A run as its worker sees it: what templates know, how far its tasks are, and what is told about it.

use std::collections::BTreeSet;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Instant;

use serde_json::Value;

use super::Runner;
use super::board::Board;
use super::cache::{CacheKey, cache_key};
use super::events::{RunEvent, RunOutcome};
use super::flight::Flights;
use crate::clock::Timestamp;
use crate::dag::Task;
use crate::error::{Error, Result};
use crate::ids::RunId;
use crate::job::{Cancel, Job, JobContext, ProgressSink};
use crate::logs::{LogHandle, LogKey, MaskedLog, TracingLog};
use crate::mask::Masker;
use crate::metrics;
use crate::state::{CachedOutput, Caching, Change, Claimed, End, Ended, Plan, RunDone, TaskState};
use crate::telemetry::trace;
use crate::template::{self, Scope};

/// What an attempt needs to begin.
pub(super) struct Prepared {
    pub(super) job: Arc<dyn Job>,
    /// Rendered.
    pub(super) with: Value,
    pub(super) cache: Option<CacheKey>,
    /// Hides the secrets that stand in `with`.
    pub(super) given: Masker,
    /// Hides all that are known, these among them.
    pub(super) masker: Masker,
}

/// One run at work.
pub(super) struct Work<'a> {
    runner: &'a Runner,
    pub(super) plan: Arc<Plan>,
    work_dir: PathBuf,
    /// Parameters, run, and the outputs that templates have needed so far.
    scope: Scope,
    board: Board,
    done_before: u64,
    began: Instant,
}

impl<'a> Work<'a> {
    /// Reads how the run stands, and makes its folder.
    pub(super) async fn load(runner: &'a Runner, run: RunId) -> Result<Self> {
        let work_dir = runner.options.home.join("runs").join(run.to_string());
        std::fs::create_dir_all(&work_dir).map_err(|source| Error::home(work_dir.clone(), source))?;
        let plan = runner.store.plan(run).await?;
        let tasks = runner.store.tasks(run).await?;
        Ok(Self {
            runner,
            scope: plan.scope.clone(),
            plan,
            work_dir,
            board: Board::new(&tasks),
            done_before: tasks.iter().map(|task| task.succeeded).sum(),
            began: Instant::now(),
        })
    }

    /// The task that a claim is about.
    pub(super) fn task(&self, position: usize) -> Result<&Task> {
        let missing = || Error::Corrupt { what: format!("task position {position}, which the DAG does not have") };
        self.plan.dag.tasks().get(position).ok_or_else(missing)
    }

    /// Tells that the run is being worked on.
    pub(super) fn tell_start(&self) {
        let dag = self.plan.dag.name.clone();
        self.tell(RunEvent::RunStarted { dag, done_instances: self.done_before, tasks: self.board.all() });
    }

    /// Notes how long what is claimed has waited.
    pub(super) fn measure(&self, claim: &Claimed) {
        metrics::claimed(&self.plan.dag.name, claim.delay);
    }

    /// Tells the first attempt of a task.
    pub(super) fn tell_task_start(&mut self, position: usize, progress: &ProgressSink) {
        if self.board.begin(position)
            && let Some(progress) = self.board.progress(position, std::slice::from_ref(progress))
        {
            self.tell(RunEvent::TaskStarted(progress));
        }
    }

    /// Renders what the job is given and lets the job check it; the inner error fails the attempt for good.
    pub(super) async fn prepare(&mut self, claim: &Claimed) -> Result<std::result::Result<Prepared, String>> {
        let plan = Arc::clone(&self.plan);
        let task = self.task(claim.position)?.clone();
        let Some(job) = self.runner.registry.get(&task.job) else {
            return Ok(Err(format!("this program has no job kind `{}`", task.job)));
        };
        for used in task.with_uses.iter().chain(&task.cache_uses) {
            if !self.scope.has_output(used) {
                let output = self.runner.store.output(plan.run, used).await?.unwrap_or_default();
                self.scope.add_output(used, &output);
            }
        }
        let item = claim.item.as_deref().map(serde_json::from_str::<Value>).transpose();
        let item = item.map_err(|error| Error::Corrupt { what: format!("an item that is not JSON ({error})") })?;
        let scope = match (item, claim.map_index) {
            (Some(item), Some(index)) => self.scope.with_item(&item, index),
            _ => self.scope.clone(),
        };
        let cache = match task.cache.as_ref().map(|cache| cache_key(&task, cache, &scope)).transpose() {
            Ok(cache) => cache,
            Err(error) => return Ok(Err(format!("the key of its cache: {error}"))),
        };
        let secrets = self.runner.options.secrets.of(&task.secret_uses);
        let given = Masker::new(secrets.values().cloned());
        // They may be newer than the process.
        let masker = self.runner.options.known_secrets.learn(secrets.values().cloned());
        let scope = match scope.with_secrets(&task.secret_uses, &|name| secrets.get(name).cloned()) {
            Ok(scope) => scope,
            Err(error) => return Ok(Err(error)),
        };
        let with = template::render(&task.with, &scope).and_then(|with| job.check(&with).map(|()| with));
        Ok(match with {
            Ok(with) => Ok(Prepared { job, with, cache, given, masker }),
            // It may repeat a value that the job does not take.
            Err(error) => Err(masker.mask(&error).into_owned()),
        })
    }

    /// The end of an attempt whose output is there from before, and how many items that counted.
    pub(super) async fn earlier(&self, cache: &CacheKey) -> Result<Option<(End, u64)>> {
        let since = cache.ttl.map(|ttl| Timestamp::now().minus(ttl));
        let found = self.runner.store.cached_output(&cache.key, since).await?;
        Ok(found.map(|CachedOutput { run, output, items, summary }| {
            let summary = match summary.as_str() {
                "" => format!("taken from run {run}"),
                before => format!("{before} (taken from run {run})"),
            };
            (End::Succeeded { output, failures: 0, summary, caching: Caching::Taken(cache.key.clone()) }, items)
        }))
    }

    /// What the attempt of a claim knows about itself.
    pub(super) fn context(
        &self,
        claim: &Claimed,
        cancel: Cancel,
        progress: ProgressSink,
        log: Option<&LogHandle>,
        masker: Masker,
    ) -> Result<JobContext> {
        let (run, task) = (self.plan.run, self.task(claim.position)?);
        Ok(JobContext {
            run_id: run,
            dag: self.plan.dag.name.clone(),
            task: task.id.clone(),
            map_index: claim.map_index,
            attempt: claim.number,
            idempotency_key: trace::idempotency_key(run, &task.id, claim.map_index),
            traceparent: trace::traceparent(run, &task.id, claim.map_index, claim.number),
            cancel,
            progress,
            work_dir: self.work_dir.clone(),
            log: match log {
                Some(log) => Arc::new(log.clone()),
                None => Arc::new(MaskedLog { log: Arc::new(TracingLog), masker: masker.clone() }),
            },
            masker,
        })
    }

    /// The log of a claimed attempt, if logs are kept.
    pub(super) fn log(&self, claim: &Claimed, masker: Masker) -> Result<Option<LogHandle>> {
        let Some(logs) = &self.runner.options.logs else { return Ok(None) };
        let key = LogKey {
            dag: self.plan.dag.name.clone(),
            run: self.plan.run,
            task: self.task(claim.position)?.id.clone(),
            map_index: claim.map_index,
            attempt: claim.number,
        };
        Ok(Some(logs.writer(key, masker)))
    }

    /// Tells what a step has changed.
    pub(super) fn tell_done(&mut self, ended: &[Ended], done: &RunDone, flights: &Flights) {
        self.tell_ends(ended, &done.counted);
        self.tell_changes(&done.changes, flights);
    }

    /// Tells the progress of tasks of which a job said something since the last time, and of mapped tasks at work.
    pub(super) fn tell_progress(&mut self, flights: &Flights) {
        let mut moved = BTreeSet::new();
        let mut notes = Vec::new();
        for flight in flights.of_run(self.plan.run) {
            let position = flight.claim.position;
            let changed = flight.progress.take_changed();
            if changed {
                notes.push((position, flight.masker.mask(&flight.progress.note()).into_owned()));
            }
            if changed || flight.claim.map_index.is_some() {
                moved.insert(position);
            }
        }
        for (position, note) in notes {
            self.board.note(position, note);
        }
        for position in moved {
            self.tell_task(position, flights);
        }
    }

    /// How the run has ended, told and given back.
    pub(super) async fn outcome(&self) -> Result<RunOutcome> {
        let record = self.runner.store.run(self.plan.run).await?;
        let seconds = self.began.elapsed().as_secs_f64();
        if let Some(finished) = record.finished_at {
            metrics::run_ended(&record.dag, record.state.as_str(), finished.since(record.created_at));
        }
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
            let (index, attempt) = (claim.map_index, claim.number);
            let took = Timestamp::now().since(claim.claimed_at);
            metrics::attempt_ended(&self.plan.dag.name, &task, outcome(end, *counted), took);
            if !counted {
                tracing::warn!(task, index, attempt, "a fenced attempt came back; its answer does not count");
                continue;
            }
            match end {
                End::Succeeded { failures, summary, .. } => {
                    self.board.end_instance(claim.position, *items, *failures, summary);
                }
                End::Failed { error, retry_at: Some(at) } => {
                    let delay = at.since(Timestamp::now());
                    tracing::warn!(task, index, attempt, error, "attempt failed, will be tried again");
                    self.tell(RunEvent::Retry { task, map_index: index, attempt, error: error.clone(), delay });
                }
                End::Failed { error, retry_at: None } => {
                    tracing::warn!(task, index, attempt, error, "attempt failed");
                    self.board.end_instance(claim.position, 0, 0, "");
                }
                End::Later { note, .. } => self.board.note(claim.position, note.clone()),
                End::Interrupted => {}
            }
        }
    }

    fn tell_changes(&mut self, changes: &[Change], flights: &Flights) {
        for change in changes {
            match change {
                Change::Expanded { position, instances } => self.board.expand(*position, *instances),
                Change::Lost { position, map_index, failed, how } => {
                    if *failed {
                        self.board.end_instance(*position, 0, 0, "");
                    }
                    let (task, map_index, how) = (self.task_name(*position), *map_index, how.clone());
                    metrics::attempt_lost(&self.plan.dag.name, &task);
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
        for change in changes {
            if let Change::Expanded { position, .. } = change {
                self.tell_task(*position, flights);
            }
        }
    }

    fn tell_task(&self, position: usize, flights: &Flights) {
        let working = flights.of_run(self.plan.run).filter(|flight| flight.claim.position == position);
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
}

/// An end as metrics call it.
fn outcome(end: &End, counted: bool) -> &'static str {
    match end {
        _ if !counted => "fenced",
        End::Succeeded { .. } => "succeeded",
        End::Failed { retry_at: Some(_), .. } => "retried",
        End::Failed { retry_at: None, .. } => "failed",
        End::Later { .. } => "waiting",
        End::Interrupted => "interrupted",
    }
}
