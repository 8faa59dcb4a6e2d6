//! Fetches a part, checks it, and lays it beside what it is to replace.

use std::collections::HashSet;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};

use bytes::Bytes;
use futures::{StreamExt, TryStreamExt, stream};
use lake::Lake;
use platform::database::Address;
use platform::object_store::{self, Location, ObjectStore};
use tokio::sync::Semaphore;

use super::{Item, Plan, Target, bucket, server};
use crate::id::BackupId;
use crate::manifest::{FileEntry, Part, PartKind};
use crate::progress::Progress;
use crate::repository::Repository;
use crate::source::{delta, postgres, sqlite};
use crate::write::Body;
use crate::{Error, Result};

/// Files that are written at once.
const FILES: usize = 16;

/// Pieces that are in memory at once.
const PIECES: usize = 8;

/// What lies ready.
#[derive(Debug)]
pub(super) enum Staged {
    /// Files or folders and the names that they get.
    Renames(Vec<(PathBuf, PathBuf)>),
    /// A database, by name, on the server of an address.
    Database(Address, String),
    /// A table in a bucket whose log is still to be written.
    Log(bucket::Log),
    /// Nothing more is to be done.
    Done,
}

/// How what lies ready for a target is called.
pub(super) fn beside(target: &Path, id: &BackupId) -> PathBuf {
    let name = target.file_name().unwrap_or_default().to_string_lossy();
    target.with_file_name(format!("{name}.restore-{id}"))
}

pub(super) async fn stage(repository: &Repository, plan: &Plan, item: &Item, progress: &Progress) -> Result<Staged> {
    let fetch = Fetch { repository, plan, part: &item.part, progress, permits: Arc::new(Semaphore::new(PIECES)) };
    match &item.target {
        Target::Sqlite(path) => fetch.sqlite(path).await,
        Target::Postgres(address) => fetch.postgres(address).await,
        Target::Folder(path) => fetch.folder(path).await,
        Target::Files(folder) => fetch.own_files(folder).await,
        Target::Bucket(location) => bucket::stage(&fetch, location).await,
    }
}

/// Removes what lies ready and will not be used. What cannot be removed is left to the next restoration.
pub(super) async fn discard(staged: &Staged) {
    match staged {
        Staged::Renames(renames) => renames.iter().for_each(|(ready, _)| remove(ready)),
        Staged::Database(Address::Postgres(url), name) => drop(server::drop_database(url, name).await),
        Staged::Database(..) | Staged::Log(_) | Staged::Done => {}
    }
}

/// Removes a file or a folder, if it is there and can be removed.
pub(super) fn remove(path: &Path) {
    let _gone = if path.is_dir() { std::fs::remove_dir_all(path) } else { std::fs::remove_file(path) };
}

/// Fetches the files of one part.
pub(super) struct Fetch<'a> {
    pub(super) repository: &'a Repository,
    pub(super) plan: &'a Plan,
    pub(super) part: &'a Part,
    progress: &'a Progress,
    permits: Arc<Semaphore>,
}

