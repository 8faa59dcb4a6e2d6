//! What a task can do: the trait that jobs implement, what they are given and what they give back.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use serde_json::Value;
use tokio::sync::watch;

use crate::dag::{Collector, Dag, Params, Task, hint};
use crate::error::{Error, Result};
use crate::ids::RunId;
use crate::logs::AttemptLog;
use crate::mask::Masker;
use crate::runner::check_run_dag;
use crate::template::{self, Scope};

/// The largest output of a job: its JSON text in bytes (256 KiB).
pub const MAX_OUTPUT_BYTES: usize = 256 * 1024;

/// A kind of work. One value serves all attempts, several at once.
#[async_trait::async_trait]
pub trait Job: Send + Sync {
    /// The name that DAG files use in `job:`.
    fn kind(&self) -> &'static str;

    /// Checks `with` and says in words what is wrong with it.
    ///
    /// Called when a DAG is checked, with templates that need outputs or items still unrendered (see
    /// [`template::is_template`]): accept such texts. Called again before each attempt with everything rendered.
    fn check(&self, with: &Value) -> Result<(), String>;

    /// Does the work of one attempt.
    ///
    /// It runs on a thread of its own, so it may block. It may run more than once for the same task instance, even
    /// twice at a time when a machine was thought dead: use [`JobContext::idempotency_key`] so that effects happen once.
    /// When [`JobContext::cancel`] is set, stop soon and return [`JobError::interrupted`].
    async fn run(&self, context: JobContext, with: Value) -> Result<JobOutput, JobError>;
}

/// What an attempt knows about itself.
#[derive(Clone, Debug)]
pub struct JobContext {
    /// The run.
    pub run_id: RunId,
    /// Name of the DAG.
    pub dag: String,
    /// The task.
    pub task: String,
    /// The item's place in the list of a mapped task, from 0.
    pub map_index: Option<u32>,
    /// Number of this attempt at the task instance, from 1: the fencing token. A greater one makes smaller ones void.
    pub attempt: u32,
    /// `<run>/<task>` or `<run>/<task>/<index>`: the same for all attempts of the task instance.
    pub idempotency_key: String,
    /// The W3C trace context of the attempt's span, for programs and services that it calls.
    pub traceparent: String,
    /// Set when the attempt should stop.
    pub cancel: Cancel,
    /// Takes progress.
    pub progress: ProgressSink,
    /// A folder that belongs to the run; it exists, and is the same for all tasks and attempts.
    pub work_dir: PathBuf,
    /// Takes the lines that the attempt writes.
    pub log: Arc<dyn AttemptLog>,
    /// Hides the secrets that the attempt was given, and those that are known otherwise. Errors, logs and progress pass it
    /// anyway, and so does the output, which hides those that the attempt was given; a job that shortens a text masks it
    /// first, so that no part of a secret is left at the cut.
    pub masker: Masker,
}

/// Tells an attempt to stop: on Ctrl-C, on a time-out, or when another process took it over.
#[derive(Clone, Debug)]
pub struct Cancel(watch::Receiver<bool>);

impl Cancel {
    /// A signal that is set by sending `true`.
    pub fn new() -> (watch::Sender<bool>, Self) {
        let (sender, receiver) = watch::channel(false);
        (sender, Self(receiver))
    }

    /// Whether to stop.
    pub fn is_cancelled(&self) -> bool {
        *self.0.borrow()
    }

    /// Ends when the attempt should stop, and never otherwise.
    pub async fn cancelled(&self) {
        let mut receiver = self.0.clone();
        if receiver.wait_for(|cancelled| *cancelled).await.is_err() {
            std::future::pending::<()>().await;
        }
    }
}

/// Takes the progress of one attempt. Cheap to call in a loop: the runner reads it a few times a second.
#[derive(Clone, Debug, Default)]
pub struct ProgressSink(Arc<ProgressCell>);

#[derive(Debug, Default)]
struct ProgressCell {
    done: AtomicU64,
    total: AtomicU64,
    changed: AtomicBool,
    note: Mutex<String>,
}

impl ProgressSink {
    /// Says how many of how many items are done (total 0: not known), with a few words for the person who watches.
    pub fn set(&self, done: u64, total: u64, note: &str) {
        self.0.done.store(done, Ordering::Relaxed);
        self.0.total.store(total, Ordering::Relaxed);
        let mut kept = self.0.note.lock().unwrap_or_else(PoisonError::into_inner);
        if *kept != note {
            note.clone_into(&mut kept);
        }
        drop(kept);
        self.0.changed.store(true, Ordering::Release);
    }

    /// Items done and in all, as said last.
    pub fn counts(&self) -> (u64, u64) {
        (self.0.done.load(Ordering::Relaxed), self.0.total.load(Ordering::Relaxed))
    }

