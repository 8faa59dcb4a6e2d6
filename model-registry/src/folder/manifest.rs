//! The sha256 of every file of a model.

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::io::Read;
use std::path::Path;

use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

use crate::artifacts::ArtifactPath;
use crate::{Error, Result};

/// The file that holds the list. It is the only one that is not in it.
pub const MANIFEST_FILE: &str = "files.sha256.json";

/// Bytes that are read at once.
const PIECE: usize = 1024 * 1024;

/// What a file was.
#[derive(Clone, Debug, Deserialize, PartialEq, Eq, Serialize)]
pub struct FileEntry {
    /// In bytes.
    pub size: u64,
    /// 64 hexadecimal digits.
    pub sha256: String,
}

/// All files by their paths.
#[derive(Clone, Debug, Default, Deserialize, PartialEq, Eq, Serialize)]
pub struct Manifest {
    /// `/` between the parts of a path.
    pub files: BTreeMap<String, FileEntry>,
}

impl Manifest {
    /// Reads all files below a folder. Links to files are followed; whatever has no usable name is refused.
    ///
    /// # Errors
    /// A file cannot be read.
    pub fn of_folder(folder: &Path) -> Result<Self> {
        let mut files = BTreeMap::new();
        for path in file_paths(folder)? {
            if path != MANIFEST_FILE {
                let entry = FileEntry::of_file(&folder.join(&path))?;
                files.insert(path, entry);
            }
        }
        Ok(Self { files })
    }

    /// Reads the list of a folder; none if it has none.
    ///
    /// # Errors
    /// It cannot be read.
    pub fn read(folder: &Path) -> Result<Option<Self>> {
        let path = folder.join(MANIFEST_FILE);
        let text = match fs::read(&path) {
            Ok(text) => text,
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(None),
            Err(source) => return Err(Error::Io { doing: "read", path: path.display().to_string(), source }),
        };
        Self::parse(&text).map(Some).map_err(|reason| Error::Model { folder: folder.display().to_string(), reason })
    }

    /// Reads the text of a list.
    ///
    /// # Errors
    /// What is wrong with it.
    pub fn parse(text: &[u8]) -> std::result::Result<Self, String> {
        let read: Self =
            serde_json::from_slice(text).map_err(|error| format!("{MANIFEST_FILE} cannot be read: {error}"))?;
        // The empty path is the folder itself.
        let is_file = |path: &str| ArtifactPath::parse(path).is_ok_and(|safe| !safe.is_root() && safe.as_str() == path);
        match read.files.keys().find(|path| !is_file(path)) {
            Some(path) => Err(format!("{MANIFEST_FILE} names `{path}`, which is no file of a model")),
            None => Ok(read),
        }
    }

    /// The text of the list, the same for the same files.
    pub fn to_text(&self) -> Vec<u8> {
        // Paths, numbers and digits always become JSON.
        let mut text = serde_json::to_vec_pretty(self).unwrap_or_default();
        text.push(b'\n');
        text
    }

    /// One sha256 for all files: the identity of the model.
    pub fn digest(&self) -> String {
        hex::encode(Sha256::digest(self.to_text()))
    }

    /// Checks that the files of a folder are what they were, and that there are no others.
    ///
    /// # Errors
    /// [`Error::Model`] that names the first file that is not.
    pub fn verify(&self, folder: &Path) -> Result<()> {
        let unusable = |reason: String| Error::Model { folder: folder.display().to_string(), reason };
        for path in file_paths(folder)? {
            if path != MANIFEST_FILE && !self.files.contains_key(&path) {
                return Err(unusable(format!("`{path}` is not in {MANIFEST_FILE}; it was added since, remove it")));
            }
        }
        for (path, entry) in &self.files {
            let file = folder.join(path);
            let size = match fs::metadata(&file) {
                Ok(metadata) => metadata.len(),
                Err(_) => return Err(unusable(format!("`{path}` is missing; fetch the model again"))),
            };
            if size != entry.size || FileEntry::of_file(&file)?.sha256 != entry.sha256 {
                return Err(unusable(format!(
                    "`{path}` is not what it was when the model was registered (sha256 {}); fetch the model again",
                    entry.sha256
                )));
            }
        }
        Ok(())
    }
}

