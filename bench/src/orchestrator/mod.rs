//! The orchestrator: DAGs of tasks that do nothing, or very little, on durable SQLite beside Python orchestrators, and on
//! a PostgreSQL server.

mod flows;
mod history;
mod peers;
mod server;
mod states;

use platform::database::Engine;
use tokio::runtime::Runtime;

use crate::error::{Error, Result};
use crate::process;
use crate::results::{Row, median, percentile_95};
use crate::workplace::Workplace;

use flows::Flow;
use server::Trigger;
use states::States;

/// Seconds that a chain of 40 may take.
const CHAIN_GOAL: f64 = 0.1;
/// Tasks a second that a fan-out is to reach.
const FAN_OUT_GOAL: f64 = 2000.0;
/// Milliseconds from a trigger to the start of its task, at the 95th percentile.
const START_GOAL: f64 = 10.0;
/// Percent of one core that a server without work may take.
const IDLE_GOAL: f64 = 0.5;
/// How much slower everything may be with a long history.
const HISTORY_GOAL: f64 = 1.1;

/// Measures the section on SQLite.
pub(crate) fn run(place: &Workplace) -> Result<Vec<Row>> {
    let runtime = Runtime::new().map_err(Error::io("the runtime"))?;
    measure(place, &runtime, &States::Sqlite)
}

/// Measures the section on a PostgreSQL server of its own, which flushes every commit to the disk.
pub(crate) fn run_on_postgres(place: &Workplace) -> Result<Vec<Row>> {
    let runtime = Runtime::new().map_err(Error::io("the runtime"))?;
    let states = runtime.block_on(states::start_postgres())?;
    measure(place, &runtime, &states)
}

/// Measures the same DAGs on SQLite beside the peers.
pub(crate) fn run_peers(place: &Workplace) -> Result<Vec<Row>> {
    let rounds = rounds(place);
    let runtime = Runtime::new().map_err(Error::io("the runtime"))?;
    let flows = Flow::compared();
    let mut ours = Vec::new();
    for flow in &flows {
        eprintln!("  {}, {rounds} rounds", flow.name);
        ours.push(runtime.block_on(flows::times(&States::Sqlite, flow, rounds))?);
    }
    let cold = cold_starts(place, rounds)?;
    let mut rows =
        vec![Row::alone("`safari run` of one task, whole process", "", "s", median(&cold)).note(spread(&cold))];
    for measured in peers::measure(place, rounds) {
        rows.extend(against(&flows, &ours, &cold, measured));
    }
    Ok(rows)
}

fn rounds(place: &Workplace) -> usize {
    place.pick(5, 2)
}

fn measure(place: &Workplace, runtime: &Runtime, states: &States) -> Result<Vec<Row>> {
    let rounds = rounds(place);
    let mut rows = Vec::new();
    let fsync = fsync_seconds()?;
    let flows = Flow::compared();
    let mut ours = Vec::new();
    for flow in &flows {
        eprintln!("  {}, {rounds} rounds", flow.name);
        ours.push(runtime.block_on(flows::times(states, flow, rounds))?);
    }
    for (flow, times) in flows.iter().zip(&ours) {
        let row = Row::alone(flow.name, "a goal", "s", median(times)).note(spread(times));
        let is_chain = flow.name == flows::CHAIN;
        rows.push(if is_chain { at_most(row, CHAIN_GOAL) } else { row });
    }
    if let (Some(chain), Some(times)) = (flows.first(), ours.first()) {
        // Every end is flushed to the disk before what needs it begins.
        let bare = fsync * (chain.commits as f64);
        let note =
            format!("{} commits one after the other; one flush of 4 KiB takes {:.2} ms", chain.commits, fsync * 1e3);
        rows.push(Row::compare(flows::CHAIN, "bare flushes", "s", (median(times), bare), false).note(note));
    }

    eprintln!("  fan-out of 2000");
    let fan = Flow::fan_out_2000();
    let times = runtime.block_on(flows::times(states, &fan, rounds))?;
    let rates: Vec<f64> = times.iter().map(|time| 2001.0 / time).collect();
    rows.push(at_least(Row::alone(fan.name, "a goal", "tasks/s", median(&rates)), FAN_OUT_GOAL));

    eprintln!("  queued runs, and triggers while idle");
    let count = place.pick(1000, 100);
    let queued = runtime.block_on(async { server::queued_runs(&states.fresh().await?, count).await })?;
    rows.push(Row::alone(&format!("{count} queued runs of one task"), "", "s", queued));
    let count = place.pick(200, 20);
    for (trigger, name) in [(Trigger::Own, "trigger"), (Trigger::Other, "trigger by another process")] {
        let starts =
            runtime.block_on(async { server::trigger_to_start(&states.fresh().await?, trigger, count).await })?;
        rows.push(Row::alone(&format!("idle, {name} to start, median"), "", "ms", median(&starts)));
        let what = format!("idle, {name} to start, 95th percentile");
        let row = Row::alone(&what, "a goal", "ms", percentile_95(&starts));
        // On SQLite another process is noticed by looking, not told.
        let is_goal = trigger == Trigger::Own || states.engine() == Engine::Postgres;
        rows.push(if is_goal { at_most(row, START_GOAL) } else { row });
    }

    eprintln!("  a server without work");
    let idle = server::idle(place, &runtime.block_on(states.fresh())?, place.pick(30, 5) as u64)?;
    rows.push(at_most(Row::alone("server without work, processor", "a goal", "% of a core", idle.percent), IDLE_GOAL));
    rows.push(Row::alone("server without work, memory", "", "MiB", idle.mebibytes));

    let runs = place.pick(100_000, 5_000);
    eprintln!("  a history of {runs} runs");
    rows.extend(runtime.block_on(history::compare(states, runs, rounds))?);
    Ok(rows)
}

