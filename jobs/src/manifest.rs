//! The lists of media that `ingest` hands to `infer`: one JSON file a shard, in the run's folder.

use std::fs;
use std::io::Write;
use std::path::{Path, PathBuf};

use chrono::{DateTime, Utc};
use serde::{Deserialize, Serialize};

use crate::{Error, Result};

/// Media of one task instance, whole bursts only.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Shard {
    /// The source that keys are relative to, as given.
    pub source: String,
    /// Bursts in order; a medium without a time is a burst of its own.
    pub bursts: Vec<Burst>,
    /// Files whose content the model has seen under another name.
    #[serde(default)]
    pub copies: Vec<Copied>,
}

/// Media that show one event.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Burst {
    /// Name of the burst; none for media whose time is not known.
    pub id: Option<String>,
    /// Media in order of time.
    pub media: Vec<Entry>,
}

/// One file of the source.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Entry {
    /// Key within the source.
    pub key: String,
    /// Size in bytes.
    pub size: u64,
    /// ETag or time of the last change.
    pub version: String,
    /// When it was taken, if a photograph says so.
    pub captured_at: Option<DateTime<Utc>>,
}

/// A file with the same content as one that was processed before.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Copied {
    /// The file.
    pub entry: Entry,
    /// The uri under which the content was processed.
    pub of: String,
}

impl Shard {
    /// Number of media.
    pub fn len(&self) -> usize {
        self.bursts.iter().map(|burst| burst.media.len()).sum::<usize>() + self.copies.len()
    }

    /// True if there is nothing to do.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// The file of shard `index` in the run's folder.
    pub fn path(work_dir: &Path, index: u64) -> PathBuf {
        work_dir.join("shards").join(format!("{index:06}.json"))
    }

    /// Reads the shard's file.
    pub fn read(path: &Path) -> Result<Self> {
        let broken = |reason: String| Error::Manifest { path: path.to_owned(), reason };
        let text = fs::read(path).map_err(|error| broken(error.to_string()))?;
        serde_json::from_slice(&text).map_err(|error| broken(error.to_string()))
    }

    /// Writes the shard's file as a whole or not at all.
    pub fn write(&self, path: &Path) -> Result<()> {
        let folder = path.parent().unwrap_or(Path::new("."));
        fs::create_dir_all(folder).map_err(Error::write(folder))?;
        let mut file = tempfile::NamedTempFile::new_in(folder).map_err(Error::write(folder))?;
        serde_json::to_writer(std::io::BufWriter::new(&mut file), self)
            .map_err(|error| Error::write(path)(error.into()))?;
        file.flush().and_then(|()| file.as_file().sync_data()).map_err(Error::write(path))?;
        file.persist(path).map_err(|error| Error::write(path)(error.error))?;
        Ok(())
    }
}
