//! Everything that belongs to one person: read in pages, and removed at once.

use sqlx::AssertSqlSafe;

use super::Store;
use super::pictures::{Picture, PictureRow};
use super::rows::{COLUMNS, Seen};
use crate::collections::person::PersonId;
use crate::{Error, Result};

/// Rows that are read at once.
const PAGE: i64 = 200;

/// Where a reader of everything is.
#[derive(Clone, Debug, Default)]
pub(crate) struct Pages {
    pub(crate) last_sighting: i64,
    pub(crate) last_picture: String,
}

impl Store {
    /// The next sightings of a person, deleted ones too: their keys are kept, and so told.
    pub(crate) async fn next_sightings(&self, person: &PersonId, pages: &mut Pages) -> Result<Vec<Seen>> {
        let sql = format!(
            "SELECT {COLUMNS} FROM sighting s JOIN collector c ON c.person = s.person
            WHERE s.person = $1 AND s.no > $2 ORDER BY s.no LIMIT $3"
        );
        let query = sqlx::query(AssertSqlSafe(sql)).bind(person.as_str()).bind(pages.last_sighting).bind(PAGE);
        let rows = query.fetch_all(self.pool()).await.map_err(Error::database("reading a collection"))?;
        let seen = rows.iter().map(Seen::read).collect::<Result<Vec<_>>>()?;
        if let Some(last) = seen.last() {
            pages.last_sighting = last.no;
        }
        Ok(seen)
    }

    /// The next photograph of a person, each once; none behind the last.
    pub(crate) async fn next_picture(&self, person: &PersonId, pages: &mut Pages) -> Result<Option<Picture>> {
        let row: Option<PictureRow> = sqlx::query_as(
            "SELECT p.sha256, p.object, p.media_type, p.size FROM picture p
             WHERE p.sha256 > $2 AND EXISTS (SELECT 1 FROM sighting s WHERE s.picture = p.sha256 AND s.person = $1)
             ORDER BY p.sha256 LIMIT 1",
        )
        .bind(person.as_str())
        .bind(&pages.last_picture)
        .fetch_optional(self.pool())
        .await
        .map_err(Error::database("reading the photographs of a collection"))?;
        let picture = row.map(Picture::read);
        if let Some(picture) = &picture {
            pages.last_picture.clone_from(&picture.sha256);
        }
        Ok(picture)
    }

    /// Removes all that belongs to a person: profile, sightings, keys, and photographs that nobody else's sighting shows. One
    /// who has nothing is no error.
    pub(crate) async fn delete_everything(&self, person: &PersonId) -> Result<()> {
        let mut write = self.write().await?;
        // A sighting that is being made comes first or finds no collection and makes a new one.
        let lock = AssertSqlSafe(format!("SELECT handle FROM collector WHERE person = $1{}", self.for_update()));
        let found: Option<String> = sqlx::query_scalar(lock)
            .bind(person.as_str())
            .fetch_optional(write.connection())
            .await
            .map_err(Error::database("deleting a collection"))?;
        if found.is_none() {
            return Ok(());
        }
        // In one order, so that two deletions do not wait for each other.
        let pictures: Vec<String> = sqlx::query_scalar(
            "SELECT DISTINCT picture FROM sighting WHERE person = $1 AND picture IS NOT NULL ORDER BY picture",
        )
        .bind(person.as_str())
        .fetch_all(write.connection())
        .await
        .map_err(Error::database("deleting a collection"))?;
        for statement in ["DELETE FROM sighting WHERE person = $1", "DELETE FROM collector WHERE person = $1"] {
            let done = sqlx::query(statement).bind(person.as_str()).execute(write.connection()).await;
            done.map_err(Error::database("deleting a collection"))?;
        }
        let mut doomed = Vec::new();
        for sha256 in pictures {
            doomed.extend(write.drop_picture(&sha256, self.for_update()).await?);
        }
        write.commit().await?;
        // A failure is told, as bytes are left; they are noted, and the next tidying removes them.
        self.remove_objects(doomed).await
    }
}
