//! Lists a folder and everything below it in the order that S3 gives: by key, as bytes.

use std::fs::{self, DirEntry, Metadata};
use std::io::ErrorKind;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use chrono::{DateTime, TimeZone, Utc};

use super::{Child, ObjectMeta, TEMPORARY_PREFIX};
use crate::error::io_reason;
use crate::{Error, Result};

/// Calls `emit` with each file below `folder`, whose key is `prefix` (empty for the root), until it answers `false`.
///
/// Links are followed unless they lead back to a folder that is being listed. What cannot be read is given as an error
/// and the walk goes on. Memory is bounded by the largest folders on one path.
pub(super) fn walk(folder: &Path, prefix: &str, emit: &mut dyn FnMut(Result<ObjectMeta>) -> bool) {
    let mut pending = vec![Pending { path: folder.to_owned(), key: prefix.to_owned(), is_folder: true, depth: 0 }];
    let mut open_folders: Vec<(u64, u64)> = Vec::new();
    while let Some(next) = pending.pop() {
        if !next.is_folder {
            if !emit_file(next, emit) {
                return;
            }
            continue;
        }
        open_folders.truncate(next.depth);
        let identity = match fs::metadata(&next.path) {
            Ok(metadata) => (metadata.dev(), metadata.ino()),
            Err(error) if next.depth > 0 && error.kind() == ErrorKind::NotFound => continue,
            Err(error) => {
                if !emit(Err(Error::from_io("read", &next.path, &error))) {
                    return;
                }
                continue;
            }
        };
        if open_folders.contains(&identity) {
            tracing::debug!(path = %next.path.display(), "a link leads back to a folder above it, not followed");
            continue;
        }
        open_folders.push(identity);
        if !push_entries(&next, &mut pending, emit) {
            return;
        }
    }
}

/// What lies right in `folder`, whose key is `prefix`, sorted by key. What cannot be read is left out with a warning.
pub(super) fn children(folder: &Path, prefix: &str) -> Result<Vec<Child>> {
    let start = Pending { path: folder.to_owned(), key: prefix.to_owned(), is_folder: true, depth: 1 };
    let mut entries = Vec::new();
    push_entries(&start, &mut entries, &mut |item| {
        if let Err(error) = item {
            tracing::warn!(%error, "left out of a listing");
        }
        true
    });
    let mut found = Vec::with_capacity(entries.len());
    for entry in entries.into_iter().rev() {
        if entry.is_folder {
            found.push(Child::Folder(entry.key));
            continue;
        }
        match fs::metadata(&entry.path) {
            Ok(metadata) => found.push(Child::Object(object_meta(entry.key, &metadata))),
            // Deleted since its folder was read.
            Err(error) if error.kind() == ErrorKind::NotFound => {}
            Err(error) => return Err(unreadable(&entry.path, io_reason(&error))),
        }
    }
    found.sort_by(|one, other| one.key().cmp(other.key()));
    Ok(found)
}

/// The listing's entry of one file.
pub(super) fn object_meta(key: String, metadata: &Metadata) -> ObjectMeta {
    let (seconds, nanoseconds) = (metadata.mtime(), metadata.mtime_nsec());
    let modified = u32::try_from(nanoseconds).ok().and_then(|part| Utc.timestamp_opt(seconds, part).single());
    ObjectMeta {
        key,
        size: metadata.len(),
        version: format!("{seconds}.{nanoseconds:09}"),
        modified: modified.unwrap_or(DateTime::UNIX_EPOCH),
    }
}

struct Pending {
    path: PathBuf,
    key: String,
    is_folder: bool,
    depth: usize,
}

/// Reads one folder and puts its entries on the stack, so that the first in order is popped first.
fn push_entries(
    folder: &Pending,
    pending: &mut Vec<Pending>,
    emit: &mut dyn FnMut(Result<ObjectMeta>) -> bool,
) -> bool {
    let entries = match fs::read_dir(&folder.path) {
        Ok(entries) => entries,
        // Deleted since it was looked at.
        Err(error) if error.kind() == ErrorKind::NotFound && folder.depth > 0 => return true,
        Err(error) => return emit(Err(Error::from_io("read", &folder.path, &error))),
    };
    let mut found = Vec::new();
    for entry in entries {
        let entry = match entry {
            Ok(entry) => describe(&entry, folder),
            Err(error) => Err(unreadable(&folder.path, io_reason(&error))),
        };
        match entry {
            Ok(Some(entry)) => found.push(entry),
            Ok(None) => {}
            Err(error) => {
                if !emit(Err(error)) {
                    return false;
                }
            }
        }
    }
    // A folder's keys all start with its name and a slash, so that is what sorts it among the files.
    found.sort_by_cached_key(|entry| if entry.is_folder { format!("{}/", entry.key) } else { entry.key.clone() });
    pending.extend(found.into_iter().rev());
    true
}

/// `None` for what is neither file nor folder, and for unfinished writes.
fn describe(entry: &DirEntry, folder: &Pending) -> Result<Option<Pending>> {
    let path = entry.path();
    let name = entry.file_name();
    let Some(name) = name.to_str() else {
        return Err(unreadable(&path, "its name is not UTF-8, rename it".to_owned()));
    };
    if name.starts_with(TEMPORARY_PREFIX) {
        return Ok(None);
    }
    let mut kind = entry.file_type().map_err(|error| unreadable(&path, io_reason(&error)))?;
    if kind.is_symlink() {
        kind = match fs::metadata(&path) {
            Ok(metadata) => metadata.file_type(),
            Err(error) => {
                return Err(unreadable(&path, format!("its link leads nowhere, {}", io_reason(&error))));
            }
        };
    }
    if !kind.is_file() && !kind.is_dir() {
        return Ok(None);
    }
    let key = if folder.key.is_empty() { name.to_owned() } else { format!("{}/{name}", folder.key) };
    Ok(Some(Pending { path, key, is_folder: kind.is_dir(), depth: folder.depth + 1 }))
}

fn emit_file(file: Pending, emit: &mut dyn FnMut(Result<ObjectMeta>) -> bool) -> bool {
    match fs::metadata(&file.path) {
        Ok(metadata) => emit(Ok(object_meta(file.key, &metadata))),
        // Deleted since its folder was read.
        Err(error) if error.kind() == ErrorKind::NotFound => true,
        Err(error) => emit(Err(unreadable(&file.path, io_reason(&error)))),
    }
}

fn unreadable(path: &Path, reason: String) -> Error {
    Error::Unreadable { uri: path.display().to_string(), reason }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use std::sync::atomic::{AtomicBool, Ordering};

    use super::*;

    #[test]
    fn folders_that_go_while_they_are_listed_are_no_failure() {
        let home = tempfile::tempdir().unwrap();
        let stop = AtomicBool::new(false);
        std::thread::scope(|scope| {
            scope.spawn(|| {
                while !stop.load(Ordering::Relaxed) {
                    for name in ["a", "b", "c"] {
                        let folder = home.path().join(name);
                        fs::create_dir_all(folder.join("inner")).unwrap();
                        fs::write(folder.join("inner/file"), "x").unwrap();
                    }
                    for name in ["a", "b", "c"] {
                        fs::remove_dir_all(home.path().join(name)).unwrap();
                    }
                }
            });
            let mut failures = Vec::new();
            for _ in 0..2000 {
                walk(home.path(), "", &mut |object| {
                    failures.extend(object.err().map(|error| error.to_string()));
                    true
                });
            }
            stop.store(true, Ordering::Relaxed);
            assert!(failures.is_empty(), "{} failures, such as {}", failures.len(), failures[0]);
        });
    }
}
