//! API tokens: long secrets of people and services.

use sqlx::any::AnyRow;
use sqlx::{FromRow, Row as _};
use uuid::Uuid;

use super::{Store, now_millis};
use crate::identity::roles::Roles;
use crate::identity::secret::{Secret, hash};
use crate::{Error, Result};

/// What the text of every API token begins with, so that scanners for leaked secrets know it.
pub(crate) const TOKEN_PREFIX: &str = "sfr_";

/// Characters of a token that are kept, for people to tell which it is.
const SHOWN: usize = 10;

const COLUMNS: &str = "t.id, t.name, t.prefix, t.roles, t.created_at, t.expires_at, t.revoked_at, t.user_id, \
    u.name AS user_name, u.roles AS user_roles, u.disabled_at AS user_disabled_at";

/// A token to be made.
#[derive(Clone, Debug)]
pub struct NewToken<'a> {
    /// For people.
    pub name: &'a str,
    /// Whose it is, by id; nobody's for a service.
    pub user: Option<&'a str>,
    /// In which roles; those of its user that are no more are none of its.
    pub roles: Roles,
    /// When it ends, in milliseconds since 1970-01-01 UTC.
    pub expires_at: i64,
}

/// A token without its secret.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ApiToken {
    /// Also the client id of [`client credentials`](crate::identity).
    pub id: String,
    /// For people.
    pub name: String,
    /// The first characters of its text.
    pub prefix: String,
    /// Those that it was given.
    pub roles: Roles,
    /// Whose it is; nobody's for a service.
    pub owner: Option<Owner>,
    /// Milliseconds since 1970-01-01 UTC, as all that follow.
    pub created_at: i64,
    /// When it ends.
    pub expires_at: i64,
    /// When it was revoked.
    pub revoked_at: Option<i64>,
}

/// Whose a token is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Owner {
    /// The user's id.
    pub id: String,
    /// The user's name.
    pub name: String,
    /// The user's roles now.
    pub roles: Roles,
    /// Since when the user is disabled.
    pub disabled_at: Option<i64>,
}

struct Row {
    id: String,
    name: String,
    prefix: String,
    roles: String,
    created_at: i64,
    expires_at: i64,
    revoked_at: Option<i64>,
    user_id: Option<String>,
    user_name: Option<String>,
    user_roles: Option<String>,
    user_disabled_at: Option<i64>,
}

impl FromRow<'_, AnyRow> for Row {
    fn from_row(row: &AnyRow) -> sqlx::Result<Self> {
        Ok(Self {
            id: row.try_get("id")?,
            name: row.try_get("name")?,
            prefix: row.try_get("prefix")?,
            roles: row.try_get("roles")?,
            created_at: row.try_get("created_at")?,
            expires_at: row.try_get("expires_at")?,
            revoked_at: row.try_get("revoked_at")?,
            user_id: row.try_get("user_id")?,
            user_name: row.try_get("user_name")?,
            user_roles: row.try_get("user_roles")?,
            user_disabled_at: row.try_get("user_disabled_at")?,
        })
    }
}

impl ApiToken {
    /// Whether it lets anybody in at a moment.
    pub fn is_valid(&self, now: i64) -> bool {
        let enabled = self.owner.as_ref().is_none_or(|owner| owner.disabled_at.is_none());
        self.revoked_at.is_none() && now < self.expires_at && enabled
    }

    /// The roles that it gives: those of its owner that it was given.
    pub fn effective_roles(&self) -> Roles {
        self.owner.as_ref().map_or(self.roles, |owner| self.roles.and(owner.roles))
    }
}

impl From<Row> for ApiToken {
    fn from(row: Row) -> Self {
        let owner = row.user_id.map(|id| Owner {
            id,
            name: row.user_name.unwrap_or_default(),
            roles: Roles::known(row.user_roles.unwrap_or_default().split(',')),
            disabled_at: row.user_disabled_at,
        });
        Self {
            id: row.id,
            name: row.name,
            prefix: row.prefix,
            roles: Roles::known(row.roles.split(',')),
            owner,
            created_at: row.created_at,
            expires_at: row.expires_at,
            revoked_at: row.revoked_at,
        }
    }
}

