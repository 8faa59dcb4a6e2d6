//! A place of backups: a folder or a prefix in a bucket.
//!
//! | object | is |
//! |---|---|
//! | `blobs/<two digits>/<name>` | a piece of a file, named after its content, shared by all backups that hold it |
//! | `backups/<id>/manifest.jsonl` | a backup: it exists if and only if this does |
//! | `backups/<id>/files-…`, `blobs-…` | what is in it, in pages |
//! | `backups/<id>/verified.json` | that it was read and found whole |
//! | `locks/<number>` | who is at work |

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use chrono::{DateTime, Utc};
use futures::future::ready;
use futures::{StreamExt, TryStreamExt, stream};
use platform::config::Config;
use platform::object_store::{self, Child, Location, ObjectStore};
use serde::Serialize;
use serde::de::DeserializeOwned;
use sha2::{Digest, Sha256};

use crate::id::BackupId;
use crate::lock::Lock;
use crate::manifest::{Blob, FileEntry, Manifest, Page, PartName, Piece, Verified, from_lines};
use crate::seal::Keys;
use crate::write::short_hash;
use crate::{Error, Result};

/// Bytes of a piece of a file. Some are in memory at once, and each is an object of its own.
pub(crate) const PIECE: usize = 4 << 20;

/// No page gets larger than about this before it is packed.
pub(crate) const PAGE: usize = 1 << 20;

/// Backups that are looked at at once.
const AT_ONCE: usize = 16;

/// What a page may become when it is unpacked: a line goes beyond the limit by itself.
const LARGEST_PAGE: usize = 64 << 20;

/// The blobs of a backup with size and checksum as stored, in 64 bytes each: all of them are in memory.
#[derive(Debug, Default)]
pub(crate) struct KnownBlobs(HashMap<u128, (u64, [u8; 32])>);

impl KnownBlobs {
    pub(crate) fn get(&self, name: &str) -> Option<Blob> {
        let (size, sha256) = self.0.get(&short_hash(&[name]))?;
        Some(Blob { name: name.to_owned(), size: *size, sha256: hex::encode(sha256) })
    }

    /// One whose checksum is none is left out: it would be written again.
    fn add(&mut self, blob: &Blob) {
        let mut sha256 = [0; 32];
        if hex::decode_to_slice(&blob.sha256, &mut sha256).is_ok() {
            self.0.insert(short_hash(&[&blob.name]), (blob.size, sha256));
        }
    }
}

/// Where backups are kept, and the keys for them.
#[derive(Debug, Clone)]
pub struct Repository {
    store: Arc<dyn ObjectStore>,
    keys: Arc<Keys>,
    lease: Duration,
}

/// A backup as `safari backup list` shows it.
#[derive(Debug)]
pub struct Listed {
    /// Its name.
    pub id: BackupId,
    /// When its manifest was written, by the clock of the place.
    pub written_at: DateTime<Utc>,
    /// What it says of itself, or why that cannot be read.
    pub manifest: Result<Manifest>,
    /// The last time that it was found whole; none if it never was.
    pub verified: Option<Verified>,
}

impl Listed {
    /// Whether it can be relied on.
    pub fn is_good(&self) -> bool {
        self.manifest.is_ok() && self.verified.is_some()
    }
}

impl Repository {
    /// Opens the place of `backup.url` with the keys of `backup.recipients` and `backup.identity_file`.
    ///
    /// # Errors
    /// What is wrong with the place or the keys.
    pub async fn of(config: &Config) -> Result<Self> {
        let settings = &config.backup;
        let keys = Keys::new(&settings.recipients, settings.identity_file.as_deref())?;
        let store = object_store::open(&Location::parse(&config.backup_url())?).await?;
        Ok(Self::new(store, keys, Duration::from_secs(settings.lease_seconds)))
    }

    /// A place that was opened with credentials of the caller's own. `lease`: how long a writer may show no sign of life.
    pub fn new(store: Arc<dyn ObjectStore>, keys: Keys, lease: Duration) -> Self {
        Self { store, keys: Arc::new(keys), lease }
    }

    /// Its name for people.
    pub fn place(&self) -> String {
        self.store.location().to_string()
    }

