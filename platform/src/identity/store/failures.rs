//! How often passwords were guessed wrongly.

use super::Store;
use crate::{Error, Result};

/// A row that was not touched for so long says nothing any more.
pub(crate) const FORGOTTEN_AFTER: i64 = 24 * 3600 * 1000;

impl Store {
    /// Wrong guesses about a subject in a row, and when the last was.
    ///
    /// # Errors
    /// The database's.
    pub(crate) async fn failures(&self, subject: &str, now: i64) -> Result<(i64, i64)> {
        let sql = "SELECT failures, last_at FROM login_failure WHERE subject = $1 AND last_at > $2";
        let row: Option<(i64, i64)> = sqlx::query_as(sql)
            .bind(subject)
            .bind(now - FORGOTTEN_AFTER)
            .fetch_optional(self.database.pool())
            .await
            .map_err(Error::identity("counting wrong passwords"))?;
        Ok(row.unwrap_or((0, 0)))
    }

    /// Counts a wrong guess.
    ///
    /// # Errors
    /// The database's.
    pub(crate) async fn count_failure(&self, subject: &str, now: i64) -> Result<()> {
        let sql = "INSERT INTO login_failure (subject, failures, last_at) VALUES ($1, 1, $2) \
                   ON CONFLICT (subject) DO UPDATE SET last_at = excluded.last_at, failures = \
                   CASE WHEN login_failure.last_at > $3 THEN login_failure.failures + 1 ELSE 1 END";
        let counted = sqlx::query(sql).bind(subject).bind(now).bind(now - FORGOTTEN_AFTER);
        counted.execute(self.database.pool()).await.map_err(Error::identity("counting wrong passwords")).map(drop)
    }

    /// Forgets what was guessed about a subject: it gave the right password.
    ///
    /// # Errors
    /// The database's.
    pub(crate) async fn forget_failures(&self, subject: &str) -> Result<()> {
        let done = sqlx::query("DELETE FROM login_failure WHERE subject = $1").bind(subject);
        done.execute(self.database.pool()).await.map_err(Error::identity("forgetting wrong passwords")).map(drop)
    }

    pub(super) async fn forget_old_failures(&self, now: i64) -> Result<()> {
        let done = sqlx::query("DELETE FROM login_failure WHERE last_at < $1").bind(now - FORGOTTEN_AFTER);
        done.execute(self.database.pool()).await.map_err(Error::identity("forgetting wrong passwords")).map(drop)
    }
}
