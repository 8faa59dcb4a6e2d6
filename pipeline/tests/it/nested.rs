//! Tasks that run another DAG.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use pipeline::clock::Timestamp;
use pipeline::{JobError, JobOutput, RunCause, RunId, RunState, Runner, RunnerOptions, Scheduler, Store};
use serde_json::json;
use tokio::sync::watch;
use tokio::task::JoinHandle;

use crate::common::{dag, job, registry, store};

const PARENT: &str = "dag: parent\ntasks:\n  before: {job: give, with: {value: 4}}\n  inner: {dag: child, needs: [before], params: {n: '{{ tasks.before.output }}'}, retries: 1, retry_delay: 1ms}\n  after: {job: give, needs: [inner], with: {value: '{{ tasks.inner.output.state }}'}}\n";
const CHILD: &str = "dag: child\nparams:\n  n: {type: integer}\ntasks:\n  a: {job: flaky}\n  b: {job: give, needs: [a], with: {value: '{{ params.n * 2 }}'}}\n";

/// Fails as often as told, then succeeds.
fn flaky(failures: usize) -> Arc<dyn pipeline::Job> {
    let count = Arc::new(AtomicUsize::new(0));
    job("flaky", move |_, _| {
        let call = count.fetch_add(1, Ordering::SeqCst);
        async move { if call < failures { Err(JobError::permanent("not yet")) } else { Ok(JobOutput::new(json!(call))) } }
    })
}

/// A worker and a scheduler.
struct Server {
    worker: Arc<Runner>,
    serving: JoinHandle<pipeline::Result<()>>,
    scheduling: JoinHandle<()>,
    stop: watch::Sender<bool>,
}

impl Server {
    fn start(worker: Runner, store: &Store) -> Self {
        let worker = Arc::new(worker);
        let (stop, stopped) = watch::channel(false);
        let scheduler = Scheduler::new(store.clone(), Duration::from_millis(10));
        let scheduling = tokio::spawn(async move { scheduler.serve(stopped).await });
        let serving = {
            let worker = Arc::clone(&worker);
            tokio::spawn(async move { worker.serve(Vec::new()).await })
        };
        Self { worker, serving, scheduling, stop }
    }

    async fn end(self) {
        self.worker.drain();
        self.serving.await.unwrap().unwrap();
        self.stop.send_replace(true);
        self.scheduling.await.unwrap();
    }
}

/// Whether the runs that tasks have started are as they should be.
type Condition = dyn Fn(&[(RunState, RunId)]) -> bool;

/// Runs that tasks have started, the oldest first.
async fn children(store: &Store) -> Vec<(RunState, RunId)> {
    let runs = store.runs(100).await.unwrap();
    runs.iter().rev().filter(|run| run.cause == RunCause::Dag).map(|run| (run.state, run.id)).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn under_a_server_a_task_waits_for_its_run_without_a_slot_and_a_retry_starts_another() {
    let home = tempfile::tempdir().unwrap();
    let store = store(home.path()).await;
    for yaml in [PARENT, CHILD] {
        store.register(&dag(yaml), Timestamp::now()).await.unwrap();
    }
    // One slot: the child could not run if its parent's task held it.
    let options = RunnerOptions { exclusive: false, parallelism: 1, ..RunnerOptions::new(home.path()) };
    let server = Server::start(Runner::new(store.clone(), registry([flaky(1)]), options), &store);
    let parent = store.current_dag("parent").await.unwrap();
    let run = store.create_run(&parent, &parent.params(&[]).unwrap(), Timestamp::now()).await.unwrap();
    let began = std::time::Instant::now();
    while !store.run(run).await.unwrap().state.is_finished() {
        assert!(began.elapsed() < Duration::from_secs(30), "the run does not end");
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    assert_eq!(store.run(run).await.unwrap().state, RunState::Succeeded);
    let children = children(&store).await;
    assert_eq!(children.iter().map(|(state, _)| *state).collect::<Vec<_>>(), [RunState::Failed, RunState::Succeeded]);
    assert_eq!(store.output(children[1].1, "b").await.unwrap(), Some(json!(8)));
    assert_eq!(store.output(run, "after").await.unwrap(), Some(json!("succeeded")));
    let output = store.output(run, "inner").await.unwrap().unwrap();
    assert_eq!(output["run_id"], children[1].1.to_string());
    server.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn without_a_server_the_run_is_driven_here_and_found_beside_its_parent() {
    let home = tempfile::tempdir().unwrap();
    let dags = home.path().join("dags");
    std::fs::create_dir(&dags).unwrap();
    std::fs::write(dags.join("the-child.yaml"), CHILD).unwrap();
    std::fs::write(dags.join("broken.yaml"), "dag: [").unwrap();
    let store = store(home.path()).await;
    let options = RunnerOptions { parallelism: 1, dags: Some(dags), ..RunnerOptions::new(home.path()) };
    let runner = Runner::new(store.clone(), registry([flaky(0)]), options);
    let parent = dag(PARENT);
    let start = runner.start_or_resume(&parent, &parent.params(&[]).unwrap()).await.unwrap();
    let outcome = runner.drive(start.run_id()).await.unwrap();
    assert_eq!((outcome.state, outcome.first_error), (RunState::Succeeded, None));
    assert_eq!(children(&store).await.len(), 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn cancelling_reaches_the_runs_below_and_mistakes_end_the_task() {
    let home = tempfile::tempdir().unwrap();
    let store = store(home.path()).await;
    let slow = "dag: child\nparams:\n  n: {type: integer}\ntasks:\n  a: {job: sleep, with: {ms: 60000}}\n";
    for yaml in [PARENT, slow, "dag: circle\ntasks:\n  a: {dag: circle}\n"] {
        store.register(&dag(yaml), Timestamp::now()).await.unwrap();
    }
    let options = RunnerOptions { exclusive: false, parallelism: 2, ..RunnerOptions::new(home.path()) };
    let server = Server::start(Runner::new(store.clone(), registry([flaky(0)]), options), &store);
    let begin = async |name: &str| {
        let dag = store.current_dag(name).await.unwrap();
        store.create_run(&dag, &dag.params(&[]).unwrap(), Timestamp::now()).await.unwrap()
    };
    let until = async |what: &str, done: &Condition| {
        let began = std::time::Instant::now();
        while !done(&children(&store).await) {
            assert!(began.elapsed() < Duration::from_secs(30), "{what}: {:?}", children(&store).await);
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    };
    let run = begin("parent").await;
    until("the child runs", &|children| children.first().is_some_and(|(state, _)| *state == RunState::Running)).await;
    store.cancel(run, Timestamp::now()).await.unwrap();
    until("the child is cancelled", &|children| children[0].0 == RunState::Cancelled).await;
    assert_eq!(store.run(run).await.unwrap().state, RunState::Cancelled);

    let circle = begin("circle").await;
    until("the circle ends", &|children| children.len() > 5 && children.iter().all(|(state, _)| state.is_finished()))
        .await;
    while !store.run(circle).await.unwrap().state.is_finished() {
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    let error = store.run(circle).await.unwrap().error.unwrap();
    assert!(error.contains("do the dags run one another?"), "{error}");
    server.end().await;
}
