//! The shared libraries that a program needs, as the system's loader finds them.

use std::collections::BTreeMap;
use std::io::Read;
use std::path::{Path, PathBuf};
use std::process::Command;

use crate::error::io;
use crate::{Error, Result};

/// How files begin that the loader can run.
const ELF: [u8; 4] = *b"\x7fELF";
/// Belongs to the graphics driver: containers get it from the machine that they run on.
const OF_THE_DRIVER: [&str; 1] = ["libcuda.so.1"];

/// Libraries by the names that programs ask for, and the loader.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Libraries {
    /// File name, and where the file is on this machine.
    pub files: BTreeMap<String, PathBuf>,
    /// Where programs expect the loader, such as `/lib64/ld-linux-x86-64.so.2`.
    pub loader: Option<PathBuf>,
}

impl Libraries {
    /// Asks the loader what `program` needs, with all that this needs.
    ///
    /// # Errors
    /// It is no program, or one of its libraries is not found.
    pub fn of(program: &Path) -> Result<Self> {
        let mut found = Self::default();
        found.add(program)?;
        Ok(found)
    }

    /// Adds what another program or library needs. Where both want a library of the same name, the one that is there already
    /// stays: the name says that it may be used in the place of the other.
    ///
    /// # Errors
    /// As [`Libraries::of`].
    pub fn add(&mut self, file: &Path) -> Result<()> {
        let mut begin = [0; ELF.len()];
        std::fs::File::open(file).and_then(|mut file| file.read_exact(&mut begin)).map_err(io("read", file))?;
        if begin != ELF {
            return Err(unusable(
                file,
                "it is no program of this machine's kind; a script needs its interpreter".to_owned(),
            ));
        }
        let found = ask(file)?;
        for (name, path) in found.files {
            self.files.entry(name).or_insert(path);
        }
        if self.loader.is_none() {
            self.loader = found.loader;
        }
        Ok(())
    }

    /// Whether a library of this name is among them.
    pub fn has(&self, name: &str) -> bool {
        self.files.contains_key(name)
    }
}

fn ask(file: &Path) -> Result<Libraries> {
    let output = Command::new("ldd").arg(file).env("LC_ALL", "C").output().map_err(io("start", Path::new("ldd")))?;
    let text = String::from_utf8_lossy(&output.stdout);
    let mut found = Libraries::default();
    if !output.status.success() {
        let told = String::from_utf8_lossy(&output.stderr);
        // What is linked statically needs none.
        if format!("{text}{told}").contains("not a dynamic executable") {
            return Ok(found);
        }
        return Err(unusable(file, format!("its shared libraries cannot be found: {}", told.trim())));
    }
    read(&text, &mut found).map_err(|library| {
        unusable(file, format!("its library {library} is not found; set LD_LIBRARY_PATH to the folder that has it"))
    })?;
    Ok(found)
}

/// Reads lines such as `libc.so.6 => /lib/x86_64-linux-gnu/libc.so.6 (0x0000…)`; gives the name of one that is missing.
fn read(text: &str, found: &mut Libraries) -> Result<(), String> {
    for line in text.lines().map(str::trim) {
        let Some((name, place)) = line.split_once(" => ") else {
            // The loader has no arrow; neither has the kernel's own library, which is no file.
            let path = line.split(" (").next().unwrap_or_default();
            if path.starts_with('/') {
                found.loader = Some(PathBuf::from(path));
            }
            continue;
        };
        if OF_THE_DRIVER.contains(&name) {
            continue;
        }
        let path = place.split(" (").next().unwrap_or_default().trim();
        if !path.starts_with('/') {
            return Err(name.to_owned());
        }
        if name.starts_with('/') {
            found.loader = Some(PathBuf::from(name));
            continue;
        }
        found.files.insert(name.to_owned(), PathBuf::from(path));
    }
    Ok(())
}

fn unusable(file: &Path, reason: String) -> Error {
    Error::Unusable { path: file.to_owned(), reason }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn the_loaders_words_are_read() {
        let text = "\tlinux-vdso.so.1 (0x00007ffd)\n\tlibtorch_cpu.so => /opt/torch/lib/libtorch_cpu.so (0x00007f)\n\
                    \tlibcuda.so.1 => not found\n\
                    \tlibc.so.6 => /lib/x86_64-linux-gnu/libc.so.6 (0x00007f)\n\t/lib64/ld-linux-x86-64.so.2 (0x00007f)\n";
        let mut found = Libraries::default();
        read(text, &mut found).unwrap();
        assert_eq!(found.files.keys().collect::<Vec<_>>(), ["libc.so.6", "libtorch_cpu.so"]);
        assert_eq!(found.loader, Some("/lib64/ld-linux-x86-64.so.2".into()));
        assert_eq!(read("libx.so => not found\n", &mut found).unwrap_err(), "libx.so");
    }

    #[test]
    fn a_real_program_has_libraries_and_a_script_is_none() {
        let found = Libraries::of(&std::env::current_exe().unwrap()).unwrap();
        assert!(found.has("libc.so.6") && found.loader.is_some(), "{found:?}");
        assert!(found.files.values().all(|path| path.is_file()));
        let folder = tempfile::tempdir().unwrap();
        let script = folder.path().join("pg_dump");
        std::fs::write(&script, "#!/usr/bin/perl\n").unwrap();
        let error = Libraries::of(&script).unwrap_err().to_string();
        assert!(error.contains("pg_dump") && error.contains("interpreter"), "{error}");
    }
}
