//! Which boxes of a burst show the same animal: a greedy match of each frame's boxes to the tracks so far.

use crate::sighting::Sighting;

/// Lowest likeness at which a box continues a track.
const MIN_LIKENESS: f32 = 0.45;

/// Track numbers for all sightings of a burst: one list a frame, as long as that frame's list of sightings.
///
/// Frames are seconds apart, so an animal may be anywhere in the next one: what it looks like (cosine of the
/// embeddings) and what it may be (shared probability) weigh more than where it stands. Numbers count from 0 in order
/// of first sight.
pub fn assign(frames: &[Vec<&Sighting>]) -> Vec<Vec<usize>> {
    let mut last_seen: Vec<&Sighting> = Vec::new();
    let mut numbers = Vec::with_capacity(frames.len());
    for sightings in frames {
        let assigned = continued(&last_seen, sightings);
        let frame_numbers = assigned
            .into_iter()
            .zip(sightings)
            .map(|(track, &sighting)| match track {
                Some(track) => {
                    last_seen[track] = sighting;
                    track
                }
                None => {
                    last_seen.push(sighting);
                    last_seen.len() - 1
                }
            })
            .collect();
        numbers.push(frame_numbers);
    }
    numbers
}

/// The tracks, last seen as given, that each of a frame's sightings continues; none for newcomers.
pub(crate) fn continued(last_seen: &[&Sighting], sightings: &[&Sighting]) -> Vec<Option<usize>> {
    let mut pairs: Vec<(f32, usize, usize)> = Vec::new();
    for (s, sighting) in sightings.iter().enumerate() {
        for (t, seen) in last_seen.iter().enumerate() {
            let likeness = likeness(seen, sighting);
            if likeness >= MIN_LIKENESS {
                pairs.push((likeness, t, s));
            }
        }
    }
    pairs.sort_by(|a, b| b.0.total_cmp(&a.0).then(a.1.cmp(&b.1)).then(a.2.cmp(&b.2)));
    let mut assigned: Vec<Option<usize>> = vec![None; sightings.len()];
    let mut taken = vec![false; last_seen.len()];
    for (_, track, sighting) in pairs {
        if !taken[track] && assigned[sighting].is_none() {
            taken[track] = true;
            assigned[sighting] = Some(track);
        }
    }
    assigned
}

/// 0 (nothing in common) to 1: half by looks, a third by species, the rest by place and size.
fn likeness(a: &Sighting, b: &Sighting) -> f32 {
    if a.scored.category != b.scored.category {
        return 0.0;
    }
    let species: f32 = a
        .evidence
        .log_probabilities
        .iter()
        .zip(&b.evidence.log_probabilities)
        .map(|(p, q)| ((p + q) / 2.0).exp())
        .sum();
    let size = (a.scored.bounds.area() / b.scored.bounds.area().max(1e-6)).ln().abs();
    let place = 0.5 * a.scored.bounds.iou(&b.scored.bounds) + 0.5 * (-size).exp();
    0.5 * cosine(&a.embedding, &b.embedding).max(0.0) + 0.33 * species + 0.17 * place
}

fn cosine(a: &[f32], b: &[f32]) -> f32 {
    let (mut dot, mut aa, mut bb) = (0.0, 0.0, 0.0);
    for (x, y) in a.iter().zip(b) {
        dot += x * y;
        aa += x * x;
        bb += y * y;
    }
    dot / (aa * bb).sqrt().max(1e-9)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::nms::{BoundingBox, Category, ScoredBox};
    use crate::sighting::CropQuality;
    use crate::taxonomy::Evidence;

    fn sighting(looks: [f32; 2], species: [f32; 2], left: f32) -> Sighting {
        Sighting {
            scored: ScoredBox {
                bounds: BoundingBox { ymin: 0.2, xmin: left, ymax: 0.5, xmax: left + 0.3 },
                category: Category::Animal,
                score: 0.9,
                coco: 16,
                animal_scores: [0.0; 10],
            },
            evidence: Evidence { log_probabilities: species.map(f32::ln).to_vec(), animal_mass: 1.0 },
            embedding: looks.to_vec(),
            quality: CropQuality { brightness: 0.5, contrast: 0.2, sharpness: 0.1, colourfulness: 0.1 },
        }
    }

    #[test]
    fn animals_that_change_places_keep_their_tracks() {
        let (lion, zebra) = ([1.0, 0.0], [0.0, 1.0]);
        let (is_lion, is_zebra) = ([0.95, 0.05], [0.05, 0.95]);
        let first = [sighting(lion, is_lion, 0.0), sighting(zebra, is_zebra, 0.6)];
        let second = [sighting(zebra, is_zebra, 0.0), sighting(lion, is_lion, 0.6)];
        let frames = [first.iter().collect(), Vec::new(), second.iter().collect()];
        assert_eq!(assign(&frames), [vec![0, 1], vec![], vec![1, 0]]);
    }

    #[test]
    fn a_newcomer_opens_a_track() {
        let lion = sighting([1.0, 0.0], [0.95, 0.05], 0.0);
        let zebra = sighting([0.0, 1.0], [0.05, 0.95], 0.0);
        assert_eq!(assign(&[vec![&lion], vec![&lion, &zebra]]), [vec![0], vec![0, 1]]);
    }
}
