//! What was done with accounts and tokens, by whom and from where.

use serde::Serialize;
use sqlx::any::AnyRow;
use sqlx::{FromRow, Row as _};
use uuid::Uuid;

use super::{Store, now_millis};
use crate::{Error, Result};

/// A kind of deed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum AuditAction {
    /// Somebody logged in.
    Login,
    /// A name and a password did not fit.
    LoginRefused,
    /// A refresh token came a second time, and its session was ended.
    RefreshReused,
    /// Somebody logged out.
    Logout,
    /// An access token was given to a service.
    ClientCredentials,
    /// An account was added.
    UserAdded,
    /// An account was disabled.
    UserDisabled,
    /// An account was enabled.
    UserEnabled,
    /// An account got other roles.
    RolesChanged,
    /// A password was changed.
    PasswordChanged,
    /// An API token was made.
    TokenCreated,
    /// A token was revoked.
    TokenRevoked,
    /// A new key signs.
    KeyRotated,
}

impl AuditAction {
    /// Its name in the table.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Login => "login",
            Self::LoginRefused => "login_refused",
            Self::RefreshReused => "refresh_reused",
            Self::Logout => "logout",
            Self::ClientCredentials => "client_credentials",
            Self::UserAdded => "user_added",
            Self::UserDisabled => "user_disabled",
            Self::UserEnabled => "user_enabled",
            Self::RolesChanged => "roles_changed",
            Self::PasswordChanged => "password_changed",
            Self::TokenCreated => "token_created",
            Self::TokenRevoked => "token_revoked",
            Self::KeyRotated => "key_rotated",
        }
    }
}

/// A deed.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct AuditEvent {
    /// Milliseconds since 1970-01-01 UTC.
    pub at: i64,
    /// Who did it.
    pub actor: String,
    /// What, in the words of [`AuditAction::as_str`].
    pub action: String,
    /// To what: a name or an id.
    pub subject: String,
    /// From where; empty for a command on this machine.
    pub address: String,
    /// What else there is to say.
    pub detail: String,
}

impl FromRow<'_, AnyRow> for AuditEvent {
    fn from_row(row: &AnyRow) -> sqlx::Result<Self> {
        Ok(Self {
            at: row.try_get("at")?,
            actor: row.try_get("actor")?,
            action: row.try_get("action")?,
            subject: row.try_get("subject")?,
            address: row.try_get("address")?,
            detail: row.try_get("detail")?,
        })
    }
}

impl Store {
    /// Writes down a deed.
    ///
    /// # Errors
    /// The database's.
    pub async fn audit(
        &self,
        action: AuditAction,
        actor: &str,
        subject: &str,
        address: &str,
        detail: &str,
    ) -> Result<()> {
        let sql = "INSERT INTO audit_event (id, at, actor, action, subject, address, detail) \
                   VALUES ($1, $2, $3, $4, $5, $6, $7)";
        let insert = sqlx::query(sql).bind(Uuid::now_v7().to_string()).bind(now_millis()).bind(actor);
        let insert = insert.bind(action.as_str()).bind(subject).bind(address).bind(detail);
        insert.execute(self.database.pool()).await.map_err(Error::identity("writing the audit")).map(drop)
    }

    /// The newest deeds, the newest first.
    ///
    /// # Errors
    /// The database's.
    pub async fn audits(&self, most: u32) -> Result<Vec<AuditEvent>> {
        let sql = "SELECT at, actor, action, subject, address, detail FROM audit_event ORDER BY id DESC LIMIT $1";
        let rows = sqlx::query_as(sql).bind(i64::from(most)).fetch_all(self.database.pool()).await;
        rows.map_err(Error::identity("reading the audit"))
    }
}
