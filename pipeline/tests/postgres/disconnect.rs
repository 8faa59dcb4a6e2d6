//! A PostgreSQL server behind a network that breaks: connections are cut, refused and lose answers.

use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use e2e::proxy::Proxy;
use pipeline::clock::Timestamp;
use pipeline::{AttemptState, Job, JobContext, JobOutput, RunId, RunState, Runner, RunnerOptions, Scheduler, Store};
use platform::database::{Address, Database};
use serde_json::json;
use tokio::sync::watch;
use tokio::task::JoinHandle;

use crate::common::{dag, database, job, own_database, registry, store};
use crate::process::until_it_is;

const PAIR: &str = "
dag: pair
tasks:
  a: {job: held}
  b: {job: give, needs: [a], with: {value: '{{ tasks.a.output }}'}}
";

/// A proxy in front of the server, and the home's store through it.
pub async fn through_a_proxy(home: &Path) -> (Proxy, Store) {
    let (proxy, database) = database_through_a_proxy(home).await;
    (proxy, Store::open(database).await.unwrap())
}

/// A proxy in front of the server, and the home's database through it.
pub async fn database_through_a_proxy(home: &Path) -> (Proxy, Database) {
    let mut url = url::Url::parse(&own_database(home).await).unwrap();
    let proxy = Proxy::start(url.port().unwrap()).unwrap();
    url.set_port(Some(proxy.port())).unwrap();
    let database = Database::open(&Address::Postgres(url.into())).await.unwrap();
    (proxy, database)
}

/// A worker whose tasks of kind `held` end when they are let go. It reaches the database through a proxy.
struct Deployment {
    home: tempfile::TempDir,
    proxy: Proxy,
    /// Reaches the database always.
    direct: Store,
    worker: Arc<Runner>,
    working: JoinHandle<pipeline::Result<()>>,
    begun: Arc<AtomicUsize>,
    let_go: watch::Sender<bool>,
    behind: Store,
}

impl Deployment {
    async fn start() -> Self {
        let home = tempfile::tempdir().unwrap();
        let direct = store(home.path()).await;
        let (proxy, behind) = through_a_proxy(home.path()).await;
        let (let_go, gate) = watch::channel(false);
        let begun: Arc<AtomicUsize> = Arc::default();
        let counted = Arc::clone(&begun);
        let held = job("held", move |context: JobContext, _| {
            let mut gate = gate.clone();
            counted.fetch_add(1, Ordering::SeqCst);
            async move {
                gate.wait_for(|open| *open).await.unwrap();
                Ok(JobOutput::new(json!(context.attempt)))
            }
        });
        let options = RunnerOptions { exclusive: false, ..RunnerOptions::new(home.path()) };
        let worker = Arc::new(Runner::new(behind.clone(), registry([held]), options));
        let working = {
            let worker = Arc::clone(&worker);
            tokio::spawn(async move { worker.serve(Vec::new()).await })
        };
        Self { home, proxy, direct, worker, working, begun, let_go, behind }
    }

    /// A run of the pair that has begun.
    async fn run(&self) -> RunId {
        let dag = dag(PAIR);
        let run = self.direct.create_run(&dag, &dag.params(&[]).unwrap(), Timestamp::now()).await.unwrap();
        Scheduler::new(self.direct.clone(), Duration::ZERO).pass(Timestamp::now()).await.unwrap();
        run
    }

    async fn ends_well(&self, run: RunId) {
        until_it_is("the run's end", async || self.direct.run(run).await.unwrap().state.is_finished()).await;
        let record = self.direct.run(run).await.unwrap();
        assert_eq!(record.state, RunState::Succeeded, "{record:?}");
    }

    /// Number and state of each attempt, in their order.
    async fn attempts(&self, run: RunId) -> Vec<(u32, AttemptState)> {
        let attempts = self.direct.attempts(run).await.unwrap();
        attempts.iter().map(|attempt| (attempt.number, attempt.state)).collect()
    }

