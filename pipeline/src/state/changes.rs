//! What happened to runs, in one order for all who follow them.
//!
//! A change is written in the transaction that makes it, without a position, because transactions may commit in another
//! order than they began. Positions are given to what is committed by one process at a time, so that no change ever
//! appears behind a position that somebody has read up to.

use sqlx::AnyConnection;

use super::Store;
use super::types::{RunCause, RunState};
use super::writer::read_id;
use crate::clock::Timestamp;
use crate::error::{Error, Result};
use crate::ids::RunId;

/// Changes that are given positions in one transaction: bounds how long others wait for SQLite's only writer.
const AT_ONCE: i64 = 10_000;

const DOING: &str = "following runs";

/// A run has come to a state.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RunChange {
    /// Its place in the order of all changes; later ones have greater ones.
    pub position: i64,
    /// The run.
    pub run: RunId,
    /// Name of its DAG.
    pub dag: String,
    /// What started it.
    pub cause: RunCause,
    /// Where it stands since then.
    pub state: RunState,
    /// When.
    pub at: Timestamp,
}

/// Which changes are wanted.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ChangeFilter {
    /// Only of this run.
    pub run: Option<RunId>,
    /// Only of runs of this DAG.
    pub dag: Option<String>,
}

impl ChangeFilter {
    /// Whether a change is wanted.
    pub fn fits(&self, change: &RunChange) -> bool {
        self.run.is_none_or(|run| run == change.run) && self.dag.as_ref().is_none_or(|dag| *dag == change.dag)
    }
}

impl Store {
    /// Gives positions to all changes that are committed.
    pub(crate) async fn place_changes(&self) -> Result<()> {
        while self.has_unplaced_changes().await? {
            let mut transaction = self.pool().begin_with(self.database.begin_write()).await.map_err(doing)?;
            // Locks the row: what another process has placed meanwhile is seen by the next statement.
            let (last,): (i64,) = sqlx::query_as("UPDATE run_change_last SET position = position RETURNING position")
                .fetch_one(&mut *transaction)
                .await
                .map_err(doing)?;
            let placed = sqlx::query(
                "UPDATE run_change SET position = $1 + unplaced.place
                 FROM (SELECT run_id, number, ROW_NUMBER() OVER (ORDER BY changed_at, number, run_id) AS place
                       FROM run_change WHERE position IS NULL ORDER BY changed_at, number, run_id LIMIT $2) AS unplaced
                 WHERE run_change.run_id = unplaced.run_id AND run_change.number = unplaced.number",
            )
            .bind(last)
            .bind(AT_ONCE)
            .execute(&mut *transaction)
            .await
            .map_err(doing)?;
            sqlx::query("UPDATE run_change_last SET position = position + $1")
                .bind(i64::try_from(placed.rows_affected()).unwrap_or(AT_ONCE))
                .execute(&mut *transaction)
                .await
                .map_err(doing)?;
            transaction.commit().await.map_err(doing)?;
        }
        Ok(())
    }

    /// The last position that was given.
    pub(crate) async fn last_change(&self) -> Result<i64> {
        let (last,): (i64,) =
            sqlx::query_as("SELECT position FROM run_change_last").fetch_one(self.pool()).await.map_err(doing)?;
        Ok(last)
    }

    /// The first changes behind a position, in order.
    pub(crate) async fn changes_after(&self, position: i64, most: u32) -> Result<Vec<RunChange>> {
        type Row = (i64, String, String, String, String, i64);
        let rows: Vec<Row> = sqlx::query_as(
            "SELECT run_change.position, run.id, run.dag, run.cause, run_change.state, run_change.changed_at
             FROM run_change JOIN run ON run.id = run_change.run_id
             WHERE run_change.position > $1 ORDER BY run_change.position LIMIT $2",
        )
        .bind(position)
        .bind(i64::from(most))
        .fetch_all(self.pool())
        .await
        .map_err(doing)?;
        let read = |(position, run, dag, cause, state, at): Row| {
            Ok(RunChange {
                position,
                run: read_id(&run)?,
                dag,
                cause: RunCause::read(&cause)?,
                state: RunState::read(&state)?,
                at: Timestamp::from_millis(at),
            })
        };
        rows.into_iter().map(read).collect()
    }

    /// Mostly there are none: looked at without a lock.
    async fn has_unplaced_changes(&self) -> Result<bool> {
        let found: Option<(i64,)> =
            sqlx::query_as("SELECT CAST(1 AS BIGINT) FROM run_change WHERE position IS NULL LIMIT 1")
                .fetch_optional(self.pool())
                .await
                .map_err(doing)?;
        Ok(found.is_some())
    }
}

/// Notes a change. The transaction must have made or locked the run: its changes are numbered one after the other.
pub(super) async fn note(connection: &mut AnyConnection, run: RunId, state: RunState, now: Timestamp) -> Result<()> {
    sqlx::query(
        "INSERT INTO run_change (run_id, number, state, changed_at)
         SELECT $1, COALESCE(MAX(number), 0) + 1, $2, CASE WHEN MAX(changed_at) > $3 THEN MAX(changed_at) ELSE $3 END
         FROM run_change WHERE run_id = $1",
    )
    .bind(run.to_string())
    .bind(state.as_str())
    .bind(now.millis())
    .execute(connection)
    .await
    .map(drop)
    .map_err(doing)
}

fn doing(error: sqlx::Error) -> Error {
    Error::database(DOING, error)
}