impl Store {
    /// Makes a token; gives its id and its text, which is kept nowhere.
    ///
    /// # Errors
    /// The database's.
    pub async fn create_token(&self, token: &NewToken<'_>) -> Result<(String, Secret)> {
        let secret = Secret::random(TOKEN_PREFIX);
        let id = Uuid::now_v7().to_string();
        let shown: String = secret.expose().chars().take(SHOWN).collect();
        let sql = "INSERT INTO api_token (id, name, user_id, hash, prefix, roles, created_at, expires_at) \
                   VALUES ($1, $2, $3, $4, $5, $6, $7, $8)";
        let insert = sqlx::query(sql).bind(&id).bind(token.name).bind(token.user).bind(hash(secret.expose()));
        let insert = insert.bind(shown).bind(token.roles.to_string()).bind(now_millis()).bind(token.expires_at);
        insert.execute(self.database.pool()).await.map_err(Error::identity("making a token"))?;
        Ok((id, secret))
    }

    /// The token of a text.
    ///
    /// # Errors
    /// The database's.
    pub async fn token(&self, text: &str) -> Result<Option<ApiToken>> {
        self.token_where("t.hash = $1", &hash(text)).await
    }

    /// The token of an id.
    ///
    /// # Errors
    /// The database's.
    pub async fn token_by_id(&self, id: &str) -> Result<Option<ApiToken>> {
        self.token_where("t.id = $1", id).await
    }

    /// All tokens, or those of a user by id; the newest first.
    ///
    /// # Errors
    /// The database's.
    pub async fn tokens(&self, user: Option<&str>) -> Result<Vec<ApiToken>> {
        let order = " ORDER BY t.id DESC";
        let rows: sqlx::Result<Vec<Row>> = match user {
            Some(user) => {
                sqlx::query_as(select("t.user_id = $1", order)).bind(user).fetch_all(self.database.pool()).await
            }
            None => sqlx::query_as(select("1 = 1", order)).fetch_all(self.database.pool()).await,
        };
        Ok(rows.map_err(Error::identity("listing tokens"))?.into_iter().map(ApiToken::from).collect())
    }

    /// Revokes a token by id, of a user if one is named; false if there is none that goes on.
    ///
    /// # Errors
    /// The database's.
    pub async fn revoke_token(&self, id: &str, user: Option<&str>) -> Result<bool> {
        let sql = match user {
            Some(_) => "UPDATE api_token SET revoked_at = $1 WHERE id = $2 AND revoked_at IS NULL AND user_id = $3",
            None => "UPDATE api_token SET revoked_at = $1 WHERE id = $2 AND revoked_at IS NULL",
        };
        let mut update = sqlx::query(sql).bind(now_millis()).bind(id);
        if let Some(user) = user {
            update = update.bind(user);
        }
        let done = update.execute(self.database.pool()).await.map_err(Error::identity("revoking a token"))?;
        Ok(done.rows_affected() > 0)
    }

    async fn token_where(&self, condition: &'static str, value: &str) -> Result<Option<ApiToken>> {
        let row: sqlx::Result<Option<Row>> =
            sqlx::query_as(select(condition, "")).bind(value).fetch_optional(self.database.pool()).await;
        Ok(row.map_err(Error::identity("looking for a token"))?.map(ApiToken::from))
    }
}

fn select(condition: &'static str, order: &'static str) -> sqlx::AssertSqlSafe<String> {
    let tables = "api_token t LEFT JOIN user_account u ON u.id = t.user_id";
    sqlx::AssertSqlSafe(format!("SELECT {COLUMNS} FROM {tables} WHERE {condition}{order}"))
}
