//! What is still to be told to webhooks: taken by compare-and-set, so that any number of processes may tell.

use super::{Store, Write};
use crate::clock::now_millis;
use crate::webhooks::{Delivery, DeliveryStatus};
use crate::{Error, Result};

/// A message that is to be sent now.
#[derive(Clone, Debug)]
pub(crate) struct DueDelivery {
    pub(crate) no: i64,
    pub(crate) webhook_id: String,
    pub(crate) change_id: String,
    pub(crate) payload: String,
    /// Attempts before this one; afterwards the number of this one, which fences off those before.
    pub(crate) attempts: i64,
    pub(crate) url: String,
    /// Sealed.
    pub(crate) secret: Option<String>,
    due_at: i64,
}

/// How an attempt ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Attempted {
    Delivered { status: u16 },
    Again { at: i64, status: Option<u16>, error: String },
    GivenUp { status: Option<u16>, error: String },
}

type Row = (i64, String, String, String, i64, i64, String, Option<String>);

impl Store {
    /// Messages that are due, the oldest first.
    pub(crate) async fn due_deliveries(&self, now: i64, most: i64) -> Result<Vec<DueDelivery>> {
        let rows: Vec<Row> = sqlx::query_as(
            "SELECT d.no, d.webhook_id, d.change_id, d.payload, d.attempts, d.due_at, w.url, w.secret
             FROM webhook_delivery d JOIN webhook w ON w.id = d.webhook_id
             WHERE d.status = 'PENDING' AND d.due_at <= $1 ORDER BY d.due_at, d.no LIMIT $2",
        )
        .bind(now)
        .bind(most)
        .fetch_all(self.pool())
        .await
        .map_err(Error::database("looking for what webhooks are to be told"))?;
        let read = |(no, webhook_id, change_id, payload, attempts, due_at, url, secret): Row| DueDelivery {
            no,
            webhook_id,
            change_id,
            payload,
            attempts,
            url,
            secret,
            due_at,
        };
        Ok(rows.into_iter().map(read).collect())
    }

    /// Takes a message for an attempt that is thought dead at `until`; `false` when somebody else was faster.
    pub(crate) async fn take_delivery(&self, due: &mut DueDelivery, until: i64) -> Result<bool> {
        let mut write = self.write().await?;
        let taken = sqlx::query(
            "UPDATE webhook_delivery SET attempts = attempts + 1, due_at = $4
             WHERE no = $1 AND attempts = $2 AND due_at = $3 AND status = 'PENDING'",
        )
        .bind(due.no)
        .bind(due.attempts)
        .bind(due.due_at)
        .bind(until)
        .execute(write.connection())
        .await
        .map_err(Error::database("taking what a webhook is to be told"))?;
        write.commit().await?;
        due.attempts += 1;
        Ok(taken.rows_affected() > 0)
    }

    /// Writes down how an attempt ended, unless a later one was begun meanwhile.
    pub(crate) async fn delivery_attempted(&self, due: &DueDelivery, ended: &Attempted) -> Result<()> {
        let now = now_millis();
        let (state, at, status, error, done) = match ended {
            Attempted::Delivered { status } => (DeliveryStatus::Delivered, now, Some(*status), None, Some(now)),
            Attempted::Again { at, status, error } => (DeliveryStatus::Pending, *at, *status, Some(error), None),
            Attempted::GivenUp { status, error } => (DeliveryStatus::GivenUp, now, *status, Some(error), Some(now)),
        };
        let mut write = self.write().await?;
        sqlx::query(
            "UPDATE webhook_delivery SET status = $3, due_at = $4, response_status = $5, error = $6, done_at = $7
             WHERE no = $1 AND attempts = $2 AND status = 'PENDING'",
        )
        .bind(due.no)
        .bind(due.attempts)
        .bind(state.as_str())
        .bind(at)
        .bind(status.map(i64::from))
        .bind(error.map(String::as_str))
        .bind(done)
        .execute(write.connection())
        .await
        .map_err(Error::database("writing how a webhook was told"))?;
        write.commit().await
    }

    /// When the next message is due that waits.
    pub(crate) async fn next_delivery_due(&self) -> Result<Option<i64>> {
        let found: Option<i64> =
            sqlx::query_scalar("SELECT due_at FROM webhook_delivery WHERE status = 'PENDING' ORDER BY due_at LIMIT 1")
                .fetch_optional(self.pool())
                .await
                .map_err(Error::database("looking for what webhooks are to be told"))?;
        Ok(found)
    }

    /// What a webhook was told, the newest first, from before the number `before`.
    pub(crate) async fn deliveries(&self, webhook: &str, before: Option<i64>, limit: i64) -> Result<Vec<Delivery>> {
        type Row = (i64, String, String, i64, Option<i64>, Option<String>, i64, Option<i64>);
        let rows: Vec<Row> = sqlx::query_as(
            "SELECT no, event, status, attempts, response_status, error, created_at, done_at
             FROM webhook_delivery WHERE webhook_id = $1 AND no < $2 ORDER BY no DESC LIMIT $3",
        )
        .bind(webhook)
        .bind(before.unwrap_or(i64::MAX))
        .bind(limit)
        .fetch_all(self.pool())
        .await
        .map_err(Error::database("reading what a webhook was told"))?;
        rows.into_iter()
            .map(|(id, event, status, attempts, response_status, error, created_at, done_at)| {
                let status = DeliveryStatus::stored(&status)?;
                Ok(Delivery { id, event, status, attempts, response_status, error, created_at, done_at })
            })
            .collect()
    }

    /// Removes what was told, or given up, before `until`; gives how many rows that were.
    pub(crate) async fn forget_deliveries(&self, until: i64) -> Result<u64> {
        let mut write = self.write().await?;
        let removed = sqlx::query("DELETE FROM webhook_delivery WHERE done_at < $1")
            .bind(until)
            .execute(write.connection())
            .await
            .map_err(Error::database("forgetting what webhooks were told"))?;
        write.commit().await?;
        Ok(removed.rows_affected())
    }
}

impl Write {
    /// Gives up what is still to be told to a webhook.
    pub(super) async fn give_up_deliveries(&mut self, webhook: &str, reason: &str) -> Result<()> {
        sqlx::query(
            "UPDATE webhook_delivery SET status = 'GIVEN_UP', error = $2, done_at = $3
             WHERE webhook_id = $1 AND status = 'PENDING'",
        )
        .bind(webhook)
        .bind(reason)
        .bind(now_millis())
        .execute(self.connection())
        .await
        .map_err(Error::database("giving up what a webhook is to be told"))?;
        Ok(())
    }
}
