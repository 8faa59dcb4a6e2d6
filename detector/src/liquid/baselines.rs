//! What a burst says without a liquid network: the judgements that a trained one has to beat.

use super::LiquidFrame;

/// The mean of the frames' log probabilities, as log probabilities that sum to one; empty for no frames.
///
/// It also judges bursts for a model without a liquid network.
pub fn mean_of_logits(frames: &[LiquidFrame<'_>]) -> Vec<f32> {
    let Some(first) = frames.first() else { return Vec::new() };
    let mut mean = vec![0.0_f32; first.sighting.evidence.log_probabilities.len()];
    for frame in frames {
        for (sum, log_probability) in mean.iter_mut().zip(&frame.sighting.evidence.log_probabilities) {
            *sum += log_probability / frames.len() as f32;
        }
    }
    let total: f32 = mean.iter().map(|l| l.exp()).sum();
    mean.into_iter().map(|l| l - total.ln()).collect()
}

/// The log probabilities of the frame that is surest of a taxon; empty for no frames.
pub fn surest_frame(frames: &[LiquidFrame<'_>]) -> Vec<f32> {
    let highest = |frame: &LiquidFrame<'_>| {
        frame.sighting.evidence.log_probabilities.iter().copied().fold(f32::NEG_INFINITY, f32::max)
    };
    best_by(frames, highest)
}

/// The log probabilities of the frame whose box is surest; empty for no frames.
pub fn frame_of_surest_box(frames: &[LiquidFrame<'_>]) -> Vec<f32> {
    best_by(frames, |frame| frame.sighting.scored.score)
}

fn best_by(frames: &[LiquidFrame<'_>], value: impl Fn(&LiquidFrame<'_>) -> f32) -> Vec<f32> {
    let best = frames.iter().max_by(|a, b| value(a).total_cmp(&value(b)));
    best.map(|frame| frame.sighting.evidence.log_probabilities.clone()).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::liquid::tests::sighting;
    use crate::sighting::Sighting;

    fn likeliest(log_probabilities: &[f32]) -> Option<usize> {
        (0..log_probabilities.len()).max_by(|&a, &b| log_probabilities[a].total_cmp(&log_probabilities[b]))
    }

    fn frames(sightings: &[Sighting]) -> Vec<LiquidFrame<'_>> {
        sightings.iter().map(|sighting| LiquidFrame { sighting, gap_seconds: 1.0 }).collect()
    }

    #[test]
    fn each_baseline_believes_another_frame() {
        let seen = [sighting(0.4, 2, 0.5), sighting(0.5, 2, 0.5), sighting(0.6, 3, 0.7), sighting(0.9, 4, 0.3)];
        assert_eq!(likeliest(&mean_of_logits(&frames(&seen))), Some(2));
        assert_eq!(likeliest(&surest_frame(&frames(&seen))), Some(3));
        assert_eq!(likeliest(&frame_of_surest_box(&frames(&seen))), Some(4));
    }

    #[test]
    fn the_mean_sums_to_one() {
        let seen = [sighting(0.4, 2, 0.5), sighting(0.6, 3, 0.7)];
        let sum: f32 = mean_of_logits(&frames(&seen)).iter().map(|l| l.exp()).sum();
        assert!((sum - 1.0).abs() < 1e-5);
        assert!(mean_of_logits(&[]).is_empty());
    }
}