/// Ours beside one peer, or why it was skipped.
fn against(flows: &[Flow], ours: &[Vec<f64>], cold: &[f64], measured: peers::Measured) -> Vec<Row> {
    let peer = match measured.result {
        Ok(peer) => peer,
        Err(reason) => return vec![Row::skipped("all of these", &measured.name, "s", &reason)],
    };
    let mut rows = Vec::new();
    for (flow, times) in flows.iter().zip(ours) {
        match peer.workloads.get(flow.key) {
            Some(theirs) if theirs.is_empty() => {
                rows.push(Row::skipped(flow.name, &peer.peer, "s", "given up, see the remarks"));
            }
            Some(theirs) => {
                let row = Row::compare(flow.name, &peer.peer, "s", (median(times), median(theirs)), false);
                rows.push(row.note(spread(theirs)));
            }
            None => {}
        }
    }
    if !peer.cold_start.is_empty() {
        let numbers = (median(cold), median(&peer.cold_start));
        rows.push(Row::compare("one task, whole process", &peer.peer, "s", numbers, false));
    }
    if let Some(last) = rows.pop() {
        rows.push(last.note(peer.notes.join("; ")));
    }
    rows
}

/// The whole of `safari run` with a task that does nothing: a wait for a moment that has passed.
fn cold_starts(place: &Workplace, rounds: usize) -> Result<Vec<f64>> {
    let home = tempfile::tempdir().map_err(Error::io(std::env::temp_dir()))?;
    let file = home.path().join("one.yaml");
    let yaml = "dag: one\ntasks:\n  only: {job: wait_for_time, with: {time: '2026-01-01T00:00:00Z'}}\n";
    std::fs::write(&file, yaml).map_err(Error::io(&file))?;
    let mut times = Vec::new();
    // The first reads the program from the disk.
    for round in 0..=rounds {
        let ended = process::time(place.run_dag(&file, &home.path().join("home")))?;
        if round > 0 {
            times.push(ended.seconds);
        }
    }
    Ok(times)
}

/// Seconds of appending 4 KiB and flushing them to the disk, where the databases of this section lie.
fn fsync_seconds() -> Result<f64> {
    use std::io::Write;
    let mut file = tempfile::tempfile().map_err(Error::io(std::env::temp_dir()))?;
    let mut times = Vec::new();
    for _ in 0..200 {
        file.write_all(&[7; 4096]).map_err(Error::io("a temporary file"))?;
        let began = std::time::Instant::now();
        file.sync_data().map_err(Error::io("a temporary file"))?;
        times.push(began.elapsed().as_secs_f64());
    }
    Ok(median(&times))
}

fn spread(times: &[f64]) -> String {
    format!("{} rounds, 95th percentile {:.3} s", times.len(), percentile_95(times))
}

fn at_most(row: Row, most: f64) -> Row {
    let met = row.ours.map(|ours| ours <= most);
    Row { goal: Some(format!("≤ {most}")), met, ..row }
}

fn at_least(row: Row, least: f64) -> Row {
    let met = row.ours.map(|ours| ours >= least);
    Row { goal: Some(format!("≥ {least}")), met, ..row }
}
