//! Cleaning: what ended long ago goes with all that belongs to it, and nothing that is still needed.

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use pipeline::clock::Timestamp;
use pipeline::history::{Keep, Removed};
use pipeline::logs::Stream;
use pipeline::schedule::DataInterval;
use pipeline::state::{BackfillState, NewBackfill, NewItem, Rerun};
use pipeline::{
    History, JobContext, JobOutput, Logs, LogsOptions, RunId, RunState, Runner, RunnerOptions, Scheduler, Store,
};
use serde_json::json;

use crate::common::{dag, database, job, registry, store};

const DAY: Duration = Duration::from_secs(24 * 3600);
const MONTH: Keep = Keep { runs: Some(Duration::from_secs(30 * 24 * 3600)), logs: None };

/// 2026-03-02T00:00:00Z, in hours.
fn at(hours: i64) -> Timestamp {
    Timestamp::from_millis(1_772_409_600_000 + hours * 3_600_000)
}

fn later(days: u32) -> Timestamp {
    Timestamp::now().plus(DAY * days)
}

struct Place {
    home: tempfile::TempDir,
    store: Store,
    history: History,
    runner: Runner,
}

impl Place {
    async fn new() -> Self {
        let home = tempfile::tempdir().unwrap();
        let store = store(home.path()).await;
        let logs = logs(home.path());
        let history = History::new(store.clone(), logs.clone(), home.path());
        let say = job("say", |context: JobContext, _| async move {
            context.log.line(Stream::Stdout, "said");
            std::fs::write(context.work_dir.join("left"), "").unwrap();
            Ok(JobOutput::new(json!(null)))
        });
        let options = RunnerOptions { logs: Some(logs), ..RunnerOptions::new(home.path()) };
        let runner = Runner::new(store.clone(), registry([say]), options);
        Self { home, store, history, runner }
    }

    async fn run(&self, yaml: &str) -> RunId {
        let dag = dag(yaml);
        let run = self.store.create_run(&dag, &dag.params(&[]).unwrap(), Timestamp::now()).await.unwrap();
        self.runner.drive(run).await.unwrap();
        run
    }

    async fn drive_all(&self) {
        for run in self.store.runs(1000).await.unwrap() {
            if !run.state.is_finished() {
                self.runner.drive(run.id).await.unwrap();
            }
        }
    }

    /// What is removed `days` from now; the preview says the same.
    async fn clean(&self, days: u32) -> Removed {
        let preview = self.history.preview(MONTH, later(days)).await.unwrap();
        let removed = self.history.clean(MONTH, later(days)).await.unwrap();
        assert_eq!(preview, Removed { dag_versions: 0, ..removed });
        removed
    }

    fn exists(&self, folder: &str) -> bool {
        self.home.path().join(folder).exists()
    }

    async fn rows(&self, table: &'static str) -> i64 {
        let sql = sqlx::AssertSqlSafe(format!("SELECT COUNT(*) FROM {table}"));
        let (count,): (i64,) = sqlx::query_as(sql).fetch_one(database(self.home.path()).await.pool()).await.unwrap();
        count
    }
}

fn logs(home: &Path) -> Logs {
    Logs::new(home.join("logs").as_path().into(), LogsOptions::default())
}

