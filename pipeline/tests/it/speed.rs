//! Measurements, not tests: `cargo test -p pipeline --test it speed -- --ignored --nocapture --test-threads 1`.

use std::time::Instant;

use pipeline::{RunState, Runner, RunnerOptions};

use crate::common::{dag, registry, store};

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
    for (name, yaml, parallelism) in [("chain of 50", chain.as_str(), 2), ("fan-out 2000 and join", fan, 32)] {
        let mut times = Vec::new();
        for _ in 0..7 {
            let options = RunnerOptions { parallelism, ..RunnerOptions::new(home.path()) };
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
