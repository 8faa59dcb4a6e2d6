//! People, tokens, sessions, keys and the audit, in SQLite or PostgreSQL.

mod audit;
mod failures;
mod keys;
mod migrations;
mod sessions;
mod tokens;
mod users;

use chrono::Utc;

pub use audit::{AuditAction, AuditEvent};
pub use keys::StoredKey;
pub use sessions::{Refreshed, SessionState};
pub(crate) use tokens::TOKEN_PREFIX;
pub use tokens::{ApiToken, NewToken, Owner};
pub use users::User;

use crate::database::{Address, Database, Engine, Pending};
use crate::{Error, Result};

/// The tables of identity; clones share connections.
#[derive(Clone, Debug)]
pub struct Store {
    database: Database,
}

impl Store {
    /// The tables in a database, brought up to date.
    ///
    /// # Errors
    /// The database's, and [`Error::IdentityTables`].
    pub async fn open(address: &Address) -> Result<Self> {
        let database = Database::open(address).await?;
        migrations::run(&database).await?;
        Ok(Self { database })
    }

    /// The same for a server: SQLite's tables are brought up to date, those of a PostgreSQL server are changed by
    /// `safari migrate` only.
    ///
    /// # Errors
    /// The database's, [`Error::IdentityTables`], and [`Error::OldIdentityTables`].
    pub async fn open_current(address: &Address) -> Result<Self> {
        let database = Database::open(address).await?;
        if database.engine() == Engine::Sqlite {
            migrations::run(&database).await?;
        } else if !migrations::pending(&database).await?.is_empty() {
            return Err(Error::OldIdentityTables { database: address.to_string() });
        }
        Ok(Self { database })
    }

    /// Migrations that the tables in a database lack, such as `1 identity`.
    ///
    /// # Errors
    /// The database's.
    pub async fn pending(database: &Database) -> Result<Vec<Pending>> {
        migrations::pending(database).await
    }

    /// Removes what has ended and says nothing any more: sessions, revocations, guesses.
    ///
    /// # Errors
    /// The database's.
    pub async fn tidy(&self) -> Result<()> {
        let now = now_millis();
        for sql in [
            "DELETE FROM refresh_token WHERE session_id IN (SELECT id FROM login_session WHERE expires_at < $1)",
            "DELETE FROM login_session WHERE expires_at < $1",
            "DELETE FROM revoked_token WHERE expires_at < $1",
        ] {
            let done = sqlx::query(sql).bind(now).execute(self.database.pool()).await;
            done.map_err(Error::identity("removing what has ended"))?;
        }
        self.forget_old_failures(now).await
    }
}

/// Milliseconds since 1970-01-01 UTC.
pub(crate) fn now_millis() -> i64 {
    Utc::now().timestamp_millis()
}
