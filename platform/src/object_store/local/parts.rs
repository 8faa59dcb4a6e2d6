//! Files that are written in parts. The parts of an upload are files `1`, `2`… in a folder of its own, until they are put
//! together into one file that gets its name when it is whole.

use std::fs::{self, File};
use std::io::{self, ErrorKind};
use std::path::{Path, PathBuf};

use chrono::{DateTime, Utc};
use uuid::Uuid;

use super::{blocking, create_folders, persist, streams, sync_folder, temporary_in};
use crate::object_store::{Incoming, Part, walk};
use crate::{Error, Result};

/// Makes the folder of a new upload.
pub(super) async fn begin(unfinished: &Path) -> Result<String> {
    let upload = Uuid::new_v4().simple().to_string();
    let folder = unfinished.join(&upload);
    blocking(move || create_folders(&folder)).await?;
    Ok(upload)
}

/// Writes a part or replaces it.
pub(super) async fn write(
    unfinished: &Path,
    target: &Path,
    upload: &str,
    number: u32,
    bytes: Incoming,
    size: Option<u64>,
) -> Result<Part> {
    let folder = folder(unfinished, target, upload)?;
    if !folder.is_dir() {
        return Err(unknown(target));
    }
    let path = folder.join(number.to_string());
    let (file, _) = streams::write(&folder, target, bytes, size).await?;
    let target = target.to_owned();
    blocking(move || {
        let failed = |error: io::Error| Error::from_io("write", &target, &error);
        let tag = tag(&path, &file.as_file().metadata().map_err(failed)?);
        file.persist(&path).map_err(|failure| failed(failure.error))?;
        sync_folder(&folder)?;
        Ok(Part { number, tag })
    })
    .await
}

/// Puts the parts together. They stay until that is done, so that it can be tried again after a crash.
pub(super) async fn complete(unfinished: &Path, target: PathBuf, upload: &str, mut parts: Vec<Part>) -> Result<()> {
    let folder = folder(unfinished, &target, upload)?;
    parts.sort_by_key(|part| part.number);
    blocking(move || {
        if !folder.is_dir() {
            return Err(unknown(&target));
        }
        let failed = |error: io::Error| Error::from_io("write", &target, &error);
        let whole = temporary_in(&folder, &target)?;
        for part in &parts {
            let path = folder.join(part.number.to_string());
            let missing = || Error::UnknownPart { uri: target.display().to_string(), number: part.number };
            let mut source = File::open(&path).map_err(|_| missing())?;
            if tag(&path, &source.metadata().map_err(failed)?) != part.tag {
                return Err(missing());
            }
            // From file to file: the kernel copies, nothing comes through this process's memory.
            io::copy(&mut source, &mut whole.as_file()).map_err(failed)?;
        }
        whole.as_file().sync_all().map_err(failed)?;
        persist(whole, &target)?;
        remove(&folder, &target)
    })
    .await
}

/// Removes an upload.
pub(super) async fn abort(unfinished: &Path, target: &Path, upload: &str) -> Result<()> {
    let (folder, target) = (folder(unfinished, target, upload)?, target.to_owned());
    blocking(move || remove(&folder, &target)).await
}

/// Removes files and uploads that nobody has written to since `before`.
pub(super) async fn remove_old(unfinished: PathBuf, before: DateTime<Utc>) -> Result<u64> {
    blocking(move || {
        let failed = |error: io::Error| Error::from_io("delete", &unfinished, &error);
        let entries = match fs::read_dir(&unfinished) {
            Ok(entries) => entries,
            Err(error) if error.kind() == ErrorKind::NotFound => return Ok(0),
            Err(error) => return Err(failed(error)),
        };
        let mut removed = 0;
        for entry in entries {
            let entry = entry.map_err(failed)?;
            // A folder's time is that of its last new part. What is gone meanwhile was finished.
            let Ok(metadata) = entry.metadata() else { continue };
            if walk::object_meta(String::new(), &metadata).modified >= before {
                continue;
            }
            let gone = if metadata.is_dir() { fs::remove_dir_all(entry.path()) } else { fs::remove_file(entry.path()) };
            match gone {
                Ok(()) => removed += 1,
                Err(error) if error.kind() == ErrorKind::NotFound => {}
                Err(error) => return Err(failed(error)),
            }
        }
        Ok(removed)
    })
    .await
}

fn folder(unfinished: &Path, target: &Path, upload: &str) -> Result<PathBuf> {
    let is_ours = upload.len() == 32 && upload.bytes().all(|byte| byte.is_ascii_hexdigit());
    if is_ours { Ok(unfinished.join(upload)) } else { Err(unknown(target)) }
}

fn unknown(target: &Path) -> Error {
    Error::NotFound { uri: format!("the upload in parts of {}", target.display()) }
}

fn remove(folder: &Path, target: &Path) -> Result<()> {
    match fs::remove_dir_all(folder) {
        Ok(()) => Ok(()),
        Err(error) if error.kind() == ErrorKind::NotFound => Ok(()),
        Err(error) => Err(Error::from_io("delete", target, &error)),
    }
}

/// Size and time of the last change, which a rename keeps.
fn tag(path: &Path, metadata: &fs::Metadata) -> String {
    let meta = walk::object_meta(path.to_string_lossy().into_owned(), metadata);
    format!("{:x}-{}", meta.size, meta.version.replace('.', "-"))
}
