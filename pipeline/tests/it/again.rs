//! Runs that have ended and go on: what failed, or a task and what comes after it.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};

use pipeline::clock::Timestamp;
use pipeline::state::Again;
use pipeline::{Job, JobContext, JobError, JobOutput, RunId, RunState, Runner, RunnerOptions, Scheduler, TaskState};
use serde_json::{Value, json};

use crate::common::{dag, job, registry, runner, store};

/// How often each task instance was done.
type Done = Arc<Mutex<BTreeMap<String, u32>>>;

/// A job that counts, and that fails where `with.fails` says so while `broken` is set.
fn work(broken: &Arc<AtomicBool>, done: &Done) -> Arc<dyn Job> {
    let (broken, done) = (Arc::clone(broken), Arc::clone(done));
    job("work", move |context: JobContext, with: Value| {
        let key = context.idempotency_key.split_once('/').unwrap().1.to_owned();
        *done.lock().unwrap().entry(key).or_default() += 1;
        let fails = with["fails"].as_bool().unwrap_or(false) && broken.load(Ordering::SeqCst);
        async move {
            if fails { Err(JobError::permanent("it is broken")) } else { Ok(JobOutput::new(with["value"].clone())) }
        }
    })
}

const SHAPE: &str = "
dag: again
tasks:
  first: {job: work, with: {value: [1, 2, 3, 4]}}
  each: {job: work, needs: [first], map: '{{ tasks.first.output }}', parallelism: 2, with: {value: '{{ item }}', fails: '{{ item % 2 == 0 }}'}}
  sum: {job: work, needs: [each], with: {value: '{{ tasks.each.output | sum }}'}}
  aside: {job: work, needs: [first]}
  report: {job: work, needs: [each, aside], trigger: all_done}
  last: {job: work, needs: [sum, report]}
";

async fn failed_run(runner: &Runner) -> RunId {
    let dag = dag(SHAPE);
    let start = runner.start_or_resume(&dag, &dag.params(&[]).unwrap()).await.unwrap();
    assert_eq!(runner.drive(start.run_id()).await.unwrap().state, RunState::Failed);
    start.run_id()
}

fn counts(done: &Done) -> Vec<(String, u32)> {
    std::mem::take(&mut *done.lock().unwrap()).into_iter().collect()
}

