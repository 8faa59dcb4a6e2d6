//! Objects as files of a folder.

mod parts;
mod streams;

use std::fs::{self, File};
use std::io::{ErrorKind, Read, Seek, SeekFrom, Write};
use std::ops::Range;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;
use chrono::{DateTime, Utc};
use futures::stream::{self, BoxStream, StreamExt};
use tempfile::NamedTempFile;

use super::{
    Child, Incoming, Location, ObjectBody, ObjectMeta, ObjectStore, Part, PresignedUrl, TEMPORARY_PREFIX, key, walk,
};
use crate::error::io_reason;
use crate::{Error, Result};

/// Entries that a listing reads ahead of its consumer.
const LIST_AHEAD: usize = 256;

/// A store whose objects are files below a folder.
///
/// A write goes to a temporary file in the same folder, is synced, and is then renamed, so that readers and a crash see
/// the old or the new content.
#[derive(Debug)]
pub(super) struct LocalStore {
    location: Location,
    root: PathBuf,
}

impl LocalStore {
    pub(super) fn new(location: Location) -> Result<Self> {
        let Location::Local(root) = &location else {
            return Err(Error::InvalidLocation {
                location: location.to_string(),
                reason: "it is no folder of this machine".to_owned(),
            });
        };
        let root = root.clone();
        if root.exists() && !root.is_dir() {
            return Err(Error::InvalidLocation {
                location: location.to_string(),
                reason: "it is a file, give the folder that holds it".to_owned(),
            });
        }
        Ok(Self { location, root })
    }

    fn path(&self, key: &str) -> Result<PathBuf> {
        key::check(&self.location, key)?;
        Ok(self.root.join(key))
    }

    fn folder(&self, folder: &str) -> Result<PathBuf> {
        let folder = key::check_prefix(&self.location, folder)?;
        Ok(if folder.is_empty() { self.root.clone() } else { self.root.join(folder) })
    }

    /// Where what is written piece by piece lies until it is whole: in one folder, so that what dead writers left there
    /// is found without a walk through all objects.
    fn unfinished(&self) -> PathBuf {
        self.root.join(format!("{TEMPORARY_PREFIX}uploads"))
    }
}

#[async_trait]
impl ObjectStore for LocalStore {
    fn location(&self) -> &Location {
        &self.location
    }

