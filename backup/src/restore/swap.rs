//! Exchanges what lies ready with what it replaces.

use std::fs::File;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use platform::database::{Address, connect_sqlite};
use rustix::fs::{CWD, RenameFlags, renameat_with};
use serde::{Deserialize, Serialize};
use sqlx::{AnyConnection, Connection};
use tracing::info;

use super::stage::{Staged, discard, remove};
use super::{Item, Target, server};
use crate::manifest::PartName;
use crate::places::Places;
use crate::{Error, Result};

/// In the home while things are exchanged.
const JOURNAL: &str = "restore.journal";
const LOCK: &str = "restore.lock";

/// What is exchanged: enough to go on after a crash. It holds no URL of a server, in which there may be a password.
#[derive(Debug, Serialize, Deserialize)]
struct Journal {
    steps: Vec<Step>,
}

#[derive(Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
enum Step {
    /// `ready` gets the name `target`. It is done when what has that name is `inode` on `device`.
    Rename { ready: PathBuf, target: PathBuf, device: u64, inode: u64, is_sqlite: bool },
    /// The database `ready` gets the name of that of the part.
    Database { part: PartName, ready: String, old: String },
}

/// Goes on with an exchange in which a process died: `true` if there was one. Every command asks first.
///
/// # Errors
/// What cannot be exchanged; the next command tries again.
pub async fn finish_interrupted(places: &Places) -> Result<bool> {
    let path = places.home.join(JOURNAL);
    if !path.is_file() {
        return Ok(false);
    }
    let _alone = lock(&places.home)?;
    let bytes = match std::fs::read(&path) {
        Ok(bytes) => bytes,
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(false),
        Err(error) => return Err(Error::file("read", &path)(error)),
    };
    let journal: Journal = serde_json::from_slice(&bytes)
        .map_err(|error| Error::damaged(path.display().to_string(), error.to_string()))?;
    info!("a restoration was interrupted while things were exchanged: going on");
    run(places, &journal).await?;
    end(places, &journal).await?;
    Ok(true)
}

/// One restoration at a time in a home; it is over when the file is dropped.
pub(super) fn lock(home: &Path) -> Result<File> {
    std::fs::create_dir_all(home).map_err(Error::file("write", home))?;
    let path = home.join(LOCK);
    let file =
        File::options().create(true).truncate(false).write(true).open(&path).map_err(Error::file("write", &path))?;
    match file.try_lock() {
        Ok(()) => Ok(file),
        Err(_) => Err(Error::InUse { place: home.display().to_string(), holder: "another restoration".to_owned() }),
    }
}

/// Exchanges all, or nothing and an error.
pub(super) async fn exchange(places: &Places, staged: Vec<(&Item, Staged)>) -> Result<()> {
    let claimed = match claim(&staged).await {
        Ok(claimed) => claimed,
        Err(error) => {
            for (_, one) in &staged {
                discard(one).await;
            }
            return Err(error);
        }
    };
    let noted = steps(&staged).and_then(|steps| {
        let journal = Journal { steps };
        write(&places.home, &journal).map(|()| journal)
    });
    let journal = match noted {
        Ok(journal) => journal,
        Err(error) => {
            for (item, one) in &staged {
                discard(one).await;
                if let Target::Postgres(address) = &item.target {
                    server::open_doors(address).await;
                }
            }
            return Err(error);
        }
    };
    let done = run(places, &journal).await;
    for connection in claimed {
        // It was opened on what is gone now.
        drop(connection.close().await);
    }
    done?;
    for (_, one) in &staged {
        if let Staged::Log(log) = one {
            log.write().await?;
        }
    }
    end(places, &journal).await
}

/// Makes sure that nobody uses the databases that are replaced, and lets nobody in.
async fn claim(staged: &[(&Item, Staged)]) -> Result<Vec<AnyConnection>> {
    let mut claimed = Vec::new();
    let mut closed: Vec<&Address> = Vec::new();
    for (item, _) in staged {
        let taken = match &item.target {
            Target::Sqlite(path) if path.is_file() => claim_sqlite(path).await.map(|taken| claimed.extend(taken)),
            Target::Postgres(address) => server::close_doors(address).await.map(|()| closed.push(address)),
            Target::Sqlite(_) | Target::Folder(_) | Target::Files(_) | Target::Bucket(_) => Ok(()),
        };
        if let Err(error) = taken {
            for address in closed {
                server::open_doors(address).await;
            }
            return Err(error);
        }
    }
    Ok(claimed)
}