fn named(expected: &[(&str, u32)]) -> Vec<(String, u32)> {
    expected.iter().map(|(name, count)| ((*name).to_owned(), *count)).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_run_goes_on_with_what_failed_and_what_comes_after() {
    let home = tempfile::tempdir().unwrap();
    let (broken, done) = (Arc::new(AtomicBool::new(true)), Done::default());
    let runner = runner(home.path(), [work(&broken, &done)]).await;
    let run = failed_run(&runner).await;
    counts(&done);

    // Still broken: it fails again, and only the items that failed were tried.
    runner.store().reopen(run, Again::Failed, Timestamp::now()).await.unwrap();
    assert_eq!(runner.store().run(run).await.unwrap().state, RunState::Queued);
    assert_eq!(runner.drive(run).await.unwrap().state, RunState::Failed);
    assert_eq!(counts(&done), named(&[("each/1", 1), ("each/3", 1), ("report", 1)]));

    broken.store(false, Ordering::SeqCst);
    runner.store().reopen(run, Again::Failed, Timestamp::now()).await.unwrap();
    let outcome = runner.drive(run).await.unwrap();
    assert_eq!((outcome.state, outcome.first_error), (RunState::Succeeded, None));
    let again = [("each/1", 1), ("each/3", 1), ("last", 1), ("report", 1), ("sum", 1)];
    assert_eq!(counts(&done), named(&again));
    assert_eq!(runner.store().output(run, "sum").await.unwrap(), Some(json!(10)));
    // Attempts count on: the third of an item that failed twice.
    let instances = runner.store().instances(run).await.unwrap();
    let attempts: Vec<u32> =
        instances.iter().filter(|i| i.task == "each" && i.map_index.is_some()).map(|i| i.attempts).collect();
    assert_eq!(attempts, [1, 3, 1, 3]);

    let error = runner.store().reopen(run, Again::Failed, Timestamp::now()).await.unwrap_err().to_string();
    assert!(error.contains("there is nothing to go on with"), "{error}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_task_is_cleared_alone_or_with_what_comes_after() {
    let home = tempfile::tempdir().unwrap();
    let (broken, done) = (Arc::new(AtomicBool::new(false)), Done::default());
    let runner = runner(home.path(), [work(&broken, &done)]).await;
    let dag = dag(SHAPE);
    let start = runner.start_or_resume(&dag, &dag.params(&[]).unwrap()).await.unwrap();
    let run = start.run_id();
    let clear = |task: &str, downstream| Again::Task { task: task.to_owned(), downstream };
    let early = runner.store().reopen(run, clear("sum", true), Timestamp::now()).await.unwrap_err().to_string();
    assert!(early.contains("is queued; wait for its end"), "{early}");
    assert_eq!(runner.drive(run).await.unwrap().state, RunState::Succeeded);
    counts(&done);

    runner.store().reopen(run, clear("aside", false), Timestamp::now()).await.unwrap();
    assert_eq!(runner.drive(run).await.unwrap().state, RunState::Succeeded);
    assert_eq!(counts(&done), named(&[("aside", 1)]));

    runner.store().reopen(run, clear("each", true), Timestamp::now()).await.unwrap();
    let waiting = runner.store().tasks(run).await.unwrap();
    let states: Vec<TaskState> = waiting.iter().map(|task| task.state).collect();
    assert_eq!(states.iter().filter(|state| **state == TaskState::Waiting).count(), 4, "{waiting:?}");
    assert_eq!(runner.drive(run).await.unwrap().state, RunState::Succeeded);
    let again = [("each/0", 1), ("each/1", 1), ("each/2", 1), ("each/3", 1), ("last", 1), ("report", 1), ("sum", 1)];
    assert_eq!(counts(&done), named(&again));
    let each = runner.store().instances(run).await.unwrap();
    assert!(each.iter().filter(|i| i.task == "each" && i.map_index.is_some()).all(|i| i.attempts == 2), "{each:?}");

    let unknown = runner.store().reopen(run, clear("summ", true), Timestamp::now()).await.unwrap_err().to_string();
    assert!(unknown.contains("has no task `summ`; its tasks: first, "), "{unknown}");
    assert_eq!(runner.store().run(run).await.unwrap().state, RunState::Succeeded, "a mistake changes nothing");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_cancelled_run_goes_on_under_a_scheduler_as_the_limit_of_its_dag_allows() {
    let home = tempfile::tempdir().unwrap();
    let store = store(home.path()).await;
    let dag = dag("dag: one\nmax_active_runs: 1\ntasks:\n  a: {job: give}\n  b: {job: give, needs: [a]}\n");
    let params = dag.params(&[]).unwrap();
    let first = store.create_run(&dag, &params, Timestamp::now()).await.unwrap();
    store.cancel(first, Timestamp::now()).await.unwrap();
    let second = store.create_run(&dag, &params, Timestamp::now()).await.unwrap();
    let scheduler = Scheduler::new(store.clone(), std::time::Duration::from_millis(20));
    scheduler.pass(Timestamp::now()).await.unwrap();
    store.reopen(first, Again::Failed, Timestamp::now()).await.unwrap();
    scheduler.pass(Timestamp::now()).await.unwrap();
    assert_eq!(store.run(first).await.unwrap().state, RunState::Queued, "the second run is active");
    let options = RunnerOptions { exclusive: false, ..RunnerOptions::new(home.path()) };
    let worker = Runner::new(store.clone(), registry([]), options);
    assert_eq!(worker.drive(second).await.unwrap().state, RunState::Succeeded);
    scheduler.pass(Timestamp::now()).await.unwrap();
    assert_eq!(store.run(first).await.unwrap().state, RunState::Running);
    assert_eq!(worker.drive(first).await.unwrap().state, RunState::Succeeded);
    assert_eq!(store.dags().await.unwrap()[0].active_runs, 0);
}
