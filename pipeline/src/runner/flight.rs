//! Attempts under way: when to tell them to stop, when to give them up, and what their end means.

use std::collections::{HashMap, HashSet};
use std::time::{Duration, Instant};

use tokio::sync::watch;

use super::dispatch::Delivered;
use super::retry;
use crate::clock::Timestamp;
use crate::dag::Task;
use crate::ids::{AttemptId, RunId};
use crate::job::{JobError, JobOutput, MAX_OUTPUT_BYTES, ProgressSink, Retry};
use crate::mask::Masker;
use crate::state::{Caching, Claimed, End, Ended};

/// Why an attempt was told to stop.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Stop {
    /// Its time was up.
    TimedOut,
    /// The time of all attempts together was up.
    TaskTimedOut,
    /// The worker is interrupted.
    Interrupted,
    /// The run was told to stop.
    Cancelled,
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
    /// When its time is up, and which time that is.
    pub(super) deadline: Option<(Instant, Stop)>,
    pub(super) stop: Option<(Stop, Instant)>,
    /// What is to be done with its output.
    pub(super) caching: Caching,
    /// Hides the secrets that it was given.
    pub(super) masker: Masker,
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

    /// The attempts of one run.
    pub(super) fn of_run(&self, run: RunId) -> impl Iterator<Item = &Flight> {
        self.by_attempt.values().filter(move |flight| flight.claim.run == run)
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

    /// Tells the attempts of a run to stop for good.
    pub(super) fn stop_run(&mut self, run: RunId, grace: Duration) {
        for flight in self.by_attempt.values_mut().filter(|flight| flight.claim.run == run) {
            flight.tell(Stop::Cancelled, grace);
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
            if let Some((deadline, why)) = flight.deadline
                && deadline <= now
            {
                flight.tell(why, grace);
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
            None => flight.deadline.map(|(deadline, _)| deadline),
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
    /// An attempt that begins now.
    pub(super) fn new(
        claim: Claimed,
        task: &Task,
        progress: ProgressSink,
        cancel: watch::Sender<bool>,
        abandon: watch::Sender<bool>,
    ) -> Self {
        let began = Instant::now();
        let own = task.timeout.map(|timeout| (began + timeout, Stop::TimedOut));
        let left = task.task_timeout.map(|timeout| claim.started_at.plus(timeout).since(Timestamp::now()));
        let all = left.map(|left| (began + left, Stop::TaskTimedOut));
        let deadline = own.into_iter().chain(all).min_by_key(|(deadline, _)| *deadline);
        Self {
            claim,
            progress,
            cancel,
            abandon,
            began,
            deadline,
            stop: None,
            caching: Caching::None,
            masker: Masker::default(),
        }
    }

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
            (Ok(output), _) => success(output, task, self.caching),
            (Err(_), Some((Stop::Interrupted | Stop::Cancelled | Stop::Fenced, _))) => End::Interrupted,
            (Err(error), Some((Stop::TimedOut, _))) => failure(timed_out(task, &error.message), task, &self.claim, now),
            (Err(error), Some((Stop::TaskTimedOut, _))) => out_of_time(task, &error.message),
            (Err(error), None) => failure(error, task, &self.claim, now),
        };
        Ended { claim: self.claim, end, items }
    }

    /// The end of an attempt that did not stop when it was told to.
    pub(super) fn give_up(self, task: &Task, now: Timestamp) -> Ended {
        self.abandon.send_replace(true);
        let items = self.progress.counts().0;
        let end = match self.stop {
            Some((Stop::TimedOut, _)) => {
                failure(timed_out(task, "it did not stop when told to"), task, &self.claim, now)
            }
            Some((Stop::TaskTimedOut, _)) => out_of_time(task, "it did not stop when told to"),
            _ => End::Interrupted,
        };
        Ended { claim: self.claim, end, items }
    }
}

/// A failed attempt: tried again while the task has retries and time left and the error may pass.
pub(crate) fn failure(error: JobError, task: &Task, claim: &Claimed, now: Timestamp) -> End {
    let late = |at: Timestamp| task.task_timeout.is_some_and(|timeout| at > claim.started_at.plus(timeout));
    if let Retry::Later(wait) = error.retry {
        let at = now.plus(wait);
        return if late(at) { out_of_time(task, &error.message) } else { End::Later { note: error.message, at } };
    }
    let policy = task.retry_policy(&error.message);
    let again = error.retry != Retry::No && claim.failed < policy.retries;
    let retry_at = now.plus(retry::delay(&policy, claim.failed));
    End::Failed { error: error.message, retry_at: Some(retry_at).filter(|at| again && !late(*at)) }
}

fn out_of_time(task: &Task, what: &str) -> End {
    let limit = task.task_timeout.unwrap_or_default();
    let error = format!("not done after {limit:?} ({what}); raise `task_timeout` of task `{}`", task.id);
    End::Failed { error, retry_at: None }
}

fn success(output: JobOutput, task: &Task, caching: Caching) -> End {
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
    End::Succeeded { output: text, failures: output.failures, summary: output.summary, caching }
}

fn timed_out(task: &Task, what: &str) -> JobError {
    let limit = task.timeout.unwrap_or_default();
    JobError::transient(format!("timed out after {limit:?} ({what}); raise `timeout` of task `{}`", task.id))
}
