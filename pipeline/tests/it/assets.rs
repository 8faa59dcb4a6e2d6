//! DAGs that run when assets were updated.

use std::time::Duration;

use pipeline::clock::Timestamp;
use pipeline::{RunCause, RunId, RunState, Runner, RunnerOptions, Scheduler, Store};

use crate::common::{dag, registry, store};

const MAKER: &str = "dag: maker\ntasks:\n  one: {job: give, produces: [one]}\n  two: {job: give, map: [1, 2], produces: [two], needs: [one]}\n  bad: {job: fail, produces: [three], needs: [two]}\n";

/// Runs that assets have started and that have not begun, by the names of their DAGs.
async fn waiting(store: &Store) -> Vec<(String, RunId)> {
    let runs = store.runs(100).await.unwrap();
    let mut runs: Vec<(String, RunId)> = runs
        .into_iter()
        .filter(|run| run.cause == RunCause::Asset && !run.state.is_finished())
        .map(|run| (run.dag, run.id))
        .collect();
    runs.sort();
    runs
}

#[tokio::test(flavor = "multi_thread")]
async fn all_of_and_any_of_start_one_run_for_what_was_updated() {
    let home = tempfile::tempdir().unwrap();
    let store = store(home.path()).await;
    for yaml in [
        "dag: all\nschedule: {assets: [one, two]}\ntasks:\n  a: {job: give}\n",
        "dag: any\nschedule: {any_asset: [two, three]}\ntasks:\n  a: {job: give}\n",
        "dag: outside\nschedule: {assets: ['s3://bucket/table']}\ntasks:\n  a: {job: give}\n",
    ] {
        store.register(&dag(yaml), Timestamp::now()).await.unwrap();
    }
    let options = RunnerOptions { exclusive: false, ..RunnerOptions::new(home.path()) };
    let runner = Runner::new(store.clone(), registry([]), options);
    let (one, two) = (Scheduler::new(store.clone(), Duration::ZERO), Scheduler::new(store.clone(), Duration::ZERO));
    let both = async || {
        let (a, b) = tokio::join!(one.pass(Timestamp::now()), two.pass(Timestamp::now()));
        a.and(b).unwrap();
    };
    both().await;
    assert!(waiting(&store).await.is_empty(), "nothing was updated yet");

    let maker = dag(MAKER);
    let run = store.create_run(&maker, &maker.params(&[]).unwrap(), Timestamp::now()).await.unwrap();
    assert_eq!(runner.drive(run).await.unwrap().state, RunState::Failed);
    both().await;
    let runs = waiting(&store).await;
    assert_eq!(runs.iter().map(|(dag, _)| dag.as_str()).collect::<Vec<_>>(), ["all", "any"]);
    for (_, run) in &runs {
        assert_eq!(runner.drive(*run).await.unwrap().state, RunState::Succeeded);
    }
    let events = store.asset_events(10, None, None).await.unwrap();
    let names: Vec<&str> = events.iter().rev().map(|event| event.asset.as_str()).collect();
    assert_eq!(names, ["one", "two"], "a task that failed updates nothing, a mapped one once");
    assert_eq!(events[0].run, Some(run));

    // Two updates before the next look count as one; a pause keeps them; all-of waits for the other.
    store.pause("any", true).await.unwrap();
    for asset in ["two", "two", "three", "s3://bucket/table"] {
        store.update_asset(asset, Timestamp::now()).await.unwrap();
    }
    both().await;
    let names = async || waiting(&store).await.into_iter().map(|(dag, _)| dag).collect::<Vec<_>>();
    assert_eq!(names().await, ["outside"]);
    store.pause("any", false).await.unwrap();
    both().await;
    both().await;
    assert_eq!(names().await, ["any", "outside"]);
    // What it no longer waits for does not start it.
    store
        .register(&dag("dag: all\nschedule: {assets: [one]}\ntasks:\n  a: {job: give}\n"), Timestamp::now())
        .await
        .unwrap();
    store.update_asset("one", Timestamp::now()).await.unwrap();
    both().await;
    assert_eq!(names().await, ["all", "any", "outside"]);
}
