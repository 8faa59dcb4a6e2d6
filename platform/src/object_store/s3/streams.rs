//! Objects that are read and written piece by piece.

use std::ops::Range;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use aws_sdk_s3::operation::get_object::GetObjectOutput;
use aws_sdk_s3::primitives::ByteStream;
use bytes::{Bytes, BytesMut};
use futures::stream::{self, StreamExt};

use super::multipart::{PART_SIZE, part_size};
use super::{BODY_ATTEMPTS, S3Store, object_meta, pause};
use crate::error::root_cause;
use crate::object_store::{Incoming, ObjectBody, ObjectStore};
use crate::{Error, Result};

/// Reads an object or a range of it. An answer that breaks off is asked for again from there on, if the object is still
/// the same.
pub(super) async fn read(store: &S3Store, key: &str, range: Option<Range<u64>>) -> Result<ObjectBody> {
    let nothing = || stream::empty().boxed();
    if range.as_ref().is_some_and(Range::is_empty) {
        return Ok(ObjectBody { meta: store.head(key).await?, bytes: nothing() });
    }
    let Some(output) = store.get_object(key, range.as_ref()).await? else {
        return Ok(ObjectBody { meta: store.head(key).await?, bytes: nothing() });
    };
    let size = whole_size(&output);
    let meta = object_meta(key.to_owned(), size, output.e_tag(), output.last_modified());
    let wanted = range.unwrap_or(0..meta.size);
    let reader = Reader {
        store: store.clone(),
        key: key.to_owned(),
        tag: output.e_tag().map(str::to_owned),
        at: first_byte(&output),
        left: wanted.start..wanted.end.min(meta.size),
        body: output.body,
        attempt: 1,
    };
    let bytes =
        stream::try_unfold(reader, |mut reader| async move { Ok(reader.next().await?.map(|piece| (piece, reader))) });
    Ok(ObjectBody { meta, bytes: bytes.boxed() })
}

struct Reader {
    store: S3Store,
    key: String,
    tag: Option<String>,
    body: ByteStream,
    /// Where the next byte of the body lies in the object. Some servers begin at 0 whatever they are asked for.
    at: u64,
    /// What is still to be given out.
    left: Range<u64>,
    attempt: u32,
}

impl Reader {
    async fn next(&mut self) -> Result<Option<Bytes>> {
        while !self.left.is_empty() {
            let reason = match self.body.try_next().await {
                Ok(Some(piece)) => match self.take(piece) {
                    Some(piece) => return Ok(Some(piece)),
                    None => continue,
                },
                Ok(None) => format!("the answer broke off after {} bytes", self.at),
                Err(error) => root_cause(&error),
            };
            if self.attempt >= BODY_ATTEMPTS {
                return Err(self.store.broken_body(&self.key, reason));
            }
            tokio::time::sleep(pause(self.attempt)).await;
            self.attempt += 1;
            let Some(output) = self.store.get_object_if(&self.key, Some(&self.left), self.tag.clone()).await? else {
                return Err(self.store.broken_body(&self.key, reason));
            };
            self.at = first_byte(&output);
            self.body = output.body;
        }
        Ok(None)
    }

    /// The part of a piece that is wanted.
    fn take(&mut self, mut piece: Bytes) -> Option<Bytes> {
        let before = self.left.start.saturating_sub(self.at).min(piece.len() as u64);
        self.at += piece.len() as u64;
        let _ = piece.split_to(before as usize);
        piece.truncate(usize::try_from(self.left.end - self.left.start).unwrap_or(usize::MAX));
        if piece.is_empty() {
            return None;
        }
        self.left.start += piece.len() as u64;
        self.attempt = 1;
        Some(piece)
    }
}

/// Writes bytes as they come: in one request if they are few, else in parts. At most five parts are in memory.
pub(super) async fn write(store: &S3Store, key: &str, bytes: Incoming, size: Option<u64>) -> Result<u64> {
    let uri = store.location().uri(key);
    let part = size.map_or(PART_SIZE as u64, part_size) as usize;
    let mut source = Source { bytes, part, uri, size, read: 0, gathered: BytesMut::new() };
    let first = source.next().await?.unwrap_or_default();
    if first.len() < part {
        source.check()?;
        store.put(key, first).await?;
        return Ok(source.read);
    }
    let upload = store.upload(key)?;
    let read = Arc::new(AtomicU64::new(0));
    let count = Arc::clone(&read);
    let pieces = stream::try_unfold((source, Some(first)), move |(mut source, first)| {
        let count = Arc::clone(&count);
        async move {
            let piece = match first {
                Some(first) => Some(first),
                None => source.next().await?,
            };
            count.store(source.read, Ordering::Relaxed);
            let Some(piece) = piece else {
                // Before the parts are put together, so that no object appears that is not whole.
                source.check()?;
                return Ok(None);
            };
            Ok(Some((piece, (source, None))))
        }
    });
    upload.pieces(pieces.boxed()).await?;
    Ok(read.load(Ordering::Relaxed))
}

/// Gathers what comes into pieces of the size of a part.
struct Source {
    bytes: Incoming,
    part: usize,
    uri: String,
    size: Option<u64>,
    read: u64,
    gathered: BytesMut,
}

impl Source {
    /// The next piece; a shorter one at the end, then nothing.
    async fn next(&mut self) -> Result<Option<Bytes>> {
        while self.gathered.len() < self.part {
            let Some(piece) = self.bytes.next().await else { break };
            let piece = piece.map_err(|error| self.broke_off(root_cause(&error)))?;
            self.read += piece.len() as u64;
            if self.gathered.is_empty() {
                self.gathered.reserve(self.part + piece.len());
            }
            self.gathered.extend_from_slice(&piece);
        }
        let length = self.gathered.len().min(self.part);
        Ok((length > 0).then(|| self.gathered.split_to(length).freeze()))
    }

    fn check(&self) -> Result<()> {
        match self.size.filter(|size| *size != self.read) {
            Some(size) => Err(self.broke_off(format!("{} bytes of {size} came", self.read))),
            None => Ok(()),
        }
    }

    fn broke_off(&self, reason: String) -> Error {
        Error::BrokenOff { uri: self.uri.clone(), reason }
    }
}

/// The size of the whole object, also when only a part of it was asked for.
fn whole_size(output: &GetObjectOutput) -> Option<i64> {
    match output.content_range() {
        Some(range) => range.rsplit_once('/').and_then(|(_, size)| size.parse().ok()),
        None => output.content_length(),
    }
}

fn first_byte(output: &GetObjectOutput) -> u64 {
    let range = output.content_range().and_then(|range| range.strip_prefix("bytes "));
    range.and_then(|range| range.split_once('-')).and_then(|(first, _)| first.parse().ok()).unwrap_or(0)
}
