//! Reading media from a source for the engine.

use std::path::PathBuf;

use detector::engine::MediaContent;
use detector::media::{MediaType, SNIFF_BYTES};
use platform::object_store::ObjectStore;
use sha2::{Digest, Sha256};

use crate::Error;

/// Bytes that are read at once to hash a file.
const HASH_PART: u64 = 8 << 20;

/// Larger files are more often videos than photographs.
const PHOTOGRAPH_BYTES: u64 = 16 << 20;

/// Content of a medium with its hash; keeps a downloaded video's file alive.
#[derive(Debug)]
pub struct ReadMedia {
    /// For the engine.
    pub content: MediaContent,
    /// sha256 of the content, in hex.
    pub sha256: String,
    _file: Option<tempfile::TempPath>,
}

/// Why one medium of a source cannot be processed.
#[derive(Debug)]
pub enum ReadFailure {
    /// The medium is at fault: recorded, and the job goes on.
    Media(String),
    /// The source is at fault: the job ends.
    Source(Error),
}

/// Reads the object `key`: photographs into memory, videos as a file on disk.
pub async fn read(
    store: &dyn ObjectStore,
    key: &str,
    size: u64,
    max_bytes: u64,
) -> std::result::Result<ReadMedia, ReadFailure> {
    if size > max_bytes {
        return Err(ReadFailure::Media(detector::Error::TooManyBytes { size, limit: max_bytes }.to_string()));
    }
    // A photograph is asked for once; what may be a video is looked at before it is brought into memory.
    if size > PHOTOGRAPH_BYTES && is_video(&store.get_range(key, 0..SNIFF_BYTES as u64).await.map_err(read_failure)?)? {
        return read_video(store, key).await;
    }
    let bytes = store.get(key).await.map_err(read_failure)?;
    if is_video(&bytes[..bytes.len().min(SNIFF_BYTES)])? {
        return read_video(store, key).await;
    }
    let sha256 = hex::encode(Sha256::digest(&bytes));
    Ok(ReadMedia { content: MediaContent::Bytes(bytes.into()), sha256, _file: None })
}

fn is_video(head: &[u8]) -> std::result::Result<bool, ReadFailure> {
    let media_type = MediaType::sniff(head).map_err(|error| ReadFailure::Media(error.to_string()))?;
    Ok(media_type.is_video())
}

/// sha256 of the object `key` in hex, read in parts.
pub async fn hash(store: &dyn ObjectStore, key: &str, size: u64) -> platform::Result<String> {
    let mut hasher = Sha256::new();
    let mut start = 0;
    while start < size {
        let end = size.min(start + HASH_PART);
        hasher.update(&store.get_range(key, start..end).await?);
        start = end;
    }
    Ok(hex::encode(hasher.finalize()))
}

async fn read_video(store: &dyn ObjectStore, key: &str) -> std::result::Result<ReadMedia, ReadFailure> {
    let (path, file) = match store.local_path(key) {
        Some(path) => (path, None),
        None => {
            let temporary = tempfile::Builder::new().prefix("safari-video-").tempfile();
            let temporary =
                temporary.map_err(|error| ReadFailure::Source(Error::write(std::env::temp_dir())(error)))?;
            let path = temporary.into_temp_path();
            store.download(key, &path).await.map_err(read_failure)?;
            (path.to_path_buf(), Some(path))
        }
    };
    let sha256 = hash_file(path.clone()).await.map_err(|error| ReadFailure::Media(error.to_string()))?;
    Ok(ReadMedia { content: MediaContent::File(path), sha256, _file: file })
}

/// sha256 of a file in hex.
pub(crate) async fn hash_file(path: PathBuf) -> std::io::Result<String> {
    let hashed = tokio::task::spawn_blocking(move || {
        let mut hasher = HashWriter(Sha256::new());
        std::io::copy(&mut std::fs::File::open(path)?, &mut hasher)?;
        Ok(hex::encode(hasher.0.finalize()))
    });
    hashed.await.map_err(std::io::Error::other)?
}

struct HashWriter(Sha256);

impl std::io::Write for HashWriter {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        self.0.update(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}

fn read_failure(error: platform::Error) -> ReadFailure {
    if error.is_about_one_object() {
        return ReadFailure::Media(error.to_string());
    }
    ReadFailure::Source(Error::Store(error))
}
