//! A burst's sightings as named detections: tracks, the liquid network's judgement of each, and the roll-up.

use crate::Result;
use crate::liquid::{LiquidFrame, baselines};
use crate::model::Model;
use crate::nms::{BoundingBox, Category};
use crate::sighting::Sighting;
use crate::taxonomy::Identification;
use crate::track;

/// How certain a crop must be of another species to keep it against its burst.
const OWN_OPINION: f32 = 0.8;

/// Probability below which the burst rejects what a crop is certain of.
const REJECTED: f32 = 0.05;

/// A frame of a burst.
#[derive(Debug, Clone, Copy)]
pub struct BurstFrame<'a> {
    /// Boxes seen in it.
    pub sightings: &'a [Sighting],
    /// Seconds from the start of the burst.
    pub seconds: f64,
}

/// A named box.
#[derive(Debug, Clone, PartialEq)]
pub struct Detection {
    /// Where.
    pub bounds: BoundingBox,
    /// What.
    pub category: Category,
    /// How sure the boxes network is that something is there, 0 to 1.
    pub confidence: f32,
    /// Number of the animal within its burst, counted from 0.
    pub track: usize,
    /// The species, for animals.
    pub identification: Option<Identification>,
}

/// Names every sighting of a burst: one list a frame, in the frames' order.
///
/// `threshold` is the probability that a name must have (see [`crate::taxonomy::Taxonomy::roll_up`]).
pub fn identify(model: &Model, frames: &[BurstFrame<'_>], threshold: f32) -> Result<Vec<Vec<Detection>>> {
    let views: Vec<Vec<&Sighting>> = frames.iter().map(|frame| frame.sightings.iter().collect()).collect();
    let tracks = track::assign(&views);
    let count = tracks.iter().flatten().max().map_or(0, |&last| last + 1);
    let judgements = (0..count).map(|number| judge(model, frames, &tracks, number)).collect::<Result<Vec<_>>>()?;
    let detections = frames.iter().zip(&tracks).map(|(frame, numbers)| {
        let all = frame
            .sightings
            .iter()
            .zip(numbers)
            .map(|(sighting, &number)| named(model, sighting, number, judgements[number].as_deref(), threshold));
        all.collect()
    });
    Ok(detections.collect())
}

/// A sighting with the name that its burst, or its own crop against it, gives.
pub(crate) fn named(
    model: &Model,
    sighting: &Sighting,
    track: usize,
    burst: Option<&[f32]>,
    threshold: f32,
) -> Detection {
    let identification = burst.map(|burst| {
        let own: Vec<f32> = sighting.evidence.log_probabilities.iter().map(|l| l.exp()).collect();
        let probabilities = if disagrees(&own, burst) { own.as_slice() } else { burst };
        model.taxonomy.roll_up(probabilities, threshold)
    });
    Detection {
        bounds: sighting.scored.bounds,
        category: sighting.scored.category,
        confidence: sighting.scored.score,
        track,
        identification,
    }
}

/// Probabilities over all taxa for one track; none for persons and vehicles.
fn judge(model: &Model, frames: &[BurstFrame<'_>], tracks: &[Vec<usize>], number: usize) -> Result<Option<Vec<f32>>> {
    let mut seen: Vec<LiquidFrame<'_>> = Vec::new();
    let mut last_seconds = None;
    for (frame, numbers) in frames.iter().zip(tracks) {
        let Some(place) = numbers.iter().position(|&n| n == number) else { continue };
        let sighting = &frame.sightings[place];
        if sighting.scored.category != Category::Animal {
            return Ok(None);
        }
        let gap = last_seconds.map_or(1.0, |last: f64| (frame.seconds - last).max(0.0));
        last_seconds = Some(frame.seconds);
        seen.push(LiquidFrame { sighting, gap_seconds: gap as f32 });
    }
    // A lone photograph is no burst: there is nothing to join, and the network was fitted to bursts.
    let log_probabilities = if frames.len() == 1 { baselines::mean_of_logits(&seen) } else { model.judge(&seen)? };
    Ok(Some(log_probabilities.iter().map(|l| l.exp()).collect()))
}

/// Two species in one burst must not become one because they were taken for a single track.
fn disagrees(own: &[f32], burst: &[f32]) -> bool {
    own.iter().zip(burst).any(|(&own, &burst)| own >= OWN_OPINION && burst < REJECTED)
}
