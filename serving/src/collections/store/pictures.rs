//! Photographs: one row and one object for each content, however many sightings refer to it.
//!
//! Each upload goes to an object of a name of its own, which is noted first and belongs to a picture from the commit of its
//! row on. So a crash leaves a note, never bytes that nobody knows of, and a removal never meets an upload of the same bytes.

use bytes::Bytes;
use futures::stream::{self, BoxStream};
use futures::{StreamExt, TryStreamExt};
use sha2::{Digest, Sha256};
use uuid::Uuid;

use super::{Store, UPLOAD_TIME, Write};
use crate::collections::person::PersonId;
use crate::collections::{Moment, SightingId};
use crate::{Error, Result};

/// A photograph that is kept.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Picture {
    pub(crate) sha256: String,
    pub(crate) object: String,
    pub(crate) media_type: String,
    pub(crate) size: i64,
}

/// A photograph whose bytes are written and that no row names yet.
#[derive(Debug)]
pub(crate) struct Upload {
    pub(crate) picture: Picture,
}

pub(super) type PictureRow = (String, String, String, i64);

impl Store {
    /// Writes the bytes of a photograph.
    pub(crate) async fn upload(&self, bytes: Bytes, media_type: &str) -> Result<Upload> {
        let sha256 = sha256(&bytes);
        let object = format!("pictures/{}/{sha256}-{}", &sha256[..2], Uuid::new_v4().simple());
        let size = i64::try_from(bytes.len()).unwrap_or(i64::MAX);
        let mut write = self.write().await?;
        sqlx::query("INSERT INTO stray_object (object, doomed, noted_at) VALUES ($1, 0, $2)")
            .bind(&object)
            .bind(Moment::now().millis())
            .execute(write.connection())
            .await
            .map_err(Error::database("noting a photograph"))?;
        write.commit().await?;
        // As a stream, whose unfinished files are where the store finds them again after a kill.
        let whole = stream::iter([Ok(bytes)]).boxed();
        self.objects.put_stream(&object, whole, u64::try_from(size).ok()).await?;
        Ok(Upload { picture: Picture { sha256, object, media_type: media_type.to_owned(), size } })
    }

    /// Gives up an upload that no row took.
    pub(crate) async fn forget(&self, upload: &Upload) -> Result<()> {
        let mut write = self.write().await?;
        let doomed = sqlx::query("UPDATE stray_object SET doomed = 1 WHERE object = $1")
            .bind(&upload.picture.object)
            .execute(write.connection())
            .await
            .map_err(Error::database("giving up a photograph"))?;
        write.commit().await?;
        // A commit whose answer was lost has given the object to a picture.
        if doomed.rows_affected() == 0 {
            return Ok(());
        }
        self.remove_objects(vec![upload.picture.object.clone()]).await
    }

    /// The photograph of a sighting that is not deleted and is this person's.
    pub(crate) async fn picture_of(&self, sighting: SightingId, person: &PersonId) -> Result<Option<Picture>> {
        let row: Option<PictureRow> = sqlx::query_as(
            "SELECT p.sha256, p.object, p.media_type, p.size FROM sighting s JOIN picture p ON p.sha256 = s.picture
             WHERE s.id = $1 AND s.person = $2 AND s.deleted_at IS NULL",
        )
        .bind(sighting.to_string())
        .bind(person.as_str())
        .fetch_optional(self.pool())
        .await
        .map_err(Error::database("looking for a photograph"))?;
        Ok(row.map(Picture::read))
    }