    async fn stop(self) {
        self.worker.drain();
        self.working.await.unwrap().unwrap();
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_database_that_is_away_is_waited_for_while_tasks_go_on() {
    let deployment = Deployment::start().await;
    let (stop, stopped) = watch::channel(false);
    let scheduler = Scheduler::new(deployment.behind.clone(), Duration::from_millis(50));
    let scheduling = tokio::spawn(async move { scheduler.serve(stopped).await });
    let run = deployment.run().await;
    until_it_is("the job", async || deployment.begun.load(Ordering::SeqCst) == 1).await;

    deployment.proxy.close();
    // The job ends while nobody can record it.
    deployment.let_go.send_replace(true);
    until_it_is("tries to come back", async || deployment.proxy.refused() >= 5).await;
    assert!(!deployment.working.is_finished() && !scheduling.is_finished(), "the outage ended it");
    assert_eq!(deployment.direct.output(run, "a").await.unwrap(), None, "the database was not away");
    deployment.proxy.open();

    deployment.ends_well(run).await;
    assert_eq!(deployment.attempts(run).await, [(1, AttemptState::Succeeded); 2]);
    assert_eq!(deployment.direct.output(run, "b").await.unwrap(), Some(json!(1)));
    // The scheduler is back too: it lets the next run begin.
    let dag = dag(PAIR);
    let next = deployment.direct.create_run(&dag, &dag.params(&[]).unwrap(), Timestamp::now()).await.unwrap();
    deployment.ends_well(next).await;
    stop.send_replace(true);
    scheduling.await.unwrap();
    deployment.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_claim_whose_answer_is_lost_is_given_up_and_made_again() {
    let deployment = Deployment::start().await;
    deployment.let_go.send_replace(true);
    deployment.proxy.lose_answer(&["INSERT INTO attempt", "COMMIT"], "COMMIT");
    let run = deployment.run().await;
    deployment.ends_well(run).await;
    assert_eq!(deployment.proxy.lost(), 1);
    let states = [(1, AttemptState::Lost), (2, AttemptState::Succeeded), (1, AttemptState::Succeeded)];
    assert_eq!(deployment.attempts(run).await, states);
    let lost = deployment.direct.attempts(run).await.unwrap()[0].error.clone().unwrap();
    assert_eq!(lost, "the database went away before its worker knew that it had it");
    assert_eq!(deployment.begun.load(Ordering::SeqCst), 1, "the job began once");
    deployment.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_end_whose_answer_is_lost_is_said_again_and_counts_once() {
    let deployment = Deployment::start().await;
    let run = deployment.run().await;
    until_it_is("the job", async || deployment.begun.load(Ordering::SeqCst) == 1).await;
    deployment.proxy.lose_answer(&["UPDATE attempt SET state", "COMMIT"], "COMMIT");
    deployment.let_go.send_replace(true);
    deployment.ends_well(run).await;
    assert_eq!(deployment.proxy.lost(), 1);
    let attempts = deployment.attempts(run).await;
    // The task behind it was claimed in the same step.
    let of_b = [(1, AttemptState::Lost), (2, AttemptState::Succeeded)];
    assert_eq!((attempts[0], &attempts[1..]), ((1, AttemptState::Succeeded), &of_b[..]));
    assert_eq!(deployment.begun.load(Ordering::SeqCst), 1);
    assert_eq!(deployment.direct.output(run, "b").await.unwrap(), Some(json!(1)));
    deployment.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_run_is_driven_to_its_end_through_connections_that_are_cut_again_and_again() {
    let home = tempfile::tempdir().unwrap();
    let direct = store(home.path()).await;
    let (proxy, behind) = through_a_proxy(home.path()).await;
    let done: Arc<AtomicUsize> = Arc::default();
    let runner = Runner::new(behind, registry([counting(&done)]), RunnerOptions::new(home.path()));
    let dag = dag(
        "dag: d\ntasks:\n  a: {job: count, map: '{{ range(60) | list }}'}\n  b: {job: give, needs: [a], with: {value: '{{ tasks.a.output | sum }}'}}\n",
    );
    let run = runner.start_or_resume(&dag, &dag.params(&[]).unwrap()).await.unwrap().run_id();
    // Cut already at the beginning, and still at the end.
    proxy.close();
    let driving = tokio::spawn(async move { runner.drive(run).await });
    until_it_is("a refusal", async || proxy.refused() > 0).await;
    proxy.open();
    let mut cuts = 0;
    while !driving.is_finished() {
        tokio::time::sleep(Duration::from_millis(if cuts < 20 { 40 + cuts * 7 } else { 1000 })).await;
        proxy.cut();
        cuts += 1;
    }
    let outcome = driving.await.unwrap().unwrap();
    assert_eq!(outcome.state, RunState::Succeeded, "{outcome:?}");
    assert_eq!(direct.output(run, "b").await.unwrap(), Some(json!(60)));
    assert!(cuts > 5, "{cuts} cuts");
    let attempts = direct.attempts(run).await.unwrap();
    let succeeded = attempts.iter().filter(|attempt| attempt.state == AttemptState::Succeeded).count();
    let lost = attempts.iter().filter(|attempt| attempt.state == AttemptState::Lost).count();
    assert_eq!((succeeded, attempts.len()), (61, 61 + lost), "no cut counts as a failure");
    println!("{cuts} cuts, {lost} claims made again, {} jobs", done.load(Ordering::SeqCst));
}

#[tokio::test(flavor = "multi_thread")]
async fn connections_that_fall_silent_without_being_closed_are_made_again() {
    let deployment = Deployment::start().await;
    let run = deployment.run().await;
    until_it_is("the job", async || deployment.begun.load(Ordering::SeqCst) == 1).await;
    deployment.proxy.fall_silent(&["UPDATE attempt SET state", "COMMIT"]);
    deployment.let_go.send_replace(true);
    until_it_is("silence", async || deployment.proxy.lost() == 1).await;
    assert_eq!(deployment.direct.output(run, "a").await.unwrap(), None, "the end was heard");
    deployment.ends_well(run).await;
    assert_eq!(deployment.attempts(run).await, [(1, AttemptState::Succeeded); 2]);
    deployment.stop().await;
}

fn counting(done: &Arc<AtomicUsize>) -> Arc<dyn Job> {
    let done = Arc::clone(done);
    job("count", move |_: JobContext, _| {
        done.fetch_add(1, Ordering::SeqCst);
        async {
            tokio::time::sleep(Duration::from_millis(10)).await;
            Ok(JobOutput::new(json!(1)))
        }
    })
}

/// As a process does that is stopped, or whose host is gone.
#[tokio::test(flavor = "multi_thread")]
async fn who_falls_silent_in_a_transaction_holds_up_the_others_for_seconds_only() {
    let deployment = Deployment::start().await;
    let run = deployment.run().await;
    until_it_is("the job", async || deployment.begun.load(Ordering::SeqCst) == 1).await;
    let silent = database(deployment.home.path()).await;
    let mut transaction = silent.pool().begin().await.unwrap();
    sqlx::query("SELECT id FROM run FOR UPDATE").fetch_all(&mut *transaction).await.unwrap();
    deployment.let_go.send_replace(true);
    deployment.ends_well(run).await;
    assert_eq!(deployment.attempts(run).await, [(1, AttemptState::Succeeded); 2]);
    transaction.commit().await.unwrap_err();
    deployment.stop().await;
}
