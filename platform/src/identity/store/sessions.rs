//! Logins, what is refreshed from them, and what was revoked.

use sqlx::any::AnyRow;
use sqlx::{FromRow, Row as _};
use uuid::Uuid;

use super::{Store, now_millis};
use crate::identity::roles::Roles;
use crate::identity::secret::{Secret, hash};
use crate::{Error, Result};

/// What the text of every refresh token begins with.
const REFRESH_PREFIX: &str = "sfrr_";

/// What has become of a session.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SessionState {
    /// Whose it is, by id.
    pub user_id: String,
    /// The user's name.
    pub user_name: String,
    /// The user's roles now.
    pub roles: Roles,
    /// Whether it goes on: neither it nor its user ended.
    pub goes_on: bool,
}

/// What comes of a refresh token.
#[derive(Debug)]
pub enum Refreshed {
    /// There is none, or its session has ended.
    Unknown,
    /// It was used before: its session has ended now.
    Reused {
        /// The session.
        session: String,
    },
    /// The session goes on.
    Next {
        /// The session.
        session: String,
        /// Takes its place.
        token: Secret,
    },
}

struct StateRow {
    user_id: String,
    user_name: String,
    roles: String,
    expires_at: i64,
    revoked_at: Option<i64>,
    disabled_at: Option<i64>,
}

impl FromRow<'_, AnyRow> for StateRow {
    fn from_row(row: &AnyRow) -> sqlx::Result<Self> {
        Ok(Self {
            user_id: row.try_get("user_id")?,
            user_name: row.try_get("user_name")?,
            roles: row.try_get("roles")?,
            expires_at: row.try_get("expires_at")?,
            revoked_at: row.try_get("revoked_at")?,
            disabled_at: row.try_get("disabled_at")?,
        })
    }
}

impl Store {
    /// Begins a session; gives its id and its first refresh token.
    ///
    /// # Errors
    /// The database's.
    pub async fn begin_session(&self, user: &str, expires_at: i64) -> Result<(String, Secret)> {
        let session = Uuid::now_v7().to_string();
        let now = now_millis();
        let sql = "INSERT INTO login_session (id, user_id, created_at, expires_at) VALUES ($1, $2, $3, $4)";
        let insert = sqlx::query(sql).bind(&session).bind(user).bind(now).bind(expires_at);
        insert.execute(self.database.pool()).await.map_err(Error::identity("beginning a session"))?;
        let token = Secret::random(REFRESH_PREFIX);
        self.add_refresh_token(&session, &token).await?;
        Ok((session, token))
    }

    /// Gives the next refresh token for one, once. A second time ends the session: two have it, and one of them is a thief.
    ///
    /// # Errors
    /// The database's.
    pub async fn refresh(&self, text: &str) -> Result<Refreshed> {
        let used = hash(text);
        let failed = "taking a refresh token";
        let now = now_millis();
        let sql = "UPDATE refresh_token SET used_at = $1 WHERE hash = $2 AND used_at IS NULL RETURNING session_id";
        let taken: Option<String> = sqlx::query_scalar(sql)
            .bind(now)
            .bind(&used)
            .fetch_optional(self.database.pool())
            .await
            .map_err(Error::identity(failed))?;
        let Some(session) = taken else {
            let known: Option<String> = sqlx::query_scalar("SELECT session_id FROM refresh_token WHERE hash = $1")
                .bind(&used)
                .fetch_optional(self.database.pool())
                .await
                .map_err(Error::identity(failed))?;
            let Some(session) = known else { return Ok(Refreshed::Unknown) };
            self.end_session(&session).await?;
            return Ok(Refreshed::Reused { session });
        };
        match self.session(&session, None).await? {
            Some(state) if state.goes_on => {}
            _ => return Ok(Refreshed::Unknown),
        }
        let token = Secret::random(REFRESH_PREFIX);
        self.add_refresh_token(&session, &token).await?;
        Ok(Refreshed::Next { session, token })
    }

    /// What has become of a session, for an access token if its `jti` is given.
    ///
    /// # Errors
    /// The database's.
    pub async fn session(&self, session: &str, jti: Option<&str>) -> Result<Option<SessionState>> {
        let sql = "SELECT u.id AS user_id, u.name AS user_name, u.roles, s.expires_at, s.revoked_at, u.disabled_at \
                   FROM login_session s JOIN user_account u ON u.id = s.user_id WHERE s.id = $1";
        let row: Option<StateRow> = sqlx::query_as(sql)
            .bind(session)
            .fetch_optional(self.database.pool())
            .await
            .map_err(Error::identity("looking for a session"))?;
        let Some(row) = row else { return Ok(None) };
        let revoked = match jti {
            Some(jti) => self.is_revoked(jti).await?,
            None => false,
        };
        let goes_on =
            !revoked && row.revoked_at.is_none() && row.disabled_at.is_none() && now_millis() < row.expires_at;
        let roles = Roles::known(row.roles.split(','));
        Ok(Some(SessionState { user_id: row.user_id, user_name: row.user_name, roles, goes_on }))
    }

    /// Ends a session: its refresh and access tokens are refused from now on.
    ///
    /// # Errors
    /// The database's.
    pub async fn end_session(&self, session: &str) -> Result<()> {
        let sql = "UPDATE login_session SET revoked_at = $1 WHERE id = $2 AND revoked_at IS NULL";
        let ended = sqlx::query(sql).bind(now_millis()).bind(session).execute(self.database.pool()).await;
        ended.map_err(Error::identity("ending a session")).map(drop)
    }

    /// Refuses one access token until it would have ended.
    ///
    /// # Errors
    /// The database's.
    pub async fn revoke_jti(&self, jti: &str, expires_at: i64) -> Result<()> {
        let sql = "INSERT INTO revoked_token (jti, expires_at) VALUES ($1, $2) ON CONFLICT (jti) DO NOTHING";
        let done = sqlx::query(sql).bind(jti).bind(expires_at).execute(self.database.pool()).await;
        done.map_err(Error::identity("revoking an access token")).map(drop)
    }

    /// Whether one access token was revoked.
    ///
    /// # Errors
    /// The database's.
    pub async fn is_revoked(&self, jti: &str) -> Result<bool> {
        let found: Option<String> = sqlx::query_scalar("SELECT jti FROM revoked_token WHERE jti = $1")
            .bind(jti)
            .fetch_optional(self.database.pool())
            .await
            .map_err(Error::identity("looking for a revocation"))?;
        Ok(found.is_some())
    }

    async fn add_refresh_token(&self, session: &str, token: &Secret) -> Result<()> {
        let sql = "INSERT INTO refresh_token (hash, session_id, created_at) VALUES ($1, $2, $3)";
        let insert = sqlx::query(sql).bind(hash(token.expose())).bind(session).bind(now_millis());
        insert.execute(self.database.pool()).await.map_err(Error::identity("making a refresh token")).map(drop)
    }
}
