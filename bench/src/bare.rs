//! The bare loop: reads, decodes and shows photographs to the networks, and keeps nothing.
//!
//! It has the networks, the reduced decoding and one picture a thread in common with Safari, and lacks all else: no
//! listing, no hashes, no bursts, no state, no tables, no report. What Safari loses against it is the price of these.

use std::fs;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread;
use std::time::Instant;

use detector::decode::decode;
use detector::engine::EngineOptions;
use detector::exif::Orientation;
use detector::look::look_at;
use detector::media::MediaType;
use detector::model::{self, Model};
use detector::preprocess::Preprocessor;
use serde::{Deserialize, Serialize};

use crate::error::{Error, Result};
use crate::machine::cores;
use crate::photographs::jpegs;

/// What the loop, or the Python peer, says when it is done.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(crate) struct Tally {
    /// Photographs looked at.
    pub(crate) images: usize,
    /// Boxes found.
    pub(crate) boxes: usize,
    /// From the first read to the last box.
    pub(crate) seconds: f64,
    /// Before that: the networks' loading, and the imports of Python.
    pub(crate) load_seconds: f64,
}

impl Tally {
    /// The tally on the last line that a program printed.
    pub(crate) fn read(program: &str, stdout: &str) -> Result<Self> {
        let line = stdout.lines().last().unwrap_or_default();
        serde_json::from_str(line).map_err(Error::json(format!("the answer of {program}")))
    }
}

/// Looks at all JPEGs below `folder` on every core, and prints a [`Tally`].
pub(crate) fn run(folder: &Path) -> Result<()> {
    let start = Instant::now();
    let files = jpegs(folder)?;
    let model = Model::load(&model::locate(None)?, tch::Device::Cpu)?;
    let load_seconds = start.elapsed().as_secs_f64();
    let start = Instant::now();
    let next = AtomicUsize::new(0);
    let boxes = thread::scope(|scope| {
        let workers: Vec<_> = (0..cores()).map(|_| scope.spawn(|| look_at_some(&files, &model, &next))).collect();
        let found = workers
            .into_iter()
            .map(|worker| worker.join().unwrap_or_else(|_| Err(Error::failed("the bare loop", "a thread panicked"))));
        found.sum::<Result<usize>>()
    })?;
    let tally = Tally { images: files.len(), boxes, seconds: start.elapsed().as_secs_f64(), load_seconds };
    println!("{}", serde_json::to_string(&tally).map_err(Error::json("the tally"))?);
    Ok(())
}

/// Looks at photographs until all are seen; the boxes that this thread found.
fn look_at_some(files: &[PathBuf], model: &Model, next: &AtomicUsize) -> Result<usize> {
    // As in the engine: one picture a thread, and no threads within a forward.
    tch::set_num_threads(1);
    let options = EngineOptions::default();
    let mut preprocessor = Preprocessor::new();
    let mut boxes = 0;
    loop {
        let Some(path) = files.get(next.fetch_add(1, Ordering::Relaxed)) else { return Ok(boxes) };
        let bytes = fs::read(path).map_err(Error::io(path))?;
        let picture = decode(&bytes, MediaType::Jpeg, Orientation::Upright, options.min_side, &options.limits)?;
        boxes += look_at(&model.networks, &model.taxonomy, &mut preprocessor, &picture, &options.look)?.len();
    }
}
