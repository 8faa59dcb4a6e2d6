//! Runs over a range of the past: one for each interval, with a limit of their own.

use std::time::Duration;

use pipeline::clock::Timestamp;
use pipeline::schedule::DataInterval;
use pipeline::state::{BackfillFilter, BackfillState, NewBackfill, Rerun};
use pipeline::{RunCause, RunState, Runner, RunnerOptions, Scheduler, Store};

use crate::common::{dag, registry, store};

const YAML: &str = "dag: hourly\nschedule: '0 * * * *'\nmax_active_runs: 1\nparams:\n  bad: {type: string, default: none}\ntasks:\n  a: {job: fail, when: '{{ interval.start == params.bad }}'}\n  b: {job: give}\n";

fn range(from: &str, to: &str) -> DataInterval {
    DataInterval { start: from.parse().unwrap(), end: to.parse().unwrap() }
}

fn day() -> DataInterval {
    range("2026-03-02T00:00:00Z", "2026-03-02T06:30:00Z")
}

async fn new(store: &Store, rerun: Rerun, max_active: u32, bad: &str) -> NewBackfill {
    let dag = store.current_dag("hourly").await.unwrap();
    let params = dag.params(&[("bad".to_owned(), bad.to_owned())]).unwrap();
    NewBackfill { range: day(), params, rerun, max_active }
}

/// Lets schedulers and a worker do what there is to do until the backfill has ended; gives the most runs at once.
async fn to_its_end(store: &Store, home: &std::path::Path, id: pipeline::ids::BackfillId) -> u64 {
    let (one, two) = (Scheduler::new(store.clone(), Duration::ZERO), Scheduler::new(store.clone(), Duration::ZERO));
    let options = RunnerOptions { exclusive: false, ..RunnerOptions::new(home) };
    let worker = Runner::new(store.clone(), registry([]), options);
    let mut most = 0;
    for _ in 0..100 {
        let now = Timestamp::now();
        let (a, b) = tokio::join!(one.pass(now), two.pass(now));
        a.and(b).unwrap();
        let record = store.backfill_record(id).await.unwrap();
        most = most.max(record.active);
        if record.state == BackfillState::Ended {
            return most;
        }
        let runs = store.runs(100).await.unwrap();
        if let Some(run) = runs.iter().rev().find(|run| !run.state.is_finished() && run.cause == RunCause::Backfill) {
            assert_eq!(run.state, RunState::Running, "a run of a backfill begins at once");
            worker.drive(run.id).await.unwrap();
        }
    }
    panic!("the backfill does not end");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_range_is_filled_once_and_what_failed_is_filled_again() {
    let home = tempfile::tempdir().unwrap();
    let store = store(home.path()).await;
    let hourly = dag(YAML);
    store.register(&hourly, Timestamp::now()).await.unwrap();
    // A run by hand that is active does not stand in the way.
    let other = store.create_run(&hourly, &hourly.params(&[]).unwrap(), Timestamp::now()).await.unwrap();
    Scheduler::new(store.clone(), Duration::ZERO).pass(Timestamp::now()).await.unwrap();
    assert_eq!(store.run(other).await.unwrap().state, RunState::Running);

    let bad = "2026-03-02T03:00:00Z";
    let first = store.backfill("hourly", &new(&store, Rerun::Missing, 2, bad).await, Timestamp::now()).await.unwrap();
    assert_eq!(to_its_end(&store, home.path(), first).await, 2, "runs at once");
    let record = store.backfill_record(first).await.unwrap();
    assert_eq!((record.runs, record.failed, record.skipped), (6, 1, 0), "intervals that end within the range");
    let runs = store.runs(100).await.unwrap();
    let mut hours: Vec<String> = runs
        .iter()
        .filter(|run| run.cause == RunCause::Backfill)
        .map(|run| run.interval.unwrap().start.format("%H").to_string())
        .collect();
    hours.sort();
    assert_eq!(hours, ["00", "01", "02", "03", "04", "05"]);

    let missing = store.backfill("hourly", &new(&store, Rerun::Missing, 2, "").await, Timestamp::now()).await.unwrap();
    to_its_end(&store, home.path(), missing).await;
    let record = store.backfill_record(missing).await.unwrap();
    assert_eq!((record.runs, record.skipped), (0, 6));
    let failed = store.backfill("hourly", &new(&store, Rerun::Failed, 3, "").await, Timestamp::now()).await.unwrap();
    to_its_end(&store, home.path(), failed).await;
    let record = store.backfill_record(failed).await.unwrap();
    assert_eq!((record.runs, record.failed, record.skipped), (1, 0, 5));
    let all = store.backfill("hourly", &new(&store, Rerun::All, 3, "").await, Timestamp::now()).await.unwrap();
    assert_eq!(to_its_end(&store, home.path(), all).await, 3);
    assert_eq!(store.backfill_record(all).await.unwrap().runs, 6);
    assert_eq!(store.dags().await.unwrap()[0].active_runs, 1, "the run by hand");
}

#[tokio::test]
async fn a_backfill_is_cancelled_with_its_runs_and_mistakes_are_told() {
    let home = tempfile::tempdir().unwrap();
    let store = store(home.path()).await;
    store.register(&dag(YAML), Timestamp::now()).await.unwrap();
    let id = store.backfill("hourly", &new(&store, Rerun::All, 4, "").await, Timestamp::now()).await.unwrap();
    let scheduler = Scheduler::new(store.clone(), Duration::ZERO);
    scheduler.pass(Timestamp::now()).await.unwrap();
    assert_eq!(store.backfill_record(id).await.unwrap().active, 4);
    let record = store.cancel_backfill(id, Timestamp::now()).await.unwrap();
    assert_eq!((record.state, record.active), (BackfillState::Cancelled, 0));
    scheduler.pass(Timestamp::now()).await.unwrap();
    assert_eq!(store.backfill_record(id).await.unwrap().runs, 4, "no more are made");
    assert_eq!(store.backfills(10, None, &BackfillFilter::default()).await.unwrap().len(), 1);

    let manual = dag("dag: manual\ntasks:\n  a: {job: give}\n");
    store.register(&manual, Timestamp::now()).await.unwrap();
    let unscheduled = NewBackfill { params: manual.params(&[]).unwrap(), ..new(&store, Rerun::All, 1, "").await };
    let error = store.backfill("manual", &unscheduled, Timestamp::now()).await.unwrap_err().to_string();
    assert!(
        error.contains("the schedule of dag `manual` has no data interval within 2026-03-02T00:00:00Z/"),
        "{error}"
    );
    let short = NewBackfill {
        range: range("2026-03-02T00:10:00Z", "2026-03-02T01:50:00Z"),
        ..new(&store, Rerun::All, 1, "").await
    };
    assert!(store.backfill("hourly", &short, Timestamp::now()).await.is_err());
    assert!(store.backfill("none", &short, Timestamp::now()).await.unwrap_err().to_string().contains("no dag named"));
}
