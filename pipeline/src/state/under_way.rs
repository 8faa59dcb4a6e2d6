//! Attempts that are under way elsewhere than where they were claimed: an executor claims them, and a process that it has
//! started takes them over by compare-and-set on the owner, so that of many such processes one does the work.

use std::time::Duration;

use platform::database::Statement;
use sqlx::any::AnyRow;
use sqlx::{FromRow, Row as _};

use super::Store;
use super::claim::{Claimed, SUSPECT};
use super::types::Owner;
use super::writer::read_id;
use crate::clock::Timestamp;
use crate::dag::Resources;
use crate::error::{Error, Result};
use crate::ids::AttemptId;

const DOING: &str = "looking at attempts under way";

/// What a process needs to take an attempt over.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Ticket {
    /// The attempt.
    pub attempt: AttemptId,
    /// Its number, the fencing token.
    pub number: u32,
    /// The key of the owner that has claimed it.
    pub claimed_by: String,
}

/// An attempt under way.
#[derive(Clone, Debug)]
pub(crate) struct UnderWay {
    pub(crate) claim: Claimed,
    pub(crate) owner: Owner,
}

const COLUMNS: &str = "SELECT a.id AS attempt, a.number, a.owner_host, a.owner_pid, a.owner_key,
        a.started_at AS claimed_at, t.id AS instance, t.run_id, t.position, t.map_index, t.item, t.failed,
        t.lost_in_a_row, t.pool, t.slots, t.cpu_millis, t.memory_bytes, t.gpus, t.started_at, t.ready_at
 FROM attempt a JOIN task_instance t ON t.id = a.task_instance_id AND t.attempts = a.number
 WHERE a.state = 'running' AND ";

impl Store {
    /// Attempts that the owner of this key has claimed and nobody has taken over, and those that were taken over from it,
    /// the oldest first.
    pub(crate) async fn under_way(&self, claimed_by: &str) -> Result<Vec<UnderWay>> {
        let mut query = Statement::new(COLUMNS);
        query.push("(a.owner_key = ").text(claimed_by).push(" OR a.owner_key LIKE ");
        query.text(format!("{claimed_by}/%")).push(") ORDER BY a.started_at, a.id");
        query.query_as().fetch_all(self.pool()).await.map_err(doing)
    }

    /// Makes an attempt that was claimed for others the owner's; none when it has ended or another has it. Asked again by
    /// the same owner, it gives the same answer.
    pub(crate) async fn take_over(
        &self,
        ticket: &Ticket,
        owner: &Owner,
        now: Timestamp,
        lease: Duration,
    ) -> Result<Option<Claimed>> {
        let taken = sqlx::query(
            "UPDATE attempt SET owner_host = $1, owner_pid = $2, owner_key = $3, lease_until = $4
             WHERE id = $5 AND number = $6 AND state = 'running' AND owner_key IN ($7, $3)",
        )
        .bind(&owner.host)
        .bind(i64::from(owner.pid))
        .bind(&owner.key)
        .bind(now.plus(lease).millis())
        .bind(ticket.attempt.to_string())
        .bind(i64::from(ticket.number))
        .bind(&ticket.claimed_by)
        .execute(self.pool())
        .await
        .map_err(doing)?;
        if taken.rows_affected() == 0 {
            return Ok(None);
        }
        let mut query = Statement::new(COLUMNS);
        query.push("a.id = ").text(ticket.attempt.to_string()).push(" AND a.owner_key = ").text(owner.key.as_str());
        let found: Option<UnderWay> = query.query_as().fetch_optional(self.pool()).await.map_err(doing)?;
        Ok(found.map(|found| found.claim))
    }
}

impl FromRow<'_, AnyRow> for UnderWay {
    fn from_row(row: &AnyRow) -> sqlx::Result<Self> {
        let number = |name: &str| row.try_get::<i64, _>(name);
        let id = |name: &str| row.try_get::<String, _>(name);
        let corrupt = |error: Error| sqlx::Error::Decode(error.to_string().into());
        let small = |name: &str| number(name).map(|value| u32::try_from(value).unwrap_or(u32::MAX));
        let claimed_at = Timestamp::from_millis(number("claimed_at")?);
        let claim = Claimed {
            attempt: read_id(&id("attempt")?).map_err(corrupt)?,
            run: read_id(&id("run_id")?).map_err(corrupt)?,
            instance: read_id(&id("instance")?).map_err(corrupt)?,
            number: small("number")?,
            position: usize::try_from(number("position")?).unwrap_or(usize::MAX),
            map_index: u32::try_from(number("map_index")?).ok(),
            item: row.try_get("item")?,
            failed: small("failed")?,
            alone: number("lost_in_a_row")? >= SUSPECT,
            pool: row.try_get("pool")?,
            slots: number("slots")?,
            resources: Resources {
                cpu_millis: small("cpu_millis")?,
                memory_bytes: u64::try_from(number("memory_bytes")?).unwrap_or(0),
                gpus: small("gpus")?,
            },
            started_at: row.try_get::<Option<i64>, _>("started_at")?.map_or(claimed_at, Timestamp::from_millis),
            claimed_at,
            delay: claimed_at.since(Timestamp::from_millis(number("ready_at")?)),
        };
        let owner =
            Owner { host: row.try_get("owner_host")?, pid: small("owner_pid")?, key: row.try_get("owner_key")? };
        Ok(Self { claim, owner })
    }
}

fn doing(error: sqlx::Error) -> Error {
    Error::database(DOING, error)
}
