//! A folder whose files, once written, survive a power cut.
//!
//! `object_store`'s own local store leaves data in the page cache. A commit that the run's state calls done must not be
//! lost, and a log file that is half on disk would make the table unreadable, so here every file is on disk before it
//! gets its name, and the name is on disk before the call returns.

use std::fmt;
use std::fs::{self, File, OpenOptions};
use std::io::{self, Write as _};
use std::ops::Range;
use std::path::{Path as FilePath, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use async_trait::async_trait;
use futures::stream::BoxStream;
use object_store::local::LocalFileSystem;
use object_store::path::Path;
use object_store::{
    CopyOptions, Error as StoreError, GetOptions, GetResult, ListResult, MultipartUpload, ObjectMeta, ObjectStore,
    PutMode, PutMultipartOptions, PutOptions, PutPayload, PutResult, RenameOptions, Result as StoreResult, UploadPart,
};
use url::Url;

use super::{Storage, unusable};
use crate::error::Result;

/// Opens the folder `path`, and makes it if it is missing.
pub(super) fn open(path: &FilePath) -> Result<Storage> {
    let failed = |error: io::Error| platform::Error::from_io("write", path, &error);
    fs::create_dir_all(path).map_err(failed)?;
    let whole = path.canonicalize().map_err(failed)?;
    let place = whole.to_string_lossy();
    let url = Url::from_directory_path(&whole).map_err(|()| unusable(&place, "it is not a folder"))?;
    let prefix = Path::from_url_path(url.path()).map_err(|error| unusable(&place, &error.to_string()))?;
    let store = DurableFolder { inner: LocalFileSystem::new() };
    Ok(Storage::new(url, prefix, Arc::new(store)))
}

#[derive(Debug)]
struct DurableFolder {
    inner: LocalFileSystem,
}

impl fmt::Display for DurableFolder {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "DurableFolder({})", self.inner)
    }
}

#[async_trait]
impl ObjectStore for DurableFolder {
    async fn put_opts(&self, location: &Path, payload: PutPayload, opts: PutOptions) -> StoreResult<PutResult> {
        let path = self.inner.path_to_filesystem(location)?;
        let create = match opts.mode {
            PutMode::Create => true,
            PutMode::Overwrite => false,
            PutMode::Update(_) => return self.inner.put_opts(location, payload, opts).await,
        };
        let written =
            blocking(move || write_durably(&path, &payload, create).map_err(|error| store_error(&path, error)));
        written.await?;
        Ok(PutResult { e_tag: None, version: None })
    }

    async fn put_multipart_opts(
        &self,
        location: &Path,
        opts: PutMultipartOptions,
    ) -> StoreResult<Box<dyn MultipartUpload>> {
        let path = self.inner.path_to_filesystem(location)?;
        let inner = self.inner.put_multipart_opts(location, opts).await?;
        Ok(Box::new(DurableUpload { inner, path }))
    }

    async fn get_opts(&self, location: &Path, options: GetOptions) -> StoreResult<GetResult> {
        self.inner.get_opts(location, options).await
    }

    async fn get_ranges(&self, location: &Path, ranges: &[Range<u64>]) -> StoreResult<Vec<bytes::Bytes>> {
        self.inner.get_ranges(location, ranges).await
    }

    fn delete_stream(&self, locations: BoxStream<'static, StoreResult<Path>>) -> BoxStream<'static, StoreResult<Path>> {
        self.inner.delete_stream(locations)
    }

    fn list(&self, prefix: Option<&Path>) -> BoxStream<'static, StoreResult<ObjectMeta>> {
        self.inner.list(prefix)
    }

    fn list_with_offset(&self, prefix: Option<&Path>, offset: &Path) -> BoxStream<'static, StoreResult<ObjectMeta>> {
        self.inner.list_with_offset(prefix, offset)
    }

    async fn list_with_delimiter(&self, prefix: Option<&Path>) -> StoreResult<ListResult> {
        self.inner.list_with_delimiter(prefix).await
    }

    async fn copy_opts(&self, from: &Path, to: &Path, options: CopyOptions) -> StoreResult<()> {
        self.inner.copy_opts(from, to, options).await
    }

    async fn rename_opts(&self, from: &Path, to: &Path, options: RenameOptions) -> StoreResult<()> {
        self.inner.rename_opts(from, to, options).await
    }
}

/// A data file: it is on disk when `complete` returns, which is before any commit names it.
#[derive(Debug)]
struct DurableUpload {
    inner: Box<dyn MultipartUpload>,
    path: PathBuf,
}

#[async_trait]
impl MultipartUpload for DurableUpload {
    fn put_part(&mut self, data: PutPayload) -> UploadPart {
        self.inner.put_part(data)
    }

    async fn complete(&mut self) -> StoreResult<PutResult> {
        let result = self.inner.complete().await?;
        let path = self.path.clone();
        blocking(move || {
            let synced = File::open(&path).and_then(|file| file.sync_all()).and_then(|()| sync_folder(&path));
            synced.map_err(|error| store_error(&path, error))
        })
        .await?;
        Ok(result)
    }

    async fn abort(&mut self) -> StoreResult<()> {
        self.inner.abort().await
    }
}

/// Writes beside the name, then takes the name: with `create` only if it is free.
fn write_durably(path: &FilePath, payload: &PutPayload, create: bool) -> io::Result<()> {
    let (mut file, staged) = stage(path)?;
    let written = payload
        .iter()
        .try_for_each(|part| file.write_all(part))
        .and_then(|()| file.sync_all())
        .and_then(|()| if create { fs::hard_link(&staged, path) } else { fs::rename(&staged, path) });
    if create || written.is_err() {
        // Best effort: listings skip names of this kind.
        let _ = fs::remove_file(&staged);
    }
    written?;
    sync_folder(path)
}

/// A new file in the folder of `path`, which is made if missing. Its name ends in `#` and digits, as those that
/// `LocalFileSystem` itself leaves out of listings.
fn stage(path: &FilePath) -> io::Result<(File, PathBuf)> {
    static NEXT: AtomicU64 = AtomicU64::new(0);
    loop {
        let mut name = path.as_os_str().to_owned();
        let unique = u64::from(std::process::id()) * 1_000_000_007 + NEXT.fetch_add(1, Ordering::Relaxed);
        name.push(format!("#{unique}"));
        let staged = PathBuf::from(name);
        match OpenOptions::new().write(true).create_new(true).open(&staged) {
            Ok(file) => return Ok((file, staged)),
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {}
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                let parent = path.parent().ok_or(error)?;
                fs::create_dir_all(parent)?;
            }
            Err(error) => return Err(error),
        }
    }
}

fn sync_folder(path: &FilePath) -> io::Result<()> {
    match path.parent() {
        Some(parent) => File::open(parent)?.sync_all(),
        None => Ok(()),
    }
}

fn store_error(path: &FilePath, source: io::Error) -> StoreError {
    let path = path.to_string_lossy().into_owned();
    match source.kind() {
        io::ErrorKind::AlreadyExists => StoreError::AlreadyExists { path, source: source.into() },
        io::ErrorKind::PermissionDenied => StoreError::PermissionDenied { path, source: source.into() },
        _ => StoreError::Generic { store: "folder", source: source.into() },
    }
}

async fn blocking<T: Send + 'static>(work: impl FnOnce() -> StoreResult<T> + Send + 'static) -> StoreResult<T> {
    tokio::task::spawn_blocking(work).await.map_err(|error| StoreError::JoinError { source: error })?
}