impl FileEntry {
    /// Reads a file, piece by piece.
    ///
    /// # Errors
    /// It cannot be read.
    pub fn of_file(path: &Path) -> Result<Self> {
        let failed = |source| Error::Io { doing: "read", path: path.display().to_string(), source };
        let mut file = File::open(path).map_err(failed)?;
        let mut hash = Sha256::new();
        let mut piece = vec![0; PIECE];
        let mut size = 0;
        loop {
            let read = file.read(&mut piece).map_err(failed)?;
            if read == 0 {
                return Ok(Self { size, sha256: hex::encode(hash.finalize()) });
            }
            hash.update(&piece[..read]);
            size += read as u64;
        }
    }
}

/// The paths of all files below a folder, sorted. Unfinished writes are none.
pub(crate) fn file_paths(folder: &Path) -> Result<Vec<String>> {
    let mut found = Vec::new();
    let mut folders = vec![(folder.to_owned(), String::new())];
    while let Some((path, below)) = folders.pop() {
        let failed = |source| Error::Io { doing: "read", path: path.display().to_string(), source };
        for entry in fs::read_dir(&path).map_err(failed)? {
            let entry = entry.map_err(failed)?;
            let name = entry.file_name();
            let usable =
                name.to_str().filter(|name| ArtifactPath::parse(name).is_ok_and(|path| path.as_str() == *name));
            let Some(name) = usable else {
                let reason = format!("`{}` is no usable name of a file; rename it", entry.path().display());
                return Err(Error::Model { folder: folder.display().to_string(), reason });
            };
            if name.starts_with(platform::object_store::TEMPORARY_PREFIX) {
                continue;
            }
            let relative = if below.is_empty() { name.to_owned() } else { format!("{below}/{name}") };
            let metadata = fs::metadata(entry.path()).map_err(failed)?;
            if metadata.is_dir() {
                // A link to a folder could lead in a circle.
                if !entry.file_type().map_err(failed)?.is_symlink() {
                    folders.push((entry.path(), relative));
                }
            } else if metadata.is_file() {
                found.push(relative);
            }
        }
    }
    found.sort();
    Ok(found)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn a_changed_added_or_missing_file_is_found() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path();
        fs::create_dir(path.join("data")).unwrap();
        fs::write(path.join("MLmodel"), "flavors: {}").unwrap();
        fs::write(path.join("data/weights"), vec![7; 3_000_000]).unwrap();
        let manifest = Manifest::of_folder(path).unwrap();
        assert_eq!(manifest.files.keys().collect::<Vec<_>>(), ["MLmodel", "data/weights"]);
        fs::write(path.join(MANIFEST_FILE), manifest.to_text()).unwrap();
        assert_eq!(Manifest::read(path).unwrap().as_ref(), Some(&manifest));
        manifest.verify(path).unwrap();
        assert_eq!(Manifest::of_folder(path).unwrap().digest(), manifest.digest());

        let mut weights = vec![7; 3_000_000];
        weights[1_234_567] = 8;
        fs::write(path.join("data/weights"), weights).unwrap();
        let error = manifest.verify(path).unwrap_err().to_string();
        assert!(error.contains("`data/weights` is not what it was"), "{error}");
        fs::remove_file(path.join("data/weights")).unwrap();
        assert!(manifest.verify(path).unwrap_err().to_string().contains("is missing"));
        fs::write(path.join("data/weights"), vec![7; 3_000_000]).unwrap();
        fs::write(path.join("more"), "").unwrap();
        assert!(manifest.verify(path).unwrap_err().to_string().contains("`more` is not in"));
    }

    #[test]
    fn lists_that_lead_out_of_the_folder_are_refused() {
        for path in ["../x", "/etc/passwd", "a//b", "a\\b", ""] {
            let text = serde_json::json!({ "files": { path: { "size": 1, "sha256": "00" } } }).to_string();
            assert!(Manifest::parse(text.as_bytes()).is_err(), "{path}");
        }
    }
}
