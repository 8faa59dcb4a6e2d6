//! Files that are read and written piece by piece. While one piece is on its way, the next is read or the last is
//! written, on threads that may block; no thread waits for a slow reader or writer on the network.

use std::fs::File;
use std::io::{self, ErrorKind, IoSlice, Read, Seek, SeekFrom, Write};
use std::num::NonZeroU64;
use std::ops::Range;
use std::path::{Path, PathBuf};

use bytes::Bytes;
use futures::stream::{self, StreamExt};
use rustix::fs::Advice;
use tempfile::NamedTempFile;
use tokio::task::JoinHandle;

use super::{blocking, open_file, temporary_in};
use crate::object_store::{Incoming, ObjectBody, walk};
use crate::{Error, Result};

/// Bytes that are read at once, and that are gathered before they are written.
const PIECE: usize = 1024 * 1024;

/// Bytes that the disk is asked for ahead of the piece that is read, so that it never waits for the network.
const AHEAD: u64 = 16 * 1024 * 1024;

/// Bytes after which the disk is made to begin with them, while more come: else all of its work would be left to the end.
const FLUSH: u64 = 64 * 1024 * 1024;

/// Reads a file or a range of it. What is written under its name meanwhile changes nothing.
pub(super) async fn read(path: PathBuf, key: String, range: Option<Range<u64>>) -> Result<ObjectBody> {
    let start = range.as_ref().map_or(0, |range| range.start);
    let (file, meta, path) = blocking(move || {
        let mut file = open_file(&path)?;
        let failed = |error| Error::from_io("read", &path, &error);
        let meta = walk::object_meta(key, &file.metadata().map_err(failed)?);
        if start > 0 {
            file.seek(SeekFrom::Start(start)).map_err(failed)?;
        }
        Ok((file, meta, path))
    })
    .await?;
    let whole = 0..meta.size;
    let range = range.unwrap_or(whole.clone());
    let length = range.end.min(whole.end).saturating_sub(range.start);
    let next = (length > 0)
        .then(|| next_piece(Rest { file, path, at: range.start, end: range.start + length, asked: range.start }));
    let bytes = stream::try_unfold(next, |next| async move {
        let Some(next) = next else { return Ok(None) };
        let (piece, rest) = next.await.map_err(stopped)??;
        Ok(Some((piece, rest.map(next_piece))))
    });
    Ok(ObjectBody { meta, bytes: bytes.boxed() })
}

/// What is to be read of a file.
struct Rest {
    file: File,
    path: PathBuf,
    at: u64,
    end: u64,
    /// Where that ends for which the disk was asked.
    asked: u64,
}

type Reading = JoinHandle<Result<(Bytes, Option<Rest>)>>;

/// Begins to read the next piece, before anybody asks for it.
fn next_piece(mut rest: Rest) -> Reading {
    tokio::task::spawn_blocking(move || {
        let wanted = (rest.end - rest.at).min(PIECE as u64);
        rest.ask_ahead();
        let mut piece = Vec::with_capacity(wanted as usize);
        let read = (&mut rest.file).take(wanted).read_to_end(&mut piece);
        read.map_err(|error| Error::from_io("read", &rest.path, &error))?;
        if piece.len() as u64 != wanted {
            let reason = "it became shorter while it was read".to_owned();
            return Err(Error::Unreadable { uri: rest.path.display().to_string(), reason });
        }
        rest.at += wanted;
        Ok((Bytes::from(piece), (rest.at < rest.end).then_some(rest)))
    })
}

impl Rest {
    /// Asks the disk for what comes before [`AHEAD`], unless that was done.
    fn ask_ahead(&mut self) {
        let until = self.end.min(self.at + AHEAD);
        if let Some(more) = NonZeroU64::new(until.saturating_sub(self.asked)) {
            // An advice: where it is not taken, reading is slower.
            let _ = rustix::fs::fadvise(&self.file, self.asked, Some(more), Advice::WillNeed);
            self.asked = until;
        }
    }
}