    fn list(&self, prefix: &str) -> BoxStream<'static, Result<ObjectMeta>> {
        let prefix = match key::check_prefix(&self.location, prefix) {
            Ok(prefix) => prefix.to_owned(),
            Err(error) => return stream::iter([Err(error)]).boxed(),
        };
        let root = self.root.clone();
        let (sender, receiver) = tokio::sync::mpsc::channel(LIST_AHEAD);
        tokio::task::spawn_blocking(move || {
            if !root.is_dir() {
                let _nobody_listens = sender.blocking_send(Err(Error::NotFound { uri: root.display().to_string() }));
                return;
            }
            let folder = if prefix.is_empty() { root } else { root.join(&prefix) };
            if folder.is_dir() {
                walk::walk(&folder, &prefix, &mut |item| sender.blocking_send(item).is_ok());
            }
        });
        stream::unfold(receiver, |mut receiver| async move { receiver.recv().await.map(|item| (item, receiver)) })
            .boxed()
    }

    async fn head(&self, key: &str) -> Result<ObjectMeta> {
        let (path, key) = (self.path(key)?, key.to_owned());
        blocking(move || {
            let metadata = fs::metadata(&path).map_err(|error| Error::from_io("read", &path, &error))?;
            if !metadata.is_file() {
                return Err(Error::NotFound { uri: path.display().to_string() });
            }
            Ok(walk::object_meta(key, &metadata))
        })
        .await
    }

    async fn get(&self, key: &str) -> Result<Bytes> {
        let path = self.path(key)?;
        blocking(move || {
            let mut file = open_file(&path)?;
            let mut bytes = Vec::new();
            file.read_to_end(&mut bytes).map_err(|error| Error::from_io("read", &path, &error))?;
            Ok(bytes.into())
        })
        .await
    }

    async fn get_range(&self, key: &str, range: Range<u64>) -> Result<Bytes> {
        let path = self.path(key)?;
        blocking(move || {
            let failed = |error| Error::from_io("read", &path, &error);
            let mut file = open_file(&path)?;
            let mut bytes = Vec::new();
            file.seek(SeekFrom::Start(range.start)).map_err(failed)?;
            let length = range.end.saturating_sub(range.start);
            file.take(length).read_to_end(&mut bytes).map_err(failed)?;
            Ok(bytes.into())
        })
        .await
    }

    async fn put(&self, key: &str, bytes: Bytes) -> Result<()> {
        let path = self.path(key)?;
        blocking(move || {
            let (file, folder) = write_temporary(&path, &mut &bytes[..])?;
            file.persist(&path).map_err(|failure| Error::from_io("write", &path, &failure.error))?;
            sync_folder(&folder)
        })
        .await
    }

    async fn put_if_absent(&self, key: &str, bytes: Bytes) -> Result<bool> {
        let path = self.path(key)?;
        blocking(move || {
            if path.exists() {
                return Ok(false);
            }
            let (file, folder) = write_temporary(&path, &mut &bytes[..])?;
            match file.persist_noclobber(&path) {
                Ok(_) => sync_folder(&folder).map(|()| true),
                Err(failure) if failure.error.kind() == ErrorKind::AlreadyExists => Ok(false),
                Err(failure) => Err(Error::from_io("write", &path, &failure.error)),
            }
        })
        .await
    }

    async fn put_file(&self, key: &str, file: &Path) -> Result<()> {
        let (path, source) = (self.path(key)?, file.to_owned());
        blocking(move || {
            let mut source_file = open_file(&source)?;
            let (file, folder) = write_temporary(&path, &mut source_file)?;
            file.persist(&path).map_err(|failure| Error::from_io("write", &path, &failure.error))?;
            sync_folder(&folder)
        })
        .await
    }

    async fn download(&self, key: &str, file: &Path) -> Result<()> {
        let (path, target) = (self.path(key)?, file.to_owned());
        blocking(move || {
            let mut source = open_file(&path)?;
            let (file, folder) = write_temporary(&target, &mut source)?;
            file.persist(&target).map_err(|failure| Error::from_io("write", &target, &failure.error))?;
            sync_folder(&folder)
        })
        .await
    }

    async fn delete(&self, key: &str) -> Result<()> {
        let path = self.path(key)?;
        blocking(move || match fs::remove_file(&path) {
            Ok(()) => Ok(()),
            Err(error) if matches!(error.kind(), ErrorKind::NotFound | ErrorKind::NotADirectory) => Ok(()),
            Err(error) => Err(Error::from_io("delete", &path, &error)),
        })
        .await
    }

    async fn delete_folder(&self, folder: &str) -> Result<()> {
        let path = self.folder(folder)?;
        blocking(move || match fs::remove_dir_all(&path) {
            Ok(()) => Ok(()),
            Err(error) if matches!(error.kind(), ErrorKind::NotFound | ErrorKind::NotADirectory) => Ok(()),
            Err(error) => Err(Error::from_io("delete", &path, &error)),
        })
        .await
    }

    async fn children(&self, folder: &str) -> Result<Vec<Child>> {
        let path = self.folder(folder)?;
        let prefix = folder.trim_matches('/').to_owned();
        blocking(move || if path.is_dir() { walk::children(&path, &prefix) } else { Ok(Vec::new()) }).await
    }

    async fn get_stream(&self, key: &str, range: Option<Range<u64>>) -> Result<ObjectBody> {
        streams::read(self.path(key)?, key.to_owned(), range).await
    }

    async fn put_stream(&self, key: &str, bytes: Incoming, size: Option<u64>) -> Result<u64> {
        let path = self.path(key)?;
        let (file, written) = streams::write(&self.unfinished(), &path, bytes, size).await?;
        blocking(move || persist(file, &path)).await?;
        Ok(written)
    }

    async fn begin_parts(&self, key: &str) -> Result<String> {
        self.path(key)?;
        parts::begin(&self.unfinished()).await
    }

    async fn put_part(&self, key: &str, upload: &str, number: u32, bytes: Incoming, size: Option<u64>) -> Result<Part> {
        parts::write(&self.unfinished(), &self.path(key)?, upload, number, bytes, size).await
    }

    async fn complete_parts(&self, key: &str, upload: &str, parts: &[Part]) -> Result<()> {
        parts::complete(&self.unfinished(), self.path(key)?, upload, parts.to_vec()).await
    }

    async fn abort_parts(&self, key: &str, upload: &str) -> Result<()> {
        parts::abort(&self.unfinished(), &self.path(key)?, upload).await
    }

    async fn remove_unfinished(&self, before: DateTime<Utc>) -> Result<u64> {
        parts::remove_old(self.unfinished(), before).await
    }

    async fn presign_get(&self, key: &str, _lifetime: Duration) -> Result<Option<PresignedUrl>> {
        self.path(key).map(|_| None)
    }

    async fn presign_part(&self, key: &str, _: &str, _: u32, _: Duration) -> Result<Option<PresignedUrl>> {
        self.path(key).map(|_| None)
    }

    fn local_path(&self, key: &str) -> Option<PathBuf> {
        self.path(key).ok()
    }
}

