//! What callers may rely on, with workers that stop where a test tells them.
#![allow(clippy::unwrap_used)]

use std::pin::pin;
use std::sync::mpsc::{Receiver, Sender, channel};
use std::time::{Duration, Instant};

use futures::poll;

use super::*;

/// A worker that tells what it was given and goes on when it is told to.
struct Stopped {
    told: Sender<Vec<u32>>,
    go: Receiver<()>,
}

impl Work<u32, u32> for Stopped {
    fn run(&mut self, batch: Vec<u32>) -> Vec<Result<u32>> {
        self.told.send(batch.clone()).unwrap();
        self.go.recv().unwrap();
        assert!(!batch.contains(&PANIC), "told to panic");
        batch.into_iter().map(|number| Ok(number * 10)).collect()
    }
}

const PANIC: u32 = 666;

struct Bench {
    batcher: Batcher<u32, u32>,
    told: Receiver<Vec<u32>>,
    go: Sender<()>,
}

fn start(max_batch: usize, queue: usize) -> Bench {
    let (tell, told) = channel();
    let (go, going) = channel();
    let make: MakeWork<u32, u32> = Box::new(move || Ok(Box::new(Stopped { told: tell, go: going })));
    let options = BatchOptions { max_batch, queue, metrics: None };
    Bench { batcher: Batcher::start("test", options, vec![make]).unwrap(), told, go }
}

impl Bench {
    /// A request in its worker's hands.
    async fn occupy(&self, number: u32) -> tokio::task::JoinHandle<Result<u32>> {
        let batcher = self.batcher.clone();
        let request = tokio::spawn(async move { batcher.submit(number, Terms::default()).await });
        assert_eq!(self.next().await, [number]);
        request
    }

    /// The worker's next batch.
    async fn next(&self) -> Vec<u32> {
        tokio::task::block_in_place(|| self.told.recv_timeout(Duration::from_secs(30)).unwrap())
    }

    fn go(&self) {
        self.go.send(()).unwrap();
    }
}

fn terms(priority: Priority) -> Terms {
    Terms { priority, deadline: None }
}

#[tokio::test(flavor = "multi_thread")]
async fn an_idle_worker_takes_a_request_at_once_and_alone() {
    let bench = start(8, 8);
    let request = bench.occupy(1).await;
    bench.go();
    assert_eq!(request.await.unwrap().unwrap(), 10);
}

