//! Measurements, not tests: `cargo test -p pipeline --test it speed -- --ignored --nocapture --test-threads 1`.

use std::time::{Duration, Instant};

use pipeline::clock::Timestamp;
use pipeline::history::Keep;
use pipeline::{History, Logs, LogsOptions, RunState, Runner, RunnerOptions};

use crate::common::{dag, database, registry, store};

/// A chain of tasks that do nothing, and a fan-out with a join, on a durable database file.
#[tokio::test(flavor = "multi_thread")]
#[ignore = "a measurement"]
async fn no_op_tasks() {
    let home = tempfile::tempdir().unwrap();
    println!("fsync of 4 KiB appended: median {:.2} ms", fsync_ms(home.path()));
    let mut chain = "dag: chain\ntasks:\n  t0: {job: give}\n".to_string();
    for task in 1..50 {
        chain.push_str(&format!("  t{task}: {{job: give, needs: [t{}]}}\n", task - 1));
    }
    let fan = "dag: fan\ntasks:\n  fan: {job: give, map: '{{ range(2000) | list }}', with: {value: 1}}\n  join: {job: give, needs: [fan]}\n";
    let logs = Logs::new(home.path().join("logs").as_path().into(), LogsOptions::default());
    for (name, yaml, parallelism, logs) in [
        ("chain of 50", chain.as_str(), 2, None),
        ("fan-out 2000 and join", fan, 32, None),
        ("fan-out 2000 and join, logs kept", fan, 32, Some(logs)),
    ] {
        let mut times = Vec::new();
        for _ in 0..7 {
            let options = RunnerOptions { parallelism, logs: logs.clone(), ..RunnerOptions::new(home.path()) };
            let runner = Runner::new(store(home.path()).await, registry([]), options);
            let began = Instant::now();
            let dag = dag(yaml);
            let start = runner.start_or_resume(&dag, &dag.params(&[]).unwrap()).await.unwrap();
            let started = began.elapsed();
            assert_eq!(runner.drive(start.run_id()).await.unwrap().state, RunState::Succeeded);
            times.push((began.elapsed(), started));
        }
        times.sort();
        let (median, begun) = times[3];
        println!(
            "{name}: median {median:.1?} (of it parsing and making the run {begun:.1?}), best {:.1?}, worst {:.1?}",
            times[0].0, times[6].0
        );
    }
}

/// One batch of cleaning beside 100,000 runs with two tasks each: 1,000 of them are old.
#[tokio::test(flavor = "multi_thread")]
#[ignore = "a measurement"]
async fn cleaning_among_100_000_runs() {
    let home = tempfile::tempdir().unwrap();
    let store = store(home.path()).await;
    let dag = dag("dag: d\ntasks:\n  a: {job: give}\n");
    let first = store.create_run(&dag, &dag.params(&[]).unwrap(), Timestamp::now()).await.unwrap();
    let version = store.run(first).await.unwrap().dag_version;
    let database = database(home.path()).await;
    let now = Timestamp::now().millis();
    for thousand in 0..100_i64 {
        let (mut runs, mut tasks, mut attempts) = (Vec::new(), Vec::new(), Vec::new());
        for number in thousand * 1000..(thousand + 1) * 1000 {
            let id = uuid::Uuid::now_v7();
            let at = if number % 100 == 0 { 1 } else { now };
            runs.push(format!("('{id}', '{version}', 'd', '{{}}', 'manual', 'succeeded', {at}, {at})"));
            for task in ["a", "b"] {
                tasks.push(format!("('{id}{task}', '{id}', '{task}', -1, 'single', 0, 'succeeded', {at})"));
                attempts.push(format!("('{id}{task}1', '{id}{task}', 1, 'succeeded', 'h', 1, 'k', {at}, {at})"));
            }
        }
        for (into, rows) in [
            ("run (id, dag_version_id, dag, params, cause, state, created_at, finished_at)", runs),
            ("task_instance (id, run_id, task, map_index, kind, position, state, ready_at)", tasks),
            (
                "attempt (id, task_instance_id, number, state, owner_host, owner_pid, owner_key, lease_until, started_at)",
                attempts,
            ),
        ] {
            let sql = sqlx::AssertSqlSafe(format!("INSERT INTO {into} VALUES {}", rows.join(", ")));
            sqlx::query(sql).execute(database.pool()).await.unwrap();
        }
    }
    let logs = Logs::new(home.path().join("logs").as_path().into(), LogsOptions::default());
    let history = History::new(store, logs, home.path());
    for (what, keep) in [
        ("logs of 1,000", Keep { runs: None, logs: Some(Duration::from_secs(86_400)) }),
        ("1,000 runs", Keep { runs: Some(Duration::from_secs(86_400)), logs: None }),
        ("nothing", Keep { runs: Some(Duration::from_secs(86_400)), logs: Some(Duration::from_secs(86_400)) }),
    ] {
        let began = Instant::now();
        let removed = history.clean(keep, Timestamp::now()).await.unwrap();
        println!("{what} among 100,000: {:.1?}, {removed:?}", began.elapsed());
    }
}

fn fsync_ms(folder: &std::path::Path) -> f64 {
    use std::io::Write;
    let mut file = std::fs::File::create(folder.join("probe")).unwrap();
    let mut times: Vec<f64> = (0..100)
        .map(|_| {
            file.write_all(&[7; 4096]).unwrap();
            let began = Instant::now();
            file.sync_data().unwrap();
            began.elapsed().as_secs_f64() * 1000.0
        })
        .collect();
    times.sort_by(f64::total_cmp);
    times[50]
}
