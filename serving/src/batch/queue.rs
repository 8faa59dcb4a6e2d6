//! The queue between callers and workers.

use std::collections::VecDeque;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use tokio::sync::{Notify, OwnedSemaphorePermit, Semaphore, oneshot};

use crate::batch::{BatchMetrics, BatchOptions, Priority, Terms};
use crate::{Error, Result};

/// One pick in so many takes the request that has waited longest, whatever its priority.
const FAIR_PICK: u32 = 4;

/// Share of the newest batch in the mean time of a request.
const NEWEST: f64 = 0.1;

/// Before anything was measured, a request is taken to need so long.
const UNKNOWN: Duration = Duration::from_millis(100);

/// Bounds of what a refused caller is told.
const RETRY: std::ops::RangeInclusive<Duration> = Duration::from_secs(1)..=Duration::from_secs(60);

/// A request that waits.
pub(super) struct Entry<I, O> {
    pub(super) item: I,
    pub(super) deadline: Option<Instant>,
    pub(super) reply: oneshot::Sender<Result<O>>,
    pub(super) since: Instant,
    priority: Priority,
    permit: Option<OwnedSemaphorePermit>,
}

impl<I, O> Entry<I, O> {
    pub(super) fn new(item: I, terms: Terms, reply: oneshot::Sender<Result<O>>) -> Self {
        let since = Instant::now();
        Self { item, deadline: terms.deadline, reply, since, priority: terms.priority, permit: None }
    }

    fn is_gone(&self) -> bool {
        self.reply.is_closed()
    }

    fn is_late(&self, now: Instant) -> bool {
        self.deadline.is_some_and(|deadline| deadline <= now)
    }
}

/// What handles and workers share.
pub(super) struct Shared<I, O> {
    state: Mutex<State<I, O>>,
    /// Told when there is something to take, or when all ends.
    work: Condvar,
    /// Told when nothing waits and nothing runs.
    empty: Notify,
    /// One permit for each request that may wait.
    admission: Arc<Semaphore>,
    max_batch: usize,
    workers: usize,
    metrics: Option<BatchMetrics>,
}

struct State<I, O> {
    /// By priority; each in order of arrival.
    waiting: [VecDeque<Entry<I, O>>; 3],
    picks: u32,
    idle: usize,
    running: usize,
    draining: bool,
    closed: bool,
    /// Seconds of a worker for one request, as the last batches show.
    seconds_each: Option<f64>,
}

impl<I, O> Shared<I, O> {
    pub(super) fn new(options: &BatchOptions, workers: usize) -> Self {
        let state = State {
            waiting: [VecDeque::new(), VecDeque::new(), VecDeque::new()],
            picks: 0,
            idle: 0,
            running: 0,
            draining: false,
            closed: false,
            seconds_each: None,
        };
        Self {
            state: Mutex::new(state),
            work: Condvar::new(),
            empty: Notify::new(),
            admission: Arc::new(Semaphore::new(options.queue.max(1))),
            max_batch: options.max_batch.max(1),
            workers: workers.max(1),
            metrics: options.metrics.clone(),
        }
    }

    /// Admits a request, or says why not.
    pub(super) fn push(&self, mut entry: Entry<I, O>) -> Result<()> {
        entry.permit = Some(self.admit()?);
        let mut state = self.lock();
        if state.draining || state.closed {
            return Err(Error::Draining);
        }
        state.waiting[entry.priority as usize].push_back(entry);
        self.show_waiting(&state);
        drop(state);
        self.work.notify_one();
        Ok(())
    }

    /// Waits for a batch; none when all has ended.
    pub(super) fn take(&self) -> Option<Vec<Entry<I, O>>> {
        let mut state = self.lock();
        loop {
            let batch = state.next_batch(self.max_batch, self.metrics.as_ref());
            self.show_waiting(&state);
            if !batch.is_empty() {
                state.running += 1;
                let more = state.len() > 0 && state.idle > 0;
                drop(state);
                if more {
                    self.work.notify_one();
                }
                return Some(batch);
            }
            self.tell_if_empty(&state);
            if state.closed {
                return None;
            }
            state.idle += 1;
            state = self.work.wait(state).unwrap_or_else(PoisonError::into_inner);
            state.idle -= 1;
        }
    }

