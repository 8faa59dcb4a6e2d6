//! The shared libraries that a program needs, as the system's loader finds them.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::process::Command;

use super::io;
use crate::{Error, Result};

/// Libraries by the names that programs ask for, and the loader.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Libraries {
    /// File name, and where the file is on this machine.
    pub(super) files: BTreeMap<String, PathBuf>,
    /// Where programs expect the loader, such as `/lib64/ld-linux-x86-64.so.2`.
    pub(super) loader: Option<PathBuf>,
}

/// Asks the loader which libraries `program` and `more` need, with all that those need.
pub(super) fn needed(program: &Path, more: &[PathBuf]) -> Result<Libraries> {
    let mut found = Libraries::default();
    for file in std::iter::once(program).chain(more.iter().map(PathBuf::as_path)) {
        ask(file, &mut found)?;
    }
    for file in more {
        if let Some(name) = file.file_name().and_then(|name| name.to_str()) {
            found.files.insert(name.to_owned(), file.clone());
        }
    }
    Ok(found)
}

fn ask(file: &Path, found: &mut Libraries) -> Result<()> {
    let output = Command::new("ldd").arg(file).env("LC_ALL", "C").output().map_err(io("start", Path::new("ldd")))?;
    let text = String::from_utf8_lossy(&output.stdout);
    if !output.status.success() {
        let told = String::from_utf8_lossy(&output.stderr);
        // A program that is linked statically needs none.
        if format!("{text}{told}").contains("not a dynamic executable") {
            return Ok(());
        }
        return Err(unusable(file, told.trim()));
    }
    read(&text, found).map_err(|library| {
        unusable(file, &format!("the library {library} is not found; set LD_LIBRARY_PATH to its folder"))
    })
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

fn unusable(file: &Path, reason: &str) -> Error {
    let reason = format!("its shared libraries cannot be found: {reason}");
    Error::Io { doing: "package", path: file.display().to_string(), source: std::io::Error::other(reason) }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn the_loaders_words_are_read() {
        let text = "\tlinux-vdso.so.1 (0x00007ffd)\n\tlibtorch_cpu.so => /opt/torch/lib/libtorch_cpu.so (0x00007f)\n\
                    \tlibc.so.6 => /lib/x86_64-linux-gnu/libc.so.6 (0x00007f)\n\t/lib64/ld-linux-x86-64.so.2 (0x00007f)\n";
        let mut found = Libraries::default();
        read(text, &mut found).unwrap();
        assert_eq!(found.files.keys().collect::<Vec<_>>(), ["libc.so.6", "libtorch_cpu.so"]);
        assert_eq!(found.loader, Some("/lib64/ld-linux-x86-64.so.2".into()));
        assert_eq!(read("libx.so => not found\n", &mut found).unwrap_err(), "libx.so");
    }

    #[test]
    fn a_real_program_has_libraries() {
        let found = needed(&std::env::current_exe().unwrap(), &[]).unwrap();
        assert!(found.files.contains_key("libc.so.6") && found.loader.is_some(), "{found:?}");
        assert!(found.files.values().all(|path| path.is_file()));
    }
}
