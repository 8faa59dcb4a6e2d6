//! Layers: tar archives whose bytes depend on nothing but names and contents of their files.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::{self, Read, Write};
use std::path::{Path, PathBuf};

use flate2::{Compression, GzBuilder};
use tar::{Builder, EntryType, Header};

use crate::error::io as failed;
use crate::{Libraries, Result, USER};

/// Certificates of authorities, as Debian has them.
const CERTIFICATES: &str = "etc/ssl/certs/ca-certificates.crt";

/// What lies at each path, sorted. Paths have no slash at the beginning.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Layer {
    title: String,
    entries: BTreeMap<String, Entry>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
enum Entry {
    Folder { mode: u32, owner: u32 },
    File { from: PathBuf, mode: u32 },
    Text(String),
}

impl Layer {
    /// An empty layer; the title says to people what it holds.
    pub fn new(title: &str) -> Self {
        Self { title: title.to_owned(), entries: BTreeMap::new() }
    }

    /// What programs need that stand on no other image: libraries in a folder of the image, the loader, certificates of
    /// authorities if this machine has them, names of users, `/tmp`.
    pub fn of_system(libraries: &Libraries, folder: &str) -> Self {
        let mut layer = Self::new("shared libraries");
        for (name, from) in &libraries.files {
            layer.file(&format!("{folder}/{name}"), from, 0o755);
        }
        if let Some(loader) = &libraries.loader {
            layer.file(loader.to_string_lossy().trim_start_matches('/'), loader, 0o755);
        }
        let certificates = Path::new("/").join(CERTIFICATES);
        if certificates.is_file() {
            layer.file(CERTIFICATES, &certificates, 0o644);
        }
        layer.text("etc/passwd", format!("root:x:0:0::/:/none\nsafari:x:{USER}:{USER}::/tmp:/none\n"));
        layer.text("etc/group", format!("root:x:0:\nsafari:x:{USER}:\n"));
        // Else the C library asks the network before it looks into /etc/hosts.
        layer.text("etc/nsswitch.conf", "hosts: files dns\n".to_owned());
        layer.folder("tmp", 0o1777);
        layer
    }

    /// Adds an empty folder of root's.
    pub fn folder(&mut self, path: &str, mode: u32) {
        self.folders_above(path);
        self.entries.insert(path.to_owned(), Entry::Folder { mode, owner: 0 });
    }

    /// Adds an empty folder that belongs to [`USER`].
    pub fn folder_of_user(&mut self, path: &str) {
        self.folders_above(path);
        self.entries.insert(path.to_owned(), Entry::Folder { mode: 0o755, owner: USER });
    }

    /// Adds a file of this machine; a link is followed.
    pub fn file(&mut self, path: &str, from: &Path, mode: u32) {
        self.folders_above(path);
        self.entries.insert(path.to_owned(), Entry::File { from: from.to_owned(), mode });
    }

    /// Adds a file with this text.
    pub fn text(&mut self, path: &str, text: String) {
        self.folders_above(path);
        self.entries.insert(path.to_owned(), Entry::Text(text));
    }

    /// Adds the files below a folder of this machine, those in folders that are links excepted.
    ///
    /// # Errors
    /// A folder cannot be read, or a name is not Unicode.
    pub fn tree(&mut self, path: &str, folder: &Path, mode: u32) -> Result<()> {
        let mut folders = vec![(folder.to_owned(), path.to_owned())];
        while let Some((folder, path)) = folders.pop() {
            for entry in std::fs::read_dir(&folder).map_err(failed("read", &folder))? {
                let entry = entry.map_err(failed("read", &folder))?;
                let from = entry.path();
                let Some(name) = entry.file_name().to_str().map(str::to_owned) else {
                    return Err(failed("read", &from)(io::Error::other("its name is not Unicode; rename it")));
                };
                let at = format!("{path}/{name}");
                let metadata = std::fs::metadata(&from).map_err(failed("read", &from))?;
                if metadata.is_file() {
                    self.file(&at, &from, mode);
                } else if metadata.is_dir() && !from.is_symlink() {
                    folders.push((from, at));
                }
            }
        }
        Ok(())
    }

    /// What it holds, for people.
    pub(crate) fn title(&self) -> &str {
        &self.title
    }

    /// Writes the archive.
    pub(crate) fn write(&self, out: &mut dyn Write) -> Result<()> {
        let mut archive = Builder::new(out);
        for (path, entry) in &self.entries {
            append(&mut archive, path, entry)?;
        }
        archive.finish().map_err(failed("write", Path::new(&self.title)))
    }

    /// Writes the archive compressed. The header has no time and no name, and the method is fixed.
    pub(crate) fn write_gzip(&self, out: &mut dyn Write) -> Result<()> {
        let mut compressed = GzBuilder::new().mtime(0).operating_system(255).write(out, Compression::new(6));
        self.write(&mut compressed)?;
        compressed.finish().map(drop).map_err(failed("write", Path::new(&self.title)))
    }

