//! Puts files back into a bucket, where nothing can be renamed.
//!
//! Files of artifacts and pictures are added: only rows make them visible. A table's data files are added as well, and its
//! log is written last, the newest commit first: until its oldest object is there, no reader finds a table.

use std::sync::Arc;

use futures::TryStreamExt;
use platform::object_store::{self, Location, ObjectStore};

use super::stage::{Fetch, Staged};
use crate::Result;
use crate::manifest::FileEntry;
use crate::repository::Repository;
use crate::source::delta;

const LOG: &str = "_delta_log/";

/// The log of a table whose data files are there.
#[derive(Debug)]
pub(super) struct Log {
    store: Arc<dyn ObjectStore>,
    repository: Repository,
    encrypted: bool,
    entries: Vec<FileEntry>,
}

pub(super) async fn stage(fetch: &Fetch<'_>, location: &Location) -> Result<Staged> {
    let store = object_store::open(location).await?;
    if delta::table(fetch.part.name).is_none() {
        fetch.write(&store, |entry| entry.path.clone(), |_| true).await?;
        return Ok(Staged::Done);
    }
    fetch.write(&store, |entry| entry.path.clone(), |entry| !entry.path.starts_with(LOG)).await?;
    let manifest = &fetch.plan.manifest;
    let mut entries = Vec::new();
    for page in manifest.file_pages.iter().filter(|page| page.parts.contains(&fetch.part.name)) {
        let files = fetch.repository.files(manifest, page).await?;
        let log = files.into_iter().filter(|entry| entry.part == fetch.part.name && entry.path.starts_with(LOG));
        entries.extend(log);
    }
    // Read before anything is removed.
    let log = Log { store, repository: fetch.repository.clone(), encrypted: manifest.encrypted, entries };
    for entry in &log.entries {
        log.content(entry).await?;
    }
    Ok(Staged::Log(log))
}

impl Log {
    /// Puts the log in the place of the one that is there.
    pub(super) async fn write(&self) -> Result<()> {
        let mut there: Vec<String> = self.store.list(LOG).map_ok(|meta| meta.key).try_collect().await?;
        there.sort();
        for key in there.iter().rev() {
            self.store.delete(key).await?;
        }
        let mut entries: Vec<&FileEntry> = self.entries.iter().collect();
        // Of one version the commit goes before its checkpoint, from which readers may begin.
        entries.sort_by_key(|entry| (entry.path.get(..LOG.len() + 20), entry.path.ends_with(".json")));
        for entry in entries.iter().rev() {
            self.store.put(&entry.path, self.content(entry).await?.into()).await?;
        }
        Ok(())
    }

    async fn content(&self, entry: &FileEntry) -> Result<Vec<u8>> {
        let mut content = Vec::new();
        for piece in &entry.pieces {
            content.extend_from_slice(&self.repository.read_piece(piece, self.encrypted).await?);
        }
        Ok(content)
    }
}
