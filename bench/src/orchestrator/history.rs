//! Whether a long history slows anything down.

use super::flows::{Flow, times_in};
use super::{HISTORY_GOAL, home, store};
use crate::error::{Error, Result};
use crate::results::{Row, median};

/// Writes ended runs, each with a task and an attempt, in the shape in which a server leaves them.
const RUNS: &str = "WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < $1)
    INSERT INTO run (id, dag_version_id, dag, params, cause, state, created_at, started_at, finished_at)
    SELECT printf('01900000-0000-7000-8000-%012x', i), v.id, v.dag, '{}', 'schedule', 'succeeded',
           1700000000000 + i, 1700000000000 + i, 1700000000000 + i
    FROM n, (SELECT id, dag FROM dag_version LIMIT 1) v";
const TASKS: &str = "INSERT INTO task_instance
      (id, run_id, task, map_index, kind, position, state, ready_at, turn, attempts, started_at, finished_at)
    SELECT '0190ffff' || substr(id, 9), id, 't0', -1, 'single', 0, 'succeeded', created_at, created_at, 1, created_at,
           created_at
    FROM run WHERE id LIKE '01900000-0000-7000-8000-%'";
const ATTEMPTS: &str = "INSERT INTO attempt
      (id, task_instance_id, number, state, owner_host, owner_pid, owner_key, lease_until, started_at, finished_at)
    SELECT '0190eeee' || substr(id, 9), id, 1, 'succeeded', 'host', 1, 'key', started_at, started_at, started_at
    FROM task_instance WHERE id LIKE '0190ffff%'";

/// Times of flows in an empty database and in one with `runs` ended runs.
pub(super) async fn compare(runs: usize, rounds: usize) -> Result<Vec<Row>> {
    let (few, many) = (home()?, home()?);
    let (empty, full) = (store(few.path()).await?, store(many.path()).await?);
    let flows = Flow::compared();
    // Writes the version of the DAG that the history is of.
    times_in(&full, many.path(), &flows[0], 1).await?;
    let database = platform::database::open_sqlite(&many.path().join("state.db")).await?;
    for sql in [RUNS, TASKS, ATTEMPTS] {
        let query = if sql == RUNS { sqlx::query(sql).bind(runs as i64) } else { sqlx::query(sql) };
        query.execute(database.pool()).await.map_err(|error| Error::failed("making a history", error.to_string()))?;
    }
    database.pool().close().await;
    let mut rows = Vec::new();
    for flow in &flows[..2] {
        // Taking turns, so that what the machine does meanwhile hits both.
        let (mut without, mut with) = (Vec::new(), Vec::new());
        for _ in 0..3 {
            without.extend(times_in(&empty, few.path(), flow, rounds).await?);
            with.extend(times_in(&full, many.path(), flow, rounds).await?);
        }
        let (without, with) = (median(&without), median(&with));
        let what = format!("{}, after {runs} ended runs", flow.name);
        let mut row = Row::alone(&what, "an empty database", "s", with);
        row.peer = Some(without);
        row.ratio = Some(with / without);
        row.goal = Some(format!("time ≤ {HISTORY_GOAL} of it"));
        row.met = Some(with <= without * HISTORY_GOAL);
        rows.push(row.note("ratio of the times, smaller is better"));
    }
    Ok(rows)
}
