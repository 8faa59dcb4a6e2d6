//! Keys that sign access tokens.

use sqlx::any::AnyRow;
use sqlx::{FromRow, Row as _};

use super::{Store, now_millis};
use crate::{Error, Result};

/// A signing key as it is kept.
#[derive(Clone)]
pub struct StoredKey {
    /// Names it in tokens.
    pub kid: String,
    /// `x` of the JWK.
    pub public_key: String,
    pub(crate) sealed_key: String,
    /// Milliseconds since 1970-01-01 UTC.
    pub created_at: i64,
    /// Since when it signs no more.
    pub retired_at: Option<i64>,
}

impl FromRow<'_, AnyRow> for StoredKey {
    fn from_row(row: &AnyRow) -> sqlx::Result<Self> {
        Ok(Self {
            kid: row.try_get("kid")?,
            public_key: row.try_get("public_key")?,
            sealed_key: row.try_get("sealed_key")?,
            created_at: row.try_get("created_at")?,
            retired_at: row.try_get("retired_at")?,
        })
    }
}

/// Without what is sealed.
impl std::fmt::Debug for StoredKey {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("StoredKey").field("kid", &self.kid).finish_non_exhaustive()
    }
}

impl Store {
    /// All keys, the newest first.
    ///
    /// # Errors
    /// The database's.
    pub async fn keys(&self) -> Result<Vec<StoredKey>> {
        let sql = "SELECT kid, public_key, sealed_key, created_at, retired_at FROM signing_key \
                   ORDER BY created_at DESC, kid DESC";
        sqlx::query_as(sql).fetch_all(self.database.pool()).await.map_err(Error::identity("reading the signing keys"))
    }

    /// Adds a key, which signs from now on; the others sign no more.
    ///
    /// # Errors
    /// The database's.
    pub(crate) async fn add_key(&self, kid: &str, public_key: &str, sealed_key: &str) -> Result<()> {
        let failed = "adding a signing key";
        let now = now_millis();
        let sql = "INSERT INTO signing_key (kid, public_key, sealed_key, created_at) VALUES ($1, $2, $3, $4)";
        let insert = sqlx::query(sql).bind(kid).bind(public_key).bind(sealed_key).bind(now);
        insert.execute(self.database.pool()).await.map_err(Error::identity(failed))?;
        let sql = "UPDATE signing_key SET retired_at = $1 WHERE retired_at IS NULL AND kid <> $2";
        let retire = sqlx::query(sql).bind(now).bind(kid).execute(self.database.pool()).await;
        retire.map_err(Error::identity(failed)).map(drop)
    }
}
