//! Delivery by apalis: a worker of it takes claimed attempts from a channel and runs each to its end.
//!
//! The queue is the channel and nothing is kept in it: what is claimed, by whom and until when is in the state. So apalis
//! neither tries again nor finds out who is dead, and an attempt that is delivered twice counts once.

use std::convert::Infallible;
use std::sync::OnceLock;
use std::task::{Context, Poll};

use apalis_core::backend::finalize::Ephemeral;
use apalis_core::backend::{Backend, BackendConfig};
use apalis_core::task::Task;
use apalis_core::task::task_id::RandomId;
use apalis_core::worker::builder::WorkerBuilder;
use apalis_core::worker::context::WorkerContext;
use tokio::sync::{mpsc, oneshot};
use tower_layer::Identity;

use super::dispatch::{Delivered, Dispatcher, Order, start_thread};
use crate::job::JobError;

/// Delivers attempts to a worker of apalis in this process, which it starts with the first.
#[derive(Default)]
pub(super) struct ApalisDispatcher {
    orders: OnceLock<mpsc::UnboundedSender<Order>>,
}

impl Dispatcher for ApalisDispatcher {
    fn deliver(&self, order: Order) {
        let sent = self.orders.get_or_init(start_worker).send(order);
        if let Err(mpsc::error::SendError(order)) = sent {
            let result = Err(JobError::transient("attempts are no longer delivered in this process"));
            drop(order.done.send(Delivered { attempt: order.attempt, result }));
        }
    }
}

/// Starts a worker, which ends when nobody can send orders any more and all are done.
fn start_worker() -> mpsc::UnboundedSender<Order> {
    let (sender, orders) = mpsc::unbounded_channel();
    let worker = WorkerBuilder::new("attempts").backend(Orders(orders)).build(run_to_its_end);
    tokio::spawn(async move {
        if let Err(error) = worker.run().await {
            tracing::error!(%error, "the delivery of attempts has ended");
        }
    });
    sender
}

/// Runs an attempt on a thread of its own.
async fn run_to_its_end(order: Order) {
    let (ended, end) = oneshot::channel::<()>();
    start_thread(order, ended);
    // It is dropped with the thread.
    let _ = end.await;
}

/// Claimed attempts on their way to the worker, in their order.
struct Orders(mpsc::UnboundedReceiver<Order>);

impl Backend for Orders {
    type Task = Task<Order>;
    type Error = Infallible;

    fn poll_ready(&mut self, _: &mut Context<'_>, _: &WorkerContext) -> Poll<Result<(), Infallible>> {
        Poll::Ready(Ok(()))
    }

    fn poll_next(&mut self, cx: &mut Context<'_>, _: &WorkerContext) -> Poll<Option<Result<Task<Order>, Infallible>>> {
        self.0.poll_recv(cx).map(|order| order.map(|order| Ok(Task::new(order))))
    }

    fn poll_close(&mut self, _: &mut Context<'_>, _: &WorkerContext) -> Poll<Result<(), Infallible>> {
        Poll::Ready(Ok(()))
    }
}

impl BackendConfig for Orders {
    type Args = Order;
    type Id = RandomId;
    type Kind = Ephemeral;
    type Config = ();
    type Layer = Identity;

    fn config(&self) -> &() {
        &()
    }

    fn middleware(&mut self, _: &mut WorkerContext) -> Identity {
        Identity::new()
    }
}