/// Writes all bytes to a new temporary file in `folder` and syncs it once; `target` is what it will be. Gives their
/// number. If anything fails, or nobody waits any more, the file goes.
pub(super) async fn write(
    folder: &Path,
    target: &Path,
    mut bytes: Incoming,
    size: Option<u64>,
) -> Result<(NamedTempFile, u64)> {
    let (folder, target) = (folder.to_owned(), target.to_owned());
    let (temporary, handle, target) = blocking(move || {
        let temporary = temporary_in(&folder, &target)?;
        let handle = temporary.reopen().map_err(|error| Error::from_io("write", &target, &error))?;
        Ok((temporary, handle, target))
    })
    .await?;
    let broke_off = |reason: String| Error::BrokenOff { uri: target.display().to_string(), reason };
    let mut writer = Writer { target: target.clone(), idle: Some(handle), busy: None, flushing: None, unflushed: 0 };
    let (mut written, mut gathered, mut pieces) = (0u64, 0, Vec::new());
    while let Some(piece) = bytes.next().await {
        let piece = piece.map_err(|error| broke_off(crate::error::root_cause(&error)))?;
        written += piece.len() as u64;
        if let Some(size) = size.filter(|size| written > *size) {
            return Err(broke_off(format!("more than the {size} bytes came that were announced")));
        }
        gathered += piece.len();
        pieces.push(piece);
        if gathered >= PIECE {
            writer.write(std::mem::take(&mut pieces)).await?;
            gathered = 0;
        }
    }
    if let Some(size) = size.filter(|size| *size != written) {
        return Err(broke_off(format!("{written} bytes of {size} came")));
    }
    writer.write(pieces).await?;
    writer.sync().await?;
    Ok((temporary, written))
}

/// A file that is written in the background, one piece at a time.
struct Writer {
    target: PathBuf,
    idle: Option<File>,
    busy: Option<JoinHandle<io::Result<File>>>,
    flushing: Option<JoinHandle<io::Result<()>>>,
    unflushed: u64,
}

impl Writer {
    /// Waits for the last write and begins the next.
    async fn write(&mut self, pieces: Vec<Bytes>) -> Result<()> {
        let mut file = self.file().await?;
        if self.unflushed >= FLUSH && self.flushing.as_ref().is_none_or(JoinHandle::is_finished) {
            self.flushed().await?;
            let handle = file.try_clone().map_err(|error| Error::from_io("write", &self.target, &error))?;
            self.flushing = Some(tokio::task::spawn_blocking(move || handle.sync_data()));
            self.unflushed = 0;
        }
        self.unflushed += pieces.iter().map(|piece| piece.len() as u64).sum::<u64>();
        self.busy = Some(tokio::task::spawn_blocking(move || {
            write_all(&mut file, &pieces)?;
            Ok(file)
        }));
        Ok(())
    }

    /// The system tells of a failed write once: what the flush in the background was told counts.
    async fn flushed(&mut self) -> Result<()> {
        let Some(flushing) = self.flushing.take() else { return Ok(()) };
        flushing.await.map_err(stopped)?.map_err(|error| Error::from_io("write", &self.target, &error))
    }

    async fn sync(&mut self) -> Result<()> {
        self.flushed().await?;
        let file = self.file().await?;
        let target = self.target.clone();
        blocking(move || file.sync_all().map_err(|error| Error::from_io("write", &target, &error))).await
    }

    async fn file(&mut self) -> Result<File> {
        let failed = |error: io::Error| Error::from_io("write", &self.target, &error);
        if let Some(busy) = self.busy.take() {
            return busy.await.map_err(stopped)?.map_err(failed);
        }
        self.idle.take().ok_or_else(|| failed(io::Error::other("an earlier write failed")))
    }
}

fn write_all(file: &mut File, pieces: &[Bytes]) -> io::Result<()> {
    let mut slices: Vec<IoSlice<'_>> = pieces.iter().map(|piece| IoSlice::new(piece)).collect();
    let mut left = &mut slices[..];
    // What is empty would look as if nothing could be written.
    IoSlice::advance_slices(&mut left, 0);
    while !left.is_empty() {
        match file.write_vectored(left) {
            Ok(0) => return Err(ErrorKind::WriteZero.into()),
            Ok(written) => IoSlice::advance_slices(&mut left, written),
            Err(error) if error.kind() == ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
    Ok(())
}

fn stopped(failure: tokio::task::JoinError) -> Error {
    if failure.is_panic() {
        std::panic::resume_unwind(failure.into_panic());
    }
    Error::ObjectStore {
        action: "finish",
        uri: "the work on a file".to_owned(),
        reason: "the program is ending".to_owned(),
        transient: false,
    }
}
