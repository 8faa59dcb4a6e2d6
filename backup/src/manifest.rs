//! What a backup says of itself.
//!
//! `backups/<id>/` holds pages and, written last, `manifest.jsonl`: a line with the manifest and a line with its checksum.
//! Pages of blobs are lines of [`Blob`], readable without a key, so that a place can be verified and tidied by who cannot
//! read its backups. Pages of files are lines of [`FileEntry`], packed and encrypted as blobs are.

use std::collections::BTreeMap;
use std::fmt;

use chrono::{DateTime, Utc};
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

use crate::id::BackupId;
use crate::{Error, Result};

/// The format that this version writes, and the newest that it reads.
pub const FORMAT: u32 = 1;

/// What is backed up or restored together.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum What {
    /// The databases of the state, the registry, identity and collections, and the keys that seal secrets in them.
    Db,
    /// The registry's database and files.
    Models,
    /// What databases name: the registry's files and photographs of collections.
    Files,
    /// The Delta tables.
    Tables,
    /// All of these, and photographs of collections.
    All,
}

/// A thing of its own in a backup.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum PartName {
    /// The database of runs.
    State,
    /// The database of the registry.
    Registry,
    /// The database of people and tokens, where it is not that of the state.
    Identity,
    /// The database of collections.
    Collections,
    /// The keys that seal secrets in databases; only in encrypted backups.
    Keys,
    /// The registry's files.
    Artifacts,
    /// Photographs of collections.
    Pictures,
    /// The table of media.
    Media,
    /// The table of detections.
    Detections,
    /// The table of evaluations.
    Evaluation,
}

/// How a part was made.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum PartKind {
    /// A SQLite file.
    Sqlite,
    /// An archive of `pg_dump`.
    Postgres,
    /// Files of a folder or a bucket.
    Files,
    /// One version of a Delta table.
    Delta,
}

/// A part of a backup.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Part {
    /// Which.
    pub name: PartName,
    /// How it was made.
    pub kind: PartKind,
    /// Where it was, without passwords.
    pub origin: String,
    /// Files in it.
    pub files: u64,
    /// Their bytes.
    pub bytes: u64,
    /// Of a Delta table.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub version: Option<u64>,
    /// Rows of each table of a database.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub rows: BTreeMap<String, u64>,
}

/// A page beside the manifest.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Page {
    /// Its name in the backup's folder.
    pub name: String,
    /// Bytes as stored.
    pub size: u64,
    /// Of the stored bytes.
    pub sha256: String,
    /// The parts whose files are in it.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub parts: Vec<PartName>,
}

/// A backup. It exists if and only if its manifest does.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Manifest {
    /// [`FORMAT`] of the version that wrote it.
    pub format: u32,
    /// Its name.
    pub id: BackupId,
    /// Grows with each backup of a place, whatever clocks say: of two backups the later one has the higher number.
    #[serde(default)]
    pub number: u64,
    /// What was to be backed up.
    pub what: What,
    /// When it was begun, by the clock of the machine that made it. What was written before is in it.
    pub began_at: DateTime<Utc>,
    /// When all of it had been written.
    pub ended_at: DateTime<Utc>,
    /// The machine.
    pub host: String,
    /// The version of the program.
    pub program: String,
    /// Whether it is encrypted.
    pub encrypted: bool,
    /// Its parts.
    pub parts: Vec<Part>,
    /// Pages of blobs.
    pub blob_pages: Vec<Page>,
    /// Pages of files, in the order of the parts.
    pub file_pages: Vec<Page>,
    /// Blobs that it needs.
    pub blobs: u64,
    /// Bytes of its files.
    pub bytes: u64,
    /// Bytes of its blobs as they are stored, those of earlier backups included.
    pub stored: u64,
    /// Bytes that were written for it.
    pub written: u64,
}

/// A stored piece that a backup needs.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Blob {
    pub(crate) name: String,
    /// Bytes as stored.
    pub(crate) size: u64,
    /// Of the stored bytes.
    pub(crate) sha256: String,
}

/// A file of a part.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct FileEntry {
    pub(crate) part: PartName,
    /// Its key in its part.
    pub(crate) path: String,
    /// In bytes.
    pub(crate) size: u64,
    /// The version that its store told; none for what was made for the backup.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) version: Option<String>,
    /// In their order.
    pub(crate) pieces: Vec<Piece>,
}

/// A piece of a file.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Piece {
    pub(crate) blob: String,
    /// Bytes of the piece itself.
    pub(crate) size: u64,
    /// Of the piece itself, not as it is stored.
    pub(crate) sha256: String,
}

/// That a backup was read and found whole.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Verified {
    /// When.
    pub at: DateTime<Utc>,
    /// Blobs whose bytes were read back. Right after a backup those that it has written; the rest were read when they were
    /// written, and are there with their size.
    pub read: u64,
    /// Blobs that it needs.
    pub blobs: u64,
    /// Whether pieces were decrypted, unpacked and compared too.
    pub opened: bool,
}

impl What {
    /// Each.
    pub const EACH: [Self; 5] = [Self::Db, Self::Models, Self::Files, Self::Tables, Self::All];

