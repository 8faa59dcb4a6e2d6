//! `metrics.json`: how a trained liquid network compares with judging bursts without one.

use serde::Serialize;

use super::evaluate::{Estimate, Outcome, Score, Truth, loss_gain, score, top1_gain};

/// Outcomes of the test bursts under each judge, in the same order.
#[derive(Debug)]
pub struct Judges {
    /// The liquid network.
    pub liquid: Vec<Outcome>,
    /// The mean of the frames' logits.
    pub mean_of_logits: Vec<Outcome>,
    /// The frame that is surest of a taxon.
    pub surest_frame: Vec<Outcome>,
    /// The frame with the surest box.
    pub frame_of_surest_box: Vec<Outcome>,
}

/// How many photographs and bursts a split has.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Counts {
    /// Photographs with an animal that bursts were made of.
    pub photographs: usize,
    /// Bursts that a camera took.
    pub recorded_bursts: usize,
    /// Bursts in all.
    pub bursts: usize,
    /// Bursts in which the networks saw an animal at all; the others are left out.
    pub bursts_with_an_animal_seen: usize,
    /// Their frames with an animal.
    pub frames_with_an_animal_seen: usize,
}

/// What the liquid network does better than another judge on the same bursts.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Gain {
    /// More bursts whose likeliest taxon agrees with the label, as a share.
    pub top1: Estimate,
    /// Less mean negative log-likelihood.
    pub loss: Estimate,
}

/// The liquid network beside the judges that it has to beat, on the same bursts.
///
/// Every number has a 95 % interval from a bootstrap over photographs.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Comparison {
    /// The liquid network over the burst.
    pub liquid: Score,
    /// The mean of the frames' log probabilities.
    pub mean_of_logits: Score,
    /// The single frame that is surest of a taxon.
    pub best_single_frame: Score,
    /// The single frame whose box is surest.
    pub frame_of_surest_box: Score,
    /// Liquid against the mean.
    pub gain_over_mean_of_logits: Gain,
    /// Liquid against the best single frame.
    pub gain_over_best_single_frame: Gain,
    /// Liquid against the frame of the surest box.
    pub gain_over_frame_of_surest_box: Gain,
}

/// The content of `metrics.json`.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Metrics {
    /// On bursts of the test photographs, which nothing was fitted to or chosen by.
    pub test: Comparison,
    /// On the training photographs, each judged by the one network that was not fitted to it. That network's epoch and the
    /// sharpness were chosen on the same bursts, so these numbers are somewhat too good.
    pub cross_validated: Comparison,
    /// What the weights were fitted to.
    pub train_counts: Counts,
    /// What was judged for `test`.
    pub test_counts: Counts,
    /// The epoch that each network kept.
    pub epochs: Vec<usize>,
    /// What the answers are sharpened by.
    pub sharpness: f64,
    /// Probability that a name needed in the roll-up.
    pub roll_up_threshold: f32,
    /// Seed of the bursts and of the fit.
    pub seed: u64,
}

impl Comparison {
    /// What the judges' outcomes come to, beside the liquid network's. `seed` is that of the intervals' resampling.
    pub fn new(judges: &Judges, truths: &[Truth], seed: u64) -> Self {
        let gain = |other: &[Outcome]| Gain {
            top1: top1_gain(&judges.liquid, other, truths, seed),
            loss: loss_gain(&judges.liquid, other, truths, seed),
        };
        Self {
            liquid: score(&judges.liquid, truths, seed),
            mean_of_logits: score(&judges.mean_of_logits, truths, seed),
            best_single_frame: score(&judges.surest_frame, truths, seed),
            frame_of_surest_box: score(&judges.frame_of_surest_box, truths, seed),
            gain_over_mean_of_logits: gain(&judges.mean_of_logits),
            gain_over_best_single_frame: gain(&judges.surest_frame),
            gain_over_frame_of_surest_box: gain(&judges.frame_of_surest_box),
        }
    }
}