#[tokio::test(flavor = "multi_thread")]
async fn old_runs_go_with_all_that_belongs_to_them() {
    let place = Place::new().await;
    let yaml = "dag: d\nalerts:\n  - {on: [success], webhook: 'http://127.0.0.1:9/'}\ntasks:\n  a: {job: say, produces: [x]}\n  b: {job: give, map: [1, 2], cache: true, with: {value: '{{ item }}'}}\n";
    let old = place.run(yaml).await;
    let newer = "dag: d\ntasks:\n  a: {job: say}\n";
    place.store.register(&dag(newer), Timestamp::now()).await.unwrap();
    let unfinished =
        place.store.create_run(&dag(newer), &dag(newer).params(&[]).unwrap(), Timestamp::now()).await.unwrap();
    place.store.update_asset("x", Timestamp::now()).await.unwrap();
    assert!(place.exists(&format!("runs/{old}/left")) && place.exists(&format!("logs/d/{old}")));

    assert_eq!(place.clean(29).await, Removed::default());
    assert_eq!(place.clean(31).await, Removed::default(), "its alert was not told");
    sqlx::query("UPDATE alert SET state = 'sent'").execute(database(place.home.path()).await.pool()).await.unwrap();
    assert_eq!(place.rows("cached_output").await, 2);
    let removed = place.clean(31).await;
    assert_eq!((place.rows("cached_output").await, place.rows("run_change").await), (0, 1));
    assert_eq!(removed, Removed { runs: 1, task_instances: 4, attempts: 3, dag_versions: 1, logs: 0 });
    assert!(!place.exists(&format!("runs/{old}")) && !place.exists(&format!("logs/d/{old}")));
    assert!(place.store.run(old).await.unwrap_err().to_string().contains("list the runs"));
    assert_eq!(place.store.run(unfinished).await.unwrap().state, RunState::Queued);
    for (table, rows) in [("attempt", 0), ("alert", 0), ("asset_event", 0), ("dag_version", 1), ("removal", 0)] {
        assert_eq!(place.rows(table).await, rows, "{table}");
    }
    assert_eq!(place.clean(31).await, Removed::default());
}

