//! Brings claimed attempts to where they run. The runner decides and records; how an attempt gets to its worker is
//! behind [`Dispatcher`], so that a queue can take its place.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;

use platform::telemetry;
use serde_json::Value;
use tokio::runtime::Handle;
use tokio::sync::{mpsc, watch};
use tracing::Instrument;

use crate::ids::AttemptId;
use crate::job::{Job, JobContext, JobError, JobOutput, Retry};
use crate::logs::LogHandle;
use crate::mask::Masker;

/// Jobs of the data libraries recurse deeper than the usual 2 MiB; the memory is only reserved.
const STACK_BYTES: usize = 16 * 1024 * 1024;

/// A claimed attempt with all that it needs.
pub(super) struct Order {
    pub(super) attempt: AttemptId,
    pub(super) job: Arc<dyn Job>,
    pub(super) context: JobContext,
    pub(super) with: Value,
    /// Hides the secrets that stand in `with`.
    pub(super) given: Masker,
    /// Takes what the attempt writes, if logs are kept.
    pub(super) log: Option<LogHandle>,
    /// Set when nobody waits for the attempt any more.
    pub(super) abandon: watch::Receiver<bool>,
    /// Takes the result.
    pub(super) done: mpsc::UnboundedSender<Delivered>,
}

/// An attempt that came back.
pub(super) struct Delivered {
    pub(super) attempt: AttemptId,
    pub(super) result: Result<JobOutput, JobError>,
}

/// Brings an attempt to where it runs. Its result must come back through `order.done` once; delivering an order twice
/// is harmless to the state, because only one answer of an attempt counts.
pub(super) trait Dispatcher: Send + Sync {
    /// Takes an order; never blocks.
    fn deliver(&self, order: Order);
}

/// Runs an attempt on a thread of its own in this process: a job that blocks or computes for minutes cannot hold up the
/// runner's heartbeats. `ended` is dropped at its end.
pub(super) fn start_thread<T: Send + 'static>(order: Order, ended: T) {
    let runtime = Handle::current();
    let (attempt, done) = (order.attempt, order.done.clone());
    let name = format!("task {}", order.context.task);
    let spawned = std::thread::Builder::new().name(name).stack_size(STACK_BYTES).spawn(move || {
        run(&runtime, order);
        drop(ended);
    });
    if let Err(error) = spawned {
        let result = Err(JobError::transient(format!("no thread to run on: {error}")));
        drop(done.send(Delivered { attempt, result }));
    }
}

fn run(runtime: &Handle, order: Order) {
    let Order { attempt, job, context, with, given, log, mut abandon, done } = order;
    let masker = context.masker.clone();
    // There at every level, so that the log of the attempt gets what the level lets through.
    let make = || {
        tracing::error_span!(
            "attempt",
            run = %context.run_id,
            task = %context.task,
            index = context.map_index,
            attempt = context.attempt
        )
    };
    let span = match &log {
        Some(log) => telemetry::routed(Arc::new(log.clone()), make),
        None => make(),
    };
    let work = async {
        tokio::select! {
            result = job.run(context, with) => result,
            Ok(_) = abandon.wait_for(|abandoned| *abandoned) => Err(JobError::interrupted()),
        }
    };
    let result = catch_unwind(AssertUnwindSafe(|| runtime.block_on(work.instrument(span))));
    let result = result.unwrap_or_else(|panic| Err(JobError::transient(panic_message(panic.as_ref()))));
    let result = masked(result, &masker, &given);
    if let Some(log) = log {
        // A look that found nothing leaves nothing.
        let nothing = matches!(&result, Err(JobError { retry: Retry::Later(_), .. }));
        // Before the end is told: who sees the end finds the whole log.
        runtime.block_on(log.0.finish(nothing));
    }
    // Nobody listens when the attempt was given up.
    drop(done.send(Delivered { attempt, result }));
}

/// Whatever the kind of job: what comes back goes into the state. Other tasks go on with the value: of that, only the
/// secrets that this attempt was given are hidden.
fn masked(result: Result<JobOutput, JobError>, known: &Masker, given: &Masker) -> Result<JobOutput, JobError> {
    let JobOutput { value, failures, summary } = match result {
        Ok(output) => output,
        Err(error) => return Err(JobError { message: known.mask(&error.message).into_owned(), ..error }),
    };
    Ok(JobOutput { value: given.mask_value(value), failures, summary: known.mask(&summary).into_owned() })
}

fn panic_message(panic: &(dyn std::any::Any + Send)) -> String {
    let text = panic.downcast_ref::<&str>().map(|text| (*text).to_string());
    let text = text.or_else(|| panic.downcast_ref::<String>().cloned());
    format!("the job panicked: {}", text.unwrap_or_else(|| "no message".to_string()))
}