    fn folders_above(&mut self, path: &str) {
        for (at, _) in path.match_indices('/') {
            self.entries.entry(path[..at].to_owned()).or_insert(Entry::Folder { mode: 0o755, owner: 0 });
        }
    }
}

fn append(archive: &mut Builder<&mut dyn Write>, path: &str, entry: &Entry) -> Result<()> {
    match entry {
        Entry::Folder { mode, owner } => {
            let mut header = header(EntryType::Directory, *mode, 0);
            header.set_uid(u64::from(*owner));
            header.set_gid(u64::from(*owner));
            let name = format!("{path}/");
            archive.append_data(&mut header, name, io::empty()).map_err(failed("write", Path::new(path)))
        }
        Entry::Text(text) => {
            let mut header = header(EntryType::Regular, 0o644, text.len() as u64);
            archive.append_data(&mut header, path, text.as_bytes()).map_err(failed("write", Path::new(path)))
        }
        Entry::File { from, mode } => {
            // A library is often a link to its file.
            let mut file = File::open(from).map_err(failed("read", from))?;
            let size = file.metadata().map_err(failed("read", from))?.len();
            let mut header = header(EntryType::Regular, *mode, size);
            let mut whole = Exactly { file: &mut file, left: size };
            archive.append_data(&mut header, path, &mut whole).map_err(failed("read", from))
        }
    }
}

fn header(kind: EntryType, mode: u32, size: u64) -> Header {
    let mut header = Header::new_gnu();
    header.set_entry_type(kind);
    header.set_mode(mode);
    header.set_uid(0);
    header.set_gid(0);
    header.set_mtime(0);
    header.set_size(size);
    header
}

/// A file that must not become shorter or longer while it is read: the archive would be broken.
struct Exactly<'a> {
    file: &'a mut File,
    left: u64,
}

impl Read for Exactly<'_> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        if self.left == 0 {
            return Ok(0);
        }
        let most = usize::try_from(self.left).unwrap_or(usize::MAX).min(buffer.len());
        let read = self.file.read(&mut buffer[..most])?;
        if read == 0 {
            return Err(io::Error::other("it became shorter while it was packed"));
        }
        self.left -= read as u64;
        Ok(read)
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    fn files(order: &[&str]) -> tempfile::TempDir {
        let folder = tempfile::tempdir().unwrap();
        for path in order {
            let file = folder.path().join(path);
            std::fs::create_dir_all(file.parent().unwrap()).unwrap();
            std::fs::write(file, path.repeat(1000)).unwrap();
        }
        folder
    }

    #[test]
    fn the_same_files_give_the_same_bytes() {
        let long = format!("deep/{}/weights", "x".repeat(120));
        let one = files(&["MLmodel", "a/b", "a-b", &long]);
        let two = files(&[&long, "a-b", "a/b", "MLmodel"]);
        let bytes = |folder: &Path, gzip: bool| {
            let mut bytes = Vec::new();
            let mut layer = Layer::new("model");
            layer.tree("model", folder, 0o644).unwrap();
            if gzip {
                layer.write_gzip(&mut bytes).unwrap()
            } else {
                layer.write(&mut bytes).unwrap()
            }
            bytes
        };
        assert_eq!(bytes(one.path(), false), bytes(two.path(), false));
        assert_eq!(bytes(one.path(), true), bytes(two.path(), true));
        let plain = bytes(one.path(), false);
        let mut archive = tar::Archive::new(&plain[..]);
        let mut names = Vec::new();
        for entry in archive.entries().unwrap() {
            let entry = entry.unwrap();
            let header = entry.header();
            assert_eq!((header.mtime().unwrap(), header.uid().unwrap()), (0, 0));
            names.push(entry.path().unwrap().display().to_string());
        }
        assert!(names.contains(&format!("model/{long}")) && names[0] == "model/", "{names:?}");
    }

    #[test]
    fn the_home_belongs_to_the_user_and_what_is_above_it_does_not() {
        let mut layer = Layer::new("system");
        layer.folder_of_user("var/lib/safari");
        let mut bytes = Vec::new();
        layer.write(&mut bytes).unwrap();
        let mut archive = tar::Archive::new(&bytes[..]);
        let owners = archive.entries().unwrap().map(|entry| {
            let entry = entry.unwrap();
            (entry.path().unwrap().display().to_string(), entry.header().uid().unwrap())
        });
        let owners: Vec<(String, u64)> = owners.collect();
        let wanted = [("var/", 0), ("var/lib/", 0), ("var/lib/safari/", u64::from(USER))];
        assert_eq!(owners, wanted.map(|(path, owner)| (path.to_owned(), owner)));
    }
}