/// A connection that alone has the database, whose journal is in the file itself then: it can be renamed by itself. None
/// for a file that is no database any more.
async fn claim_sqlite(path: &Path) -> Result<Option<AnyConnection>> {
    let address = Address::Sqlite(path.to_owned());
    let in_use = || Error::DatabaseInUse(address.clone());
    let mut connection = match connect_sqlite(path).await {
        Ok(connection) => connection,
        Err(platform::Error::NotADatabase { .. }) => return Ok(None),
        Err(error) => return Err(error.into()),
    };
    // Refused while another connection is open, even one that does nothing.
    let mode: sqlx::Result<String> =
        sqlx::query_scalar("PRAGMA journal_mode = DELETE").fetch_one(&mut connection).await;
    match mode {
        Ok(mode) if mode == "delete" => {}
        Ok(_) => return Err(in_use()),
        Err(error) => {
            return match platform::database::explain(path, &error) {
                platform::Error::DatabaseBusy { .. } => Err(in_use()),
                platform::Error::NotADatabase { .. } => Ok(None),
                other => Err(other.into()),
            };
        }
    }
    sqlx::query("BEGIN EXCLUSIVE").execute(&mut connection).await.map_err(|_| in_use())?;
    Ok(Some(connection))
}

/// Databases on servers first: they are what may still refuse.
fn steps(staged: &[(&Item, Staged)]) -> Result<Vec<Step>> {
    let (mut databases, mut renames) = (Vec::new(), Vec::new());
    for (item, one) in staged {
        match one {
            Staged::Database(_, ready) => {
                let old = ready.replacen("safari_restore", "safari_replaced", 1);
                databases.push(Step::Database { part: item.part.name, ready: ready.clone(), old });
            }
            Staged::Renames(pairs) => {
                for (ready, target) in pairs {
                    let metadata = std::fs::metadata(ready).map_err(Error::file("read", ready))?;
                    let is_sqlite = matches!(item.target, Target::Sqlite(_));
                    let (device, inode) = (metadata.dev(), metadata.ino());
                    let (ready, target) = (absolute(ready)?, absolute(target)?);
                    renames.push(Step::Rename { ready, target, device, inode, is_sqlite });
                }
            }
            Staged::Log(_) | Staged::Done => {}
        }
    }
    databases.extend(renames);
    Ok(databases)
}

async fn run(places: &Places, journal: &Journal) -> Result<()> {
    for step in &journal.steps {
        match step {
            Step::Database { part, ready, old } => {
                if let Some(Address::Postgres(url)) = places.database(*part) {
                    server::exchange(url, ready, old).await?;
                }
            }
            Step::Rename { ready, target, device, inode, is_sqlite } => {
                rename(ready, target, (*device, *inode), *is_sqlite)?;
            }
        }
    }
    Ok(())
}

/// Removes what was replaced, then the journal.
async fn end(places: &Places, journal: &Journal) -> Result<()> {
    for step in &journal.steps {
        match step {
            Step::Database { part, old, .. } => {
                if let Some(Address::Postgres(url)) = places.database(*part) {
                    server::drop_database(url, old).await?;
                }
            }
            Step::Rename { ready, .. } => {
                remove(ready);
                // The folder in which a table or keys lay ready, which is empty now.
                let above = ready.parent().filter(|above| above.to_string_lossy().contains(".restore-"));
                if let Some(above) = above {
                    let _others_are_in_it = std::fs::remove_dir(above);
                }
            }
        }
    }
    let path = places.home.join(JOURNAL);
    std::fs::remove_file(&path).map_err(Error::file("delete", &path))?;
    sync(&places.home)
}

/// Exchanges two names in one step, or gives one. Done again, it does nothing.
fn rename(ready: &Path, target: &Path, new: (u64, u64), is_sqlite: bool) -> Result<()> {
    let found = std::fs::metadata(target).ok().map(|metadata| (metadata.dev(), metadata.ino()));
    if found == Some(new) {
        return Ok(());
    }
    if is_sqlite {
        // Those of the old database, which is nobody's. With the new one they would be a mixture.
        for end in ["-wal", "-shm", "-journal"] {
            let mut name = target.as_os_str().to_owned();
            name.push(end);
            remove(Path::new(&name));
        }
    }
    let flags = if found.is_some() { RenameFlags::EXCHANGE } else { RenameFlags::NOREPLACE };
    renameat_with(CWD, ready, CWD, target, flags).map_err(|error| Error::file("rename", ready)(error.into()))?;
    sync(target.parent().unwrap_or(Path::new("/")))?;
    sync(ready.parent().unwrap_or(Path::new("/")))
}