    /// Notes that a batch of `size` requests took so long.
    pub(super) fn done(&self, size: usize, took: Duration) {
        if let Some(metrics) = &self.metrics {
            metrics.batch.observe(size as f64);
            metrics.run_seconds.observe(took.as_secs_f64());
        }
        let mut state = self.lock();
        let each = took.as_secs_f64() / size.max(1) as f64;
        state.seconds_each = Some(state.seconds_each.map_or(each, |mean| mean + (each - mean) * NEWEST));
    }

    /// Notes that a batch's answers are on their way.
    pub(super) fn answered(&self) {
        let mut state = self.lock();
        state.running -= 1;
        self.tell_if_empty(&state);
    }

    /// Notes how long a request had waited when its work began.
    pub(super) fn began(&self, waited: Duration) {
        if let Some(metrics) = &self.metrics {
            metrics.wait_seconds.observe(waited.as_secs_f64());
        }
    }

    pub(super) async fn drain(&self) {
        self.lock().draining = true;
        // Workers leave out requests whose callers have gone.
        self.work.notify_all();
        loop {
            let empty = self.empty.notified();
            tokio::pin!(empty);
            empty.as_mut().enable();
            {
                let state = self.lock();
                if state.len() == 0 && state.running == 0 {
                    return;
                }
            }
            empty.await;
        }
    }

    pub(super) fn close(&self) {
        self.lock().closed = true;
        self.work.notify_all();
    }

    pub(super) fn waiting(&self) -> usize {
        self.lock().len()
    }

    pub(super) fn expected_wait(&self) -> Duration {
        let state = self.lock();
        let each = state.seconds_each.unwrap_or(UNKNOWN.as_secs_f64());
        Duration::from_secs_f64((state.len() as f64 * each / self.workers as f64).clamp(0.0, 3600.0))
    }

    fn admit(&self) -> Result<OwnedSemaphorePermit> {
        if let Ok(permit) = Arc::clone(&self.admission).try_acquire_owned() {
            return Ok(permit);
        }
        // Those whose callers have gone hold no place against those who are here.
        let now = Instant::now();
        let mut state = self.lock();
        state.remove_dead(now, self.metrics.as_ref());
        self.show_waiting(&state);
        drop(state);
        Arc::clone(&self.admission).try_acquire_owned().map_err(|_| {
            if let Some(metrics) = &self.metrics {
                metrics.refused.inc();
            }
            Error::Full { retry_after: self.expected_wait().clamp(*RETRY.start(), *RETRY.end()) }
        })
    }

    fn lock(&self) -> MutexGuard<'_, State<I, O>> {
        // No code of callers or workers runs under the lock.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn tell_if_empty(&self, state: &State<I, O>) {
        if state.len() == 0 && state.running == 0 {
            self.empty.notify_waiters();
        }
    }

    fn show_waiting(&self, state: &State<I, O>) {
        if let Some(metrics) = &self.metrics {
            metrics.waiting.set(state.len() as i64);
        }
    }
}

impl<I, O> State<I, O> {
    fn len(&self) -> usize {
        self.waiting.iter().map(VecDeque::len).sum()
    }

    /// Up to `max_batch` requests that are still wanted: what an idle worker leaves for the others, and no more than the
    /// earliest deadline among them allows. Their places in the queue are free again.
    fn next_batch(&mut self, max_batch: usize, metrics: Option<&BatchMetrics>) -> Vec<Entry<I, O>> {
        let now = Instant::now();
        let share = self.len().div_ceil(self.idle + 1).min(max_batch);
        let mut batch: Vec<Entry<I, O>> = Vec::with_capacity(share);
        let mut deadline: Option<Instant> = None;
        while batch.len() < share {
            let Some(place) = self.next_place() else { break };
            let Some(next) = self.waiting[place].front() else { break };
            if next.is_gone() || next.is_late(now) {
                if let Some(entry) = self.waiting[place].pop_front() {
                    refuse(entry, metrics);
                }
                continue;
            }
            let earliest = [deadline, next.deadline].into_iter().flatten().min();
            if !batch.is_empty() && self.would_be_late(batch.len() + 1, earliest, now) {
                break;
            }
            deadline = earliest;
            self.picks = self.picks.wrapping_add(1);
            if let Some(mut entry) = self.waiting[place].pop_front() {
                entry.permit = None;
                batch.push(entry);
            }
        }
        batch
    }

