//! Runs that a schedule makes: one for each interval, whoever schedules, dies or pauses.

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use pipeline::clock::Timestamp;
use pipeline::{DagFolder, RunCause, RunState, Runner, RunnerOptions, Scheduler, Store};
use tokio::sync::watch;

use crate::common::{dag, registry, store};

/// 2026-03-02T00:00:00Z.
const MIDNIGHT: i64 = 1_772_409_600_000;
const HOUR: i64 = 3_600_000;

fn at(hours: f64) -> Timestamp {
    Timestamp::from_millis(MIDNIGHT + (hours * HOUR as f64) as i64)
}

fn scheduler(store: &Store) -> Scheduler {
    Scheduler::new(store.clone(), Duration::from_millis(20))
}

/// Starts of the intervals of scheduled runs, in hours since midnight, sorted.
async fn intervals(store: &Store) -> Vec<i64> {
    let runs = store.runs(1000).await.unwrap();
    let runs = runs.iter().filter(|run| run.cause == RunCause::Schedule);
    let mut starts: Vec<i64> =
        runs.map(|run| (Timestamp::from(run.interval.unwrap().start).millis() - MIDNIGHT) / HOUR).collect();
    starts.sort_unstable();
    starts
}

#[tokio::test]
async fn each_interval_has_one_run_whoever_schedules() {
    let home = tempfile::tempdir().unwrap();
    let first = store(home.path()).await;
    let second = store(home.path()).await;
    let hourly = dag("dag: hourly\nschedule: '0 * * * *'\ntasks:\n  a: {job: give}\n");
    first.register(&hourly, at(0.5)).await.unwrap();
    let (one, two) = (scheduler(&first), scheduler(&second));
    assert_eq!(one.pass(at(0.6)).await.unwrap(), Some(at(1.0)), "when to look again");
    assert_eq!(intervals(&first).await, [0_i64; 0], "what ended before the dag was known has no run");
    for hours in [1.0, 1.5, 2.0, 3.01, 3.02] {
        let (a, b) = tokio::join!(one.pass(at(hours)), two.pass(at(hours)));
        a.unwrap();
        b.unwrap();
    }
    assert_eq!(intervals(&first).await, [0, 1, 2]);
    // A clock that jumps back makes nothing twice; one that jumps ahead makes only the newest without catch-up.
    one.pass(at(1.2)).await.unwrap();
    one.pass(at(9.5)).await.unwrap();
    assert_eq!(intervals(&first).await, [0, 1, 2, 8]);
}

/// Ends of the intervals of scheduled runs; where one ends, the next begins.
async fn ticks(store: &Store) -> Vec<String> {
    let runs = store.runs(1000).await.unwrap();
    let scheduled = runs.iter().filter(|run| run.cause == RunCause::Schedule);
    let mut intervals: Vec<_> = scheduled.map(|run| run.interval.unwrap()).collect();
    intervals.sort_unstable_by_key(|interval| interval.start);
    assert!(intervals.windows(2).all(|pair| pair[0].end == pair[1].start), "{intervals:?}");
    intervals.iter().map(|interval| interval.end.format("%d %H:%M").to_string()).collect()
}

#[tokio::test]
async fn a_night_has_one_run_when_the_clocks_change_though_the_own_clock_jumps() {
    let yaml =
        "dag: nightly\nschedule: {cron: '30 2 * * *', zone: Europe/Berlin, catch_up: true}\ntasks:\n  a: {job: give}\n";
    let cases = [
        ("2026-03-27T12:00:00Z", ["28 01:30", "29 01:00", "30 00:30"]),
        ("2026-10-23T12:00:00Z", ["24 00:30", "25 00:30", "26 01:30"]),
    ];
    for (from, nights) in cases {
        let home = tempfile::tempdir().unwrap();
        let (first, second) = (store(home.path()).await, store(home.path()).await);
        let from: Timestamp = serde_json::from_value(serde_json::json!(from)).unwrap();
        first.register(&dag(yaml), from).await.unwrap();
        let (one, two) = (scheduler(&first), scheduler(&second));
        // Three days in steps of half an hour; the second's clock is an hour behind, or half an hour ahead.
        for step in 0..144 {
            let now = from.plus(Duration::from_secs(1800 * step));
            let other =
                if step % 2 == 0 { now.minus(Duration::from_secs(3600)) } else { now.plus(Duration::from_secs(1800)) };
            let (a, b) = tokio::join!(one.pass(now), two.pass(other));
            a.unwrap();
            b.unwrap();
        }
        assert_eq!(ticks(&first).await, nights);
    }
}

