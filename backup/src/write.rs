//! Writes the pieces of a backup: cut, named after their content, packed, stored if they are not there yet, and read back.

use std::collections::{BTreeSet, HashSet};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use bytes::{Bytes, BytesMut};
use futures::future::BoxFuture;
use futures::stream::{BoxStream, FuturesOrdered};
use futures::{StreamExt, TryStreamExt};
use sha2::{Digest, Sha256};
use tokio::sync::Semaphore;
use tokio::task::JoinHandle;

use crate::id::BackupId;
use crate::manifest::{Blob, FileEntry, Page, PartName, Piece};
use crate::progress::Progress;
use crate::repository::{KnownBlobs, Lines, PIECE, Repository, blob_key, blocking, sha256};
use crate::{Error, Result};

/// Pieces that are in memory at once, and so what memory a backup takes.
const PIECES: usize = 8;

/// Files that are open at once.
const FILES: usize = 16;

/// Something to be written.
pub(crate) enum Input {
    /// A file that the backup before had, in this very version.
    Unchanged(FileEntry),
    /// A file to be read.
    File {
        path: String,
        version: Option<String>,
        /// Its bytes; none if it has gone meanwhile.
        body: BoxFuture<'static, Result<Option<Body>>>,
    },
}

/// The bytes of a file as they come.
pub(crate) type Body = BoxStream<'static, Result<Bytes>>;

/// What was written of a part.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Count {
    pub(crate) files: u64,
    pub(crate) bytes: u64,
}

/// A backup that is being written.
pub(crate) struct Writer {
    pub(crate) id: BackupId,
    repository: Repository,
    keeper: Arc<Keeper>,
    progress: Progress,
    files: Lines,
    files_of: BTreeSet<PartName>,
    blobs: Lines,
    /// Which blobs are listed already, by the first bytes of their names.
    listed: HashSet<u128>,
    pub(crate) file_pages: Vec<Page>,
    pub(crate) blob_pages: Vec<Page>,
    pub(crate) blob_count: u64,
    pub(crate) bytes: u64,
    pub(crate) stored: u64,
}

impl Writer {
    /// `known`: the blobs of the backup before.
    pub(crate) fn new(repository: &Repository, id: BackupId, known: KnownBlobs, progress: Progress) -> Self {
        let keeper = Keeper {
            repository: repository.clone(),
            id: id.clone(),
            known,
            permits: Arc::new(Semaphore::new(PIECES)),
            written: AtomicU64::new(0),
            read_back: AtomicU64::new(0),
        };
        Self {
            id,
            repository: repository.clone(),
            keeper: Arc::new(keeper),
            progress,
            files: Lines::default(),
            files_of: BTreeSet::new(),
            blobs: Lines::default(),
            listed: HashSet::new(),
            file_pages: Vec::new(),
            blob_pages: Vec::new(),
            blob_count: 0,
            bytes: 0,
            stored: 0,
        }
    }

    /// Bytes that were written to the place.
    pub(crate) fn written(&self) -> u64 {
        self.keeper.written.load(Ordering::Relaxed)
    }

    /// Blobs that were written and read back.
    pub(crate) fn read_back(&self) -> u64 {
        self.keeper.read_back.load(Ordering::Relaxed)
    }

    /// Writes files of a part.
    pub(crate) async fn add(&mut self, part: PartName, inputs: BoxStream<'_, Result<Input>>) -> Result<Count> {
        let (keeper, progress) = (Arc::clone(&self.keeper), self.progress.clone());
        let work = inputs.map(|input| {
            let (keeper, progress) = (Arc::clone(&keeper), progress.clone());
            async move { write(keeper, part, input?, &progress).await }
        });
        let mut done = work.buffered(FILES).boxed();
        let mut count = Count::default();
        while let Some(written) = done.try_next().await? {
            let Some((entry, blobs)) = written else { continue };
            count.files += 1;
            count.bytes += entry.size;
            self.note(entry, blobs).await?;
        }
        self.bytes += count.bytes;
        Ok(count)
    }

    /// Writes what is left of the pages.
    pub(crate) async fn finish(&mut self) -> Result<()> {
        self.end_files().await?;
        self.end_blobs().await
    }

