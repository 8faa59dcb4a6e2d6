//! Micro-batching without a fixed window.
//!
//! Requests wait in a queue of bounded length; worker threads take from it. A worker that is idle takes a request at
//! once; while all are busy, requests gather, and the next worker takes as many as its batch holds. Nothing ever waits
//! for a batch to fill. A request whose caller has gone, or whose deadline has passed, is left out before the work.
//!
//! Workers are threads of their own, made for work that blocks, such as libtorch; the callers are async.

mod metrics;
mod queue;
mod worker;

#[cfg(test)]
mod tests;

use std::sync::Arc;
use std::time::{Duration, Instant};

use tokio::sync::oneshot;

pub use metrics::BatchMetrics;

use crate::{Error, Result};
use queue::{Entry, Shared};

/// Which requests go first.
///
/// Higher ones go first, but one pick in four takes the request that has waited longest, so that none starves.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Hash)]
pub enum Priority {
    /// Before the others.
    High,
    /// The usual.
    #[default]
    Normal,
    /// After the others.
    Low,
}

/// What a caller asks for besides the work.
#[derive(Debug, Clone, Copy, Default)]
pub struct Terms {
    /// When the answer is of no use any more.
    pub deadline: Option<Instant>,
    /// Its place among those that wait.
    pub priority: Priority,
}

/// How a [`Batcher`] works.
#[derive(Debug, Clone, Default)]
pub struct BatchOptions {
    /// Most requests in one call of [`Work::run`]; 0 counts as 1.
    pub max_batch: usize,
    /// Most requests that may wait; more are refused with [`Error::Full`]. 0 counts as 1.
    pub queue: usize,
    /// Where to count what happens.
    pub metrics: Option<BatchMetrics>,
}

/// What a worker thread does. It is made on that thread and stays there.
pub trait Work<I, O>: Send + 'static {
    /// Answers of a batch, in its order, one for each request.
    ///
    /// A panic fails the requests of this batch; the worker goes on with the next.
    fn run(&mut self, batch: Vec<I>) -> Vec<Result<O>>;
}

/// Makes a worker's [`Work`], on the worker's thread.
pub type MakeWork<I, O> = Box<dyn FnOnce() -> Result<Box<dyn Work<I, O>>> + Send>;

/// A cheap-to-clone handle of a queue with worker threads. They end when the last handle is gone.
pub struct Batcher<I, O> {
    owner: Arc<Owner<I, O>>,
}

impl<I: Send + 'static, O: Send + 'static> Batcher<I, O> {
    /// Starts a thread for each of `workers` and waits until all are made; the first failure ends them all.
    ///
    /// It blocks while workers are made: call it where that is allowed. `name` is the threads' name.
    pub fn start(name: &str, options: BatchOptions, workers: Vec<MakeWork<I, O>>) -> Result<Self> {
        let shared = Arc::new(Shared::new(&options, workers.len()));
        let owner = Arc::new(Owner { shared: Arc::clone(&shared) });
        let (made, results) = std::sync::mpsc::channel();
        let count = workers.len();
        for (index, make) in workers.into_iter().enumerate() {
            let (shared, made) = (Arc::clone(&shared), made.clone());
            std::thread::Builder::new()
                .name(format!("{name}-{index}"))
                .spawn(move || worker::run(&shared, make, &made))
                .map_err(|error| Error::Setup(format!("a worker thread cannot be started: {error}")))?;
        }
        drop(made);
        for _ in 0..count {
            // A thread that panics while it makes its work sends nothing.
            results.recv().map_err(|_| Error::Model("a worker panicked while it was made".to_owned()))??;
        }
        Ok(Self { owner })
    }

    /// Puts `item` into the queue and waits for its answer. Dropping the future takes it out of the queue, if its work
    /// has not begun.
    ///
    /// Errors: [`Error::Full`], [`Error::Draining`], [`Error::Late`] at the deadline, and what the work gives.
    pub async fn submit(&self, item: I, terms: Terms) -> Result<O> {
        let (reply, answer) = oneshot::channel();
        self.owner.shared.push(Entry::new(item, terms, reply))?;
        let Some(deadline) = terms.deadline else { return answer.await.unwrap_or_else(|_| Err(lost())) };
        match tokio::time::timeout_at(deadline.into(), answer).await {
            Ok(answer) => answer.unwrap_or_else(|_| Err(lost())),
            Err(_) => Err(Error::Late),
        }
    }

    /// Takes no more requests and waits until all that were taken are answered.
    pub async fn drain(&self) {
        self.owner.shared.drain().await;
    }

    /// Requests that wait now.
    pub fn waiting(&self) -> usize {
        self.owner.shared.waiting()
    }

    /// When a request that came now would be taken by a worker, as the last batches let expect.
    pub fn expected_wait(&self) -> Duration {
        self.owner.shared.expected_wait()
    }
}

impl<I, O> Clone for Batcher<I, O> {
    fn clone(&self) -> Self {
        Self { owner: Arc::clone(&self.owner) }
    }
}

impl<I, O> std::fmt::Debug for Batcher<I, O> {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.debug_struct("Batcher").finish_non_exhaustive()
    }
}

/// What the handles share; its end ends the workers.
struct Owner<I, O> {
    shared: Arc<Shared<I, O>>,
}

impl<I, O> Drop for Owner<I, O> {
    fn drop(&mut self) {
        self.shared.close();
    }
}

fn lost() -> Error {
    Error::Model("a worker ended without an answer".to_owned())
}