#[tokio::test]
async fn catching_up_makes_all_since_the_start_and_a_pause_is_caught_up_too() {
    let home = tempfile::tempdir().unwrap();
    let store = store(home.path()).await;
    let yaml = "dag: d\nschedule: {cron: '0 * * * *', start: 2026-03-02T00:00:00Z, catch_up: true}\ntasks:\n  a: {job: give}\n";
    store.register(&dag(yaml), at(4.5)).await.unwrap();
    let scheduler = scheduler(&store);
    scheduler.pass(at(4.5)).await.unwrap();
    assert_eq!(intervals(&store).await, [0, 1, 2, 3]);
    store.pause("d", true).await.unwrap();
    scheduler.pass(at(7.5)).await.unwrap();
    assert_eq!(intervals(&store).await.len(), 4);
    store.pause("d", false).await.unwrap();
    scheduler.pass(at(7.5)).await.unwrap();
    assert_eq!(intervals(&store).await, [0, 1, 2, 3, 4, 5, 6]);
    assert!(store.pause("other", true).await.unwrap_err().to_string().contains("no dag named `other`"));
}

#[tokio::test]
async fn no_more_runs_are_active_than_the_dag_allows() {
    let home = tempfile::tempdir().unwrap();
    let store = store(home.path()).await;
    let dag = dag("dag: d\nmax_active_runs: 2\ntasks:\n  a: {job: give}\n");
    for _ in 0..5 {
        store.create_run(&dag, &dag.params(&[]).unwrap(), at(0.0)).await.unwrap();
    }
    let scheduler = scheduler(&store);
    for _ in 0..3 {
        scheduler.pass(at(0.1)).await.unwrap();
    }
    let running: Vec<_> = store
        .runs(10)
        .await
        .unwrap()
        .into_iter()
        .filter(|run| run.state == RunState::Running)
        .map(|run| run.id)
        .collect();
    assert_eq!(running.len(), 2);
    store.cancel(running[0], at(0.2)).await.unwrap();
    scheduler.pass(at(0.3)).await.unwrap();
    let states: Vec<RunState> = store.runs(10).await.unwrap().iter().map(|run| run.state).collect();
    let count = |state| states.iter().filter(|one| **one == state).count();
    assert_eq!((count(RunState::Running), count(RunState::Queued), count(RunState::Cancelled)), (2, 2, 1));
}

#[tokio::test]
async fn a_run_that_takes_too_long_is_stopped_and_failed() {
    let home = tempfile::tempdir().unwrap();
    let store = store(home.path()).await;
    let dag = dag("dag: d\ntimeout: 1h\ntasks:\n  a: {job: give}\n");
    let run = store.create_run(&dag, &dag.params(&[]).unwrap(), at(0.0)).await.unwrap();
    let scheduler = scheduler(&store);
    scheduler.pass(at(0.0)).await.unwrap();
    scheduler.pass(at(0.9)).await.unwrap();
    assert_eq!(store.run(run).await.unwrap().state, RunState::Running);
    scheduler.pass(at(1.1)).await.unwrap();
    let record = store.run(run).await.unwrap();
    assert_eq!(record.state, RunState::Failed);
    assert_eq!(record.error.unwrap(), "the run took longer than its `timeout` of 3600s");
}

