//! Made bursts as the networks see them: what the liquid network learns from.

use std::collections::HashMap;
use std::ops::ControlFlow;
use std::path::{Path, PathBuf};

use image::{RgbImage, RgbaImage};
use rand::{RngExt, SeedableRng};
use rand_chacha::ChaCha8Rng;
use sha2::{Digest, Sha256};

use super::parallel::each;
use super::photographs::{Kind, Photograph, Split};
use super::synthesis::{MadeFrame, Subject, make_burst, open_cutout, open_photograph};
use crate::look::{LookOptions, look_at};
use crate::networks::Networks;
use crate::nms::Category;
use crate::preprocess::Preprocessor;
use crate::sighting::Sighting;
use crate::taxonomy::Taxonomy;
use crate::{Error, Result};

/// Share of bursts in which a plant passes before the animal; in the others it is a patch of another place.
const PLANTS: f64 = 0.7;

/// Side of such a patch in pixels.
const PATCH: u32 = 200;

/// What the networks saw of one made burst.
#[derive(Debug, Clone)]
pub struct SeenBurst {
    /// Index of the photograph in the list.
    pub photograph: usize,
    /// Number of the burst among the photograph's.
    pub number: usize,
    /// Frames that the camera took, with or without a sighting.
    pub frames: usize,
    /// The best animal box of each frame that has one, and the frame's seconds since the first.
    pub sightings: Vec<(f64, Sighting)>,
}

/// Makes bursts of photographs and shows them to the networks.
pub struct BurstMaker<'a> {
    folder: PathBuf,
    photographs: &'a [Photograph],
    networks: &'a Networks,
    taxonomy: &'a Taxonomy,
    options: LookOptions,
    seed: u64,
    backgrounds: HashMap<bool, Vec<RgbImage>>,
    plants: HashMap<bool, Vec<RgbaImage>>,
}

impl<'a> BurstMaker<'a> {
    /// Opens the backgrounds and plants; those of the test split are shown to no other.
    ///
    /// Files of photographs lie in `folder`, unless their paths are absolute.
    pub fn new(
        folder: &Path,
        photographs: &'a [Photograph],
        networks: &'a Networks,
        taxonomy: &'a Taxonomy,
        options: LookOptions,
        seed: u64,
    ) -> Result<Self> {
        let mut backgrounds: HashMap<bool, Vec<RgbImage>> = HashMap::new();
        let mut plants: HashMap<bool, Vec<RgbaImage>> = HashMap::new();
        for photograph in photographs {
            let (path, test) = (folder.join(&photograph.file), photograph.split == Split::Test);
            match photograph.kind {
                Kind::Background => backgrounds.entry(test).or_default().push(open_photograph(&path)?),
                Kind::Occluder => plants.entry(test).or_default().push(open_cutout(&path)?),
                Kind::Photo | Kind::Cutout => {}
            }
        }
        let folder = folder.to_owned();
        Ok(Self { folder, photographs, networks, taxonomy, options, seed, backgrounds, plants })
    }

    /// Makes `count` bursts of every photograph with an animal on `threads` threads, in a fixed order.
    ///
    /// `progress` hears of each finished photograph: how many are done, of how many; it may stop the work.
    pub fn all(
        &self,
        count: usize,
        threads: usize,
        progress: &(dyn Fn(usize, usize) -> ControlFlow<()> + Sync),
    ) -> Result<Vec<SeenBurst>> {
        let animals: Vec<usize> = (0..self.photographs.len()).filter(|&p| self.photographs[p].shows_animal()).collect();
        let make =
            |turn: usize, preprocessor: &mut Preprocessor| self.of_photograph(animals[turn], count, preprocessor);
        Ok(each(animals.len(), threads, progress, make)?.into_iter().flatten().collect())
    }

    /// The frames of one burst, as pictures.
    pub fn pictures(&self, photograph: usize, number: usize) -> Result<Vec<MadeFrame>> {
        let subject = self.subject(photograph)?;
        self.frames(photograph, number, &subject)
    }

    fn subject(&self, photograph: usize) -> Result<Subject> {
        let path = self.folder.join(&self.photographs[photograph].file);
        match self.photographs[photograph].kind {
            Kind::Cutout => Ok(Subject::Cutout(open_cutout(&path)?)),
            _ => Ok(Subject::Photograph(open_photograph(&path)?)),
        }
    }

    fn frames(&self, photograph: usize, number: usize, subject: &Subject) -> Result<Vec<MadeFrame>> {
        let mut rng = self.rng(photograph, number);
        let test = self.photographs[photograph].split == Split::Test;
        let background = pick(&mut rng, self.backgrounds.get(&test))?;
        let with_plant = rng.random_bool(PLANTS);
        // Without cut-out plants a patch of another place is all that can stand before the animal.
        if let Some(plants) = self.plants.get(&test) {
            let plant = pick(&mut rng, Some(plants))?;
            if with_plant {
                return make_burst(&mut rng, subject, background, plant);
            }
        }
        let place = pick(&mut rng, self.backgrounds.get(&test))?;
        let patch = image::imageops::crop_imm(place, 0, 0, PATCH.min(place.width()), PATCH.min(place.height()));
        let patch = image::DynamicImage::from(patch.to_image()).into_rgba8();
        make_burst(&mut rng, subject, background, &patch)
    }

    fn of_photograph(
        &self,
        photograph: usize,
        count: usize,
        preprocessor: &mut Preprocessor,
    ) -> Result<Vec<SeenBurst>> {
        let subject = self.subject(photograph)?;
        (0..count)
            .map(|number| {
                let frames = self.frames(photograph, number, &subject)?;
                let mut sightings = Vec::new();
                for frame in &frames {
                    let seen = look_at(self.networks, self.taxonomy, preprocessor, &frame.picture, &self.options)?;
                    let animals = seen.into_iter().filter(|sighting| sighting.scored.category == Category::Animal);
                    let best = animals.max_by(|a, b| a.scored.score.total_cmp(&b.scored.score));
                    sightings.extend(best.map(|sighting| (frame.seconds, sighting)));
                }
                Ok(SeenBurst { photograph, number, frames: frames.len(), sightings })
            })
            .collect()
    }

    /// Each burst has a generator of its own, so the order of work and the other photographs change nothing.
    fn rng(&self, photograph: usize, number: usize) -> ChaCha8Rng {
        let mut hasher = Sha256::new();
        hasher.update(self.seed.to_le_bytes());
        hasher.update(&self.photographs[photograph].sha256);
        hasher.update((number as u64).to_le_bytes());
        ChaCha8Rng::from_seed(hasher.finalize().into())
    }
}

fn pick<'b, T>(rng: &mut ChaCha8Rng, from: Option<&'b Vec<T>>) -> Result<&'b T> {
    match from {
        Some(all) if !all.is_empty() => Ok(&all[rng.random_range(0..all.len())]),
        _ => Err(Error::Training("no picture of a place without animals for this split".to_owned())),
    }
}
