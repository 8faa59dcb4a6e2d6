//! Who drives a rollout.

use std::time::{Duration, Instant};

use sqlx::AssertSqlSafe;

use super::Store;
use crate::{Error, Result, RolloutId};

/// The right to drive a rollout, until it ends or is lost.
#[derive(Clone, Debug)]
pub struct Lease {
    /// The rollout.
    pub id: RolloutId,
    /// Greater than that of all holders before.
    pub fence: i64,
    /// By this process' clock: it ends no later than the database thinks, since it was asked for before.
    pub until: Instant,
}

impl Store {
    /// Takes the lease of a rollout that nobody holds; none if somebody does, or if it has ended.
    ///
    /// # Errors
    /// The database does not answer.
    pub async fn claim(&self, id: RolloutId, holder: &str, length: Duration) -> Result<Option<Lease>> {
        let until = Instant::now() + length;
        let mut write = self.write().await?;
        let sql = format!(
            "UPDATE rollout SET holder = $2, fence = fence + 1, lease_until = {now} + $3
             WHERE id = $1 AND ended_at IS NULL AND (holder IS NULL OR lease_until < {now}) RETURNING fence",
            now = self.now()
        );
        let fence: Option<i64> = sqlx::query_scalar(AssertSqlSafe(sql))
            .bind(id.to_string())
            .bind(holder)
            .bind(millis(length))
            .fetch_optional(write.connection())
            .await
            .map_err(Error::database("taking a rollout"))?;
        write.commit().await?;
        Ok(fence.map(|fence| Lease { id, fence, until }))
    }

    /// Holds a lease for longer; none if it was lost.
    ///
    /// # Errors
    /// The database does not answer; until its end the lease is held still.
    pub async fn renew(&self, lease: &Lease, length: Duration) -> Result<Option<Lease>> {
        let until = Instant::now() + length;
        let mut write = self.write().await?;
        let sql = format!(
            "UPDATE rollout SET lease_until = {now} + $3 WHERE id = $1 AND fence = $2 AND holder IS NOT NULL",
            now = self.now()
        );
        let renewed = sqlx::query(AssertSqlSafe(sql))
            .bind(lease.id.to_string())
            .bind(lease.fence)
            .bind(millis(length))
            .execute(write.connection())
            .await
            .map_err(Error::database("holding a rollout"))?;
        write.commit().await?;
        Ok((renewed.rows_affected() == 1).then(|| Lease { until, ..lease.clone() }))
    }

    /// Gives a lease back, so that another need not wait for its end.
    ///
    /// # Errors
    /// The database does not answer.
    pub async fn release(&self, lease: &Lease) -> Result<()> {
        let mut write = self.write().await?;
        sqlx::query("UPDATE rollout SET holder = NULL, lease_until = 0 WHERE id = $1 AND fence = $2")
            .bind(lease.id.to_string())
            .bind(lease.fence)
            .execute(write.connection())
            .await
            .map_err(Error::database("giving a rollout back"))?;
        write.commit().await
    }
}

fn millis(time: Duration) -> i64 {
    i64::try_from(time.as_millis()).unwrap_or(i64::MAX)
}