/// A whole server: the folder of DAG files, the scheduler and a worker.
#[tokio::test(flavor = "multi_thread")]
async fn a_server_reads_files_runs_what_is_triggered_and_ends_when_told() {
    let home = tempfile::tempdir().unwrap();
    let dags = home.path().join("dags");
    std::fs::create_dir(&dags).unwrap();
    let file = dags.join("chain.yaml");
    std::fs::write(&file, "dag: chain\nparams:\n  n: {type: integer, default: 1}\ntasks:\n  a: {job: give, with: {value: '{{ params.n }}'}}\n  b: {job: give, needs: [a], with: {value: '{{ tasks.a.output + 1 }}'}}\n").unwrap();
    std::fs::write(dags.join("broken.yaml"), "dag: broken\ntasks:\n  a: {job: gvie}\n").unwrap();
    std::fs::write(dags.join("notes.txt"), "not a dag").unwrap();
    let store = store(home.path()).await;
    let mut folder = DagFolder::new(&dags);
    let loaded = folder.load(&store, &registry([]), Timestamp::now()).await.unwrap();
    assert_eq!(loaded.registered, ["chain"]);
    assert_eq!(loaded.mistakes.len(), 1);
    assert!(
        loaded.mistakes[0].to_string().contains("broken.yaml:3:12: unknown job kind `gvie`"),
        "{}",
        loaded.mistakes[0]
    );
    let again = folder.load(&store, &registry([]), Timestamp::now()).await.unwrap();
    assert!(again.registered.is_empty() && again.mistakes.is_empty(), "unchanged files are not read again");

    let options = RunnerOptions { exclusive: false, ..RunnerOptions::new(home.path()) };
    let runner = Arc::new(Runner::new(store.clone(), registry([]), options));
    let (stop, stopped) = watch::channel(false);
    let scheduling = {
        let scheduler = scheduler(&store);
        tokio::spawn(async move { scheduler.serve(stopped).await })
    };
    let working = {
        let runner = Arc::clone(&runner);
        tokio::spawn(async move { runner.serve(Vec::new()).await })
    };
    let mut runs = Vec::new();
    for n in 0..20 {
        let dag = store.current_dag("chain").await.unwrap();
        let params = dag.params(&[("n".to_owned(), n.to_string())]).unwrap();
        runs.push(store.create_run(&dag, &params, Timestamp::now()).await.unwrap());
    }
    for (n, run) in runs.iter().enumerate() {
        wait_for_end(&store, *run).await;
        assert_eq!(store.output(*run, "b").await.unwrap(), Some(serde_json::json!(n + 1)));
    }

    // A run keeps the version that it began with; new runs have the new one.
    rewrite(&file, "dag: chain\ntasks:\n  only: {job: give, with: {value: new}}\n");
    assert_eq!(folder.load(&store, &registry([]), Timestamp::now()).await.unwrap().registered, ["chain"]);
    let dag = store.current_dag("chain").await.unwrap();
    let run = store.create_run(&dag, &dag.params(&[]).unwrap(), Timestamp::now()).await.unwrap();
    wait_for_end(&store, run).await;
    assert_eq!(store.tasks(run).await.unwrap().len(), 1);
    assert_eq!(store.tasks(runs[0]).await.unwrap().len(), 2);
    std::fs::remove_file(&file).unwrap();
    assert_eq!(folder.load(&store, &registry([]), Timestamp::now()).await.unwrap().removed, ["chain"]);

    runner.drain();
    working.await.unwrap().unwrap();
    stop.send_replace(true);
    scheduling.await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn draining_lets_work_end_and_interrupting_gives_it_back() {
    let home = tempfile::tempdir().unwrap();
    let store = store(home.path()).await;
    let yaml = "dag: d\ntasks:\n  a: {job: sleep, with: {ms: 300}}\n  b: {job: give, needs: [a]}\n";
    for (interrupt, attempts) in [(false, 1), (true, 2)] {
        let dag = dag(&yaml.replace("dag: d", &format!("dag: d{interrupt}")));
        let run = store.create_run(&dag, &dag.params(&[]).unwrap(), Timestamp::now()).await.unwrap();
        scheduler(&store).pass(Timestamp::now()).await.unwrap();
        let options = RunnerOptions { exclusive: false, ..RunnerOptions::new(home.path()) };
        let runner = Arc::new(Runner::new(store.clone(), registry([]), options));
        let working = {
            let runner = Arc::clone(&runner);
            tokio::spawn(async move { runner.serve(Vec::new()).await })
        };
        while store.attempts(run).await.unwrap().is_empty() {
            tokio::time::sleep(Duration::from_millis(2)).await;
        }
        if interrupt {
            runner.interrupt()
        } else {
            runner.drain()
        }
        working.await.unwrap().unwrap();
        let tasks = store.tasks(run).await.unwrap();
        assert_eq!(tasks[1].attempts, 0, "nothing was claimed after the signal");
        let second = Runner::new(
            store.clone(),
            registry([]),
            RunnerOptions { exclusive: false, ..RunnerOptions::new(home.path()) },
        );
        assert_eq!(second.drive(run).await.unwrap().state, RunState::Succeeded);
        assert_eq!(store.tasks(run).await.unwrap()[0].attempts, attempts, "interrupted: {interrupt}");
    }
}

async fn wait_for_end(store: &Store, run: pipeline::RunId) {
    for _ in 0..2000 {
        let state = store.run(run).await.unwrap().state;
        if state.is_finished() {
            assert_eq!(state, RunState::Succeeded);
            return;
        }
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    panic!("run {run} does not end");
}

/// Writes a file whose time of change differs from before.
fn rewrite(file: &Path, text: &str) {
    std::fs::write(file, text).unwrap();
    let later = std::time::SystemTime::now() + Duration::from_secs(5);
    std::fs::File::options().write(true).open(file).unwrap().set_modified(later).unwrap();
}
