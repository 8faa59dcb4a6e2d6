//! Layers: tar archives whose bytes depend on nothing but names and contents of their files.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::{self, Read, Write};
use std::path::{Path, PathBuf};

use flate2::{Compression, GzBuilder};
use tar::{Builder, EntryType, Header};

use super::libraries::Libraries;
use super::{DATA_PATH, MODEL_PATH, io as failed};
use crate::Result;
use crate::folder::file_paths;

/// Where libraries lie in the image.
pub(super) const LIBRARY_PATH: &str = "usr/lib/safari";
/// Where the program lies in the image.
pub(super) const PROGRAM_PATH: &str = "usr/bin/safari";
/// Certificates of authorities, as Debian has them.
const CERTIFICATES: &str = "etc/ssl/certs/ca-certificates.crt";
/// The user that the program runs as: nobody in particular.
pub(super) const USER: u32 = 65_532;

/// What lies at each path, sorted.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Layer {
    /// What it holds, for people.
    pub(super) title: String,
    entries: BTreeMap<String, Entry>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
enum Entry {
    Folder { mode: u32 },
    File { from: PathBuf, mode: u32 },
    Text(String),
}

/// The libraries, the loader, and what a small system has besides.
pub(super) fn of_libraries(libraries: &Libraries) -> Layer {
    let mut layer = Layer { title: "shared libraries".to_owned(), ..Layer::default() };
    for (name, from) in &libraries.files {
        layer.file(&format!("{LIBRARY_PATH}/{name}"), from, 0o755);
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
    layer.folder("tmp", 0o1777);
    layer.folder(DATA_PATH, 0o755);
    layer
}

/// The program.
pub(super) fn of_program(program: &Path) -> Layer {
    let mut layer = Layer { title: "program".to_owned(), ..Layer::default() };
    layer.file(PROGRAM_PATH, program, 0o755);
    layer
}

/// The model.
pub(super) fn of_model(folder: &Path) -> Result<Layer> {
    let mut layer = Layer { title: "model".to_owned(), ..Layer::default() };
    for path in file_paths(folder)? {
        layer.file(&format!("{MODEL_PATH}/{path}"), &folder.join(&path), 0o644);
    }
    Ok(layer)
}

impl Layer {
    /// Writes the archive.
    pub(super) fn write(&self, out: &mut dyn Write) -> Result<()> {
        let mut archive = Builder::new(out);
        for (path, entry) in &self.entries {
            append(&mut archive, path, entry)?;
        }
        archive.finish().map_err(failed("write", Path::new(&self.title)))
    }

    /// Writes the archive compressed. The header has no time and no name, and the method is fixed.
    pub(super) fn write_gzip(&self, out: &mut dyn Write) -> Result<()> {
        let mut compressed = GzBuilder::new().mtime(0).operating_system(255).write(out, Compression::new(6));
        self.write(&mut compressed)?;
        compressed.finish().map(drop).map_err(failed("write", Path::new(&self.title)))
    }

    fn folder(&mut self, path: &str, mode: u32) {
        self.folders_above(path);
        self.entries.insert(path.to_owned(), Entry::Folder { mode });
    }

    fn file(&mut self, path: &str, from: &Path, mode: u32) {
        self.folders_above(path);
        self.entries.insert(path.to_owned(), Entry::File { from: from.to_owned(), mode });
    }

    fn text(&mut self, path: &str, text: String) {
        self.folders_above(path);
        self.entries.insert(path.to_owned(), Entry::Text(text));
    }

    fn folders_above(&mut self, path: &str) {
        for (at, _) in path.match_indices('/') {
            self.entries.entry(path[..at].to_owned()).or_insert(Entry::Folder { mode: 0o755 });
        }
    }
}

fn append(archive: &mut Builder<&mut dyn Write>, path: &str, entry: &Entry) -> Result<()> {
    match entry {
        Entry::Folder { mode } => {
            let mut header = header(EntryType::Directory, *mode, 0);
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

    fn model(order: &[&str]) -> tempfile::TempDir {
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
        let one = model(&["MLmodel", "a/b", "a-b", &long]);
        let two = model(&[&long, "a-b", "a/b", "MLmodel"]);
        let bytes = |folder: &Path, gzip: bool| {
            let mut bytes = Vec::new();
            let layer = of_model(folder).unwrap();
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
}
