//! What webhooks are to be told of, written in the transaction of the change.

use std::sync::Arc;

use super::{Store, Write};
use crate::clock::now_millis;
use crate::webhooks::Change;
use crate::{Error, Result};

impl Store {
    /// Writes down who is to be told of a change: every active webhook that asked for its kind.
    pub(super) async fn tell(&self, write: &mut Write, change: &Change) -> Result<()> {
        let written = sqlx::query(
            "INSERT INTO webhook_delivery (webhook_id, change_id, event, payload, status, attempts, due_at, created_at)
             SELECT w.id, CAST($1 AS TEXT), e.event, CAST($3 AS TEXT), 'PENDING', 0, CAST($4 AS BIGINT),
               CAST($4 AS BIGINT)
             FROM webhook_event e JOIN webhook w ON w.id = e.webhook_id
             WHERE e.event = $2 AND w.status = 'ACTIVE'",
        )
        .bind(uuid::Uuid::new_v4().to_string())
        .bind(change.event.as_str())
        .bind(change.body())
        .bind(now_millis())
        .execute(write.connection())
        .await
        .map_err(Error::database("writing what webhooks are to be told"))?;
        if written.rows_affected() > 0 {
            write.told = Some(Arc::clone(&self.told));
        }
        Ok(())
    }

    /// Ends when this process has written down something that is to be told.
    pub(crate) async fn something_to_tell(&self) {
        self.told.notified().await;
    }
}
