//! Attempts under way: when to tell them to stop, when to give them up, and what their end means.

use std::collections::{HashMap, HashSet};
use std::time::{Duration, Instant};

use tokio::sync::watch;

use super::dispatch::Delivered;
use super::retry;
use crate::clock::Timestamp;
use crate::dag::Task;
use crate::ids::AttemptId;
use crate::job::{JobError, JobOutput, MAX_OUTPUT_BYTES, ProgressSink, Retry};
use crate::state::{Claimed, End, Ended};

/// Why an attempt was told to stop.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Stop {
    /// Its time was up.
    TimedOut,
    /// The run is interrupted.
    Interrupted,
    /// Another owner has its instance.
    Fenced,
}

/// An attempt under way.
pub(super) struct Flight {
    pub(super) claim: Claimed,
    pub(super) progress: ProgressSink,
    pub(super) cancel: watch::Sender<bool>,
    pub(super) abandon: watch::Sender<bool>,
    pub(super) began: Instant,
    pub(super) deadline: Option<Instant>,
    pub(super) stop: Option<(Stop, Instant)>,
}

/// All attempts under way.
#[derive(Default)]
pub(super) struct Flights {
    by_attempt: HashMap<AttemptId, Flight>,
}

impl Flights {
    pub(super) fn insert(&mut self, flight: Flight) {
        self.by_attempt.insert(flight.claim.attempt, flight);
    }

    pub(super) fn len(&self) -> usize {
        self.by_attempt.len()
    }

    pub(super) fn iter(&self) -> impl Iterator<Item = &Flight> {
        self.by_attempt.values()
    }

    /// The attempt that came back; nothing when it was given up before.
    pub(super) fn take(&mut self, attempt: AttemptId) -> Option<Flight> {
        self.by_attempt.remove(&attempt)
    }

    /// Tells all to stop.
    pub(super) fn stop_all(&mut self, why: Stop, grace: Duration) {
        for flight in self.by_attempt.values_mut() {
            flight.tell(why, grace);
        }
    }

    /// Tells those to stop that were under way at `asked` and are not ours any more.
    pub(super) fn stop_fenced(&mut self, kept: &HashSet<AttemptId>, asked: Instant, grace: Duration) {
        for flight in self.by_attempt.values_mut() {
            if flight.began < asked && !kept.contains(&flight.claim.attempt) {
                flight.tell(Stop::Fenced, grace);
            }
        }
    }

    /// Tells those to stop whose time is up, and takes out those that did not stop in time.
    pub(super) fn expire(&mut self, now: Instant, grace: Duration) -> Vec<Flight> {
        for flight in self.by_attempt.values_mut() {
            if flight.deadline.is_some_and(|deadline| deadline <= now) {
                flight.tell(Stop::TimedOut, grace);
            }
        }
        let given_up = |flight: &Flight| flight.stop.is_some_and(|(_, give_up)| give_up <= now);
        let late: Vec<AttemptId> =
            self.by_attempt.iter().filter(|(_, flight)| given_up(flight)).map(|(attempt, _)| *attempt).collect();
        late.iter().filter_map(|attempt| self.by_attempt.remove(attempt)).collect()
    }

    /// When [`Flights::expire`] has something to do next.
    pub(super) fn next_deadline(&self) -> Option<Instant> {
        let of = |flight: &Flight| match flight.stop {
            Some((_, give_up)) => Some(give_up),
            None => flight.deadline,
        };
        self.by_attempt.values().filter_map(of).min()
    }
}

/// Whoever stops driving, even by dropping the future, stops its jobs.
impl Drop for Flights {
    fn drop(&mut self) {
        for flight in self.by_attempt.values() {
            flight.cancel.send_replace(true);
        }
    }
}

impl Flight {
    fn tell(&mut self, why: Stop, grace: Duration) {
        if self.stop.is_none() {
            self.stop = Some((why, Instant::now() + grace));
            self.cancel.send_replace(true);
        }
    }

    /// The end of an attempt that came back.
    pub(super) fn end(self, delivered: Delivered, task: &Task, now: Timestamp) -> Ended {
        let items = self.progress.counts().0;
        let end = match (delivered.result, self.stop) {
            (Ok(output), _) => success(output, task),
            (Err(_), Some((Stop::Interrupted | Stop::Fenced, _))) => End::Interrupted,
            (Err(error), Some((Stop::TimedOut, _))) => {
                failure(timed_out(task, &error.message), task, self.claim.failed, now)
            }
            (Err(error), None) => failure(error, task, self.claim.failed, now),
        };
        Ended { claim: self.claim, end, items }
    }

    /// The end of an attempt that did not stop when it was told to.
    pub(super) fn give_up(self, task: &Task, now: Timestamp) -> Ended {
        self.abandon.send_replace(true);
        let items = self.progress.counts().0;
        let end = match self.stop {
            Some((Stop::TimedOut, _)) => {
                failure(timed_out(task, "it did not stop when told to"), task, self.claim.failed, now)
            }
            _ => End::Interrupted,
        };
        Ended { claim: self.claim, end, items }
    }
}

/// A failed attempt: tried again while the task has retries left and the error may pass.
pub(super) fn failure(error: JobError, task: &Task, failed_before: u32, now: Timestamp) -> End {
    if let Retry::Later(wait) = error.retry {
        return End::Later { note: error.message, at: now.plus(wait) };
    }
    let again = error.retry != Retry::No && failed_before < task.retries;
    let retry_at = again.then(|| now.plus(retry::delay(task.retry_delay, failed_before)));
    End::Failed { error: error.message, retry_at }
}

fn success(output: JobOutput, task: &Task) -> End {
    let text = output.value.to_string();
    if text.len() > MAX_OUTPUT_BYTES {
        let error = format!(
            "the output of `{}` has {} bytes, more than the {MAX_OUTPUT_BYTES} allowed; \
             write it to a table or file and give back where it is",
            task.id,
            text.len()
        );
        return End::Failed { error, retry_at: None };
    }
    End::Succeeded { output: text, failures: output.failures, summary: output.summary }
}

fn timed_out(task: &Task, what: &str) -> JobError {
    let limit = task.timeout.unwrap_or_default();
    JobError::transient(format!("timed out after {limit:?} ({what}); raise `timeout` of task `{}`", task.id))
}
