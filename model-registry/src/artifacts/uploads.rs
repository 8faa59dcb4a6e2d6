//! Uploads in parts. A client asks for an upload, sends the parts to the addresses that it is given, and has them put
//! together. In a bucket the parts go to S3 itself; in a folder they come to us.

use chrono::{DateTime, Utc};
use futures::StreamExt;
use platform::object_store::{Incoming, Part};
use uuid::Uuid;

use super::{ArtifactPath, Artifacts, LIFETIME, explain};
use crate::store::{Store, Upload};
use crate::{Error, Result};

/// The most parts that S3 takes.
const MAX_PARTS: u32 = 10_000;
/// Addresses that are signed at once.
const AT_ONCE: usize = 32;

/// Where a part is to be sent.
#[derive(Clone, Debug)]
pub(crate) struct Credential {
    pub(crate) number: u32,
    /// None if it is sent to this server.
    pub(crate) url: Option<String>,
    pub(crate) headers: Vec<(String, String)>,
}

impl Artifacts {
    /// Begins an upload; gives its id, by which whoever has it may send parts, and where they are to be sent.
    ///
    /// # Errors
    /// A number of parts that is not allowed, or the store or database does not answer.
    pub(crate) async fn begin_upload(
        &self,
        rows: &Store,
        path: &ArtifactPath,
        parts: u32,
    ) -> Result<(String, Vec<Credential>)> {
        if path.is_root() {
            return Err(Error::invalid("Invalid path"));
        }
        if !(1..=MAX_PARTS).contains(&parts) {
            return Err(Error::invalid(format!(
                "Invalid value {parts} for parameter 'num_parts': give 1 to {MAX_PARTS}"
            )));
        }
        let failed = |error| explain(error, path);
        let store_id = self.store.begin_parts(path.as_str()).await.map_err(failed)?;
        let id = Uuid::new_v4().simple().to_string();
        rows.begin_upload(&Upload { id: id.clone(), path: path.clone(), parts, store_id: store_id.clone() }).await?;
        let signed = futures::stream::iter(1..=parts).map(|number| {
            let store_id = &store_id;
            async move {
                let url = self.store.presign_part(path.as_str(), store_id, number, LIFETIME).await?;
                let (url, headers) = url.map_or((None, Vec::new()), |given| (Some(given.url), given.headers));
                Ok::<_, platform::Error>(Credential { number, url, headers })
            }
        });
        let signed: Vec<_> = signed.buffered(AT_ONCE).collect().await;
        let credentials = signed.into_iter().collect::<Result<Vec<_>, _>>().map_err(failed)?;
        Ok((id, credentials))
    }

    /// Writes a part of an upload or replaces it.
    ///
    /// # Errors
    /// No such upload or part; the bytes break off.
    pub(crate) async fn write_part(
        &self,
        rows: &Store,
        id: &str,
        number: u32,
        bytes: Incoming,
        size: Option<u64>,
    ) -> Result<Part> {
        let upload = rows.upload(id).await?.ok_or_else(|| unknown(id))?;
        if !(1..=upload.parts).contains(&number) {
            return Err(Error::invalid(format!("the upload has parts 1 to {}, not {number}", upload.parts)));
        }
        let sent = self.store.put_part(upload.path.as_str(), &upload.store_id, number, bytes, size).await;
        sent.map_err(|error| explain(error, &upload.path))
    }

    /// Puts the parts together. Asked again after it was done, it says that it is done.
    ///
    /// # Errors
    /// No such upload; parts that are missing or have changed since.
    pub(crate) async fn complete_upload(
        &self,
        rows: &Store,
        path: &ArtifactPath,
        id: &str,
        parts: &[Part],
    ) -> Result<()> {
        let upload = match rows.upload(id).await? {
            Some(upload) if upload.path == *path => upload,
            _ if rows.is_upload_done(id, path).await? => return Ok(()),
            _ => return Err(unknown(id)),
        };
        let numbers: Vec<u32> = parts.iter().map(|part| part.number).collect();
        if numbers.is_empty() || numbers.iter().collect::<std::collections::BTreeSet<_>>().len() != numbers.len() {
            return Err(Error::invalid("give every part of the upload once, with its number and its ETag"));
        }
        if numbers.len() != upload.parts as usize {
            let message =
                format!("{} of {} parts are given; give every part of the upload", numbers.len(), upload.parts);
            return Err(Error::invalid(message));
        }
        let whole = self.store.complete_parts(path.as_str(), &upload.store_id, parts).await;
        whole.map_err(|error| explain(error, path))?;
        rows.end_upload(id).await
    }

    /// Gives an upload up. One that is not there is no error.
    ///
    /// # Errors
    /// The store or database does not answer.
    pub(crate) async fn abort_upload(&self, rows: &Store, path: &ArtifactPath, id: &str) -> Result<()> {
        let Some(upload) = rows.upload(id).await?.filter(|upload| upload.path == *path) else { return Ok(()) };
        self.store.abort_parts(path.as_str(), &upload.store_id).await.map_err(|error| explain(error, path))?;
        rows.forget_upload(id).await
    }

    /// Gives up all uploads that were begun before `before`, and what they and other writers that died left behind;
    /// gives the number of uploads and of other leftovers.
    ///
    /// # Errors
    /// The store or database does not answer.
    pub async fn clean(&self, rows: &Store, before: DateTime<Utc>) -> Result<(u64, u64)> {
        let mut uploads = 0;
        for upload in rows.uploads_before(before.timestamp_millis()).await? {
            self.store.abort_parts(upload.path.as_str(), &upload.store_id).await?;
            rows.forget_upload(&upload.id).await?;
            uploads += 1;
        }
        Ok((uploads, self.remove_unfinished(before).await?))
    }
}

fn unknown(id: &str) -> Error {
    Error::missing(format!("there is no upload with id '{id}'; it may be complete, given up, or too old"))
}