impl Fetch<'_> {
    async fn sqlite(&self, target: &Path) -> Result<Staged> {
        let ready = clean(target, &self.plan.manifest.id)?;
        let folder = ready.parent().unwrap_or(Path::new(".")).to_owned();
        let name = ready.file_name().unwrap_or_default().to_string_lossy().into_owned();
        let store = object_store::open(&Location::from(folder.as_path())).await?;
        let wrote = self.write(&store, |_| name.clone(), |_| true).await;
        let checked = match wrote {
            Ok(()) => self.same_rows(sqlite::check(&ready, sqlite::Depth::Whole).await),
            Err(error) => Err(error),
        };
        checked.inspect_err(|_| remove(&ready))?;
        Ok(Staged::Renames(vec![(ready, target.to_owned())]))
    }

    async fn postgres(&self, address: &Address) -> Result<Staged> {
        let Address::Postgres(url) = address else { return Ok(Staged::Done) };
        let name = format!("safari_restore_{}", self.plan.manifest.id.as_str().replace('-', "_").to_lowercase());
        let name = format!("{name}_{}", self.part.name);
        let scratch = server::create(url, &name).await?;
        let restored = match self.only_file().await {
            Ok(entry) => postgres::restore(&scratch, self.body(&entry)).await,
            Err(error) => Err(error),
        };
        let checked = match restored {
            Ok(()) => self.same_rows(postgres::rows(&scratch).await),
            Err(error) => Err(error),
        };
        if let Err(error) = checked {
            drop(server::drop_database(url, &name).await);
            return Err(error);
        }
        Ok(Staged::Database(address.clone(), name))
    }

    async fn folder(&self, target: &Path) -> Result<Staged> {
        // A table keeps its name, by which the lake finds it when it is checked.
        let table = delta::table(self.part.name);
        let (ready, inside) = match table {
            Some(table) => {
                let lake = target.parent().unwrap_or(Path::new("."));
                let ready = clean(&lake.join(format!(".{table}")), &self.plan.manifest.id)?;
                (ready.clone(), ready.join(table.name()))
            }
            None => {
                let ready = clean(target, &self.plan.manifest.id)?;
                (ready.clone(), ready)
            }
        };
        let store = object_store::open(&Location::from(inside.as_path())).await?;
        let mut checked = self.write(&store, |entry| entry.path.clone(), |_| true).await;
        if let (Ok(()), Some(table)) = (&checked, table) {
            checked = self.same_version(&ready, table).await;
        }
        checked.inspect_err(|_| remove(&ready))?;
        Ok(Staged::Renames(vec![(inside, target.to_owned())]))
    }

    async fn own_files(&self, folder: &Path) -> Result<Staged> {
        let ready = clean(&folder.join(self.part.name.name()), &self.plan.manifest.id)?;
        let store = object_store::open(&Location::from(ready.as_path())).await?;
        self.write(&store, |entry| entry.path.clone(), |_| true).await.inspect_err(|_| remove(&ready))?;
        let entries = std::fs::read_dir(&ready).map_err(Error::file("read", &ready))?;
        let names = entries.flatten().map(|entry| entry.file_name());
        let renames: Vec<_> = names.map(|name| (ready.join(&name), folder.join(&name))).collect();
        for (file, _) in &renames {
            use std::os::unix::fs::PermissionsExt;
            let private = std::fs::Permissions::from_mode(0o600);
            std::fs::set_permissions(file, private).map_err(Error::file("write", file))?;
        }
        Ok(Staged::Renames(renames))
    }

    /// Writes the files of the part that `wanted` names, and compares their number and bytes with the manifest.
    pub(super) async fn write(
        &self,
        store: &Arc<dyn ObjectStore>,
        key: impl Fn(&FileEntry) -> String,
        wanted: impl Fn(&FileEntry) -> bool,
    ) -> Result<()> {
        let (mut files, mut bytes) = (0, 0);
        let manifest = &self.plan.manifest;
        for page in manifest.file_pages.iter().filter(|page| page.parts.contains(&self.part.name)) {
            let entries = self.repository.files(manifest, page).await?;
            let mine: Vec<FileEntry> = entries.into_iter().filter(|entry| entry.part == self.part.name).collect();
            files += mine.len() as u64;
            bytes += mine.iter().map(|entry| entry.size).sum::<u64>();
            let writes = stream::iter(newest_of_each(mine).into_iter().filter(&wanted))
                .map(|entry| {
                    let key = key(&entry);
                    async move { self.write_file(store, &key, &entry).await }
                })
                .buffer_unordered(FILES);
            writes.try_collect::<()>().await?;
        }
        if (files, bytes) != (self.part.files, self.part.bytes) {
            let reason =
                format!("{files} files of {bytes} bytes instead of {} of {}", self.part.files, self.part.bytes);
            return Err(Error::Differs { part: self.part.name.name(), reason });
        }
        Ok(())
    }

    /// The one file of a part that has one.
    async fn only_file(&self) -> Result<FileEntry> {
        let manifest = &self.plan.manifest;
        for page in manifest.file_pages.iter().filter(|page| page.parts.contains(&self.part.name)) {
            let entries = self.repository.files(manifest, page).await?;
            if let Some(entry) = entries.into_iter().find(|entry| entry.part == self.part.name) {
                return Ok(entry);
            }
        }
        Err(Error::damaged(manifest.id.to_string(), format!("its part {} has no file", self.part.name)))
    }

    pub(super) async fn write_file(&self, store: &Arc<dyn ObjectStore>, key: &str, entry: &FileEntry) -> Result<()> {
        let failed: Arc<Mutex<Option<Error>>> = Arc::default();
        let slot = Arc::clone(&failed);
        let incoming = self.body(entry).map(move |chunk| {
            chunk.map_err(|error| {
                let said = std::io::Error::other(error.to_string());
                *slot.lock().unwrap_or_else(PoisonError::into_inner) = Some(error);
                said
            })
        });
        let written = store.put_stream(key, incoming.boxed(), Some(entry.size)).await;
        // The cause, which the store only knows as bytes that broke off.
        let cause = failed.lock().unwrap_or_else(PoisonError::into_inner).take();
        match (cause, written) {
            (Some(error), _) => Err(error),
            (None, Err(error)) => Err(error.into()),
            (None, Ok(_)) => Ok(()),
        }
    }

    /// The bytes of a file, each piece checked.
    fn body(&self, entry: &FileEntry) -> Body {
        let (repository, encrypted) = (self.repository.clone(), self.plan.manifest.encrypted);
        let (permits, progress) = (Arc::clone(&self.permits), self.progress.clone());
        let pieces = stream::iter(entry.pieces.clone()).map(move |piece| {
            let (repository, permits) = (repository.clone(), Arc::clone(&permits));
            async move {
                let permit = permits.acquire_owned().await;
                let bytes = repository.read_piece(&piece, encrypted).await?;
                Ok::<_, Error>((bytes, permit.ok()))
            }
        });
        let ready = pieces.buffered(PIECES).map_ok(move |(bytes, permit): (Bytes, _)| {
            progress.add(bytes.len() as u64);
            drop(permit);
            bytes
        });
        ready.boxed()
    }

    fn same_rows(&self, found: Result<std::collections::BTreeMap<String, u64>>) -> Result<()> {
        let found = found?;
        if found == self.part.rows {
            return Ok(());
        }
        let count = |rows: &std::collections::BTreeMap<String, u64>| rows.values().sum::<u64>();
        let reason = format!("{} rows in {} tables instead of {}", count(&found), found.len(), count(&self.part.rows));
        Err(Error::Differs { part: self.part.name.name(), reason })
    }

    async fn same_version(&self, lake: &Path, table: lake::Table) -> Result<()> {
        let opened = Lake::open(&lake.to_string_lossy()).await?;
        let found = opened.version(table).await?;
        if self.part.kind == PartKind::Delta && found == self.part.version {
            return Ok(());
        }
        let reason = format!("version {found:?} instead of {:?}", self.part.version);
        Err(Error::Differs { part: self.part.name.name(), reason })
    }
}

/// A file that changed while it was backed up is there twice: the later one counts.
fn newest_of_each(entries: Vec<FileEntry>) -> Vec<FileEntry> {
    let mut seen = HashSet::new();
    let mut newest: Vec<FileEntry> =
        entries.into_iter().rev().filter(|entry| seen.insert(entry.path.clone())).collect();
    newest.reverse();
    newest
}

/// The path for what lies ready for `target`, after what earlier restorations left there was removed.
fn clean(target: &Path, id: &BackupId) -> Result<PathBuf> {
    let folder = target.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or(Path::new("."));
    std::fs::create_dir_all(folder).map_err(Error::file("write", folder))?;
    let prefix = format!("{}.restore-", target.file_name().unwrap_or_default().to_string_lossy());
    for entry in std::fs::read_dir(folder).map_err(Error::file("read", folder))?.flatten() {
        if entry.file_name().to_string_lossy().starts_with(&prefix) {
            remove(&entry.path());
        }
    }
    Ok(beside(target, id))
}
