//! Makes a backup.
//!
//! Files are written before the rows that name them, and removed after these. So files are looked at twice, before and after
//! the databases are copied: the first look has what was removed meanwhile, the second what came meanwhile, and each row of
//! the copy has its files (docs/adr/0019-backups.md).

use std::sync::Arc;

use bytes::Bytes;
use chrono::{DateTime, Utc};
use futures::{FutureExt, StreamExt, stream};
use lake::Lake;
use platform::database::Address;
use platform::object_store::{self, ObjectStore};
use tracing::{info, warn};

use crate::id::BackupId;
use crate::lock::{Lock, host};
use crate::manifest::{FORMAT, Manifest, Part, PartKind, PartName, Verified, What};
use crate::places::{KEY_FILES, Places};
use crate::progress::Progress;
use crate::repository::{KnownBlobs, Repository, manifest_key};
use crate::source::delta::{self, Snapshot};
use crate::source::files::{self, Seen};
use crate::source::{postgres, sqlite};
use crate::verify;
use crate::write::{Body, Count, Input, Writer};
use crate::{Error, Result};

/// A backup that was made and verified.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Created {
    /// What it says of itself.
    pub manifest: Manifest,
    /// What was read back.
    pub verified: Verified,
}

/// Backs up `what`, verifies what was written, and records both. What does not exist yet is left out.
///
/// Whoever dies in the middle leaves no backup, and pieces that the next one uses.
///
/// # Errors
/// [`Error::InUse`] while another process is at work there, [`Error::Nothing`] if nothing exists yet, and whatever cannot be
/// read or written. Then there is no backup.
pub async fn create(repository: &Repository, places: &Places, what: What, progress: &Progress) -> Result<Created> {
    let lock = repository.lock(&format!("backing up {what}")).await?;
    let made = Making::begin(repository, places, what, progress).await;
    let made = match made {
        Ok(making) => making.make(&lock).await,
        Err(error) => Err(error),
    };
    if let Err(error) = lock.release().await {
        warn!(%error, "the place of backups is not given back: others wait until this counts as dead");
    }
    made
}

struct Making<'a> {
    repository: &'a Repository,
    places: &'a Places,
    what: What,
    progress: &'a Progress,
    began_at: DateTime<Utc>,
    before: Option<Manifest>,
    writer: Writer,
    parts: Vec<Part>,
}

/// Files that are looked at twice.
struct Watched {
    name: PartName,
    store: Arc<dyn ObjectStore>,
    seen: Seen,
    count: Count,
}

impl<'a> Making<'a> {
    async fn begin(repository: &'a Repository, places: &'a Places, what: What, progress: &'a Progress) -> Result<Self> {
        let began_at = Utc::now();
        let before = newest_good(repository, what).await?;
        let known = match &before {
            Some(before) => repository.known_blobs(before).await?,
            None => KnownBlobs::default(),
        };
        let writer = Writer::new(repository, BackupId::new(began_at), known, progress.clone());
        Ok(Self { repository, places, what, progress, began_at, before, writer, parts: Vec::new() })
    }

    async fn make(mut self, lock: &Lock) -> Result<Created> {
        let mut watched = self.watched().await?;
        for files in &mut watched {
            self.look(files).await?;
        }
        for name in [PartName::State, PartName::Registry, PartName::Identity, PartName::Collections] {
            self.database(name).await?;
        }
        for files in &mut watched {
            self.look(files).await?;
        }
        for files in watched {
            self.end_files(files);
        }
        self.keys().await?;
        self.tables().await?;
        self.parts.sort_by_key(|part| part.name);
        if self.parts.is_empty() {
            let names: Vec<&str> = self.what.parts().iter().map(|part| part.name()).collect();
            return Err(Error::Nothing(names.join(", ")));
        }
        self.end(lock).await
    }

    fn wants(&self, name: PartName) -> bool {
        self.what.parts().contains(&name)
    }

    /// The files that databases name, as far as they are there.
    async fn watched(&self) -> Result<Vec<Watched>> {
        let mut watched = Vec::new();
        for name in [PartName::Artifacts, PartName::Pictures] {
            let Some(location) = self.places.files(name)?.filter(|_| self.wants(name)) else { continue };
            let store = object_store::open(&location).await?;
            watched.push(Watched { name, store, seen: Seen::new(), count: Count::default() });
        }
        Ok(watched)
    }

    async fn look(&mut self, files: &mut Watched) -> Result<()> {
        self.progress.doing(files.name.name());
        let inputs = files::inputs(self.repository, self.before.as_ref(), files.name, &files.store, &mut files.seen);
        let count = self.writer.add(files.name, inputs).await?;
        files.count.files += count.files;
        files.count.bytes += count.bytes;
        Ok(())
    }

    fn end_files(&mut self, files: Watched) {
        if files.count.files > 0 {
            self.part(files.name, PartKind::Files, files.store.location().to_string(), files.count);
        }
    }

    fn part(&mut self, name: PartName, kind: PartKind, origin: String, count: Count) -> &mut Part {
        info!(part = %name, files = count.files, bytes = count.bytes, "backed up");
        let Count { files, bytes } = count;
        let part = Part { name, kind, origin, files, bytes, version: None, rows: std::collections::BTreeMap::new() };
        self.parts.push(part);
        let last = self.parts.len() - 1;
        &mut self.parts[last]
    }