#[tokio::test(flavor = "multi_thread")]
async fn requests_that_come_meanwhile_make_the_next_batch() {
    let bench = start(3, 8);
    let first = bench.occupy(1).await;
    let mut rest: Vec<_> = (2..6).map(|n| Box::pin(bench.batcher.submit(n, Terms::default()))).collect();
    for request in &mut rest {
        assert!(poll!(request).is_pending());
    }
    assert_eq!(bench.batcher.waiting(), 4);
    bench.go();
    assert_eq!(first.await.unwrap().unwrap(), 10);
    assert_eq!(bench.next().await, [2, 3, 4]);
    bench.go();
    assert_eq!(bench.next().await, [5]);
    bench.go();
    let answers: Vec<u32> = futures::future::try_join_all(rest).await.unwrap();
    assert_eq!(answers, [20, 30, 40, 50]);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_full_queue_refuses_and_says_when_to_come_back() {
    let bench = start(1, 2);
    let first = bench.occupy(1).await;
    let mut second = Box::pin(bench.batcher.submit(2, Terms::default()));
    let mut third = Box::pin(bench.batcher.submit(3, Terms::default()));
    assert!(poll!(&mut second).is_pending());
    assert!(poll!(&mut third).is_pending());
    let refused = bench.batcher.submit(4, Terms::default()).await.unwrap_err();
    assert!(matches!(refused, Error::Full { retry_after } if retry_after >= Duration::from_secs(1)), "{refused:?}");
    // Who leaves gives the place to the next.
    drop(second);
    let mut fifth = Box::pin(bench.batcher.submit(5, Terms::default()));
    assert!(poll!(&mut fifth).is_pending());
    for expected in [3, 5] {
        bench.go();
        assert_eq!(bench.next().await, [expected]);
    }
    bench.go();
    assert_eq!(first.await.unwrap().unwrap(), 10);
    assert_eq!((third.await.unwrap(), fifth.await.unwrap()), (30, 50));
}

#[tokio::test(flavor = "multi_thread")]
async fn high_goes_first_and_low_does_not_starve() {
    let bench = start(1, 16);
    let first = bench.occupy(0).await;
    let mut waiting = vec![Box::pin(bench.batcher.submit(100, terms(Priority::Low)))];
    waiting.push(Box::pin(bench.batcher.submit(50, Terms::default())));
    waiting.extend((1..7).map(|number| Box::pin(bench.batcher.submit(number, terms(Priority::High)))));
    for request in &mut waiting {
        assert!(poll!(request).is_pending());
    }
    let mut order = Vec::new();
    for _ in 0..waiting.len() {
        bench.go();
        order.extend(bench.next().await);
    }
    bench.go();
    first.await.unwrap().unwrap();
    futures::future::try_join_all(waiting).await.unwrap();
    // The fourth and the eighth pick take what has waited longest.
    assert_eq!(order, [1, 2, 100, 3, 4, 5, 50, 6]);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_caller_that_left_costs_no_work() {
    let bench = start(1, 8);
    let first = bench.occupy(1).await;
    let mut left = Box::pin(bench.batcher.submit(2, Terms::default()));
    let mut stays = Box::pin(bench.batcher.submit(3, Terms::default()));
    assert!(poll!(&mut left).is_pending());
    assert!(poll!(&mut stays).is_pending());
    drop(left);
    bench.go();
    first.await.unwrap().unwrap();
    assert_eq!(bench.next().await, [3]);
    bench.go();
    assert_eq!(stays.await.unwrap(), 30);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_request_past_its_deadline_is_answered_and_left_out() {
    let bench = start(1, 8);
    let first = bench.occupy(1).await;
    let late = Terms { deadline: Some(Instant::now()), priority: Priority::High };
    assert!(matches!(bench.batcher.submit(2, late).await, Err(Error::Late)));
    let mut stays = pin!(bench.batcher.submit(3, Terms::default()));
    assert!(poll!(&mut stays).is_pending());
    bench.go();
    first.await.unwrap().unwrap();
    assert_eq!(bench.next().await, [3]);
    bench.go();
    assert_eq!(stays.await.unwrap(), 30);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_panic_fails_its_batch_only() {
    let bench = start(4, 8);
    let panics = bench.occupy(PANIC).await;
    bench.go();
    assert!(matches!(panics.await.unwrap(), Err(Error::Model(_))));
    let next = bench.occupy(1).await;
    bench.go();
    assert_eq!(next.await.unwrap().unwrap(), 10);
}

#[tokio::test(flavor = "multi_thread")]
async fn draining_answers_what_was_taken_and_takes_no_more() {
    let bench = start(1, 8);
    let first = bench.occupy(1).await;
    let mut second = Box::pin(bench.batcher.submit(2, Terms::default()));
    assert!(poll!(&mut second).is_pending());
    let mut drained = Box::pin(bench.batcher.drain());
    assert!(poll!(&mut drained).is_pending());
    assert!(matches!(bench.batcher.submit(3, Terms::default()).await, Err(Error::Draining)));
    bench.go();
    assert_eq!(bench.next().await, [2]);
    assert!(poll!(&mut drained).is_pending());
    bench.go();
    drained.await;
    assert_eq!((first.await.unwrap().unwrap(), second.await.unwrap()), (10, 20));
}

#[tokio::test(flavor = "multi_thread")]
async fn workers_that_cannot_be_made_are_told_of() {
    let fails: MakeWork<u32, u32> = Box::new(|| Err(Error::Setup("no such model".to_owned())));
    let panics: MakeWork<u32, u32> = Box::new(|| panic!("while it is made"));
    let error = Batcher::start("test", BatchOptions::default(), vec![fails]).unwrap_err();
    assert!(error.to_string().contains("no such model"));
    assert!(Batcher::start("test", BatchOptions::default(), vec![panics]).is_err());
}

#[tokio::test(flavor = "multi_thread")]
async fn workers_end_with_the_last_handle() {
    let bench = start(1, 1);
    let Bench { batcher, told, go: _go } = bench;
    drop(batcher.clone());
    assert!(matches!(told.try_recv(), Err(std::sync::mpsc::TryRecvError::Empty)));
    drop(batcher);
    // The worker's end of the channel goes with it.
    assert!(told.recv().is_err());
}
