//! What the liquid network is told about a frame: how good a look it was, not which species it showed.
//!
//! Nothing here names a taxon, so what the network learns from some species holds for the others.

use tch::{Kind, Tensor};

use super::LiquidFrame;
use crate::sighting::Sighting;
use crate::{Error, Result};

/// Values that describe a frame on its own.
pub const OWN: usize = 14;

/// Values that set a frame against those before it.
pub const RELATIVE: usize = 8;

/// Shortest gap that the network tells apart, in seconds.
const SHORTEST_GAP: f64 = 0.05;

/// Frames of several bursts side by side: B bursts, at most T frames, K taxa, E embedding values.
#[derive(Debug)]
pub struct Batch {
    /// B x T x [`OWN`].
    pub own: Tensor,
    /// B x T x K, each frame's log probabilities.
    pub evidence: Tensor,
    /// B x T x E, embeddings of length 1.
    pub looks: Tensor,
    /// B x T, seconds since the frame before.
    pub gaps: Tensor,
    /// B x T, 1 where a burst has a frame, 0 after its end.
    pub mask: Tensor,
}

impl Batch {
    /// Packs bursts that each have a frame; all frames must have as many taxa and embedding values.
    pub fn new(bursts: &[Vec<LiquidFrame<'_>>]) -> Result<Self> {
        let first = bursts.first().and_then(|burst| burst.first()).map(|frame| frame.sighting);
        let Some(first) = first else { return Err(refused("a burst without frames cannot be judged".to_owned())) };
        let (taxa, values) = (first.evidence.log_probabilities.len(), first.embedding.len());
        let longest = bursts.iter().map(Vec::len).max().unwrap_or_default();
        let places = bursts.len() * longest;
        let mut own = vec![0.0; places * OWN];
        let mut evidence = vec![0.0; places * taxa];
        let mut looks = vec![0.0; places * values];
        let mut gaps = vec![1.0; places];
        let mut mask = vec![0.0_f32; places];
        for (b, burst) in bursts.iter().enumerate() {
            if burst.is_empty() {
                return Err(refused("a burst without frames cannot be judged".to_owned()));
            }
            for (t, frame) in burst.iter().enumerate() {
                let sighting = frame.sighting;
                if sighting.evidence.log_probabilities.len() != taxa || sighting.embedding.len() != values {
                    return Err(refused("the frames of a burst come from different models".to_owned()));
                }
                let at = b * longest + t;
                own[at * OWN..(at + 1) * OWN].copy_from_slice(&own_features(sighting));
                evidence[at * taxa..(at + 1) * taxa].copy_from_slice(&sighting.evidence.log_probabilities);
                let length = norm(&sighting.embedding).max(1e-6);
                for (target, value) in looks[at * values..].iter_mut().zip(&sighting.embedding) {
                    *target = value / length;
                }
                gaps[at] = frame.gap_seconds.max(0.0);
                mask[at] = 1.0;
            }
        }
        let (b, t) = (bursts.len() as i64, longest as i64);
        Ok(Self {
            own: Tensor::f_from_slice(&own)?.f_view([b, t, OWN as i64])?,
            evidence: Tensor::f_from_slice(&evidence)?.f_view([b, t, taxa as i64])?,
            looks: Tensor::f_from_slice(&looks)?.f_view([b, t, values as i64])?,
            gaps: Tensor::f_from_slice(&gaps)?.f_view([b, t])?,
            mask: Tensor::f_from_slice(&mask)?.f_view([b, t])?,
        })
    }
}

/// What can be said of a sighting alone, each value roughly between -1 and 1.
pub fn own_features(sighting: &Sighting) -> [f32; OWN] {
    let score = sighting.scored.score.clamp(0.01, 0.99);
    let bounds = &sighting.scored.bounds;
    let (width, height) = (bounds.width().max(0.01), bounds.height().max(0.01));
    let touches = [bounds.ymin < 0.01, bounds.xmin < 0.01, bounds.ymax > 0.99, bounds.xmax > 0.99];
    let (mut best, mut second, mut entropy) = (0.0_f32, 0.0_f32, 0.0_f32);
    for &log_probability in &sighting.evidence.log_probabilities {
        let probability = log_probability.exp();
        entropy -= probability * log_probability.max(-80.0);
        second = second.max(probability.min(best));
        best = best.max(probability);
    }
    let most = (sighting.evidence.log_probabilities.len().max(2) as f32).ln();
    let quality = &sighting.quality;
    [
        (score / (1.0 - score)).ln() / 3.0,
        f32::from(u8::from(sighting.scored.coco == 0)),
        (width * height).ln() / 2.0 + 1.0,
        (width / height).ln(),
        touches.iter().filter(|&&touch| touch).count() as f32 / 4.0,
        2.0 * best - 1.0,
        2.0 * (best - second) - 1.0,
        2.0 * entropy / most - 1.0,
        2.0 * sighting.evidence.animal_mass - 1.0,
        4.0 * quality.brightness - 1.0,
        8.0 * quality.contrast - 1.0,
        quality.sharpness.max(1e-3).ln() / 2.0 + 1.5,
        6.0 * quality.colourfulness - 1.0,
        norm(&sighting.embedding) / 20.0 - 1.0,
    ]
}

/// How frames agree with what came before them: B x [`RELATIVE`].
///
/// `log_probabilities` are the frames' (B x K), `so_far` those of the frames before (B x K); `looks` and `looks_so_far`
/// the embeddings (B x E); `seen` the number of frames before and `gap` the seconds since the last (B x 1).
pub fn relative_features(
    log_probabilities: &Tensor,
    so_far: &Tensor,
    looks: &Tensor,
    looks_so_far: &Tensor,
    seen: &Tensor,
    gap: &Tensor,
) -> Tensor {
    let has_past = seen.gt(0.0).to_kind(Kind::Float);
    let (now, past) = (log_probabilities.exp(), so_far.exp());
    // Bhattacharyya: 1 for the same distribution, 0 for nothing in common.
    let shared = ((log_probabilities + so_far) / 2.0).exp().sum_dim_intlist([1_i64].as_slice(), true, Kind::Float);
    let length = looks_so_far.norm_scalaropt_dim(2.0, [1_i64].as_slice(), true).clamp_min(1e-6);
    let likeness = (looks * looks_so_far).sum_dim_intlist([1_i64].as_slice(), true, Kind::Float) / length;
    let past_of_now = past.gather(1, &now.argmax(1, true), false);
    let now_of_past = now.gather(1, &past.argmax(1, true), false);
    let signed = |share: Tensor| (share * 2.0 - 1.0) * &has_past;
    Tensor::cat(
        &[
            has_past.shallow_clone(),
            signed(shared),
            likeness * &has_past,
            signed(past_of_now),
            signed(now_of_past),
            signed(past.amax([1_i64].as_slice(), true)),
            seen.log1p() / 2.0,
            gap.clamp_min(SHORTEST_GAP).log() / 3.0 * &has_past,
        ],
        1,
    )
}

fn norm(values: &[f32]) -> f32 {
    values.iter().map(|value| value * value).sum::<f32>().sqrt()
}

fn refused(reason: String) -> Error {
    Error::Torch(reason)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::liquid::tests::sighting;

    #[test]
    fn features_are_of_moderate_size() {
        for (score, best) in [(0.3, 0.1), (0.99, 0.99), (0.0, 0.004)] {
            let features = own_features(&sighting(score, 3, best));
            assert!(features.iter().all(|f| f.is_finite() && f.abs() < 4.0), "{features:?}");
        }
    }

    #[test]
    fn a_sure_frame_has_more_margin_and_less_entropy() {
        let (sure, unsure) = (own_features(&sighting(0.5, 3, 0.95)), own_features(&sighting(0.5, 3, 0.2)));
        assert!(sure[6] > unsure[6] && sure[7] < unsure[7]);
    }
}
