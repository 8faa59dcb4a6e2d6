//! Bursts that a camera took, as the networks see them.

use std::ops::ControlFlow;
use std::path::{Path, PathBuf};

use super::parallel::each;
use super::photographs::Split;
use crate::decode::{DecodeLimits, decode};
use crate::look::{LookOptions, look_at};
use crate::media::{MediaType, SNIFF_BYTES};
use crate::networks::Networks;
use crate::nms::Category;
use crate::preprocess::Preprocessor;
use crate::sighting::Sighting;
use crate::taxonomy::Taxonomy;
use crate::{Error, Result, exif};

/// Pixels that the shorter side of a decoded picture keeps, as in the engine.
const MIN_SIDE: u32 = 600;

/// A burst of photographs and what it shows.
#[derive(Debug, Clone, PartialEq)]
pub struct RecordedBurst {
    /// The part of the work that may see it.
    pub split: Split,
    /// Names from class down to what it surely shows.
    pub lineage: Vec<String>,
    /// Seconds since the first frame, and the photograph's file, in order of time.
    pub frames: Vec<(f64, PathBuf)>,
}

/// The best animal box of each frame of each burst, in the bursts' order; a frame without one has no entry.
///
/// A photograph that cannot be decoded counts as a frame without an animal.
pub fn sightings(
    bursts: &[RecordedBurst],
    networks: &Networks,
    taxonomy: &Taxonomy,
    threads: usize,
    progress: &(dyn Fn(usize, usize) -> ControlFlow<()> + Sync),
) -> Result<Vec<Vec<(f64, Sighting)>>> {
    let options = LookOptions::default();
    each(bursts.len(), threads, progress, |turn, preprocessor| {
        let mut seen = Vec::new();
        for (seconds, file) in &bursts[turn].frames {
            match look(file, networks, taxonomy, preprocessor, &options) {
                Ok(best) => seen.extend(best.map(|sighting| (*seconds, sighting))),
                Err(error) if error.is_media_failure() => {
                    tracing::warn!(file = %file.display(), %error, "left out of the training");
                }
                Err(error) => return Err(error),
            }
        }
        Ok(seen)
    })
}

fn look(
    file: &Path,
    networks: &Networks,
    taxonomy: &Taxonomy,
    preprocessor: &mut Preprocessor,
    options: &LookOptions,
) -> Result<Option<Sighting>> {
    let bytes = std::fs::read(file).map_err(Error::io(file))?;
    let media_type = MediaType::sniff(&bytes[..bytes.len().min(SNIFF_BYTES)])?;
    let orientation = exif::read(&bytes).orientation;
    let picture = decode(&bytes, media_type, orientation, MIN_SIDE, &DecodeLimits::default())?;
    let seen = look_at(networks, taxonomy, preprocessor, &picture, options)?;
    let animals = seen.into_iter().filter(|sighting| sighting.scored.category == Category::Animal);
    Ok(animals.max_by(|a, b| a.scored.score.total_cmp(&b.scored.score)))
}
