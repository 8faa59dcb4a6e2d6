//! People.

use sqlx::any::AnyRow;
use sqlx::{FromRow, Row as _};
use uuid::Uuid;

use super::{Store, now_millis};
use crate::identity::roles::Roles;
use crate::{Error, Result};

/// The longest name.
const LONGEST_NAME: usize = 100;

const COLUMNS: &str = "id, name, password_hash, roles, created_at, disabled_at";

/// Somebody who can log in.
#[derive(Clone, PartialEq, Eq)]
pub struct User {
    /// Stays the same.
    pub id: String,
    /// In small letters.
    pub name: String,
    /// argon2id, in PHC form.
    pub(crate) password_hash: String,
    /// In which roles.
    pub roles: Roles,
    /// Milliseconds since 1970-01-01 UTC.
    pub created_at: i64,
    /// Since when this account can do nothing.
    pub disabled_at: Option<i64>,
}

/// Without the hash of the password.
impl std::fmt::Debug for User {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("User").field("name", &self.name).field("roles", &self.roles).finish_non_exhaustive()
    }
}

struct Row {
    id: String,
    name: String,
    password_hash: String,
    roles: String,
    created_at: i64,
    disabled_at: Option<i64>,
}

impl FromRow<'_, AnyRow> for Row {
    fn from_row(row: &AnyRow) -> sqlx::Result<Self> {
        Ok(Self {
            id: row.try_get("id")?,
            name: row.try_get("name")?,
            password_hash: row.try_get("password_hash")?,
            roles: row.try_get("roles")?,
            created_at: row.try_get("created_at")?,
            disabled_at: row.try_get("disabled_at")?,
        })
    }
}

impl From<Row> for User {
    fn from(row: Row) -> Self {
        Self {
            id: row.id,
            name: row.name,
            password_hash: row.password_hash,
            roles: Roles::known(row.roles.split(',')),
            created_at: row.created_at,
            disabled_at: row.disabled_at,
        }
    }
}

impl Store {
    /// Adds somebody whose password was hashed.
    ///
    /// # Errors
    /// [`Error::UserName`], [`Error::UserExists`], or the database's.
    pub(crate) async fn add_user(&self, name: &str, password_hash: &str, roles: Roles) -> Result<User> {
        let name = checked_name(name)?;
        let id = Uuid::now_v7().to_string();
        let sql = "INSERT INTO user_account (id, name, password_hash, roles, created_at) VALUES ($1, $2, $3, $4, $5) \
                   ON CONFLICT (name) DO NOTHING";
        let (roles_text, now) = (roles.to_string(), now_millis());
        let added = sqlx::query(sql).bind(&id).bind(&name).bind(password_hash).bind(roles_text).bind(now);
        let added = added.execute(self.database.pool()).await.map_err(Error::identity("adding a user"))?;
        if added.rows_affected() == 0 {
            return Err(Error::UserExists(name));
        }
        Ok(User { id, name, password_hash: password_hash.to_owned(), roles, created_at: now, disabled_at: None })
    }

    /// The user of a name, in any letters.
    ///
    /// # Errors
    /// The database's.
    pub async fn user(&self, name: &str) -> Result<Option<User>> {
        self.user_where("name = $1", &name.to_lowercase()).await
    }

    /// The user of an id.
    ///
    /// # Errors
    /// The database's.
    pub async fn user_by_id(&self, id: &str) -> Result<Option<User>> {
        self.user_where("id = $1", id).await
    }

    /// All users, by name.
    ///
    /// # Errors
    /// The database's.
    pub async fn users(&self) -> Result<Vec<User>> {
        let sql = sqlx::AssertSqlSafe(format!("SELECT {COLUMNS} FROM user_account ORDER BY name"));
        let rows: Vec<Row> =
            sqlx::query_as(sql).fetch_all(self.database.pool()).await.map_err(Error::identity("listing users"))?;
        Ok(rows.into_iter().map(User::from).collect())
    }

    /// Disables or enables a user.
    ///
    /// # Errors
    /// [`Error::UserUnknown`], or the database's.
    pub async fn disable_user(&self, name: &str, disabled: bool) -> Result<()> {
        let at = disabled.then(now_millis);
        let sql = "UPDATE user_account SET disabled_at = $1 WHERE name = $2";
        let done = sqlx::query(sql).bind(at).bind(name.to_lowercase()).execute(self.database.pool()).await;
        self.changed(done, name)
    }

    /// Gives a user other roles.
    ///
    /// # Errors
    /// [`Error::UserUnknown`], or the database's.
    pub async fn set_roles(&self, name: &str, roles: Roles) -> Result<()> {
        let sql = "UPDATE user_account SET roles = $1 WHERE name = $2";
        let done = sqlx::query(sql).bind(roles.to_string()).bind(name.to_lowercase());
        self.changed(done.execute(self.database.pool()).await, name)
    }

    /// Changes the hash of a password, and ends the sessions that the old one began.
    ///
    /// # Errors
    /// [`Error::UserUnknown`], or the database's.
    pub(crate) async fn set_password_hash(&self, name: &str, password_hash: &str) -> Result<()> {
        let sql = "UPDATE user_account SET password_hash = $1 WHERE name = $2";
        let done = sqlx::query(sql).bind(password_hash).bind(name.to_lowercase());
        self.changed(done.execute(self.database.pool()).await, name)?;
        let sql = "UPDATE login_session SET revoked_at = $1 WHERE revoked_at IS NULL AND user_id = \
                   (SELECT id FROM user_account WHERE name = $2)";
        let ended = sqlx::query(sql).bind(now_millis()).bind(name.to_lowercase());
        ended.execute(self.database.pool()).await.map_err(Error::identity("ending sessions"))?;
        Ok(())
    }

    fn changed(&self, done: sqlx::Result<sqlx::any::AnyQueryResult>, name: &str) -> Result<()> {
        match done.map_err(Error::identity("changing a user"))?.rows_affected() {
            0 => Err(Error::UserUnknown(name.to_owned())),
            _ => Ok(()),
        }
    }

    async fn user_where(&self, condition: &'static str, value: &str) -> Result<Option<User>> {
        let sql = sqlx::AssertSqlSafe(format!("SELECT {COLUMNS} FROM user_account WHERE {condition}"));
        let row: Option<Row> = sqlx::query_as(sql)
            .bind(value)
            .fetch_optional(self.database.pool())
            .await
            .map_err(Error::identity("looking for a user"))?;
        Ok(row.map(User::from))
    }
}

/// The name as it is kept: small letters, and none but those that need no quoting anywhere.
fn checked_name(name: &str) -> Result<String> {
    let name = name.to_lowercase();
    let allowed = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'.' | b'_' | b'-' | b'@' | b'+');
    if name.is_empty() || name.len() > LONGEST_NAME || !name.bytes().all(allowed) {
        return Err(Error::UserName(name));
    }
    Ok(name)
}
