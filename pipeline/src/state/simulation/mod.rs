//! A simulation: schedulers and workers over many runs, with a virtual clock and random faults, all from one seed.
//!
//! Histories are played on a [`model`] of the orchestrator in memory, thousands in seconds, and after every step its rows
//! must hold what the module `state` promises ([`check`]). Some of them are played on the real store as well ([`sql`]): after
//! every step its answers and its rows must be the model's, so that what the model was found to keep, the SQL keeps.
//!
//! `SIMULATION_HISTORIES=100000` plays more histories than the test does, `SIMULATION_SQL_HISTORIES=5000` more of them on the
//! store, `SIMULATION_SEED=7` other ones, and `SIMULATION_ONLY=123` that history alone.
#![allow(clippy::unwrap_used)]

mod check;
mod counts;
mod dags;
mod model;
mod rows;
mod sql;
mod world;

use std::time::Instant;

use self::check::Verdict;
use self::counts::Counts;
use self::model::Flaw;
use self::world::World;
use super::on_sqlite::empty_database;
use super::*;

/// What the tests play.
const HISTORIES: usize = 6000;
const SQL_HISTORIES: usize = 300;
/// Histories that a database holds before the next is taken: the fewer runs it has, the faster the checks.
const HISTORIES_OF_A_DATABASE: usize = 12;

#[test]
fn random_histories_of_many_runs_keep_every_promise() {
    play(HISTORIES, "SIMULATION_HISTORIES", |seed, histories| async move {
        let mut counts = Counts::default();
        for history in histories {
            counts.add(World::new(seed, history, None, None).await.play().await?);
        }
        Ok(counts)
    });
}

#[test]
fn random_histories_go_on_sql_step_by_step_as_on_the_model() {
    play(SQL_HISTORIES, "SIMULATION_SQL_HISTORIES", |seed, histories| async move {
        let mut counts = Counts::default();
        for some in histories.chunks(HISTORIES_OF_A_DATABASE) {
            let home = tempfile::tempdir().unwrap();
            let store = Store::open(empty_database(home.path()).await).await.unwrap();
            for history in some {
                counts.add(World::new(seed, *history, Some(&store), None).await.play().await?);
            }
        }
        Ok(counts)
    });
}

#[tokio::test]
async fn every_flaw_of_a_model_is_found() {
    for flaw in Flaw::ALL {
        let mut found = None;
        for history in 0..HISTORIES {
            if let Err(breach) = World::new(1, history, None, Some(flaw)).await.play().await {
                found = Some(breach);
                break;
            }
        }
        let breach = found.unwrap_or_else(|| panic!("{flaw:?} is not found in {HISTORIES} histories"));
        println!("{flaw:?}: {}", breach.lines().next().unwrap_or_default());
    }
}

/// What the SQL might do otherwise than the model, done by hand.
#[tokio::test]
async fn a_row_that_differs_from_the_model_is_noticed() {
    let differences = [
        "UPDATE dag SET active_runs = 1",
        "UPDATE pool SET used = 1 WHERE name = 'p'",
        "UPDATE run SET error = 'other'",
        "UPDATE task_instance SET attempts = 1 WHERE position = 0",
        "DELETE FROM task_instance WHERE position = 0",
    ];
    for difference in differences {
        let home = tempfile::tempdir().unwrap();
        let store = Store::open(empty_database(home.path()).await).await.unwrap();
        // The first history that begins with a run.
        let mut number = 0;
        let world = loop {
            let world = World::new(1, number, Some(&store), None).await;
            if world.has_runs() {
                break world;
            }
            number += 1;
        };
        sqlx::query(difference).execute(store.pool()).await.unwrap();
        let breach = world.play().await.expect_err(difference);
        assert!(breach.contains("step 0") && breach.contains("differ"), "{difference}: {breach}");
    }
}

/// Plays so many histories, or as many as a variable says, on all cores; fails at the first breach.
fn play<F: Future<Output = Verdict<Counts>>>(
    usual: usize,
    variable: &str,
    lane: impl Fn(usize, Vec<usize>) -> F + Copy + Send + 'static,
) {
    let number = |name: &str| std::env::var(name).ok().and_then(|text| text.parse::<usize>().ok());
    let seed = number("SIMULATION_SEED").unwrap_or(1);
    let histories: Vec<usize> = match number("SIMULATION_ONLY") {
        Some(one) => vec![one],
        None => (0..number(variable).unwrap_or(usual)).collect(),
    };
    let is_whole = histories.len() >= usual;
    let (began, mut counts) = (Instant::now(), Counts::default());
    let cores = std::thread::available_parallelism().map_or(1, usize::from);
    let lanes = (0..cores).map(|core| {
        let own: Vec<usize> = histories.iter().copied().skip(core).step_by(cores).collect();
        std::thread::spawn(move || {
            stay_on(core);
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
            runtime.block_on(lane(seed, own))
        })
    });
    // All at once, before the first is waited for.
    let lanes: Vec<_> = lanes.collect();
    for lane in lanes {
        match lane.join().unwrap() {
            Ok(of_lane) => counts.add(of_lane),
            Err(breach) => panic!("with SIMULATION_SEED={seed} SIMULATION_ONLY=(the number): {breach}"),
        }
    }
    let took = began.elapsed().as_secs_f64();
    println!("{took:.1} s, {:.0} histories a second: {counts:?}", counts.histories as f64 / took);
    if is_whole {
        counts.assert_that_all_happened();
    }
}

/// Keeps this thread, and those that it starts, on one core: a history goes back and forth between the threads of its
/// database, and waking one on another core takes longer than its work. Without `taskset` the histories are slower.
fn stay_on(core: usize) {
    let thread = std::fs::read_link("/proc/thread-self").ok();
    let Some(thread) = thread.as_deref().and_then(std::path::Path::file_name) else { return };
    drop(std::process::Command::new("taskset").args(["-cp", &core.to_string()]).arg(thread).output());
}
