//! Uploads in parts that are under way.

use sqlx::Row;
use sqlx::any::AnyRow;

use super::Store;
use crate::artifacts::ArtifactPath;
use crate::clock::now_millis;
use crate::{Error, Result};

/// One upload.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Upload {
    /// 32 hexadecimal digits. Whoever has it may send parts.
    pub(crate) id: String,
    /// Where the file will be.
    pub(crate) path: ArtifactPath,
    /// How many parts there will be.
    pub(crate) parts: u32,
    /// The object store's own name of it.
    pub(crate) store_id: String,
}

impl Store {
    pub(crate) async fn begin_upload(&self, upload: &Upload) -> Result<()> {
        let mut write = self.write().await?;
        sqlx::query("INSERT INTO upload (id, path, parts, store_id, created_at) VALUES ($1, $2, $3, $4, $5)")
            .bind(&upload.id)
            .bind(upload.path.as_str())
            .bind(i64::from(upload.parts))
            .bind(&upload.store_id)
            .bind(now_millis())
            .execute(write.connection())
            .await
            .map_err(Error::database("beginning an upload"))?;
        write.commit().await
    }

    /// An upload that is not complete.
    pub(crate) async fn upload(&self, id: &str) -> Result<Option<Upload>> {
        let row = sqlx::query("SELECT id, path, parts, store_id FROM upload WHERE id = $1 AND done_at IS NULL")
            .bind(id)
            .fetch_optional(self.pool())
            .await
            .map_err(Error::database("looking an upload up"))?;
        row.map(|row| read(&row)).transpose()
    }

    /// Whether an upload to this path was completed lately.
    pub(crate) async fn is_upload_done(&self, id: &str, path: &ArtifactPath) -> Result<bool> {
        let row = sqlx::query("SELECT 1 FROM upload WHERE id = $1 AND path = $2 AND done_at IS NOT NULL")
            .bind(id)
            .bind(path.as_str())
            .fetch_optional(self.pool())
            .await
            .map_err(Error::database("looking an upload up"))?;
        Ok(row.is_some())
    }

    /// Notes that an upload is complete. The row stays for a while, for clients that did not hear of it and ask again.
    pub(crate) async fn end_upload(&self, id: &str) -> Result<()> {
        self.change_upload("UPDATE upload SET done_at = $2 WHERE id = $1", id, Some(now_millis())).await
    }

    pub(crate) async fn forget_upload(&self, id: &str) -> Result<()> {
        self.change_upload("DELETE FROM upload WHERE id = $1", id, None).await
    }

    /// Uploads, complete or not, that were begun before a moment (milliseconds since 1970).
    pub(crate) async fn uploads_before(&self, before: i64) -> Result<Vec<Upload>> {
        let rows =
            sqlx::query("SELECT id, path, parts, store_id FROM upload WHERE created_at < $1 ORDER BY created_at")
                .bind(before)
                .fetch_all(self.pool())
                .await
                .map_err(Error::database("looking for old uploads"))?;
        rows.iter().map(read).collect()
    }

    async fn change_upload(&self, sql: &'static str, id: &str, time: Option<i64>) -> Result<()> {
        let mut write = self.write().await?;
        let mut query = sqlx::query(sql).bind(id);
        if let Some(time) = time {
            query = query.bind(time);
        }
        query.execute(write.connection()).await.map_err(Error::database("changing an upload"))?;
        write.commit().await
    }
}

fn read(row: &AnyRow) -> Result<Upload> {
    let fields = || -> sqlx::Result<(String, String, i64, String)> {
        Ok((row.try_get(0)?, row.try_get(1)?, row.try_get(2)?, row.try_get(3)?))
    };
    let (id, path, parts, store_id) = fields().map_err(Error::database("reading an upload"))?;
    Ok(Upload { id, path: ArtifactPath::parse(&path)?, parts: u32::try_from(parts).unwrap_or(0), store_id })
}
