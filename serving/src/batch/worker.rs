//! A worker thread.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::mpsc::Sender;
use std::time::Instant;

use tracing::error;

use crate::batch::MakeWork;
use crate::batch::queue::{Entry, Shared};
use crate::{Error, Result};

/// Makes the work, says so through `made`, and does it until all handles are gone.
pub(super) fn run<I: 'static, O: 'static>(shared: &Shared<I, O>, make: MakeWork<I, O>, made: &Sender<Result<()>>) {
    let mut work = match make() {
        Ok(work) => work,
        Err(error) => {
            // Nobody hears it if another worker has failed before.
            let _ = made.send(Err(error));
            return;
        }
    };
    if made.send(Ok(())).is_err() {
        return;
    }
    while let Some(batch) = shared.take() {
        let size = batch.len();
        let begun = Instant::now();
        let mut items = Vec::with_capacity(size);
        let mut replies = Vec::with_capacity(size);
        for Entry { item, reply, since, .. } in batch {
            shared.began(begun.saturating_duration_since(since));
            items.push(item);
            replies.push(reply);
        }
        let answers = catch_unwind(AssertUnwindSafe(|| work.run(items)));
        // Before the answers go out: who has its answer finds the work counted.
        shared.done(size, begun.elapsed());
        let mut answers = answers.unwrap_or_else(|_| {
            error!("a worker panicked; the requests of its batch fail");
            Vec::new()
        });
        if answers.len() != size && !answers.is_empty() {
            error!(expected = size, got = answers.len(), "a worker gave a wrong number of answers");
            answers.clear();
        }
        let mut answers = answers.into_iter();
        for reply in replies {
            let answer = answers.next().unwrap_or_else(|| Err(Error::Model("the worker gave no answer".to_owned())));
            // Its caller may have gone meanwhile.
            let _ = reply.send(answer);
        }
        shared.answered();
    }
}
