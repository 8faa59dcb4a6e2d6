//! Programs that are stopped, and programs that write without end.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use jobs::{CommandJob, Masker};
use pipeline::logs::{AttemptLog, Stream};
use pipeline::{Job, JobError, Retry};
use serde_json::{Value, json};

use crate::common::{Attempt, assert_gone, living, logged_context};

/// Starts the program, stops it when it says `ready`, and gives its group and the time that it took to end.
async fn stopped(attempt: &Attempt, with: Value) -> (String, Duration) {
    let stopping = async {
        let group = attempt.log.line("ready").await;
        assert!(!living(&group).is_empty());
        attempt.stop.send_replace(true);
        (group, Instant::now())
    };
    let (result, (group, since)) = tokio::join!(attempt.run(with), stopping);
    assert_eq!(result.unwrap_err(), JobError::interrupted());
    (group, since.elapsed())
}

#[tokio::test]
async fn a_program_may_clean_up() {
    let attempt = Attempt::new();
    let script = "trap 'echo cleaned; exit 0' TERM; echo ready $$; while :; do sleep 0.05 || :; done";
    let (group, took) = stopped(&attempt, json!({"shell": script})).await;
    assert_gone(&group);
    attempt.log.line("cleaned").await;
    assert!(took < Duration::from_secs(8), "it did not need its grace: {took:?}");
}

#[tokio::test]
async fn a_program_that_ignores_the_request_is_killed() {
    let attempt = Attempt::new();
    let script = "trap '' TERM; echo ready $$; while :; do sleep 0.05 || :; done";
    let (group, took) = stopped(&attempt, json!({"shell": script, "grace": "300ms"})).await;
    assert!(took >= Duration::from_millis(300), "it had its grace: {took:?}");
    assert_gone(&group);
    attempt.log.line("not gone after 300 ms").await;
}

#[tokio::test]
async fn children_have_their_grace_when_the_shell_is_gone() {
    let attempt = Attempt::new();
    let child =
        "trap \"sleep 0.3; echo child cleaned; exit\" TERM; echo ready $PPID; while :; do sleep 0.05 || :; done";
    let (group, _) = stopped(&attempt, json!({"shell": format!("sh -c '{child}' & wait")})).await;
    attempt.log.line("child cleaned").await;
    assert_gone(&group);
}

#[tokio::test]
async fn many_children_are_stopped_with_their_parent() {
    let attempt = Attempt::new();
    let script = "for n in 1 2 3 4 5 6 7 8 9 10; do sh -c 'sleep 1000; true' & done; echo ready $$; wait";
    let (group, _) = stopped(&attempt, json!({"shell": script, "grace": "5s"})).await;
    assert_gone(&group);
}

#[tokio::test]
async fn a_stopped_attempt_does_not_start() {
    let attempt = Attempt::new();
    attempt.stop.send_replace(true);
    let error = attempt.run(json!({"shell": "echo started"})).await.unwrap_err();
    assert_eq!(error.retry, Retry::Interrupted);
    assert!(attempt.log.lines(Stream::Stdout).is_empty());
}

#[tokio::test]
async fn an_attempt_that_is_dropped_leaves_nothing() {
    let attempt = Attempt::new();
    let script = "trap '' TERM; sleep 1000 & echo ready $$; wait";
    let group = tokio::select! {
        result = attempt.run(json!({"shell": script})) => panic!("it does not end: {result:?}"),
        group = attempt.log.line("ready") => group,
    };
    assert_gone(&group);
}

/// Counts and forgets.
#[derive(Debug, Default)]
struct Counter {
    lines: AtomicU64,
    longest: AtomicU64,
}

impl AttemptLog for Counter {
    fn line(&self, _stream: Stream, text: &str) {
        self.lines.fetch_add(1, Ordering::Relaxed);
        self.longest.fetch_max(text.len() as u64, Ordering::Relaxed);
    }
}

#[tokio::test]
async fn endless_output_needs_little_memory() {
    let counter = Arc::new(Counter::default());
    let home = tempfile::tempdir().unwrap();
    let (_stop, context) = logged_context(home.path(), counter.clone());
    let job = CommandJob::new(Masker::new(["some secret".to_owned()]));
    let before = peak_memory();
    // 100 MB in one line and 100 MB in lines of 1 kB, on both streams.
    let script = "head -c 100000000 /dev/zero | tr '\\0' x; echo; \
                  yes \"$(head -c 999 /dev/zero | tr '\\0' y)\" | head -c 100000000 >&2; echo 9";
    let output = job.run(context, json!({"shell": script})).await.unwrap();
    assert_eq!(output.value, json!(9));
    assert_eq!(counter.lines.load(Ordering::Relaxed), 100_002);
    assert!(counter.longest.load(Ordering::Relaxed) < 65_536 + 100);
    // The system counts pages roughly: its peak may even seem to shrink a little.
    let grown = peak_memory().saturating_sub(before);
    assert!(grown < 60_000, "{grown} kB more");
}

/// The largest resident size of this process so far, in kB.
fn peak_memory() -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap();
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:")).unwrap();
    line.trim().trim_end_matches(" kB").parse().unwrap()
}
