//! The files of the backup before, read beside a listing: what has not changed is not read again.

use std::collections::VecDeque;

use crate::Result;
use crate::manifest::{FileEntry, Manifest, Page, PartName};
use crate::repository::Repository;

/// Entries that are looked through for a file. Both lists have the same order, so that a file is near the front.
const WINDOW: usize = 8192;

/// The entries of one part, as far as they are needed.
pub(crate) struct Previous {
    repository: Repository,
    manifest: Option<Manifest>,
    part: PartName,
    pages: VecDeque<Page>,
    window: VecDeque<FileEntry>,
}

impl Previous {
    /// Those of a backup; none of them if there is no backup before, or it cannot be read here.
    pub(crate) fn new(repository: &Repository, before: Option<&Manifest>, part: PartName) -> Self {
        let manifest = before.filter(|before| !before.encrypted || repository.keys().decrypt());
        // Names depend on the keys: after a change of these everything is written anew.
        let manifest = manifest.filter(|before| before.encrypted == repository.keys().encrypt()).cloned();
        let pages = manifest.iter().flat_map(|before| &before.file_pages);
        let pages = pages.filter(|page| page.parts.contains(&part)).cloned().collect();
        Self { repository: repository.clone(), manifest, part, pages, window: VecDeque::new() }
    }

    /// The entry of a file, and all before it are forgotten.
    pub(crate) async fn find(&mut self, path: &str) -> Result<Option<FileEntry>> {
        self.fill().await?;
        let Some(index) = self.window.iter().position(|entry| entry.path == path) else { return Ok(None) };
        self.window.drain(..index);
        Ok(self.window.pop_front())
    }

    async fn fill(&mut self) -> Result<()> {
        while self.window.len() < WINDOW {
            let (Some(manifest), Some(page)) = (&self.manifest, self.pages.pop_front()) else { return Ok(()) };
            let entries = self.repository.files(manifest, &page).await?;
            self.window.extend(entries.into_iter().filter(|entry| entry.part == self.part));
        }
        Ok(())
    }
}