/// Gives a whole and synced temporary file its name.
fn persist(file: NamedTempFile, target: &Path) -> Result<()> {
    let folder = folder_of(target);
    create_folders(&folder)?;
    file.persist(target).map_err(|failure| {
        if target.is_dir() {
            return Error::ObjectStore {
                action: "write",
                uri: target.display().to_string(),
                reason: "a folder has that name".to_owned(),
                transient: false,
            };
        }
        Error::from_io("write", target, &failure.error)
    })?;
    sync_folder(&folder)
}

fn folder_of(target: &Path) -> PathBuf {
    match target.parent() {
        Some(folder) if !folder.as_os_str().is_empty() => folder.to_owned(),
        _ => PathBuf::from("."),
    }
}

/// A new temporary file beside `target`, whose folders are made.
pub(super) fn temporary_beside(target: &Path) -> Result<(NamedTempFile, PathBuf)> {
    let folder = folder_of(target);
    Ok((temporary_in(&folder, target)?, folder))
}

/// A new temporary file in `folder`, which is made, for what will be `target`.
fn temporary_in(folder: &Path, target: &Path) -> Result<NamedTempFile> {
    create_folders(folder)?;
    tempfile::Builder::new()
        .prefix(TEMPORARY_PREFIX)
        // The process's umask still applies, as to any new file.
        .permissions(fs::Permissions::from_mode(0o666))
        .tempfile_in(folder)
        .map_err(|error| Error::from_io("write", target, &error))
}

/// Makes the names in a folder survive a power cut.
pub(super) fn sync_folder(folder: &Path) -> Result<()> {
    let synced = File::open(folder).and_then(|folder| folder.sync_all());
    synced.map_err(|error| Error::from_io("write", folder, &error))
}

/// Runs file work where it may block.
pub(super) async fn blocking<T: Send + 'static>(work: impl FnOnce() -> Result<T> + Send + 'static) -> Result<T> {
    match tokio::task::spawn_blocking(work).await {
        Ok(result) => result,
        Err(failure) if failure.is_panic() => std::panic::resume_unwind(failure.into_panic()),
        Err(_) => Err(Error::ObjectStore {
            action: "finish",
            uri: "the work on a file".to_owned(),
            reason: "the program is ending".to_owned(),
            transient: false,
        }),
    }
}

fn open_file(path: &Path) -> Result<File> {
    let failed = |error| Error::from_io("read", path, &error);
    // Asked before opening, since opening a named pipe would wait for its writer.
    if !fs::metadata(path).map_err(failed)?.is_file() {
        return Err(Error::NotFound { uri: path.display().to_string() });
    }
    File::open(path).map_err(failed)
}

fn write_temporary(target: &Path, content: &mut dyn Read) -> Result<(NamedTempFile, PathBuf)> {
    let (mut file, folder) = temporary_beside(target)?;
    let written = std::io::copy(content, &mut file).and_then(|_| file.flush()).and_then(|()| file.as_file().sync_all());
    written.map_err(|error| Error::from_io("write", target, &error))?;
    Ok((file, folder))
}

/// Makes missing folders and syncs the folder above each, so that they survive a power cut too.
fn create_folders(folder: &Path) -> Result<()> {
    if folder.is_dir() {
        return Ok(());
    }
    let missing: Vec<&Path> = folder.ancestors().take_while(|ancestor| !ancestor.exists()).collect();
    fs::create_dir_all(folder).map_err(|error| match error.kind() {
        ErrorKind::NotADirectory | ErrorKind::AlreadyExists => Error::ObjectStore {
            action: "write",
            uri: folder.display().to_string(),
            reason: format!("a part of its path is a file, {}", io_reason(&error)),
            transient: false,
        },
        _ => Error::from_io("write", folder, &error),
    })?;
    for made in missing.iter().rev() {
        let above = made.parent().filter(|above| !above.as_os_str().is_empty()).unwrap_or(Path::new("."));
        sync_folder(above)?;
    }
    Ok(())
}