    /// The bytes of a photograph, piece by piece.
    pub(crate) async fn picture_stream(&self, picture: &Picture) -> Result<BoxStream<'static, Result<Bytes>>> {
        let body = self.objects.get_stream(&picture.object, None).await?;
        Ok(body.bytes.map_err(Error::from).boxed())
    }

    /// Removes objects that no picture names: those that are doomed, and uploads that began [`UPLOAD_TIME`] before `now` and
    /// never ended, whole or not. Gives their number.
    ///
    /// # Errors
    /// The database or the object store does not do what it is asked; then the rest is removed at the next call.
    pub(crate) async fn remove_strays(&self, now: Moment) -> Result<u64> {
        let mut write = self.write().await?;
        sqlx::query("UPDATE stray_object SET doomed = 1 WHERE doomed = 0 AND noted_at < $1")
            .bind(now.millis() - UPLOAD_TIME.num_milliseconds())
            .execute(write.connection())
            .await
            .map_err(Error::database("looking for photographs that were left behind"))?;
        write.commit().await?;
        let mut removed = self.objects.remove_unfinished(now.time() - UPLOAD_TIME).await?;
        loop {
            let doomed: Vec<String> = sqlx::query_scalar("SELECT object FROM stray_object WHERE doomed = 1 LIMIT 100")
                .fetch_all(self.pool())
                .await
                .map_err(Error::database("looking for photographs that were left behind"))?;
            if doomed.is_empty() {
                return Ok(removed);
            }
            removed += doomed.len() as u64;
            self.remove_objects(doomed).await?;
        }
    }

    /// Removes doomed objects, then the notes of them.
    pub(super) async fn remove_objects(&self, doomed: Vec<String>) -> Result<()> {
        for object in doomed {
            self.objects.delete(&object).await?;
            let mut write = self.write().await?;
            sqlx::query("DELETE FROM stray_object WHERE object = $1 AND doomed = 1")
                .bind(&object)
                .execute(write.connection())
                .await
                .map_err(Error::database("forgetting a photograph"))?;
            write.commit().await?;
        }
        Ok(())
    }
}

impl Write {
    /// Makes the row of a photograph, or takes the one that has the same bytes, and holds it until the end of the change.
    /// Gives whether the upload's object is now the picture's.
    pub(crate) async fn take_picture(&mut self, upload: &Upload) -> Result<bool> {
        let picture = &upload.picture;
        // An update of nothing locks the row: nobody removes it before a sighting refers to it.
        let object: String = sqlx::query_scalar(
            "INSERT INTO picture (sha256, object, media_type, size, created_at) VALUES ($1, $2, $3, $4, $5)
             ON CONFLICT (sha256) DO UPDATE SET sha256 = excluded.sha256 RETURNING object",
        )
        .bind(&picture.sha256)
        .bind(&picture.object)
        .bind(&picture.media_type)
        .bind(picture.size)
        .bind(Moment::now().millis())
        .fetch_one(self.connection())
        .await
        .map_err(Error::database("keeping a photograph"))?;
        if object != picture.object {
            return Ok(false);
        }
        let taken = sqlx::query("DELETE FROM stray_object WHERE object = $1 AND doomed = 0")
            .bind(&picture.object)
            .execute(self.connection())
            .await
            .map_err(Error::database("keeping a photograph"))?;
        if taken.rows_affected() == 0 {
            return Err(Error::Unmet("the photograph took too long to be written: send it again".to_owned()));
        }
        Ok(true)
    }

    /// Removes the row of a photograph that no sighting refers to any more; gives the object that is to be removed after the
    /// commit. `for_update` is [`Store::for_update`].
    pub(super) async fn drop_picture(&mut self, sha256: &str, for_update: &'static str) -> Result<Option<String>> {
        // Whoever is about to refer to it comes first; their sighting is then seen by the next statement.
        let lock = sqlx::AssertSqlSafe(format!("SELECT object FROM picture WHERE sha256 = $1{for_update}"));
        let object: Option<String> = sqlx::query_scalar(lock)
            .bind(sha256)
            .fetch_optional(self.connection())
            .await
            .map_err(Error::database("removing a photograph"))?;
        let Some(object) = object else { return Ok(None) };
        let removed = sqlx::query(
            "DELETE FROM picture WHERE sha256 = $1 AND NOT EXISTS (SELECT 1 FROM sighting s WHERE s.picture = $1)",
        )
        .bind(sha256)
        .execute(self.connection())
        .await
        .map_err(Error::database("removing a photograph"))?;
        if removed.rows_affected() == 0 {
            return Ok(None);
        }
        sqlx::query("INSERT INTO stray_object (object, doomed, noted_at) VALUES ($1, 1, $2)")
            .bind(&object)
            .bind(Moment::now().millis())
            .execute(self.connection())
            .await
            .map_err(Error::database("removing a photograph"))?;
        Ok(Some(object))
    }
}