    /// The word for it.
    pub fn name(self) -> &'static str {
        match self {
            Self::Db => "db",
            Self::Models => "models",
            Self::Files => "files",
            Self::Tables => "tables",
            Self::All => "all",
        }
    }

    /// What has that name.
    pub fn named(name: &str) -> Option<Self> {
        Self::EACH.into_iter().find(|what| what.name() == name)
    }

    /// The parts that belong to it, in the order of a manifest.
    pub fn parts(self) -> &'static [PartName] {
        use PartName::{
            Artifacts, Collections, Detections, Evaluation, Identity, Keys, Media, Pictures, Registry, State,
        };
        match self {
            Self::Db => &[State, Registry, Identity, Collections, Keys],
            Self::Models => &[Registry, Artifacts],
            Self::Files => &[Artifacts, Pictures],
            Self::Tables => &[Media, Detections, Evaluation],
            Self::All => {
                &[State, Registry, Identity, Collections, Keys, Artifacts, Pictures, Media, Detections, Evaluation]
            }
        }
    }
}

impl fmt::Display for What {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(self.name())
    }
}

impl PartName {
    /// The word for it.
    pub fn name(self) -> &'static str {
        match self {
            Self::State => "state",
            Self::Registry => "registry",
            Self::Identity => "identity",
            Self::Collections => "collections",
            Self::Keys => "keys",
            Self::Artifacts => "artifacts",
            Self::Pictures => "pictures",
            Self::Media => "media",
            Self::Detections => "detections",
            Self::Evaluation => "evaluation",
        }
    }
}

impl fmt::Display for PartName {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(self.name())
    }
}

#[derive(Serialize, Deserialize)]
struct Checksum {
    sha256: String,
}

impl Manifest {
    /// Two lines: itself, and the SHA-256 of the first line.
    pub(crate) fn to_bytes(&self) -> Result<Vec<u8>> {
        let mut lines = to_line(self)?;
        let checksum = Checksum { sha256: hex::encode(Sha256::digest(&lines)) };
        lines.extend(to_line(&checksum)?);
        Ok(lines)
    }

    /// Reads and checks what [`Manifest::to_bytes`] gave.
    ///
    /// # Errors
    /// [`Error::Damaged`], [`Error::NewerFormat`].
    pub(crate) fn from_bytes(what: &str, bytes: &[u8]) -> Result<Self> {
        let end = bytes.iter().position(|byte| *byte == b'\n').map_or(bytes.len(), |end| end + 1);
        let (first, second) = bytes.split_at(end);
        let checksum: Checksum =
            serde_json::from_slice(second).map_err(|_| Error::damaged(what, "its checksum is missing"))?;
        if checksum.sha256 != hex::encode(Sha256::digest(first)) {
            return Err(Error::damaged(what, "its checksum is another"));
        }
        #[derive(Deserialize)]
        struct Head {
            format: u32,
            id: BackupId,
        }
        let unreadable = |error: serde_json::Error| Error::damaged(what, error.to_string());
        let head: Head = serde_json::from_slice(first).map_err(unreadable)?;
        if head.format > FORMAT {
            return Err(Error::NewerFormat { id: head.id, format: head.format, known: FORMAT });
        }
        serde_json::from_slice(first).map_err(unreadable)
    }

    /// The part of that name.
    pub fn part(&self, name: PartName) -> Option<&Part> {
        self.parts.iter().find(|part| part.name == name)
    }
}

/// A value as a line of JSON.
pub(crate) fn to_line(value: &impl Serialize) -> Result<Vec<u8>> {
    let mut line = serde_json::to_vec(value)
        .map_err(|error| Error::Unpackable { what: "a line".to_owned(), reason: error.to_string() })?;
    line.push(b'\n');
    Ok(line)
}

/// The values of lines of JSON.
pub(crate) fn from_lines<T: for<'de> Deserialize<'de>>(what: &str, bytes: &[u8]) -> Result<Vec<T>> {
    let lines = bytes.split(|byte| *byte == b'\n').filter(|line| !line.is_empty());
    let read = |line| serde_json::from_slice(line).map_err(|error| Error::damaged(what, error.to_string()));
    lines.map(read).collect()
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    fn manifest() -> Manifest {
        Manifest {
            format: FORMAT,
            id: BackupId::new(Utc::now()),
            number: 1,
            what: What::All,
            began_at: Utc::now(),
            ended_at: Utc::now(),
            host: "h".to_owned(),
            program: "0".to_owned(),
            encrypted: false,
            parts: Vec::new(),
            blob_pages: Vec::new(),
            file_pages: Vec::new(),
            blobs: 1,
            bytes: 2,
            stored: 3,
            written: 4,
        }
    }

    #[test]
    fn a_manifest_with_any_bit_changed_or_any_end_missing_is_damaged() {
        let manifest = manifest();
        let bytes = manifest.to_bytes().unwrap();
        assert_eq!(Manifest::from_bytes("m", &bytes).unwrap(), manifest);
        for index in 0..bytes.len() - 1 {
            let mut changed = bytes.clone();
            changed[index] ^= 1;
            assert!(matches!(Manifest::from_bytes("m", &changed), Err(Error::Damaged { .. })), "{index}");
            if index < bytes.len() - 2 {
                assert!(matches!(Manifest::from_bytes("m", &bytes[..index]), Err(Error::Damaged { .. })), "{index}");
            }
        }
    }

    #[test]
    fn one_of_a_newer_version_says_so() {
        let newer = Manifest { format: FORMAT + 1, ..manifest() };
        let error = Manifest::from_bytes("m", &newer.to_bytes().unwrap()).unwrap_err();
        assert!(matches!(error, Error::NewerFormat { .. }), "{error}");
    }
}