    /// All backups, the newest first. One whose manifest is damaged is among them.
    ///
    /// # Errors
    /// The place does not answer.
    pub async fn list(&self) -> Result<Vec<Listed>> {
        let children = self.store.children("backups").await?;
        let ids = children.into_iter().filter_map(|child| match child {
            Child::Folder(folder) => folder.trim_start_matches("backups/").parse::<BackupId>().ok(),
            Child::Object(_) => None,
        });
        let looks = stream::iter(ids).map(|id| self.look_at(id)).buffer_unordered(AT_ONCE);
        let mut listed: Vec<Listed> = looks.try_filter_map(|one| ready(Ok(one))).try_collect().await?;
        listed.sort_by(|one, other| other.id.cmp(&one.id));
        Ok(listed)
    }

    /// Those that can be relied on, the newest first: in the order in which they were made, which no clock changes.
    pub(crate) async fn good(&self) -> Result<Vec<Manifest>> {
        let listed = self.list().await?;
        let good = listed.into_iter().filter(Listed::is_good).filter_map(|backup| backup.manifest.ok());
        let mut good: Vec<Manifest> = good.collect();
        good.sort_by(|one, other| (other.number, &other.id).cmp(&(one.number, &one.id)));
        Ok(good)
    }

    /// The manifest of a backup.
    ///
    /// # Errors
    /// [`Error::NoBackup`], [`Error::Damaged`], [`Error::NewerFormat`].
    pub async fn manifest(&self, id: &BackupId) -> Result<Manifest> {
        let key = manifest_key(id);
        match self.store.get(&key).await {
            Ok(bytes) => Manifest::from_bytes(&self.store.uri(&key), &bytes),
            Err(platform::Error::NotFound { .. }) => {
                Err(Error::NoBackup { wanted: id.to_string(), place: self.place() })
            }
            Err(error) => Err(error.into()),
        }
    }

    pub(crate) fn store(&self) -> &Arc<dyn ObjectStore> {
        &self.store
    }

    pub(crate) fn keys(&self) -> &Arc<Keys> {
        &self.keys
    }

    pub(crate) async fn lock(&self, doing: &str) -> Result<Lock> {
        Lock::take(&self.store, doing, self.lease).await
    }

    /// None if the folder holds no manifest: a backup that was never ended.
    async fn look_at(&self, id: BackupId) -> Result<Option<Listed>> {
        let written_at = match self.store.head(&manifest_key(&id)).await {
            Ok(meta) => meta.modified,
            Err(platform::Error::NotFound { .. }) => return Ok(None),
            Err(error) => return Err(error.into()),
        };
        let manifest = match self.manifest(&id).await {
            Err(Error::Platform(error)) => return Err(error.into()),
            read => read,
        };
        let verified = self.verified(&id).await?;
        Ok(Some(Listed { id, written_at, manifest, verified }))
    }

    pub(crate) async fn verified(&self, id: &BackupId) -> Result<Option<Verified>> {
        match self.store.get(&verified_key(id)).await {
            Ok(bytes) => Ok(serde_json::from_slice(&bytes).ok()),
            Err(platform::Error::NotFound { .. }) => Ok(None),
            Err(error) => Err(error.into()),
        }
    }

    pub(crate) async fn record_verified(&self, id: &BackupId, verified: &Verified) -> Result<()> {
        Ok(self.store.put(&verified_key(id), crate::manifest::to_line(verified)?.into()).await?)
    }

    pub(crate) async fn forget_verified(&self, id: &BackupId) -> Result<()> {
        Ok(self.store.delete(&verified_key(id)).await?)
    }

    /// Writes a page and reads it back.
    pub(crate) async fn put_page(
        &self,
        id: &BackupId,
        name: String,
        parts: Vec<PartName>,
        stored: Bytes,
    ) -> Result<Page> {
        let key = page_key(id, &name);
        let page = Page { name, size: stored.len() as u64, sha256: sha256(&stored), parts };
        self.store.put(&key, stored).await?;
        self.read_page(id, &page).await?;
        Ok(page)
    }

    /// A page as it is stored, checked.
    pub(crate) async fn read_page(&self, id: &BackupId, page: &Page) -> Result<Bytes> {
        let key = page_key(id, &page.name);
        let stored = self.get(&key).await?;
        if stored.len() as u64 != page.size || sha256(&stored) != page.sha256 {
            return Err(Error::damaged(self.store.uri(&key), "its checksum is another"));
        }
        Ok(stored)
    }