fn write(home: &Path, journal: &Journal) -> Result<()> {
    let bytes = crate::manifest::to_line(journal)?;
    let path = home.join(JOURNAL);
    let mut draft = tempfile::NamedTempFile::new_in(home).map_err(Error::file("write", home))?;
    std::io::Write::write_all(&mut draft, &bytes)
        .and_then(|()| draft.as_file().sync_all())
        .map_err(Error::file("write", &path))?;
    draft.persist(&path).map_err(|failure| Error::file("write", &path)(failure.error))?;
    sync(home)
}

fn sync(folder: &Path) -> Result<()> {
    File::open(folder).and_then(|folder| folder.sync_all()).map_err(Error::file("write", folder))
}

fn absolute(path: &Path) -> Result<PathBuf> {
    std::path::absolute(path).map_err(Error::file("read", path))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    /// A home with old things, and new ones beside them that are to take their names.
    fn home() -> (tempfile::TempDir, Places, Journal) {
        let folder = tempfile::tempdir().unwrap();
        let home = folder.path().to_owned();
        let mut steps = Vec::new();
        for name in ["lake", "artifacts"] {
            let (target, ready) = (home.join(name), home.join(format!("{name}.restore-1")));
            for (path, text) in [(&target, "old"), (&ready, "new")] {
                std::fs::create_dir_all(path).unwrap();
                std::fs::write(path.join("file"), text).unwrap();
            }
            steps.push((ready, target, false));
        }
        let (target, ready) = (home.join("state.db"), home.join("state.db.restore-1"));
        for (path, text) in [(&target, "old"), (&ready, "new"), (&home.join("state.db-wal"), "old")] {
            std::fs::write(path, text).unwrap();
        }
        steps.push((ready, target, true));
        // Nothing has this name yet.
        let (target, ready) = (home.join("registry.db"), home.join("registry.db.restore-1"));
        std::fs::write(&ready, "new").unwrap();
        steps.push((ready, target, true));
        let steps = steps.into_iter().map(|(ready, target, is_sqlite)| {
            let metadata = std::fs::metadata(&ready).unwrap();
            Step::Rename { ready, target, device: metadata.dev(), inode: metadata.ino(), is_sqlite }
        });
        let journal = Journal { steps: steps.collect() };
        (folder, Places::in_folder(&home), journal)
    }

    fn found(home: &Path) -> Vec<String> {
        let files = ["lake/file", "artifacts/file", "state.db", "registry.db", "state.db-wal"];
        files.map(|file| std::fs::read_to_string(home.join(file)).unwrap_or_default()).to_vec()
    }

    #[tokio::test]
    async fn an_exchange_that_was_cut_anywhere_is_finished() {
        for cut in 0..=9 {
            let (folder, places, mut journal) = home();
            write(&places.home, &journal).unwrap();
            let all = journal.steps.len();
            let rest = journal.steps.split_off(cut.min(all));
            run(&places, &journal).await.unwrap();
            if cut > all {
                // What was replaced is being removed.
                for step in &journal.steps[..cut - all - 1] {
                    let Step::Rename { ready, .. } = step else { continue };
                    remove(ready);
                }
            }
            drop(rest);
            assert!(finish_interrupted(&places).await.unwrap());
            assert_eq!(found(folder.path()), ["new", "new", "new", "new", ""], "{cut}");
            let left = std::fs::read_dir(folder.path()).unwrap().flatten().map(|entry| entry.file_name());
            let left: Vec<_> = left.filter(|name| name.to_string_lossy().contains("restore-")).collect();
            assert!(left.is_empty(), "{cut}: {left:?}");
            assert!(!finish_interrupted(&places).await.unwrap());
        }
    }

    #[tokio::test]
    async fn without_a_journal_nothing_is_exchanged() {
        let (folder, places, _) = home();
        assert!(!finish_interrupted(&places).await.unwrap());
        assert_eq!(found(folder.path()), ["old", "old", "old", "", "old"]);
    }

    #[test]
    fn one_restoration_at_a_time() {
        let folder = tempfile::tempdir().unwrap();
        let first = lock(folder.path()).unwrap();
        assert!(matches!(lock(folder.path()), Err(Error::InUse { .. })));
        drop(first);
        lock(folder.path()).unwrap();
    }
}