    /// The queue whose first request goes next.
    fn next_place(&self) -> Option<usize> {
        let filled = (0..self.waiting.len()).filter(|&place| !self.waiting[place].is_empty());
        if (self.picks + 1).is_multiple_of(FAIR_PICK) {
            return filled.min_by_key(|&place| self.waiting[place].front().map(|entry| entry.since));
        }
        filled.min()
    }

    fn would_be_late(&self, size: usize, deadline: Option<Instant>, now: Instant) -> bool {
        let (Some(deadline), Some(each)) = (deadline, self.seconds_each) else { return false };
        (deadline - now).as_secs_f64() < each * size as f64
    }

    fn remove_dead(&mut self, now: Instant, metrics: Option<&BatchMetrics>) {
        for queue in &mut self.waiting {
            let (dead, alive) = queue.drain(..).partition(|entry| entry.is_gone() || entry.is_late(now));
            *queue = alive;
            let dead: VecDeque<_> = dead;
            dead.into_iter().for_each(|entry| refuse(entry, metrics));
        }
    }
}

fn refuse<I, O>(entry: Entry<I, O>, metrics: Option<&BatchMetrics>) {
    if let Some(metrics) = metrics {
        if entry.is_gone() { metrics.gone.inc() } else { metrics.late.inc() }
    }
    // Whoever has gone hears nothing.
    let _ = entry.reply.send(Err(Error::Late));
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    /// A queue of three requests whose deadlines are so many milliseconds from now.
    fn state(
        seconds_each: Option<f64>,
        deadlines: [Option<u64>; 3],
    ) -> (State<u32, u32>, Vec<oneshot::Receiver<Result<u32>>>) {
        let shared = Shared::new(&BatchOptions { max_batch: 8, queue: 8, metrics: None }, 1);
        let mut answers = Vec::new();
        for (number, deadline) in deadlines.into_iter().enumerate() {
            let (reply, answer) = oneshot::channel();
            let deadline = deadline.map(|ms| Instant::now() + Duration::from_millis(ms));
            let terms = Terms { deadline, priority: Priority::Normal };
            shared.push(Entry::new(number as u32, terms, reply)).unwrap();
            answers.push(answer);
        }
        let mut state = shared.state.into_inner().unwrap();
        state.seconds_each = seconds_each;
        (state, answers)
    }

    fn items(batch: &[Entry<u32, u32>]) -> Vec<u32> {
        batch.iter().map(|entry| entry.item).collect()
    }

    #[test]
    fn a_batch_is_as_large_as_its_earliest_deadline_allows() {
        let (mut tight, _answers) = state(Some(10.0), [None, Some(25_000), None]);
        assert_eq!(items(&tight.next_batch(8, None)), [0, 1]);
        assert_eq!(items(&tight.next_batch(8, None)), [2]);
        let (mut loose, _answers) = state(Some(10.0), [None, Some(1_000_000), None]);
        assert_eq!(items(&loose.next_batch(8, None)), [0, 1, 2]);
        let (mut unknown, _answers) = state(None, [None, Some(25_000), None]);
        assert_eq!(items(&unknown.next_batch(8, None)), [0, 1, 2]);
    }

    #[test]
    fn a_worker_leaves_to_idle_ones_what_is_theirs() {
        let (mut state, _answers) = state(None, [None, None, None]);
        state.idle = 2;
        assert_eq!(items(&state.next_batch(8, None)), [0]);
    }
}
