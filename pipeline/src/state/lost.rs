//! Attempts whose owner is gone.

use sqlx::any::AnyRow;
use sqlx::{AnyConnection, FromRow, Row as _};

use super::claim::STEP_OF_PRIORITY;
use super::rules::{AfterLoss, after_loss, given_up};
use super::step::{Change, LostRule, RunTransaction};
use super::types::{Owner, TaskState};
use super::writer::read_id;
use crate::clock::Timestamp;
use crate::error::{Error, Result};
use platform::database::Statement;

const DOING: &str = "taking over lost attempts";

struct Row {
    instance: String,
    attempt: String,
    position: i64,
    map_index: i64,
    lost_in_a_row: i64,
    pool: Option<String>,
    slots: i64,
    owner_host: String,
    owner_pid: i64,
    owner_key: String,
}

/// Marks attempts lost: of other owners those whose lease ran out and, on a take-over, all that ran on this host (the
/// lock of the run was free, so their process is dead); of our own those that we do not know of; and those that the
/// rule names. Their instances become
/// ready again, without counting as a retry.
pub(super) async fn release(run: &mut RunTransaction<'_>, owner: &Owner, rule: &LostRule) -> Result<()> {
    let (now, stopping) = (run.now, run.stopping);
    let rows = lost_attempts(run, owner, rule).await?;
    for row in rows {
        let gone = rule.gone.as_ref().and_then(|gone| gone.get(&read_id(&row.attempt).ok()?));
        let own = row.owner_key == owner.key && gone.is_none();
        let AfterLoss { instance: state, lost_in_a_row: lost, is_poison: poison } =
            after_loss(row.lost_in_a_row, own, rule.most_in_a_row, stopping);
        let how = match (gone, own) {
            (Some(gone), _) => gone.how.clone(),
            (None, true) => "the database went away before its worker knew that it had it".to_owned(),
            (None, false) => format!("process {} on {} died or stopped answering", row.owner_pid, row.owner_host),
        };
        let error = poison.then(|| given_up(lost, row.owner_pid, &row.owner_host));
        if !mark_lost(run.connection, &row, &how, now).await? {
            // It was taken over at this moment.
            continue;
        }
        let moved = sqlx::query(
            "UPDATE task_instance
             SET state = $1, ready_at = $2, turn = $2 - priority * $3, lost_in_a_row = $4, error = $5, finished_at = $6
             WHERE id = $7 AND state = 'running'",
        )
        .bind(state.as_str())
        .bind(now.millis())
        .bind(STEP_OF_PRIORITY.as_millis() as i64)
        .bind(lost)
        .bind(&error)
        .bind(state.is_finished().then(|| now.millis()))
        .bind(&row.instance)
        .execute(&mut *run.connection)
        .await
        .map_err(|error| Error::database(DOING, error))?;
        if moved.rows_affected() == 0 {
            return Err(Error::Corrupt {
                what: format!("a running attempt of instance {}, which is not", row.instance),
            });
        }
        run.give_back(row.pool.as_deref(), row.slots).await?;
        let position = usize::try_from(row.position).unwrap_or(usize::MAX);
        let map_index = u32::try_from(row.map_index).ok();
        run.made_ready(position, u64::from(state == TaskState::Ready));
        run.changes.push(Change::Lost { position, map_index, failed: poison, how });
        run.settle(position, map_index, state, error);
    }
    Ok(())
}

async fn lost_attempts(run: &mut RunTransaction<'_>, owner: &Owner, rule: &LostRule) -> Result<Vec<Row>> {
    let mut query = Statement::new(
        "SELECT t.id AS instance, a.id AS attempt, t.position, t.map_index, t.lost_in_a_row, t.pool, t.slots,
                a.owner_host, a.owner_pid, a.owner_key
         FROM task_instance t JOIN attempt a ON a.task_instance_id = t.id AND a.number = t.attempts
         WHERE t.run_id = ",
    );
    query.text(run.plan.run.to_string());
    query.push(" AND t.state = 'running' AND t.kind <> 'map' AND a.state = 'running' AND (a.owner_key <> ");
    query.text(owner.key.as_str()).push(" AND (a.lease_until < ").number(run.now.millis());
    if rule.take_over {
        query.push(" OR a.owner_host = ").text(owner.host.as_str());
    }
    query.push(")");
    if let Some(known) = &rule.known {
        query.push(" OR a.owner_key = ").text(owner.key.as_str());
        if !known.is_empty() {
            query.push(" AND a.id NOT IN ").row();
            for attempt in known.iter() {
                query.text(attempt.to_string());
            }
            query.end_row();
        }
    }
    for (attempt, gone) in rule.gone.iter().flat_map(|gone| gone.iter()) {
        query.push(" OR (a.id = ").text(attempt.to_string());
        query.push(" AND a.owner_key = ").text(gone.owner_key.as_str()).push(")");
    }
    query.push(")");
    query.query_as().fetch_all(&mut *run.connection).await.map_err(|error| Error::database(DOING, error))
}

/// False when it is another's by now.
async fn mark_lost(connection: &mut AnyConnection, row: &Row, how: &str, now: Timestamp) -> Result<bool> {
    let marked = sqlx::query(
        "UPDATE attempt SET state = 'lost', finished_at = $1, error = $2
         WHERE id = $3 AND state = 'running' AND owner_key = $4",
    )
    .bind(now.millis())
    .bind(how)
    .bind(&row.attempt)
    .bind(&row.owner_key)
    .execute(connection)
    .await
    .map_err(|error| Error::database(DOING, error))?;
    Ok(marked.rows_affected() > 0)
}

impl FromRow<'_, AnyRow> for Row {
    fn from_row(row: &AnyRow) -> sqlx::Result<Self> {
        Ok(Self {
            instance: row.try_get("instance")?,
            attempt: row.try_get("attempt")?,
            position: row.try_get("position")?,
            map_index: row.try_get("map_index")?,
            lost_in_a_row: row.try_get("lost_in_a_row")?,
            pool: row.try_get("pool")?,
            slots: row.try_get("slots")?,
            owner_host: row.try_get("owner_host")?,
            owner_pid: row.try_get("owner_pid")?,
            owner_key: row.try_get("owner_key")?,
        })
    }
}