#[tokio::test(flavor = "multi_thread")]
async fn what_came_in_for_a_continuous_dag_stays_known_without_its_batch() {
    let place = Place::new().await;
    let live = dag("dag: live\ncontinuous: {webhook: new, max_batch: 1}\ntasks: {a: {job: say}}");
    place.store.register(&live, Timestamp::now()).await.unwrap();
    let item = NewItem { id: "one".to_owned(), item: json!(1) };
    assert_eq!(place.store.add_items("live", std::slice::from_ref(&item), Timestamp::now()).await.unwrap(), 1);
    Scheduler::new(place.store.clone(), Duration::ZERO).pass(Timestamp::now()).await.unwrap();
    place.drive_all().await;
    assert_eq!(place.clean(31).await.runs, 1);
    assert_eq!(place.store.add_items("live", &[item], Timestamp::now()).await.unwrap(), 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn logs_go_before_their_runs_and_a_run_that_goes_on_has_logs_again() {
    let place = Place::new().await;
    let run = place.run("dag: d\ntasks:\n  a: {job: say}\n").await;
    let keep = Keep { runs: None, logs: Some(DAY * 7) };
    assert_eq!(place.history.clean(keep, later(6)).await.unwrap(), Removed::default());
    assert_eq!(place.history.clean(keep, later(8)).await.unwrap(), Removed { logs: 1, ..Removed::default() });
    assert!(
        !place.exists("logs/d/1") && !place.exists(&format!("logs/d/{run}")) && place.exists(&format!("runs/{run}"))
    );
    assert_eq!(place.history.clean(keep, later(8)).await.unwrap(), Removed::default());
    let again = pipeline::state::Again::Task { task: "a".to_owned(), downstream: false };
    place.store.reopen(run, again, Timestamp::now()).await.unwrap();
    place.runner.drive(run).await.unwrap();
    assert!(place.exists(&format!("logs/d/{run}/a/2.jsonl")));
    assert_eq!(place.history.clean(keep, later(8)).await.unwrap().logs, 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_run_stays_while_its_parent_or_a_run_that_it_started_does() {
    let place = Place::new().await;
    place.store.register(&dag("dag: child\ntasks:\n  a: {job: give}\n"), Timestamp::now()).await.unwrap();
    // As under a server: who drives a run alone drives those that it starts, too.
    let options = RunnerOptions { exclusive: false, ..RunnerOptions::new(place.home.path()) };
    let server = Runner::new(place.store.clone(), registry([]), options);
    let yaml = dag("dag: parent\ntasks:\n  inner: {dag: child, wait: false}\n");
    let parent = place.store.create_run(&yaml, &yaml.params(&[]).unwrap(), Timestamp::now()).await.unwrap();
    server.drive(parent).await.unwrap();
    let runs = place.store.runs(10).await.unwrap();
    let child = runs.iter().find(|run| run.dag == "child").unwrap();
    assert_eq!((place.store.run(parent).await.unwrap().state, child.state), (RunState::Succeeded, RunState::Queued));
    assert_eq!(place.clean(31).await, Removed::default(), "the child has not ended");
    place.drive_all().await;
    // The parent goes on: its child is not removed under it.
    let again = pipeline::state::Again::Task { task: "inner".to_owned(), downstream: false };
    place.store.reopen(parent, again, Timestamp::now()).await.unwrap();
    assert_eq!(place.clean(31).await, Removed::default(), "the parent has not ended");
    place.drive_all().await;
    assert_eq!(place.clean(31).await.runs, 2);
}

#[tokio::test(flavor = "multi_thread")]
async fn cleaning_makes_no_schedule_run_an_interval_again() {
    let place = Place::new().await;
    let yaml = "dag: d\nschedule: {cron: '0 * * * *', start: 2026-03-02T00:00:00Z, catch_up: true}\ntasks:\n  a: {job: give}\n";
    place.store.register(&dag(yaml), at(4)).await.unwrap();
    let scheduler = Scheduler::new(place.store.clone(), Duration::from_secs(1));
    scheduler.pass(at(4)).await.unwrap();
    place.drive_all().await;
    assert_eq!(place.store.runs(100).await.unwrap().len(), 4);
    // A scheduler died between the making of the last run and the note that its interval is done.
    let pool = database(place.home.path()).await;
    let set = "UPDATE dag SET done_until = $1";
    sqlx::query(set).bind(at(3).millis()).execute(pool.pool()).await.unwrap();
    assert_eq!(place.clean(31).await.runs, 3);
    scheduler.pass(at(4)).await.unwrap();
    assert_eq!(place.store.runs(100).await.unwrap().len(), 1, "its interval has the run");
    assert_eq!(place.clean(31).await.runs, 1);
    scheduler.pass(at(4)).await.unwrap();
    place.store.register(&dag(yaml), at(4)).await.unwrap();
    scheduler.pass(at(4)).await.unwrap();
    assert!(place.store.runs(100).await.unwrap().is_empty());
    scheduler.pass(at(5)).await.unwrap();
    assert_eq!(place.store.runs(100).await.unwrap().len(), 1, "the schedule goes on");
}

#[tokio::test(flavor = "multi_thread")]
async fn runs_in_the_range_of_a_backfill_stay_until_it_has_ended() {
    let place = Place::new().await;
    let hourly = dag("dag: d\nschedule: '0 * * * *'\ntasks:\n  a: {job: give}\n");
    place.store.register(&hourly, at(0)).await.unwrap();
    let scheduler = Scheduler::new(place.store.clone(), Duration::from_secs(1));
    for hour in 1..=3 {
        scheduler.pass(at(hour)).await.unwrap();
    }
    place.drive_all().await;
    let range = DataInterval { start: at(-2).time(), end: at(2).time() };
    let params = hourly.params(&[]).unwrap();
    let new = NewBackfill { range, params, rerun: Rerun::Missing, max_active: 1 };
    let backfill = place.store.backfill("d", &new, at(3)).await.unwrap();
    scheduler.pass(at(3)).await.unwrap();
    place.drive_all().await;
    // Two intervals lie before the schedule's runs: of these the first has its run now.
    assert_eq!(place.clean(31).await.runs, 1, "the run outside of the range");
    for _ in 0..4 {
        scheduler.pass(at(3)).await.unwrap();
        place.drive_all().await;
    }
    let record = place.store.backfill_record(backfill).await.unwrap();
    assert_eq!((record.state, record.runs, record.skipped), (BackfillState::Ended, 2, 2));
    assert_eq!(place.clean(31).await.runs, 4);
    // It was ended at a virtual moment long ago, and goes with its runs.
    assert_eq!(place.rows("backfill").await, 0);
    scheduler.pass(at(3)).await.unwrap();
    assert!(place.store.runs(100).await.unwrap().is_empty());
}

#[tokio::test(flavor = "multi_thread")]
async fn several_may_clean_at_once() {
    let place = Place::new().await;
    for _ in 0..40 {
        place.run("dag: d\ntasks:\n  a: {job: say}\n").await;
    }
    let other = store(place.home.path()).await;
    let histories: Vec<History> = [&place.store, &other, &place.store]
        .map(|store| History::new(store.clone(), logs(place.home.path()), place.home.path()))
        .into();
    let cleaning = histories.iter().map(|history| history.clean(MONTH, later(31)));
    let removed = futures::future::join_all(cleaning).await;
    let runs: u64 = removed.into_iter().map(|removed| removed.unwrap().runs).sum();
    assert_eq!(runs, 40);
    assert_eq!((place.rows("run").await, place.rows("removal").await), (0, 0));
    assert_eq!(std::fs::read_dir(place.home.path().join("runs")).unwrap().count(), 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn what_could_not_be_removed_is_removed_later() {
    let place = Place::new().await;
    let run = place.run("dag: d\ntasks:\n  a: {job: say}\n").await;
    // The store of the logs is away.
    std::fs::write(place.home.path().join("file"), "").unwrap();
    let away = Logs::new(place.home.path().join("file").as_path().into(), LogsOptions::default());
    let history = History::new(place.store.clone(), away, place.home.path());
    history.clean(MONTH, later(31)).await.unwrap_err();
    assert!(place.store.runs(10).await.unwrap().is_empty());
    assert!(place.exists(&format!("logs/d/{run}")) && place.exists(&format!("runs/{run}")));
    assert_eq!(place.clean(31).await, Removed::default(), "the run is gone");
    assert!(!place.exists(&format!("logs/d/{run}")) && !place.exists(&format!("runs/{run}")));
}

/// A worker that slept meanwhile comes back with an attempt at a run that is gone; other runs of it go on.
#[tokio::test(flavor = "multi_thread")]
async fn an_attempt_at_a_run_that_is_gone_counts_for_nothing() {
    let home = tempfile::tempdir().unwrap();
    let store = store(home.path()).await;
    let gate = Arc::new(tokio::sync::Semaphore::new(0));
    let passing = Arc::clone(&gate);
    let deaf = job("deaf", move |_, _| {
        let gate = Arc::clone(&passing);
        async move {
            gate.acquire().await.unwrap().forget();
            Ok(JobOutput::default())
        }
    });
    let options = RunnerOptions { exclusive: false, grace: DAY, ..RunnerOptions::new(home.path()) };
    let worker = Arc::new(Runner::new(store.clone(), registry([deaf]), options));
    let serving = tokio::spawn({
        let worker = Arc::clone(&worker);
        async move { worker.serve(Vec::new()).await }
    });
    let dag = dag("dag: d\ntasks:\n  a: {job: deaf}\n");
    let scheduler = Scheduler::new(store.clone(), Duration::from_secs(1));
    let make = async || {
        let run = store.create_run(&dag, &dag.params(&[]).unwrap(), Timestamp::now()).await.unwrap();
        scheduler.pass(Timestamp::now()).await.unwrap();
        while store.attempts(run).await.unwrap().is_empty() {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
        run
    };
    let gone = make().await;
    let pool = database(home.path()).await;
    for sql in ["UPDATE attempt SET state = 'lost'", "UPDATE run SET state = 'failed', finished_at = 1"] {
        sqlx::query(sql).execute(pool.pool()).await.unwrap();
    }
    let logs = logs(home.path());
    let removed = History::new(store.clone(), logs, home.path()).clean(MONTH, Timestamp::now()).await.unwrap();
    assert_eq!(removed.runs, 1);
    let stays = make().await;
    gate.add_permits(2);
    while !store.run(stays).await.unwrap().state.is_finished() {
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    assert_eq!(store.run(stays).await.unwrap().state, RunState::Succeeded);
    store.run(gone).await.unwrap_err();
    worker.drain();
    serving.await.unwrap().unwrap();
}
