//! Processes that tell each other on PostgreSQL what there is to do, over connections that break.

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use pipeline::clock::Timestamp;
use pipeline::{RunState, Runner, RunnerOptions, Scheduler, Store};
use tokio::sync::watch;
use tokio::task::JoinHandle;

use crate::common::{dag, registry, store};
use crate::disconnect::{database_through_a_proxy, through_a_proxy};
use crate::process::until_it_is;

/// Nobody looks for work by himself within the time of a test.
const NEVER: Duration = Duration::from_secs(24 * 3600);

/// A scheduler and a worker that wait to be told.
struct Process {
    worker: Arc<Runner>,
    working: JoinHandle<pipeline::Result<()>>,
    scheduling: JoinHandle<()>,
    watching: JoinHandle<()>,
    stop: watch::Sender<bool>,
}

impl Process {
    fn start(home: &Path, store: &Store) -> Self {
        let options = RunnerOptions { exclusive: false, poll: NEVER, lease: NEVER, ..RunnerOptions::new(home) };
        let worker = Arc::new(Runner::new(store.clone(), registry([]), options));
        let (stop, stopped) = watch::channel(false);
        let scheduler = Scheduler::new(store.clone(), NEVER);
        let watched = store.clone();
        let own = Arc::clone(&worker);
        Self {
            worker,
            working: tokio::spawn(async move { own.serve(Vec::new()).await }),
            scheduling: tokio::spawn(async move { scheduler.serve(stopped).await }),
            watching: tokio::spawn(async move { watched.watch_others().await }),
            stop,
        }
    }

    async fn end(self) {
        self.worker.drain();
        self.working.await.unwrap().unwrap();
        self.stop.send_replace(true);
        self.scheduling.await.unwrap();
        self.watching.abort();
    }
}

/// Makes a run in this process, and waits until the other has done it.
async fn a_run_is_done(direct: &Store) {
    let dag = dag("dag: told\ntasks:\n  a: {job: give}\n  b: {job: give, needs: [a]}\n");
    let run = direct.create_run(&dag, &dag.params(&[]).unwrap(), Timestamp::now()).await.unwrap();
    until_it_is("the run's end", async || direct.run(run).await.unwrap().state.is_finished()).await;
    assert_eq!(direct.run(run).await.unwrap().state, RunState::Succeeded);
}

/// Processes that listen, as the server knows them.
async fn listeners(database: &sqlx::AnyPool) -> Vec<i64> {
    let sql = "SELECT CAST(pid AS BIGINT) FROM pg_stat_activity
               WHERE datname = current_database() AND query ILIKE '%listen%' AND query NOT LIKE '%pg_stat%' ORDER BY pid";
    sqlx::query_scalar(sql).fetch_all(database).await.unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_process_that_never_looks_is_told_of_runs_that_another_makes() {
    let home = tempfile::tempdir().unwrap();
    let (direct, other) = (store(home.path()).await, store(home.path()).await);
    let process = Process::start(home.path(), &other);
    for _ in 0..3 {
        a_run_is_done(&direct).await;
    }
    process.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_listener_that_is_cut_off_listens_again_and_misses_nothing() {
    let home = tempfile::tempdir().unwrap();
    let direct = store(home.path()).await;
    let database = crate::common::database(home.path()).await;
    let (proxy, behind) = through_a_proxy(home.path()).await;
    let process = Process::start(home.path(), &behind);
    a_run_is_done(&direct).await;

    let before = listeners(database.pool()).await;
    assert_eq!(before.len(), 1, "one connection listens");
    proxy.cut();
    a_run_is_done(&direct).await;
    until_it_is("another listener", async || {
        let now = listeners(database.pool()).await;
        now.len() == 1 && now != before
    })
    .await;
    a_run_is_done(&direct).await;

    // What is made while nobody can listen is found when the way is open again.
    proxy.close();
    let dag = dag("dag: told\ntasks:\n  a: {job: give}\n");
    let run = direct.create_run(&dag, &dag.params(&[]).unwrap(), Timestamp::now()).await.unwrap();
    until_it_is("a refusal", async || proxy.refused() > 2).await;
    assert_eq!(direct.run(run).await.unwrap().state, RunState::Queued);
    proxy.open();
    until_it_is("the run's end", async || direct.run(run).await.unwrap().state.is_finished()).await;
    process.end().await;
}

/// As when the server has no connection left for it.
#[tokio::test(flavor = "multi_thread")]
async fn a_process_that_cannot_listen_looks_by_itself() {
    let home = tempfile::tempdir().unwrap();
    let direct = store(home.path()).await;
    let database = crate::common::database(home.path()).await;
    let (proxy, behind) = database_through_a_proxy(home.path()).await;
    // All connections that it may have, before nobody more is let through.
    let mut connections = Vec::new();
    for _ in 0..behind.pool().options().get_max_connections() {
        connections.push(behind.pool().acquire().await.unwrap());
    }
    drop(connections);
    let behind = Store::open(behind).await.unwrap();
    proxy.refuse();
    let process = Process::start(home.path(), &behind);
    for _ in 0..2 {
        a_run_is_done(&direct).await;
    }
    assert!(listeners(database.pool()).await.is_empty() && proxy.refused() > 0);
    proxy.open();
    until_it_is("a listener", async || listeners(database.pool()).await.len() == 1).await;
    a_run_is_done(&direct).await;
    process.end().await;
}
