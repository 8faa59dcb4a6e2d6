//! Processes that die or stand still at a chosen moment. The child process is this test binary itself.

use std::os::unix::process::ExitStatusExt;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use pipeline::clock::Timestamp;
use pipeline::{
    AttemptState, Job, JobContext, JobOutput, RunCause, RunState, Runner, RunnerOptions, Scheduler, Secrets, Start,
    Store,
};
use serde_json::{Value, json};
use tokio::sync::watch;

use crate::common::{dag, database, job, registry, store};
use crate::process::{
    PATIENCE, append, die, lines, orders, runtime, signal, spawn, spawn_as_number_one, until, until_it_is, wait,
};

const CHAIN: &str = "
dag: chain
tasks:
  a: {job: effect, with: {token: '{{ secrets.token }}'}}
  b: {job: give, needs: [a], with: {value: '{{ tasks.a.output }}'}}
";

const POOLED: &str = "
dag: pooled
tasks:
  a: {job: stuck, pool: one, priority: 1}
  later: {job: give, pool: one}
";

/// Every second has a run.
const TICKS: &str = "dag: ticks\nschedule: {every: 1s, catch_up: true}\ntasks:\n  a: {job: give}\n";

const LEASE: Duration = Duration::from_secs(1);

#[test]
fn child() {
    let Some((home, mode)) = orders() else { return };
    runtime().block_on(async {
        let store = store(&home).await;
        match mode.as_str() {
            "worker" => worker(store, &home).serve(Vec::new()).await.unwrap(),
            "scheduler" => {
                let (_stop, stopped) = watch::channel(false);
                Scheduler::new(store, Duration::from_millis(50)).serve(stopped).await;
            }
            moment => drive(store, &home, moment).await,
        }
    });
}

/// Drives the chain; dies at the moment that is named.
async fn drive(store: Store, home: &Path, moment: &str) {
    let secrets = match moment {
        // Secrets are asked for when the claim is written, and the job has not begun.
        "after the claim" => Secrets::new(|_| die()),
        _ => Secrets::new(|_| Some("t".to_owned())),
    };
    let options = RunnerOptions { secrets, ..RunnerOptions::new(home) };
    let runner = Runner::new(store, registry([effect(home, moment == "after the effect")]), options);
    let dag = dag(CHAIN);
    let start = runner.start_or_resume(&dag, &dag.params(&[]).unwrap()).await.unwrap();
    runner.drive(start.run_id()).await.unwrap();
}

/// Makes a file under its idempotency key; gives whether it did.
fn effect(home: &Path, dies: bool) -> Arc<dyn Job> {
    let home = home.to_owned();
    job("effect", move |context: JobContext, _| {
        let home = home.clone();
        async move {
            append(&home.join("attempts"), &format!("{} {}", context.idempotency_key, context.attempt));
            let name = context.idempotency_key.replace('/', "_");
            let made = std::fs::File::create_new(home.join("effects").join(name)).is_ok();
            if dies {
                die();
            }
            Ok(JobOutput::new(json!(made)))
        }
    })
}

/// A worker of a deployment; its first attempt at `stuck` never ends.
fn worker(store: Store, home: &Path) -> Runner {
    let folder = home.to_owned();
    let stuck = job("stuck", move |context: JobContext, _| {
        let folder = folder.clone();
        async move {
            append(&folder.join("attempts"), &format!("{} {}", context.idempotency_key, context.attempt));
            if context.attempt == 1 {
                std::future::pending::<()>().await;
            }
            Ok(JobOutput::new(json!(context.attempt)))
        }
    });
    let options = RunnerOptions { exclusive: false, lease: LEASE, ..RunnerOptions::new(home) };
    Runner::new(store, registry([stuck]), options)
}

/// Lets a child die at a moment, and goes on with its run here: how often the job had begun, and its answer in the end.
fn die_and_go_on(home: &Path, moment: &str) -> (usize, Value) {
    std::fs::create_dir(home.join("effects")).unwrap();
    let mut child = spawn("deaths::child", home, moment);
    let status = wait(&mut child, PATIENCE).expect("the child lives on");
    assert_eq!(status.signal(), Some(9), "{status:?}");
    let begun = lines(&home.join("attempts")).len();
    runtime().block_on(async {
        let store = store(home).await;
        let run = store.runs(2).await.unwrap()[0].id;
        let before: Vec<_> = store.attempts(run).await.unwrap().iter().map(|attempt| attempt.state).collect();
        assert_eq!(before, [AttemptState::Running], "it died with its claim");

        let options = RunnerOptions { secrets: Secrets::new(|_| Some("t".to_owned())), ..RunnerOptions::new(home) };
        let runner = Runner::new(store.clone(), registry([effect(home, false)]), options);
        let dag = dag(CHAIN);
        let start = runner.start_or_resume(&dag, &dag.params(&[]).unwrap()).await.unwrap();
        assert_eq!(start, Start::Resumed { run_id: run, done_instances: 0 });
        assert_eq!(runner.drive(run).await.unwrap().state, RunState::Succeeded);
        let attempts = store.attempts(run).await.unwrap();
        let states: Vec<_> = attempts.iter().map(|attempt| (attempt.number, attempt.state)).collect();
        assert_eq!(states, [(1, AttemptState::Lost), (2, AttemptState::Succeeded), (1, AttemptState::Succeeded)]);
        assert_eq!(std::fs::read_dir(home.join("effects")).unwrap().count(), 1);
        let answer = store.output(run, "a").await.unwrap().unwrap();
        assert_eq!(store.output(run, "b").await.unwrap().as_ref(), Some(&answer));
        (begun, answer)
    })
}