    async fn note(&mut self, entry: FileEntry, blobs: Vec<Blob>) -> Result<()> {
        for blob in blobs {
            if self.listed.insert(short_hash(&[&blob.name])) {
                self.blob_count += 1;
                self.stored += blob.size;
                self.blobs.add(&blob)?;
            }
        }
        self.files.add(&entry)?;
        self.files_of.insert(entry.part);
        if self.files.is_full() {
            self.end_files().await?;
        }
        if self.blobs.is_full() {
            self.end_blobs().await?;
        }
        Ok(())
    }

    async fn end_files(&mut self) -> Result<()> {
        let Some(lines) = self.files.take() else { return Ok(()) };
        let name = format!("files-{:05}", self.file_pages.len());
        let (keys, what) = (Arc::clone(self.repository.keys()), name.clone());
        let sealed = blocking(move || keys.seal(&what, &lines)).await?;
        let parts = std::mem::take(&mut self.files_of).into_iter().collect();
        self.file_pages.push(self.repository.put_page(&self.id, name, parts, sealed).await?);
        Ok(())
    }

    async fn end_blobs(&mut self) -> Result<()> {
        let Some(lines) = self.blobs.take() else { return Ok(()) };
        let name = format!("blobs-{:05}", self.blob_pages.len());
        // Packed, and never encrypted.
        let packed = blocking(move || crate::seal::Keys::new(&[], None)?.seal("a page", &lines)).await?;
        self.blob_pages.push(self.repository.put_page(&self.id, name, Vec::new(), packed).await?);
        Ok(())
    }
}

/// Sixteen bytes that stand for texts: what is remembered of each of many.
pub(crate) fn short_hash(texts: &[&str]) -> u128 {
    let mut hash = Sha256::new();
    for text in texts {
        hash.update(text.as_bytes());
        hash.update([0]);
    }
    let bytes: [u8; 32] = hash.finalize().into();
    bytes.iter().take(16).fold(0, |sum, byte| (sum << 8) | u128::from(*byte))
}

/// Stores pieces.
struct Keeper {
    repository: Repository,
    id: BackupId,
    known: KnownBlobs,
    permits: Arc<Semaphore>,
    written: AtomicU64,
    read_back: AtomicU64,
}

/// None if the file has gone.
async fn write(
    keeper: Arc<Keeper>,
    part: PartName,
    input: Input,
    progress: &Progress,
) -> Result<Option<(FileEntry, Vec<Blob>)>> {
    let (path, version, body) = match input {
        Input::Unchanged(entry) => {
            let known = entry.pieces.iter().map(|piece| keeper.known.get(&piece.blob));
            let Some(blobs) = known.collect::<Option<Vec<Blob>>>() else {
                return Err(Error::damaged(entry.path, "the backup before does not list its pieces"));
            };
            progress.add(entry.size);
            return Ok(Some((entry, blobs)));
        }
        Input::File { path, version, body } => (path, version, body),
    };
    let Some(mut body) = body.await? else { return Ok(None) };
    let mut under_way: FuturesOrdered<JoinHandle<Result<(Piece, Blob)>>> = FuturesOrdered::new();
    let (mut kept, mut rest) = (Vec::new(), Bytes::new());
    loop {
        let permit = Arc::clone(&keeper.permits).acquire_owned().await;
        let permit =
            permit.map_err(|_| Error::Unpackable { what: path.clone(), reason: "the program ends".to_owned() })?;
        let Some(bytes) = next_piece(&mut body, &mut rest).await? else { break };
        progress.add(bytes.len() as u64);
        let keeper = Arc::clone(&keeper);
        under_way.push_back(tokio::spawn(async move {
            let kept = keeper.keep(bytes).await;
            drop(permit);
            kept
        }));
        while under_way.len() >= PIECES {
            kept.extend(joined(under_way.next().await)?);
        }
    }
    while !under_way.is_empty() {
        kept.extend(joined(under_way.next().await)?);
    }
    let (pieces, blobs): (Vec<Piece>, Vec<Blob>) = kept.into_iter().unzip();
    let size = pieces.iter().map(|piece| piece.size).sum();
    Ok(Some((FileEntry { part, path, size, version, pieces }, blobs)))
}