    /// The words said last.
    pub fn note(&self) -> String {
        self.0.note.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Whether something was said since the last call.
    pub(crate) fn take_changed(&self) -> bool {
        self.0.changed.swap(false, Ordering::Acquire)
    }
}

impl JobContext {
    /// Says how many of how many items are done; the same as `progress.set`.
    pub fn progress(&self, done: u64, total: u64, note: &str) {
        self.progress.set(done, total, note);
    }
}

/// What a job gives back.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct JobOutput {
    /// The value that templates downstream see as `tasks.<id>.output`; at most [`MAX_OUTPUT_BYTES`] as JSON.
    pub value: Value,
    /// Items that failed without failing the task; the run then ends as succeeded with failures.
    pub failures: u64,
    /// One line for people.
    pub summary: String,
}

impl JobOutput {
    /// An output without failures and summary.
    pub fn new(value: Value) -> Self {
        Self { value, failures: 0, summary: String::new() }
    }
}

/// Why an attempt failed.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{message}")]
pub struct JobError {
    /// What went wrong and what to do, for people.
    pub message: String,
    /// Whether another attempt may do better.
    pub retry: Retry,
}

/// Whether another attempt may do better.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Retry {
    /// The cause may pass: try again while the task has retries left.
    Yes,
    /// The cause stays: fail the task at once.
    No,
    /// Nothing went wrong, but what the task waits for is not there: look again after this time. The attempt does not
    /// count and holds no slot meanwhile.
    Later(Duration),
    /// The attempt stopped because it was told to; it does not count and runs again when the run goes on.
    Interrupted,
}

impl JobError {
    /// A failure that may pass (network, a busy service).
    pub fn transient(message: impl Into<String>) -> Self {
        Self { message: message.into(), retry: Retry::Yes }
    }

    /// A failure that stays (wrong settings, a model that does not load).
    pub fn permanent(message: impl Into<String>) -> Self {
        Self { message: message.into(), retry: Retry::No }
    }

    /// What a sensor waits for is not there yet: it looks again after `wait`. The message says what it waits for.
    pub fn not_yet(message: impl Into<String>, wait: Duration) -> Self {
        Self { message: message.into(), retry: Retry::Later(wait) }
    }

    /// The attempt stopped because [`JobContext::cancel`] was set.
    pub fn interrupted() -> Self {
        Self { message: "stopped on request".to_string(), retry: Retry::Interrupted }
    }
}

/// The jobs that a runner can do, by kind.
#[derive(Clone, Default)]
pub struct JobRegistry {
    jobs: BTreeMap<&'static str, Arc<dyn Job>>,
}

impl JobRegistry {
    /// An empty registry.
    pub fn new() -> Self {
        Self::default()
    }

    /// Adds a job under its kind; a second one of the same kind is an error.
    pub fn register(&mut self, job: Arc<dyn Job>) -> Result<()> {
        let kind = job.kind();
        if self.jobs.insert(kind, job).is_some() {
            return Err(Error::DuplicateJob(kind.to_string()));
        }
        Ok(())
    }

    /// Adds a job, in the place of another of its kind.
    pub(crate) fn put(&mut self, job: Arc<dyn Job>) {
        self.jobs.insert(job.kind(), job);
    }

    /// The job of a kind.
    pub fn get(&self, kind: &str) -> Option<Arc<dyn Job>> {
        self.jobs.get(kind).cloned()
    }

    /// All kinds, sorted.
    pub fn kinds(&self) -> Vec<&'static str> {
        self.jobs.keys().copied().collect()
    }

    /// Checks that every task names a known kind and that its job accepts `with`. With `params`, templates that need
    /// only parameters are rendered first. Tasks that run another DAG need no job here: runners bring it.
    pub fn check(&self, dag: &Dag, params: Option<&Params>) -> Result<()> {
        let scope = params.map(|params| Scope::new(&params.to_json(), &Value::Null));
        let mut out = Collector::default();
        for task in dag.tasks() {
            let with = match &scope {
                Some(scope) => template::render_known(&task.with, scope),
                None => Ok(task.with.clone()),
            };
            let checked = match self.jobs.get(task.job.as_str()) {
                _ if task.runs_dag() => with.and_then(|with| check_run_dag(&with)),
                Some(job) => with.and_then(|with| job.check(&with)),
                None => {
                    out.add(task.places.job, self.unknown(task));
                    continue;
                }
            };
            if let Err(message) = checked {
                out.add(task.places.with, format!("task `{}`: {message}", task.id));
            }
        }
        match out.into_mistakes(dag.file()) {
            Some(mistakes) => Err(Error::Dag(mistakes)),
            None => Ok(()),
        }
    }

    fn unknown(&self, task: &Task) -> String {
        format!("unknown job kind `{}`{}", task.job, hint(&task.job, self.jobs.keys().copied()))
    }
}