    async fn database(&mut self, name: PartName) -> Result<()> {
        // Where databases share an address, the first of them has the rows of all.
        let Some(address) = self.places.database(name).cloned().filter(|_| self.wants(name)) else { return Ok(()) };
        self.progress.doing(name.name());
        match &address {
            Address::Sqlite(path) if !path.is_file() => Ok(()),
            Address::Sqlite(path) => {
                let copy = sqlite::copy(path).await?;
                let file = copy.path.clone();
                let count = self.write_one(name, "database.db", read_file(file).await?).await?;
                self.part(name, PartKind::Sqlite, address.to_string(), count).rows = copy.rows;
                Ok(())
            }
            Address::Postgres(url) => {
                let Some(moment) = postgres::Moment::hold(url).await? else { return Ok(()) };
                let archive = moment.dump()?;
                let count = self.write_one(name, postgres::ARCHIVE, archive).await?;
                self.part(name, PartKind::Postgres, address.to_string(), count).rows = moment.rows.clone();
                moment.release().await;
                Ok(())
            }
        }
    }

    async fn write_one(&mut self, name: PartName, path: &str, body: Body) -> Result<Count> {
        let input =
            Input::File { path: path.to_owned(), version: None, body: futures::future::ready(Ok(Some(body))).boxed() };
        self.writer.add(name, stream::iter([Ok(input)]).boxed()).await
    }

    /// Keys are in encrypted backups only: beside what they seal they would seal nothing.
    async fn keys(&mut self) -> Result<()> {
        if !self.wants(PartName::Keys) || !self.repository.keys().encrypt() {
            return Ok(());
        }
        let mut count = Count::default();
        for name in KEY_FILES {
            let path = self.places.home.join(name);
            if path.is_file() {
                let written = self.write_one(PartName::Keys, name, read_file(path).await?).await?;
                count.files += written.files;
                count.bytes += written.bytes;
            }
        }
        if count.files > 0 {
            self.part(PartName::Keys, PartKind::Files, self.places.home.display().to_string(), count);
        }
        Ok(())
    }

    async fn tables(&mut self) -> Result<()> {
        let names = [PartName::Media, PartName::Detections, PartName::Evaluation];
        if !names.iter().any(|name| self.wants(*name)) {
            return Ok(());
        }
        let lake = Lake::open(&self.places.lake).await?;
        // Detections are appended before their media, so that media which are looked at first have all their boxes.
        for name in names {
            let (Some(table), Some(location)) = (delta::table(name), self.places.files(name)?) else { continue };
            let store = object_store::open(&location).await?;
            let Some(snapshot) = Snapshot::take(&lake, table, store).await? else { continue };
            self.progress.doing(name.name());
            let inputs = snapshot.inputs(self.repository, self.before.as_ref(), name).await?;
            let count = self.writer.add(name, inputs).await?;
            if count.files != snapshot.files().await? {
                let reason = "files that its log names are missing".to_owned();
                return Err(Error::damaged(lake.table_location(table), reason));
            }
            self.part(name, PartKind::Delta, location.to_string(), count).version = Some(snapshot.version);
        }
        Ok(())
    }

    async fn end(mut self, lock: &Lock) -> Result<Created> {
        self.progress.doing("manifest");
        self.writer.finish().await?;
        let manifest = Manifest {
            format: FORMAT,
            id: self.writer.id.clone(),
            number: lock.number(),
            what: self.what,
            began_at: self.began_at,
            ended_at: Utc::now(),
            host: host(),
            program: env!("CARGO_PKG_VERSION").to_owned(),
            encrypted: self.repository.keys().encrypt(),
            parts: self.parts,
            blob_pages: std::mem::take(&mut self.writer.blob_pages),
            file_pages: std::mem::take(&mut self.writer.file_pages),
            blobs: self.writer.blob_count,
            bytes: self.writer.bytes,
            stored: self.writer.stored,
            written: self.writer.written(),
        };
        let bytes = Bytes::from(manifest.to_bytes()?);
        lock.check().await?;
        let key = manifest_key(&manifest.id);
        if !self.repository.store().put_if_absent(&key, bytes).await? {
            return Err(Error::damaged(self.repository.store().uri(&key), "another backup has its name"));
        }
        self.progress.doing("verification");
        let verified = verify::after_writing(self.repository, &manifest.id, self.writer.read_back()).await?;
        info!(id = %manifest.id, bytes = manifest.bytes, written = manifest.written, "backup made and verified");
        Ok(Created { manifest, verified })
    }
}

/// The newest backup that can be relied on and has the same parts: what it has is not written again.
async fn newest_good(repository: &Repository, what: What) -> Result<Option<Manifest>> {
    let good = repository.good().await?;
    Ok(good.into_iter().find(|manifest| manifest.what == what || manifest.what == What::All))
}

async fn read_file(path: std::path::PathBuf) -> Result<Body> {
    let file = tokio::fs::File::open(&path).await.map_err(Error::file("read", &path))?;
    let chunks = tokio_util::io::ReaderStream::with_capacity(file, 1 << 20);
    Ok(chunks.map(move |chunk| chunk.map_err(Error::file("read", &path))).boxed())
}