fn joined(
    ended: Option<std::result::Result<Result<(Piece, Blob)>, tokio::task::JoinError>>,
) -> Result<Option<(Piece, Blob)>> {
    match ended {
        Some(Ok(kept)) => kept.map(Some),
        Some(Err(failure)) if failure.is_panic() => std::panic::resume_unwind(failure.into_panic()),
        Some(Err(_)) => Err(Error::Unpackable { what: "a piece".to_owned(), reason: "the program ends".to_owned() }),
        None => Ok(None),
    }
}

/// The next bytes, as many as a piece has unless they end; none at the end.
async fn next_piece(body: &mut Body, rest: &mut Bytes) -> Result<Option<Bytes>> {
    let mut piece = BytesMut::new();
    loop {
        let more = rest.split_to(rest.len().min(PIECE - piece.len()));
        // What has more than one part has probably many: it is not to move each time that it grows.
        if !piece.is_empty() {
            piece.reserve(PIECE - piece.len());
        }
        piece.extend_from_slice(&more);
        if piece.len() == PIECE {
            return Ok(Some(piece.freeze()));
        }
        match body.try_next().await? {
            Some(bytes) => *rest = bytes,
            None if piece.is_empty() => return Ok(None),
            None => return Ok(Some(piece.freeze())),
        }
    }
}

impl Keeper {
    /// Stores a piece unless it is there, and reads back what it has stored.
    async fn keep(&self, plain: Bytes) -> Result<(Piece, Blob)> {
        let hashed = plain.clone();
        let hash: [u8; 32] = blocking(move || Ok(Sha256::digest(&hashed).into())).await?;
        let name = self.repository.keys().name(&hash);
        let mut piece = Piece { blob: name.clone(), size: plain.len() as u64, sha256: hex::encode(hash) };
        if let Some(blob) = self.known.get(&name) {
            return Ok((piece, blob));
        }
        let (keys, what) = (Arc::clone(self.repository.keys()), name.clone());
        let sealed = blocking(move || keys.seal(&what, &plain)).await?;
        let mut blob = Blob { name, size: sealed.len() as u64, sha256: sha256(&sealed) };
        if self.put(&blob, &sealed).await? {
            return Ok((piece, blob));
        }
        // Somebody has written the same content: a backup that is not the one before, or one that was never ended.
        if let Some(there) = self.already_there(&piece).await? {
            return Ok((piece, there));
        }
        // It cannot be known to be good: this backup has its own.
        blob.name = format!("{}-{}", blob.name, self.id);
        piece.blob.clone_from(&blob.name);
        if !self.put(&blob, &sealed).await? {
            let mine = self.repository.read_blob(&blob.name).await?;
            blob = Blob { name: blob.name, size: mine.len() as u64, sha256: sha256(&mine) };
        }
        Ok((piece, blob))
    }

    /// Whether this call has written it; then it was read back.
    async fn put(&self, blob: &Blob, sealed: &Bytes) -> Result<bool> {
        let key = blob_key(&blob.name);
        if !self.repository.store().put_if_absent(&key, sealed.clone()).await? {
            return Ok(false);
        }
        self.written.fetch_add(blob.size, Ordering::Relaxed);
        if self.repository.read_blob(&blob.name).await? != sealed {
            return Err(Error::damaged(
                self.repository.store().uri(&key),
                "what was read back is not what was written",
            ));
        }
        self.read_back.fetch_add(1, Ordering::Relaxed);
        Ok(true)
    }

    /// The blob of that name, if it can be opened and holds the piece.
    async fn already_there(&self, piece: &Piece) -> Result<Option<Blob>> {
        let encrypted = self.repository.keys().encrypt();
        if encrypted && !self.repository.keys().decrypt() {
            return Ok(None);
        }
        let stored = self.repository.read_blob(&piece.blob).await?;
        let blob = Blob { name: piece.blob.clone(), size: stored.len() as u64, sha256: sha256(&stored) };
        match self.repository.open_piece(piece, stored, encrypted).await {
            Ok(_) => Ok(Some(blob)),
            Err(Error::Damaged { .. } | Error::Undecipherable { .. }) => Ok(None),
            Err(error) => Err(error),
        }
    }
}
