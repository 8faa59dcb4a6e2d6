//! Other programs of this machine that an image has as well.

use std::path::{Path, PathBuf};

use crate::{Error, Result};

/// Where Debian puts PostgreSQL's programs, a folder for each version; those of the `PATH` are scripts that choose one.
const POSTGRES_FOLDER: &str = "/usr/lib/postgresql";

/// A program of this machine in an image.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Other {
    /// Its name.
    pub name: String,
    /// Where it is on this machine.
    pub from: PathBuf,
}

/// Finds programs by their names.
pub(super) fn find(names: &[&str]) -> Result<Vec<Other>> {
    names.iter().map(|name| one(name)).collect()
}

fn one(name: &str) -> Result<Other> {
    let missing = || Error::NoProgram { program: name.to_owned(), package: package_of(name).to_owned() };
    if name.is_empty() || name.contains('/') {
        return Err(missing());
    }
    let from = of_postgres(name).or_else(|| of_path(name)).ok_or_else(missing)?;
    Ok(Other { name: name.to_owned(), from })
}

/// The newest: it must not be older than the server that it asks.
fn of_postgres(name: &str) -> Option<PathBuf> {
    let version = |folder: &Path| folder.file_name().and_then(|name| name.to_str()?.parse::<u32>().ok());
    let versions = std::fs::read_dir(POSTGRES_FOLDER).into_iter().flatten().flatten().map(|entry| entry.path());
    let there = versions.filter(|folder| folder.join("bin").join(name).is_file());
    there.max_by_key(|folder| version(folder)).map(|folder| folder.join("bin").join(name))
}

fn of_path(name: &str) -> Option<PathBuf> {
    let folders = std::env::var_os("PATH")?;
    std::env::split_paths(&folders).map(|folder| folder.join(name)).find(|file| file.is_file())
}

/// Debian's package.
fn package_of(name: &str) -> &str {
    match name {
        "pg_dump" | "pg_restore" | "psql" | "pg_isready" => "postgresql-client",
        "ffmpeg" | "ffprobe" => "ffmpeg",
        other => other,
    }
}
