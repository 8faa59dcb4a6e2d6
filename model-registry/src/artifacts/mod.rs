//! Files of runs and models in a folder or a bucket.
//!
//! Bytes go through in pieces, so that memory does not grow with the size of a file. A file appears when all of it has
//! come and is on the disk; a request that breaks off, or a process that dies, leaves nothing to be seen.

mod path;
mod uploads;

use std::ops::Range;
use std::sync::Arc;
use std::time::Duration;

use chrono::{DateTime, Utc};
use platform::object_store::{self, Child, Incoming, Location, ObjectBody, ObjectMeta, ObjectStore, PresignedUrl};

use crate::{Error, ErrorCode, Result};

pub use path::ArtifactPath;

/// How long an address that was given away may be used.
const LIFETIME: Duration = Duration::from_secs(15 * 60);

/// The store of all files that this server keeps.
#[derive(Debug)]
pub struct Artifacts {
    store: Arc<dyn ObjectStore>,
}

/// What lies right in a folder.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Entry {
    /// Where it lies.
    pub path: ArtifactPath,
    /// Whether it is a folder.
    pub is_folder: bool,
    /// The bytes of a file.
    pub size: u64,
}

impl Artifacts {
    /// Opens the folder or bucket.
    ///
    /// # Errors
    /// What is wrong with the place and what to do.
    pub async fn open(location: &Location) -> Result<Self> {
        Ok(Self { store: object_store::open(location).await? })
    }

    /// Files in a store that was opened with credentials of the caller's own.
    pub fn new(store: Arc<dyn ObjectStore>) -> Self {
        Self { store }
    }

    /// The objects.
    pub fn store(&self) -> &Arc<dyn ObjectStore> {
        &self.store
    }

    /// What lies right in a folder, sorted by path; nothing if there is no such folder.
    ///
    /// # Errors
    /// The store does not answer.
    pub async fn list(&self, folder: &ArtifactPath) -> Result<Vec<Entry>> {
        let children = self.store.children(folder.as_str()).await.map_err(|error| explain(error, folder))?;
        let entries = children.into_iter().filter_map(|child| {
            // A name that could not be given back to us, such as one with `#`, is nobody's artifact.
            let path = ArtifactPath::parse(child.key()).ok()?;
            Some(match child {
                Child::Folder(_) => Entry { path, is_folder: true, size: 0 },
                Child::Object(meta) => Entry { path, is_folder: false, size: meta.size },
            })
        });
        Ok(entries.collect())
    }

    /// Size and version of a file.
    ///
    /// # Errors
    /// [`ErrorCode::ResourceDoesNotExist`]; [`ErrorCode::InvalidParameterValue`] for a folder.
    pub async fn head(&self, path: &ArtifactPath) -> Result<ObjectMeta> {
        match self.store.head(path.as_str()).await {
            Ok(meta) => Ok(meta),
            Err(error) => Err(self.unreadable(error, path).await),
        }
    }

    /// The bytes of a file, or a range of them.
    ///
    /// # Errors
    /// As [`Artifacts::head`].
    pub async fn read(&self, path: &ArtifactPath, range: Option<Range<u64>>) -> Result<ObjectBody> {
        match self.store.get_stream(path.as_str(), range).await {
            Ok(body) => Ok(body),
            Err(error) => Err(self.unreadable(error, path).await),
        }
    }

    /// Writes a file or replaces it, and gives its size. `size` is what was announced.
    ///
    /// # Errors
    /// [`ErrorCode::BadRequest`] if the bytes break off; then nothing is written.
    pub async fn write(&self, path: &ArtifactPath, bytes: Incoming, size: Option<u64>) -> Result<u64> {
        if path.is_root() {
            return Err(Error::invalid("Invalid path"));
        }
        self.store.put_stream(path.as_str(), bytes, size).await.map_err(|error| explain(error, path))
    }

    /// Removes a file, or a folder with everything in it. What does not exist is no error.
    ///
    /// # Errors
    /// The store does not answer.
    pub async fn delete(&self, path: &ArtifactPath) -> Result<()> {
        if path.is_root() {
            return Err(Error::invalid("Invalid path"));
        }
        // One of the two is there. A folder that is a file's name as well is possible on S3 only.
        let file = self.store.delete(path.as_str()).await;
        let folder = self.store.delete_folder(path.as_str()).await;
        match (file, folder) {
            (Err(error), Ok(())) if !self.store.location().is_local() => Err(explain(error, path)),
            (_, Err(error)) => Err(explain(error, path)),
            _ => Ok(()),
        }
    }

    /// An address for reading a file without this server; none if the files are in a folder.
    ///
    /// # Errors
    /// As [`Artifacts::head`].
    pub async fn presign(&self, path: &ArtifactPath) -> Result<Option<(PresignedUrl, u64)>> {
        let meta = self.head(path).await?;
        let url = self.store.presign_get(path.as_str(), LIFETIME).await.map_err(|error| explain(error, path))?;
        Ok(url.map(|url| (url, meta.size)))
    }

    /// Whether clients are given addresses of the store itself.
    pub fn gives_addresses(&self) -> bool {
        !self.store.location().is_local()
    }

    /// Removes what uploads that broke off before `before` left in the store.
    ///
    /// # Errors
    /// The store does not answer.
    pub async fn remove_unfinished(&self, before: DateTime<Utc>) -> Result<u64> {
        Ok(self.store.remove_unfinished(before).await?)
    }

    /// Says whether what is not there as a file is there as a folder.
    async fn unreadable(&self, error: platform::Error, path: &ArtifactPath) -> Error {
        if matches!(error, platform::Error::NotFound { .. }) {
            let inside = self.store.children(path.as_str()).await;
            if inside.is_ok_and(|inside| !inside.is_empty()) {
                let message = format!("Artifact path refers to a directory, not a file: '{path}'");
                return Error::invalid(message);
            }
        }
        explain(error, path)
    }
}

/// Puts what concerns one file into MLflow's words; what else goes wrong is the server's own fault.
fn explain(error: platform::Error, path: &ArtifactPath) -> Error {
    use platform::Error as E;
    match error {
        E::NotFound { .. } => Error::missing(format!("No such artifact: '{path}'")),
        E::InvalidKey { .. } => Error::invalid("Invalid path"),
        E::BrokenOff { reason, .. } => Error::refused(
            ErrorCode::BadRequest,
            format!("the content of '{path}' broke off ({reason}); nothing was written"),
        ),
        E::UnknownPart { number, .. } => {
            Error::invalid(format!("part {number} of '{path}' is not there or has changed since; send it again"))
        }
        E::ObjectStore { action: "write", reason, transient: false, .. }
            if reason.contains("is a file") || reason.contains("a folder has that name") =>
        {
            Error::invalid(format!("'{path}' cannot be written: {reason}"))
        }
        E::Full { .. } => Error::refused(ErrorCode::InternalError, "no space is left in the artifact store"),
        other => other.into(),
    }
}
