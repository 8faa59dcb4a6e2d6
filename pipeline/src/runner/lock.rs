//! Locks in `<home>/locks`: who drives a run is known at once, also after a crash, because the kernel drops the lock of
//! a process that ends.

use std::fs::{File, OpenOptions, TryLockError};
use std::io::{Read, Seek, Write};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use crate::error::{Error, Result};
use crate::ids::RunId;

/// Starting a run takes milliseconds; a process that holds its lock longer is stuck.
const START_PATIENCE: Duration = Duration::from_secs(30);

/// A lock that is held while the value lives.
#[derive(Debug)]
pub(super) struct Lock {
    path: PathBuf,
    /// Closing the file drops the lock.
    _file: File,
}

/// What came of trying to lock.
#[derive(Debug)]
pub(super) enum Tried {
    /// The lock is ours.
    Locked(Lock),
    /// A live process holds it; 0 when it has not yet written its id.
    Held { pid: u32 },
}

/// Tries to become the one that drives a run.
pub(super) fn try_run(home: &Path, run: RunId) -> Result<Tried> {
    try_lock(folder(home)?.join(format!("run-{run}.lock")))
}

/// Waits to be the only one on this home that looks for a run to resume, or makes one.
pub(super) async fn start(home: &Path) -> Result<Lock> {
    let path = folder(home)?.join("start.lock");
    let began = Instant::now();
    loop {
        match try_lock(path.clone())? {
            Tried::Locked(lock) => return Ok(lock),
            Tried::Held { pid } if began.elapsed() > START_PATIENCE => return Err(Error::StartBlocked { path, pid }),
            Tried::Held { .. } => tokio::time::sleep(Duration::from_millis(10)).await,
        }
    }
}

impl Lock {
    /// Drops the lock of a run that has ended, and its file: nobody will need it again.
    pub(super) fn remove(self) {
        // A file that stays is harmless.
        let _ = std::fs::remove_file(&self.path);
    }
}

fn folder(home: &Path) -> Result<PathBuf> {
    let path = home.join("locks");
    match std::fs::create_dir_all(&path) {
        Ok(()) => Ok(path),
        Err(source) => Err(Error::home(path, source)),
    }
}

fn try_lock(path: PathBuf) -> Result<Tried> {
    let failed = |source| Error::home(path.clone(), source);
    let mut file =
        OpenOptions::new().read(true).write(true).create(true).truncate(false).open(&path).map_err(failed)?;
    match file.try_lock() {
        Ok(()) => {}
        Err(TryLockError::WouldBlock) => {
            let mut text = String::new();
            // Only for the message: the holder may be writing it at this moment.
            let _ = file.read_to_string(&mut text);
            return Ok(Tried::Held { pid: text.trim().parse().unwrap_or(0) });
        }
        Err(TryLockError::Error(source)) => return Err(failed(source)),
    }
    file.set_len(0).and_then(|()| file.rewind()).map_err(failed)?;
    write!(file, "{}", std::process::id()).map_err(failed)?;
    Ok(Tried::Locked(Lock { path, _file: file }))
}

/// The name of this host; two hosts that share a home must have different ones.
pub(crate) fn host_name() -> String {
    ["/proc/sys/kernel/hostname", "/etc/hostname"]
        .iter()
        .find_map(|path| std::fs::read_to_string(path).ok())
        .map(|name| name.trim().to_string())
        .filter(|name| !name.is_empty())
        .unwrap_or_else(|| "localhost".to_string())
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn one_holder_at_a_time_and_its_process_is_told() {
        let home = tempfile::tempdir().unwrap();
        let run = RunId::new();
        let Tried::Locked(lock) = try_run(home.path(), run).unwrap() else { panic!("a fresh lock is free") };
        match try_run(home.path(), run).unwrap() {
            Tried::Held { pid } => assert_eq!(pid, std::process::id()),
            Tried::Locked(_) => panic!("locked twice"),
        }
        drop(lock);
        let Tried::Locked(lock) = try_run(home.path(), run).unwrap() else { panic!("a dropped lock is free") };
        lock.remove();
        assert_eq!(std::fs::read_dir(home.path().join("locks")).unwrap().count(), 0);
    }

    #[test]
    fn an_unusable_home_is_told() {
        let file = tempfile::NamedTempFile::new().unwrap();
        let error = try_run(file.path(), RunId::new()).unwrap_err();
        assert!(matches!(error, Error::Home { .. }), "{error}");
    }
}
