//! One look of the networks at pictures: boxes, then the crop of every animal.

use crate::Result;
use crate::decode::Picture;
use crate::device::Device;
use crate::networks::Networks;
use crate::nms::{BoundingBox, Category, NmsOptions, ScoredBox, suppress};
use crate::preprocess::{DETECTOR_SIDE, EMBEDDER_SIDE, Preprocessor};
use crate::sighting::{CropQuality, Sighting};
use crate::taxonomy::{Evidence, Taxonomy};

/// Crops that the embedder takes at once on a GPU, for each picture of a batch.
const CROPS_A_PICTURE: usize = 4;

/// What counts as a detection.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct LookOptions {
    /// When boxes are kept.
    pub nms: NmsOptions,
    /// A picture without boxes is shown to the embedder as a whole, and is an animal from this probability on; over 1
    /// turns that off.
    pub second_look: f32,
}

impl Default for LookOptions {
    fn default() -> Self {
        Self { nms: NmsOptions::default(), second_look: 0.6 }
    }
}

/// Shows one picture to the networks on the calling thread; training and benchmarks use it without an engine.
pub fn look_at(
    networks: &Networks,
    taxonomy: &Taxonomy,
    preprocessor: &mut Preprocessor,
    picture: &Picture,
    options: &LookOptions,
) -> Result<Vec<Sighting>> {
    let input = preprocessor.whole(picture, DETECTOR_SIDE);
    let mut found = look_at_batch(networks, taxonomy, preprocessor, &[picture], &[input], options)?;
    Ok(found.pop().unwrap_or_default())
}

/// Boxes of all pictures in one forward, then all their crops in few; one list of sightings a picture.
///
/// `inputs` are the same pictures as the boxes network takes them.
pub fn look_at_batch(
    networks: &Networks,
    taxonomy: &Taxonomy,
    preprocessor: &mut Preprocessor,
    pictures: &[&Picture],
    inputs: &[Vec<u8>],
    options: &LookOptions,
) -> Result<Vec<Vec<Sighting>>> {
    let raw = networks.boxes(inputs)?;
    let kept: Vec<Vec<ScoredBox>> =
        raw.iter().map(|raw| with_second_look(suppress(&raw.boxes, &raw.scores, &options.nms), options)).collect();
    let mut crops = Vec::new();
    for (boxes, picture) in kept.iter().zip(pictures) {
        for found in boxes.iter().filter(|found| found.category == Category::Animal) {
            crops.push(preprocessor.crop(picture, &found.bounds, EMBEDDER_SIDE));
        }
    }
    let mut embedded = Vec::with_capacity(crops.len());
    let at_once = if networks.device() == Device::Cpu { 1 } else { pictures.len() * CROPS_A_PICTURE };
    for chunk in crops.chunks(at_once) {
        embedded.extend(networks.embed(chunk)?);
    }
    let mut embedded = embedded.into_iter().zip(&crops);
    let mut all = Vec::with_capacity(kept.len());
    for boxes in kept {
        let mut sightings = Vec::with_capacity(boxes.len());
        for scored in boxes {
            if scored.category != Category::Animal {
                sightings.push(without_species(scored));
                continue;
            }
            let Some((embedding, crop)) = embedded.next() else { break };
            let evidence = taxonomy.fuse(&embedding.probabilities, &scored.animal_scores);
            let quality = CropQuality::measure(crop, EMBEDDER_SIDE as usize);
            let sighting = Sighting { scored, evidence, embedding: embedding.embedding, quality };
            sightings.extend(accepted(sighting, options));
        }
        all.push(sightings);
    }
    Ok(all)
}

/// A picture without boxes becomes one box over all of it, whose score the embedder is to give.
fn with_second_look(kept: Vec<ScoredBox>, options: &LookOptions) -> Vec<ScoredBox> {
    if !kept.is_empty() || options.second_look > 1.0 {
        return kept;
    }
    let bounds = BoundingBox::WHOLE;
    vec![ScoredBox { bounds, category: Category::Animal, score: 0.0, coco: 0, animal_scores: [0.0; 10] }]
}

fn accepted(mut sighting: Sighting, options: &LookOptions) -> Option<Sighting> {
    if sighting.scored.coco != 0 {
        return Some(sighting);
    }
    sighting.scored.score = sighting.evidence.animal_mass;
    (sighting.evidence.animal_mass >= options.second_look).then_some(sighting)
}

fn without_species(scored: ScoredBox) -> Sighting {
    Sighting {
        scored,
        evidence: Evidence { log_probabilities: Vec::new(), animal_mass: 0.0 },
        embedding: Vec::new(),
        quality: CropQuality { brightness: 0.0, contrast: 0.0, sharpness: 0.0, colourfulness: 0.0 },
    }
}