    /// The lines of a page of blobs.
    pub(crate) async fn blobs(&self, id: &BackupId, page: &Page) -> Result<Vec<Blob>> {
        self.lines(id, page, false).await
    }

    /// The lines of a page of files.
    pub(crate) async fn files(&self, manifest: &Manifest, page: &Page) -> Result<Vec<FileEntry>> {
        if manifest.encrypted && !self.keys.decrypt() {
            return Err(Error::NoIdentity(manifest.id.clone()));
        }
        self.lines(&manifest.id, page, manifest.encrypted).await
    }

    async fn lines<T: DeserializeOwned>(&self, id: &BackupId, page: &Page, encrypted: bool) -> Result<Vec<T>> {
        let stored = self.read_page(id, page).await?;
        let what = self.store.uri(&page_key(id, &page.name));
        let plain = self.keys.open(&what, &stored, encrypted, LARGEST_PAGE)?;
        from_lines(&what, &plain)
    }

    /// Every blob of a backup.
    pub(crate) async fn known_blobs(&self, manifest: &Manifest) -> Result<KnownBlobs> {
        let mut known = KnownBlobs::default();
        for page in &manifest.blob_pages {
            let blobs = self.blobs(&manifest.id, page).await?;
            blobs.iter().for_each(|blob| known.add(blob));
        }
        Ok(known)
    }

    /// The stored bytes of a blob, whatever they are.
    pub(crate) async fn read_blob(&self, name: &str) -> Result<Bytes> {
        self.get(&blob_key(name)).await
    }

    /// The bytes of a piece, decrypted, unpacked and checked.
    pub(crate) async fn read_piece(&self, piece: &Piece, encrypted: bool) -> Result<Bytes> {
        let stored = self.read_blob(&piece.blob).await?;
        self.open_piece(piece, stored, encrypted).await
    }

    pub(crate) async fn open_piece(&self, piece: &Piece, stored: Bytes, encrypted: bool) -> Result<Bytes> {
        let (keys, piece, what) = (Arc::clone(&self.keys), piece.clone(), self.store.uri(&blob_key(&piece.blob)));
        blocking(move || {
            let most = usize::try_from(piece.size).unwrap_or(usize::MAX).min(PIECE);
            let plain = keys.open(&what, &stored, encrypted, most)?;
            if plain.len() as u64 != piece.size || sha256(&plain) != piece.sha256 {
                return Err(Error::damaged(what, "its content is another"));
            }
            Ok(plain)
        })
        .await
    }

    async fn get(&self, key: &str) -> Result<Bytes> {
        match self.store.get(key).await {
            Err(platform::Error::NotFound { uri }) => Err(Error::damaged(uri, "it is missing")),
            other => Ok(other?),
        }
    }
}

pub(crate) fn manifest_key(id: &BackupId) -> String {
    format!("backups/{id}/manifest.jsonl")
}

fn verified_key(id: &BackupId) -> String {
    format!("backups/{id}/verified.json")
}

fn page_key(id: &BackupId, name: &str) -> String {
    format!("backups/{id}/{name}")
}

pub(crate) fn blob_key(name: &str) -> String {
    format!("blobs/{}/{name}", name.get(..2).unwrap_or(name))
}

pub(crate) fn sha256(bytes: &[u8]) -> String {
    hex::encode(Sha256::digest(bytes))
}

/// Runs work of the processor where it holds up nobody.
pub(crate) async fn blocking<T: Send + 'static>(work: impl FnOnce() -> Result<T> + Send + 'static) -> Result<T> {
    match tokio::task::spawn_blocking(work).await {
        Ok(result) => result,
        Err(failure) if failure.is_panic() => std::panic::resume_unwind(failure.into_panic()),
        Err(_) => Err(Error::Unpackable { what: "a piece".to_owned(), reason: "the program is ending".to_owned() }),
    }
}

/// Collects lines until they are a page.
#[derive(Debug, Default)]
pub(crate) struct Lines(Vec<u8>);

impl Lines {
    pub(crate) fn add(&mut self, value: &impl Serialize) -> Result<()> {
        self.0.extend(crate::manifest::to_line(value)?);
        Ok(())
    }

    pub(crate) fn is_full(&self) -> bool {
        self.0.len() >= PAGE
    }

    /// What was collected, if anything.
    pub(crate) fn take(&mut self) -> Option<Vec<u8>> {
        (!self.0.is_empty()).then(|| std::mem::take(&mut self.0))
    }
}
