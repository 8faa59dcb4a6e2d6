//! Removes what was deleted, when its grace period is over: runs, logged models and experiments with their files, and
//! files that were left by deleted versions.
//!
//! Rows go first, and in the same transaction a note of their files (table `orphan`); then the files, then the note. So a
//! process that dies anywhere leaves no row that names missing files, and the next collection goes on where it ended.
//! Files that a version of a registered model still needs stay, and so does what they belong to.

use std::fmt;
use std::time::Duration;

use chrono::{DateTime, Utc};
use futures::StreamExt;
use serde::Serialize;
use tracing::info;

use crate::artifacts::{ArtifactPath, Artifacts};
use crate::clock::now_millis;
use crate::store::{Doomed, Kind, Orphan, Store};
use crate::{Error, Result};

/// Rows that are looked at together.
const BATCH: i64 = 100;

/// A registration that is under way for longer than this has broken off.
const BROKEN_OFF: Duration = Duration::from_hours(24);

/// What a collection removed, or would remove.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct GcReport {
    /// Whether it only looked.
    pub dry_run: bool,
    /// Runs whose rows went.
    pub runs: u64,
    /// Logged models whose rows went.
    pub logged_models: u64,
    /// Experiments whose rows went.
    pub experiments: u64,
    /// Folders whose files went, those of the rows above included.
    pub folders: u64,
    /// Files that went.
    pub files: u64,
    /// Their bytes.
    pub bytes: u64,
    /// Uploads in parts that were begun and never completed.
    pub uploads: u64,
    /// Old messages to webhooks that went.
    pub deliveries: u64,
    /// Logged models whose files were sent for a version that was never made, or is gone: they count as deleted from now on.
    pub given_up: u64,
    /// What stays although it was deleted, and why.
    pub kept: Vec<Kept>,
}

/// Something that stays although it was deleted.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Kept {
    /// Such as `run 0123…`.
    pub what: String,
    /// Why.
    pub reason: String,
}

/// Collects what was deleted longer than `older_than` ago; with `dry_run` it only says what it would do.
///
/// # Errors
/// When the database or the place of the files fails. What was removed by then stays removed; once more goes on.
pub async fn gc(store: &Store, artifacts: &Artifacts, older_than: Duration, dry_run: bool) -> Result<GcReport> {
    let older_than = i64::try_from(older_than.as_millis()).unwrap_or(i64::MAX / 4);
    let until = now_millis() - older_than;
    let mut gc = Gc { store, artifacts, until, report: GcReport { dry_run, ..GcReport::default() } };
    for kind in [Kind::Run, Kind::LoggedModel, Kind::Experiment] {
        gc.rows(kind).await?;
    }
    gc.folders().await?;
    gc.uploads().await?;
    // After the rest: their own grace period begins now.
    gc.report.given_up = store.give_up_unused(until.min(now_millis() - BROKEN_OFF.as_millis() as i64), dry_run).await?;
    if !dry_run {
        gc.report.deliveries = store.forget_deliveries(until).await?;
    }
    info!(report = %gc.report, "garbage collected");
    Ok(gc.report)
}

struct Gc<'a> {
    store: &'a Store,
    artifacts: &'a Artifacts,
    /// What was deleted before goes.
    until: i64,
    report: GcReport,
}

impl Gc<'_> {
    /// Removes rows of one kind and notes their files.
    async fn rows(&mut self, kind: Kind) -> Result<()> {
        let mut after = -1;
        loop {
            let doomed = self.store.doomed(kind, self.until, after, BATCH).await?;
            let Some(last) = doomed.last() else { return Ok(()) };
            after = last.no;
            for row in &doomed {
                self.row(kind, row).await?;
            }
        }
    }

    async fn row(&mut self, kind: Kind, row: &Doomed) -> Result<()> {
        let reason = if self.report.dry_run {
            self.store.needed_by(kind, row).await?
        } else {
            self.store.remove_doomed(kind, row, self.until).await?
        };
        if let Some(reason) = reason {
            self.report.kept.push(Kept { what: format!("{kind} {}", row.id), reason });
            return Ok(());
        }
        match kind {
            Kind::Run => self.report.runs += 1,
            Kind::LoggedModel => self.report.logged_models += 1,
            Kind::Experiment => self.report.experiments += 1,
        }
        if self.report.dry_run && kind != Kind::Experiment {
            self.folder(&row.uri).await?;
        }
        Ok(())
    }

    /// Removes the files that are noted, unless something needs them by now.
    async fn folders(&mut self) -> Result<()> {
        let mut after = 0;
        loop {
            let orphans = self.store.orphans(self.until, after, BATCH).await?;
            let Some(last) = orphans.last() else { return Ok(()) };
            after = last.no;
            for orphan in &orphans {
                self.orphan(orphan).await?;
            }
        }
    }

    async fn orphan(&mut self, orphan: &Orphan) -> Result<()> {
        if self.store.is_in_use(&orphan.uri).await? {
            if !self.report.dry_run {
                self.store.forget_orphan(orphan.no).await?;
            }
            return Ok(());
        }
        self.folder(&orphan.uri).await?;
        if !self.report.dry_run {
            self.store.forget_orphan(orphan.no).await?;
        }
        Ok(())
    }

    /// Removes, or counts, the files below a URI.
    async fn folder(&mut self, uri: &str) -> Result<()> {
        let Some(folder) = self.store.folder_of(uri) else {
            let reason = "its files are not in this server's store of artifacts; remove them by hand".to_owned();
            self.report.kept.push(Kept { what: format!("files at {uri}"), reason });
            return Ok(());
        };
        let mut listing = self.artifacts.store().list(&folder);
        let mut files = 0;
        while let Some(object) = listing.next().await {
            match object {
                Ok(object) => {
                    files += 1;
                    self.report.bytes += object.size;
                }
                // Nothing was ever written.
                Err(platform::Error::NotFound { .. }) => break,
                Err(error) => return Err(Error::Platform(error)),
            }
        }
        if !self.report.dry_run {
            self.artifacts.delete(&ArtifactPath::parse(&folder)?).await?;
        }
        self.report.files += files;
        self.report.folders += u64::from(files > 0);
        Ok(())
    }

    /// Gives up, or counts, uploads that nobody completes any more.
    async fn uploads(&mut self) -> Result<()> {
        self.report.uploads = self.store.unfinished_uploads(self.until).await?;
        if !self.report.dry_run {
            let before = DateTime::<Utc>::from_timestamp_millis(self.until).unwrap_or_default();
            self.artifacts.clean(self.store, before).await?;
        }
        Ok(())
    }
}

impl fmt::Display for GcReport {
    /// One line.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let verb = if self.dry_run { "would remove" } else { "removed" };
        let Self { runs, logged_models, experiments, files, bytes, uploads, .. } = self;
        write!(
            f,
            "{verb} {runs} runs, {logged_models} logged models, {experiments} experiments, {files} files ({bytes} bytes), \
             {uploads} unfinished uploads"
        )?;
        if self.given_up > 0 {
            write!(f, "; {} logged models without their version count as deleted from now on", self.given_up)?;
        }
        if self.kept.is_empty() { Ok(()) } else { write!(f, "; {} kept", self.kept.len()) }
    }
}
