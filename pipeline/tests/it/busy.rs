//! Another process holds SQLite's lock.

use std::sync::Arc;
use std::time::Duration;

use pipeline::clock::Timestamp;
use pipeline::{JobContext, JobOutput, RunState, Runner, RunnerOptions, Scheduler, Store};
use platform::database::{Database, Engine};
use serde_json::json;
use tokio::sync::watch;

use crate::common::{dag, database, job, registry, store};
use crate::process::until_it_is;

/// A store whose SQLite does not wait for locks by itself.
async fn impatient(home: &std::path::Path) -> Store {
    sqlx::any::install_default_drivers();
    let pool = sqlx::any::AnyPoolOptions::new()
        .after_connect(|connection, _| {
            Box::pin(async move { sqlx::query("PRAGMA busy_timeout = 5").execute(connection).await.map(drop) })
        })
        .connect(&format!("sqlite://{}/state.db", home.display()))
        .await
        .unwrap();
    Store::open(Database::new(pool, Engine::Sqlite)).await.unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_locked_database_is_waited_for_and_no_task_is_done_twice() {
    let home = tempfile::tempdir().unwrap();
    let asking = store(home.path()).await;
    let store = impatient(home.path()).await;
    let (open, gate) = watch::channel(false);
    let held = job("held", move |_: JobContext, _| {
        let mut gate = gate.clone();
        async move {
            gate.wait_for(|open| *open).await.unwrap();
            Ok(JobOutput::new(json!(7)))
        }
    });
    let options = RunnerOptions { exclusive: false, ..RunnerOptions::new(home.path()) };
    let runner = Arc::new(Runner::new(store.clone(), registry([held]), options));
    let working = {
        let runner = Arc::clone(&runner);
        tokio::spawn(async move { runner.serve(Vec::new()).await })
    };
    let (stop, stopped) = watch::channel(false);
    let scheduler = Scheduler::new(store.clone(), Duration::from_millis(20));
    let scheduling = tokio::spawn(async move { scheduler.serve(stopped).await });

    let first = dag(
        "dag: first\ntasks:\n  a: {job: held}\n  b: {job: give, needs: [a], with: {value: '{{ tasks.a.output }}'}}\n",
    );
    let run = asking.create_run(&first, &first.params(&[]).unwrap(), Timestamp::now()).await.unwrap();
    until_it_is("the job", async || !asking.attempts(run).await.unwrap().is_empty()).await;
    // A schedule that is due all the time, so that the scheduler has something to write.
    let ticks = dag("dag: ticks\nschedule: {every: 1s}\ntasks:\n  a: {job: give}\n");
    asking.register(&ticks, Timestamp::now()).await.unwrap();

    let other = database(home.path()).await;
    let mut lock = other.pool().begin_with(other.begin_write()).await.unwrap();
    sqlx::query("UPDATE pool SET slots = slots").execute(&mut *lock).await.unwrap();
    open.send_replace(true);
    tokio::time::sleep(Duration::from_millis(1500)).await;
    assert!(!working.is_finished() && !scheduling.is_finished(), "a lock ended it");
    assert_eq!(asking.output(run, "a").await.unwrap(), None, "there was no lock");
    lock.commit().await.unwrap();

    until_it_is("the run's end", async || asking.run(run).await.unwrap().state.is_finished()).await;
    assert_eq!(asking.run(run).await.unwrap().state, RunState::Succeeded);
    assert_eq!(asking.output(run, "b").await.unwrap(), Some(json!(7)));
    assert_eq!(asking.attempts(run).await.unwrap().len(), 2, "each task once");
    until_it_is("a scheduled run", async || {
        let runs = asking.runs(100).await.unwrap();
        runs.iter().any(|run| run.dag == "ticks" && run.state == RunState::Succeeded)
    })
    .await;
    runner.drain();
    working.await.unwrap().unwrap();
    stop.send_replace(true);
    scheduling.await.unwrap();
}
