//! Uploads in parts, for what is too large for one request.

use std::ops::Range;
use std::path::{Path, PathBuf};

use aws_sdk_s3::Client;
use aws_sdk_s3::primitives::ByteStream;
use aws_sdk_s3::types::{ChecksumAlgorithm, CompletedMultipartUpload, CompletedPart};
use bytes::Bytes;
use futures::stream::{self, BoxStream, StreamExt, TryStreamExt};
use tokio::io::{AsyncReadExt, AsyncSeekExt};

use super::error::{Target, explain};
use crate::{Error, Result};

/// Larger objects go up in parts of this size, in bytes; larger parts where there would be more than 10,000.
pub(super) const PART_SIZE: usize = 16 * 1024 * 1024;

/// The most parts that S3 allows.
const MAX_PARTS: u64 = 10_000;

/// Parts on their way at once, which bounds the memory to four parts.
const AT_ONCE: usize = 4;

/// One object that is uploaded in parts.
pub(super) struct Upload<'a> {
    pub client: &'a Client,
    pub bucket: &'a str,
    pub key: String,
    pub target: Target<'a>,
}

#[derive(Clone)]
enum Content {
    Bytes(Bytes),
    File(PathBuf),
}

impl Upload<'_> {
    pub(super) async fn bytes(&self, bytes: Bytes) -> Result<()> {
        let size = bytes.len() as u64;
        self.run(Content::Bytes(bytes), size).await
    }

    pub(super) async fn file(&self, file: &Path, size: u64) -> Result<()> {
        self.run(Content::File(file.to_owned()), size).await
    }

    async fn run(&self, content: Content, size: u64) -> Result<()> {
        let pieces = stream::iter(parts(size)).then(move |range| read(content.clone(), range));
        self.pieces(pieces.boxed()).await
    }

    /// Sends pieces as they come, a few at once. All but the last must have the size of a part.
    pub(super) async fn pieces(&self, pieces: BoxStream<'static, Result<Bytes>>) -> Result<()> {
        let request = self.client.create_multipart_upload().bucket(self.bucket).key(&self.key);
        let created = request.checksum_algorithm(ChecksumAlgorithm::Crc32).send().await;
        let created = created.map_err(|error| explain(&error, &self.target))?;
        let Some(upload_id) = created.upload_id() else {
            return Err(Error::ObjectStore {
                action: "write",
                uri: self.target.uri.clone(),
                reason: "the server gave the upload no id".to_owned(),
                transient: false,
            });
        };
        let result = self.send_parts(pieces, upload_id).await;
        if result.is_err() {
            // Else the parts stay, unseen and paid for. What matters is the first failure, so this one is only noted.
            let request = self.client.abort_multipart_upload().bucket(self.bucket).key(&self.key);
            if let Err(error) = request.upload_id(upload_id).send().await {
                tracing::warn!(uri = self.target.uri, error = %explain(&error, &self.target), "unfinished upload remains");
            }
        }
        result
    }

    async fn send_parts(&self, pieces: BoxStream<'static, Result<Bytes>>, upload_id: &str) -> Result<()> {
        let sent = pieces
            .enumerate()
            .map(|(index, bytes)| self.send_part(bytes, upload_id, index as i32 + 1))
            .buffered(AT_ONCE);
        let parts: Vec<CompletedPart> = sent.try_collect().await?;
        let whole = CompletedMultipartUpload::builder().set_parts(Some(parts)).build();
        let request = self.client.complete_multipart_upload().bucket(self.bucket).key(&self.key);
        let done = request.upload_id(upload_id).multipart_upload(whole).send().await;
        done.map(drop).map_err(|error| explain(&error, &self.target))
    }

    async fn send_part(&self, bytes: Result<Bytes>, upload_id: &str, number: i32) -> Result<CompletedPart> {
        let bytes = bytes?;
        let request = self.client.upload_part().bucket(self.bucket).key(&self.key).upload_id(upload_id);
        let request = request.part_number(number).checksum_algorithm(ChecksumAlgorithm::Crc32);
        let sent = request.body(ByteStream::from(bytes)).send().await.map_err(|error| explain(&error, &self.target))?;
        Ok(CompletedPart::builder()
            .part_number(number)
            .set_e_tag(sent.e_tag().map(str::to_owned))
            .set_checksum_crc32(sent.checksum_crc32().map(str::to_owned))
            .build())
    }
}

/// The size of the parts of an object of `size` bytes.
pub(super) fn part_size(size: u64) -> u64 {
    (PART_SIZE as u64).max(size.div_ceil(MAX_PARTS))
}

/// Cuts `size` bytes into ranges that S3 takes as parts.
fn parts(size: u64) -> impl Iterator<Item = Range<u64>> {
    let part = part_size(size);
    (0..size.div_ceil(part)).map(move |index| index * part..((index + 1) * part).min(size))
}

async fn read(content: Content, range: Range<u64>) -> Result<Bytes> {
    let path = match content {
        Content::Bytes(bytes) => return Ok(bytes.slice(range.start as usize..range.end as usize)),
        Content::File(path) => path,
    };
    let failed = |error| Error::from_io("read", &path, &error);
    let mut file = tokio::fs::File::open(&path).await.map_err(failed)?;
    file.seek(std::io::SeekFrom::Start(range.start)).await.map_err(failed)?;
    let mut bytes = vec![0; (range.end - range.start) as usize];
    file.read_exact(&mut bytes).await.map_err(failed)?;
    Ok(bytes.into())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parts_cover_everything_once_and_are_not_too_many() {
        let mebi = 1024 * 1024;
        for size in [PART_SIZE as u64 + 1, 40 * mebi, 160_000 * mebi + 7, 5_000_000 * mebi] {
            let mut end = 0;
            let mut count = 0;
            for part in parts(size) {
                assert_eq!(part.start, end);
                assert!(part.end > part.start && part.end - part.start >= (PART_SIZE as u64).min(size - part.start));
                end = part.end;
                count += 1;
            }
            assert_eq!(end, size);
            assert!(count <= MAX_PARTS, "{count} parts");
        }
    }
}
