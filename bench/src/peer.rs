//! The Python peer: `scripts/bench/peer.py` with torch in `.venv-bench` and the original TorchScript files.

use std::path::{Path, PathBuf};
use std::process::Command;

use serde::Deserialize;

use crate::bare::Tally;
use crate::error::{Error, Result};
use crate::process::{self, Ended};
use crate::workplace::Workplace;

const SCRIPT: &str = "scripts/bench/peer.py";

/// Python that `scripts/setup --bench` lays out.
const PYTHON: &str = ".venv-bench/bin/python";

/// The original files that the peer and the section `forward` need.
pub(crate) const ORIGINALS: [&str; 2] = ["ssdlite_mobilenet_v2_coco.pt", "efficientnet_lite0_imagenet.pt"];

/// How the peer spreads its work.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
pub(crate) struct Settings {
    workers: usize,
    threads: usize,
    batch: usize,
}

impl std::fmt::Display for Settings {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let Self { workers, threads, batch } = self;
        write!(f, "DataLoader with {workers} workers, {threads} threads, batches of {batch}")
    }
}

#[derive(Debug, Deserialize)]
struct Tuned {
    best: Settings,
}

/// A peer that can run.
#[derive(Debug)]
pub(crate) struct Peer {
    root: PathBuf,
    originals: PathBuf,
}

/// The peer, or why there is none and what to do.
pub(crate) fn find(place: &Workplace) -> std::result::Result<Peer, String> {
    originals(place)?;
    if !place.root.join(PYTHON).exists() {
        return Err(format!("skipped: {PYTHON} is missing; run scripts/setup --bench"));
    }
    let peer = Peer { root: place.root.clone(), originals: place.originals.clone() };
    let mut check = peer.python();
    check.arg("--check");
    process::time(check).map_err(|error| format!("skipped: {error}; run scripts/setup --bench"))?;
    Ok(peer)
}

/// The paths of the original files, or what to do to have them.
pub(crate) fn originals(place: &Workplace) -> std::result::Result<[PathBuf; 2], String> {
    let paths = ORIGINALS.map(|file| place.originals.join(file));
    match paths.iter().find(|path| !path.exists()) {
        None => Ok(paths),
        Some(missing) => Err(format!(
            "skipped: {} is missing; name the folder of the original TorchScript files with --originals",
            missing.display()
        )),
    }
}

impl Peer {
    /// The fastest settings on the first `limit` photographs below `folder`.
    pub(crate) fn tune(&self, folder: &Path, limit: usize) -> Result<Settings> {
        eprintln!("  finding the fastest settings of the Python peer");
        let mut command = self.with_models();
        command.arg(folder).args(["--tune", "--limit", &limit.to_string()]);
        let ended = process::time(command)?;
        let tuned: Tuned = serde_json::from_str(&ended.stdout).map_err(Error::json("what peer.py --tune prints"))?;
        Ok(tuned.best)
    }

    /// Looks at all photographs below `folder`.
    pub(crate) fn look(&self, folder: &Path, settings: &Settings) -> Result<(Ended, Tally)> {
        let mut command = self.with_models();
        command.arg(folder).args(["--workers", &settings.workers.to_string()]);
        command.args(["--threads", &settings.threads.to_string(), "--batch", &settings.batch.to_string()]);
        let ended = process::time(command)?;
        let tally = Tally::read(SCRIPT, &ended.stdout)?;
        Ok((ended, tally))
    }

    /// Looks at one photograph.
    pub(crate) fn look_at_one(&self, photograph: &Path) -> Result<Ended> {
        let mut command = self.with_models();
        command.arg("--one").arg(photograph);
        process::time(command)
    }

    fn with_models(&self) -> Command {
        let mut command = self.python();
        command.arg("--models").arg(&self.originals);
        command
    }

    fn python(&self) -> Command {
        let mut command = Command::new(self.root.join(PYTHON));
        command.current_dir(&self.root).arg(SCRIPT);
        command
    }
}