#[test]
fn a_process_killed_between_an_effect_and_its_record_does_it_once() {
    let home = tempfile::tempdir().unwrap();
    let (begun, answer) = die_and_go_on(home.path(), "after the effect");
    assert_eq!((begun, answer), (1, json!(false)), "the second attempt finds the effect under its key");
    let keys: Vec<String> =
        lines(&home.path().join("attempts")).iter().map(|line| line.split(' ').next().unwrap().to_owned()).collect();
    assert!(keys.len() == 2 && keys[0] == keys[1], "{keys:?}");
}

#[test]
fn a_process_killed_between_its_claim_and_the_start_of_the_job_loses_no_task() {
    let home = tempfile::tempdir().unwrap();
    let (begun, answer) = die_and_go_on(home.path(), "after the claim");
    assert_eq!((begun, answer), (0, json!(true)), "the job had not begun");
}

#[test]
fn a_worker_that_is_killed_and_comes_back_under_its_name_is_taken_for_another() {
    let home = tempfile::tempdir().unwrap();
    let home = home.path();
    // In a container the new process has the number of the old one too.
    let start = || match spawn_as_number_one("deaths::child", home, "worker") {
        Some(child) => (child, Some(1)),
        None => (spawn("deaths::child", home, "worker"), None),
    };
    let runtime = runtime();
    crate::common::prepare(home);
    let (store, run) = runtime.block_on(async {
        let store = store(home).await;
        let dag = dag(POOLED);
        let run = store.create_run(&dag, &dag.params(&[]).unwrap(), Timestamp::now()).await.unwrap();
        Scheduler::new(store.clone(), LEASE).pass(Timestamp::now()).await.unwrap();
        (store, run)
    });
    let (mut first, number) = start();
    until("the first attempt", || !lines(&home.join("attempts")).is_empty());
    first.die();
    let (mut second, _) = start();
    runtime.block_on(async {
        until_it_is("the run's end", async || store.run(run).await.unwrap().state.is_finished()).await;
        assert_eq!(store.run(run).await.unwrap().state, RunState::Succeeded);
        assert_eq!(store.output(run, "a").await.unwrap(), Some(json!(2)));
        let attempts = store.attempts(run).await.unwrap();
        let states: Vec<_> = attempts.iter().map(|attempt| (attempt.number, attempt.state)).collect();
        assert_eq!(states, [(1, AttemptState::Lost), (2, AttemptState::Succeeded), (1, AttemptState::Succeeded)]);
        let (old, new) = (&attempts[0], &attempts[1]);
        assert!(old.owner.host == new.owner.host && old.owner.key != new.owner.key, "{old:?} {new:?}");
        assert!(number.is_none_or(|number| old.owner.pid == number && new.owner.pid == number), "{old:?} {new:?}");
        assert!(
            new.started_at > old.lease_until,
            "the new worker cannot know that the old one is dead: {old:?} {new:?}"
        );
        assert!(attempts[2].started_at >= new.started_at, "the slot of the dead comes free with its attempt");
        assert_eq!(store.pools().await.unwrap(), [("one".to_owned(), 1, 0)]);
    });
    second.die();
}

#[test]
fn a_scheduler_that_stood_still_while_another_went_on_makes_no_run_twice() {
    let home = tempfile::tempdir().unwrap();
    let home = home.path();
    let runtime = runtime();
    crate::common::prepare(home);
    let store = runtime.block_on(async {
        let store = store(home).await;
        store.register(&dag(TICKS), Timestamp::now()).await.unwrap();
        store
    });
    let starts = || -> Vec<i64> {
        let runs = runtime.block_on(store.runs(1000)).unwrap();
        let scheduled = runs.iter().filter(|run| run.cause == RunCause::Schedule);
        let mut starts: Vec<i64> = scheduled.map(|run| run.interval.unwrap().start.timestamp_millis()).collect();
        starts.sort_unstable();
        starts
    };
    let more = |what: &str| {
        let now = starts().len();
        until(what, || starts().len() >= now + 2);
    };
    let mut one = spawn("deaths::child", home, "scheduler");
    let mut two = spawn("deaths::child", home, "scheduler");
    more("runs of both");
    runtime.block_on(stop(home, one.id()));
    more("runs of the second alone");
    runtime.block_on(stop(home, two.id()));
    signal(one.id(), "CONT");
    more("runs of the first, which knows nothing of those meanwhile");
    signal(two.id(), "CONT");
    more("runs of both again");
    one.die();
    two.die();
    let starts = starts();
    assert!(starts.windows(2).all(|pair| pair[1] - pair[0] == 1000), "one run for each second: {starts:?}");
}

/// Stops a process. On SQLite not while it writes: nobody else could write until it goes on.
async fn stop(home: &Path, pid: u32) {
    let database = database(home).await;
    let held = database.pool().begin_with(database.begin_write()).await.unwrap();
    signal(pid, "STOP");
    held.rollback().await.unwrap();
    database.pool().close().await;
}