impl Picture {
    pub(super) fn read((sha256, object, media_type, size): PictureRow) -> Self {
        Self { sha256, object, media_type, size }
    }
}

/// In hex.
pub(crate) fn sha256(bytes: &[u8]) -> String {
    hex::encode(Sha256::digest(bytes))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use platform::database::Address;
    use platform::object_store::{self, Location};

    use super::*;
    use crate::collections::Key;
    use crate::collections::person::Person;
    use crate::collections::store::{NewSighting, Source};

    const HOUR: i64 = 3_600_000;

    async fn open(folder: &std::path::Path) -> Store {
        let objects = Location::parse(folder.join("objects").to_str().unwrap()).unwrap();
        let address = Address::Sqlite(folder.join("collections.db"));
        Store::open_current(&address, object_store::open(&objects).await.unwrap()).await.unwrap()
    }

    async fn read(store: &Store, picture: &Picture) -> Result<Vec<u8>> {
        let pieces: Vec<Bytes> = store.picture_stream(picture).await?.try_collect().await?;
        Ok(pieces.concat())
    }

    fn later(hours: i64) -> Moment {
        Moment::from_millis(Moment::now().millis() + hours * HOUR)
    }

    fn sighting(picture: Upload) -> NewSighting {
        NewSighting {
            key: Key::random(),
            digest: "d".to_owned(),
            species: "vulpes-vulpes".to_owned(),
            is_leaf: true,
            source: Source::Named,
            confidence: None,
            model: None,
            detection: None,
            picture: Some(picture),
            seen_at: None,
            place: None,
        }
    }

    #[tokio::test]
    async fn what_a_dead_writer_left_is_removed_when_no_living_one_could_still_want_it() {
        let folder = tempfile::tempdir().unwrap();
        let dead = open(folder.path()).await;
        let upload = dead.upload(Bytes::from_static(b"a photograph"), "image/jpeg").await.unwrap();
        drop(dead);

        let store = open(folder.path()).await;
        let bytes = async || read(&store, &upload.picture).await;
        assert_eq!(store.remove_strays(Moment::now()).await.unwrap(), 0, "its writer may be alive");
        assert_eq!(bytes().await.unwrap(), b"a photograph");
        assert_eq!(store.remove_strays(later(2)).await.unwrap(), 1);
        bytes().await.unwrap_err();
        assert_eq!(store.remove_strays(later(2)).await.unwrap(), 0, "and it is forgotten");
    }

    #[tokio::test]
    async fn a_photograph_that_was_given_up_is_no_sightings() {
        let folder = tempfile::tempdir().unwrap();
        let store = open(folder.path()).await;
        let person = Person { id: PersonId::new("lin"), name: "lin".to_owned() };
        let slow = store.upload(Bytes::from_static(b"slow"), "image/jpeg").await.unwrap();
        store.remove_strays(later(2)).await.unwrap();
        let refused = store.add_sighting(&person, sighting(slow)).await.unwrap_err();
        assert!(matches!(refused, Error::Unmet(_)), "{refused}");
        assert!(store.tallies(&person.id).await.unwrap().is_empty(), "no row without its bytes");

        let kept = store.upload(Bytes::from_static(b"kept"), "image/jpeg").await.unwrap();
        let picture = kept.picture.clone();
        store.add_sighting(&person, sighting(kept)).await.unwrap();
        assert_eq!(store.remove_strays(later(2)).await.unwrap(), 0);
        assert_eq!(read(&store, &picture).await.unwrap(), b"kept");
    }
}
