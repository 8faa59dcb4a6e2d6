//! Whether a long history slows anything down.

use std::time::Instant;

use pipeline::RunState;
use pipeline::state::RunFilter;
use platform::database::{Database, Engine};

use super::HISTORY_GOAL;
use super::flows::{Flow, times_in};
use super::server::{Trigger, queued_runs, trigger_to_start};
use super::states::{State, States};
use crate::error::{Error, Result};
use crate::results::{Row, median};

/// Turns of each side, so that what the machine does meanwhile hits both: some of what is measured takes a twentieth of a
/// second, and medians of three turns differed by a tenth from one run of the bench to the next.
const TURNS: usize = 9;

/// Writes ended runs, each with a task and an attempt, in the shape in which a server leaves them.
fn statements(engine: Engine, runs: usize) -> [String; 3] {
    let number = match engine {
        Engine::Sqlite => "printf('%012x', i)",
        Engine::Postgres => "lpad(to_hex(i), 12, '0')",
    };
    [
        format!(
            "WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < {runs})
             INSERT INTO run (id, dag_version_id, dag, params, cause, state, created_at, started_at, finished_at)
             SELECT '01900000-0000-7000-8000-' || {number}, v.id, v.dag, '{{}}', 'manual', 'succeeded',
                    1700000000000 + i, 1700000000000 + i, 1700000000000 + i
             FROM n, (SELECT id, dag FROM dag_version LIMIT 1) v"
        ),
        "INSERT INTO task_instance
             (id, run_id, task, map_index, kind, position, state, ready_at, turn, attempts, started_at, finished_at)
         SELECT '0190ffff' || substr(id, 9), id, 't0', -1, 'single', 0, 'succeeded', created_at, created_at, 1,
                created_at, created_at
         FROM run WHERE id LIKE '01900000-0000-7000-8000-%'"
            .to_owned(),
        "INSERT INTO attempt
             (id, task_instance_id, number, state, owner_host, owner_pid, owner_key, lease_until, started_at, finished_at)
         SELECT '0190eeee' || substr(id, 9), id, 1, 'succeeded', 'host', 1, 'key', started_at, started_at, started_at
         FROM task_instance WHERE id LIKE '0190ffff%'"
            .to_owned(),
    ]
}

/// Times in an empty state and in one with `runs` ended runs.
pub(super) async fn compare(states: &States, runs: usize, rounds: usize) -> Result<Vec<Row>> {
    let (empty, full) = (states.fresh().await?, states.fresh().await?);
    let flows = Flow::compared();
    // Writes the version of the DAG that the history is of.
    times_in(&full, &flows[0], 1).await?;
    write_history(&full, runs).await?;

    let mut rows = Vec::new();
    for flow in &flows[..3] {
        let (mut without, mut with) = (Vec::new(), Vec::new());
        for _ in 0..TURNS {
            without.extend(times_in(&empty, flow, rounds).await?);
            with.extend(times_in(&full, flow, rounds).await?);
        }
        rows.push(row(flow.name, runs, "s", &without, &with));
    }

    let (mut without, mut with) = (Vec::new(), Vec::new());
    for _ in 0..TURNS {
        without.extend(trigger_to_start(&empty, Trigger::Own, rounds * 4).await?);
        with.extend(trigger_to_start(&full, Trigger::Own, rounds * 4).await?);
    }
    rows.push(row("idle, trigger to start", runs, "ms", &without, &with));

    let (mut without, mut with) = (Vec::new(), Vec::new());
    for _ in 0..TURNS {
        without.push(queued_runs(&empty, rounds * 40).await?);
        with.push(queued_runs(&full, rounds * 40).await?);
    }
    rows.push(row(&format!("{} queued runs of one task", rounds * 40), runs, "s", &without, &with));

    // Both have more than a page of runs by now; the filter is the one that finds nothing.
    for (name, filter) in [
        ("page of the newest 50 runs", RunFilter::default()),
        ("page of the failed runs", RunFilter { state: Some(RunState::Failed), ..RunFilter::default() }),
    ] {
        let (mut without, mut with) = (Vec::new(), Vec::new());
        for _ in 0..TURNS {
            without.extend(pages(&empty, &filter).await?);
            with.extend(pages(&full, &filter).await?);
        }
        rows.push(row(name, runs, "ms", &without, &with));
    }
    Ok(rows)
}

async fn write_history(state: &State, runs: usize) -> Result<()> {
    let database = Database::open(&state.address).await?;
    let mut sql = statements(database.engine(), runs).to_vec();
    // A history that has grown over weeks has been tidied up by the database itself.
    sql.push(match database.engine() {
        Engine::Sqlite => "PRAGMA wal_checkpoint(TRUNCATE)".to_owned(),
        Engine::Postgres => "VACUUM ANALYZE".to_owned(),
    });
    for sql in sql {
        let done = sqlx::query(sqlx::AssertSqlSafe(sql)).execute(database.pool()).await;
        done.map_err(|error| Error::failed("making a history", error.to_string()))?;
    }
    database.pool().close().await;
    Ok(())
}

/// Milliseconds of asking for a page of runs, some times.
async fn pages(state: &State, filter: &RunFilter) -> Result<Vec<f64>> {
    let mut times = Vec::new();
    for _ in 0..50 {
        let began = Instant::now();
        state.store.runs_before(50, None, filter).await?;
        times.push(began.elapsed().as_secs_f64() * 1e3);
    }
    Ok(times)
}

fn row(name: &str, runs: usize, unit: &str, without: &[f64], with: &[f64]) -> Row {
    let (without, with) = (median(without), median(with));
    let mut row = Row::alone(&format!("{name}, after {runs} ended runs"), "an empty database", unit, with);
    row.peer = Some(without);
    row.ratio = Some(with / without);
    row.goal = Some(format!("time ≤ {HISTORY_GOAL} of it"));
    row.met = Some(with <= without * HISTORY_GOAL);
    row.note("ratio of the times, smaller is better")
}
