//! Versions of a DAG.

use std::sync::Arc;
use std::time::Duration;

use pipeline::clock::Timestamp;
use pipeline::state::Version;
use pipeline::{DagFolder, JobContext, JobError, JobOutput, RunId, RunState, Runner, RunnerOptions, Scheduler, Store};
use serde_json::json;
use tokio::sync::watch;

use crate::common::{dag, job, registry, store};
use crate::process::until_it_is;

const FIRST: &str = "dag: d\ntasks: {a: {job: give}}\n";
const SECOND: &str = "dag: d\ntasks: {a: {job: give}, b: {job: give}}\n";

#[tokio::test]
async fn versions_are_listed_with_their_runs_and_told_apart() {
    let home = tempfile::tempdir().unwrap();
    let store = store(home.path()).await;
    let now = Timestamp::now();
    assert!(store.dag_versions("d").await.unwrap_err().to_string().contains("no dag named `d`"));
    let first = dag(FIRST);
    store.register(&first, now).await.unwrap();
    let error = store.dag_version_text("d", &Version::Previous).await.unwrap_err().to_string();
    assert!(error.contains("there is none before the current one"), "{error}");
    for _ in 0..2 {
        store.create_run(&first, &first.params(&[]).unwrap(), now).await.unwrap();
    }
    store.register(&dag(SECOND), now.plus(std::time::Duration::from_secs(1))).await.unwrap();

    let versions = store.dag_versions("d").await.unwrap();
    assert_eq!(versions.iter().map(|v| (v.runs, v.current)).collect::<Vec<_>>(), [(0, true), (2, false)]);
    assert_eq!((versions[0].last_run_at, versions[1].last_run_at), (None, Some(now)));
    assert_eq!(store.dag_version_text("d", &Version::Current).await.unwrap().1, SECOND);
    assert_eq!(store.dag_version_text("d", &Version::Previous).await.unwrap().1, FIRST);
    let named = Version::Sha256(versions[1].short().to_owned());
    assert_eq!(store.dag_version_text("d", &named).await.unwrap().1, FIRST);
    for (start, words) in [("xyz", "none begins with `xyz`"), ("", "2 begin with ``; give more of it")] {
        let error = store.dag_version_text("d", &Version::Sha256(start.to_owned())).await.unwrap_err().to_string();
        assert!(error.contains(words) && error.contains("`d`"), "{error}");
    }
    // Who goes back to an earlier text goes back to its version.
    store.register(&first, now).await.unwrap();
    let versions = store.dag_versions("d").await.unwrap();
    assert_eq!(versions.iter().map(|v| v.current).collect::<Vec<_>>(), [false, true]);
}

/// A worker; its tasks of kind `held` end when the gate opens.
fn worker(store: &Store, home: &std::path::Path, gate: &watch::Receiver<bool>) -> Arc<Runner> {
    let gate = gate.clone();
    let held = job("held", move |context: JobContext, _| {
        let mut gate = gate.clone();
        async move {
            let opened = async { drop(gate.wait_for(|open| *open).await) };
            tokio::select! {
                () = opened => Ok(JobOutput::new(json!(1))),
                () = context.cancel.cancelled() => Err(JobError::interrupted()),
            }
        }
    });
    let options = RunnerOptions { exclusive: false, ..RunnerOptions::new(home) };
    Arc::new(Runner::new(store.clone(), registry([held]), options))
}

async fn triggered(store: &Store) -> RunId {
    let dag = store.current_dag("d").await.unwrap();
    let run = store.create_run(&dag, &dag.params(&[]).unwrap(), Timestamp::now()).await.unwrap();
    Scheduler::new(store.clone(), Duration::ZERO).pass(Timestamp::now()).await.unwrap();
    run
}

#[tokio::test(flavor = "multi_thread")]
async fn a_run_keeps_its_version_though_the_file_changes_and_goes_and_its_worker_changes() {
    let home = tempfile::tempdir().unwrap();
    let dags = home.path().join("dags");
    std::fs::create_dir(&dags).unwrap();
    let file = dags.join("d.yaml");
    let first = store(home.path()).await;
    let mut folder = DagFolder::new(&dags);
    let (open, gate) = watch::channel(false);

    std::fs::write(&file, "dag: d\ntasks:\n  a: {job: held}\n  b: {job: give, needs: [a], with: {value: old}}\n")
        .unwrap();
    let one = worker(&first, home.path(), &gate);
    let jobs = registry([job("held", |_, _| async { Ok(JobOutput::default()) })]);
    folder.load(&first, &jobs, Timestamp::now()).await.unwrap();
    let old = triggered(&first).await;
    let working = {
        let one = Arc::clone(&one);
        tokio::spawn(async move { one.serve(Vec::new()).await })
    };
    until_it_is("the first task", async || !first.attempts(old).await.unwrap().is_empty()).await;

    // In its middle the file changes, and the worker goes.
    std::fs::write(&file, "dag: d\ntasks:\n  a: {job: held}\n  other: {job: give, needs: [a], with: {value: new}}\n")
        .unwrap();
    assert_eq!(folder.load(&first, &jobs, Timestamp::now()).await.unwrap().registered, ["d"]);
    one.interrupt();
    working.await.unwrap().unwrap();
    // One comes that has never seen the first version, and the file is removed.
    let second = store(home.path()).await;
    let two = worker(&second, home.path(), &gate);
    let working = {
        let two = Arc::clone(&two);
        tokio::spawn(async move { two.serve(Vec::new()).await })
    };
    let new = triggered(&second).await;
    std::fs::remove_file(&file).unwrap();
    assert_eq!(folder.load(&second, &jobs, Timestamp::now()).await.unwrap().removed, ["d"]);
    open.send_replace(true);

    for (run, task, value) in [(old, "b", "old"), (new, "other", "new")] {
        until_it_is("the end", async || second.run(run).await.unwrap().state.is_finished()).await;
        assert_eq!(second.run(run).await.unwrap().state, RunState::Succeeded);
        let tasks = second.tasks(run).await.unwrap();
        assert_eq!(tasks.iter().map(|task| task.task.as_str()).collect::<Vec<_>>(), ["a", task]);
        assert_eq!(second.output(run, task).await.unwrap(), Some(json!(value)));
    }
    two.drain();
    working.await.unwrap().unwrap();
}
