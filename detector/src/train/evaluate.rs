//! How well a way of judging bursts does, with confidence intervals that respect which bursts share a photograph.

use std::collections::BTreeMap;

use rand::{RngExt, SeedableRng};
use rand_chacha::ChaCha8Rng;
use serde::Serialize;

use crate::taxonomy::{Identification, Taxonomy};

/// Resamples behind every interval.
const RESAMPLES: usize = 4000;

/// Largest loss that one burst may count, so that the mean is not one burst's.
const LARGEST_LOSS: f64 = 12.0;

/// A number with its 95 % confidence interval.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
pub struct Estimate {
    /// Mean over bursts.
    pub value: f64,
    /// 2.5 % quantile of the bootstrap over photographs.
    pub low: f64,
    /// 97.5 % quantile.
    pub high: f64,
}

/// A burst's true answer.
#[derive(Debug, Clone)]
pub struct Truth {
    /// Number of the photograph that the burst was made from.
    pub photograph: usize,
    /// Names from class down to what the photograph surely shows.
    pub lineage: Vec<String>,
    /// Taxa that agree with the label, see [`Taxonomy::compatible`].
    pub compatible: Vec<usize>,
}

/// How one burst was judged.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Outcome {
    /// The likeliest taxon agrees with the label: 1 or 0.
    pub top1: f64,
    /// Negative logarithm of the probability of the taxa that agree.
    pub loss: f64,
    /// The rolled-up name is the label, lies above it, or below it: 1 or 0.
    pub right: f64,
    /// A name was given and it is none of these: 1 or 0.
    pub wrong: f64,
    /// Ranks named correctly from class down, 0 to 5.
    pub depth: f64,
}

/// Means of [`Outcome`] over bursts.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Score {
    /// Share of bursts whose likeliest taxon agrees with the label.
    pub top1: Estimate,
    /// Mean negative log-likelihood.
    pub loss: Estimate,
    /// Share of bursts whose rolled-up name is right.
    pub rolled_up_right: Estimate,
    /// Share of bursts whose rolled-up name is wrong.
    pub rolled_up_wrong: Estimate,
    /// Mean number of ranks named correctly.
    pub ranks_right: Estimate,
}

/// Judges one burst's log probabilities over all taxa.
pub fn outcome(taxonomy: &Taxonomy, truth: &Truth, log_probabilities: &[f32], threshold: f32) -> Outcome {
    let likeliest = (0..log_probabilities.len())
        .max_by(|&a, &b| log_probabilities[a].total_cmp(&log_probabilities[b]).then(b.cmp(&a)))
        .unwrap_or_default();
    let mass: f64 = truth.compatible.iter().map(|&taxon| f64::from(log_probabilities[taxon]).exp()).sum();
    let probabilities: Vec<f32> = log_probabilities.iter().map(|l| l.exp()).collect();
    let (right, wrong, depth) = compare(&taxonomy.roll_up(&probabilities, threshold), truth);
    Outcome {
        top1: f64::from(u8::from(truth.compatible.contains(&likeliest))),
        loss: (-mass.ln()).clamp(0.0, LARGEST_LOSS),
        right,
        wrong,
        depth,
    }
}

/// Means over all bursts.
pub fn score(outcomes: &[Outcome], truths: &[Truth], seed: u64) -> Score {
    let mean = |of: fn(&Outcome) -> f64| {
        let values: Vec<f64> = outcomes.iter().map(of).collect();
        estimate(&values, truths, seed)
    };
    Score {
        top1: mean(|o| o.top1),
        loss: mean(|o| o.loss),
        rolled_up_right: mean(|o| o.right),
        rolled_up_wrong: mean(|o| o.wrong),
        ranks_right: mean(|o| o.depth),
    }
}

/// What `ours` does better than `other` on the same bursts, burst by burst: positive top-1 is a gain.
pub fn top1_gain(ours: &[Outcome], other: &[Outcome], truths: &[Truth], seed: u64) -> Estimate {
    let values: Vec<f64> = ours.iter().zip(other).map(|(a, b)| a.top1 - b.top1).collect();
    estimate(&values, truths, seed)
}

/// What `ours` loses less than `other` on the same bursts: a positive number is a gain.
pub fn loss_gain(ours: &[Outcome], other: &[Outcome], truths: &[Truth], seed: u64) -> Estimate {
    let values: Vec<f64> = ours.iter().zip(other).map(|(a, b)| b.loss - a.loss).collect();
    estimate(&values, truths, seed)
}

/// Mean with a bootstrap that draws photographs, not bursts: bursts of one photograph are no independent witnesses.
fn estimate(values: &[f64], truths: &[Truth], seed: u64) -> Estimate {
    let mut clusters: BTreeMap<usize, (f64, f64)> = BTreeMap::new();
    for (value, truth) in values.iter().zip(truths) {
        let cluster = clusters.entry(truth.photograph).or_default();
        cluster.0 += value;
        cluster.1 += 1.0;
    }
    let clusters: Vec<(f64, f64)> = clusters.into_values().collect();
    if clusters.is_empty() {
        return Estimate { value: 0.0, low: 0.0, high: 0.0 };
    }
    let ratio = |(sum, count): (f64, f64)| sum / count;
    let add = |a: (f64, f64), b: (f64, f64)| (a.0 + b.0, a.1 + b.1);
    let mut rng = ChaCha8Rng::seed_from_u64(seed);
    let mut means: Vec<f64> = (0..RESAMPLES)
        .map(|_| {
            let draw = (0..clusters.len()).map(|_| clusters[rng.random_range(0..clusters.len())]);
            ratio(draw.fold((0.0, 0.0), add))
        })
        .collect();
    means.sort_by(f64::total_cmp);
    let quantile = |share: f64| means[((RESAMPLES - 1) as f64 * share).round() as usize];
    Estimate {
        value: ratio(clusters.iter().copied().fold((0.0, 0.0), add)),
        low: quantile(0.025),
        high: quantile(0.975),
    }
}

/// Right, wrong, and ranks named correctly.
fn compare(answer: &Identification, truth: &Truth) -> (f64, f64, f64) {
    if answer.lineage.is_empty() {
        return (0.0, 0.0, 0.0);
    }
    let named: Vec<&str> = answer.lineage.split(';').collect();
    let shared = named.iter().zip(&truth.lineage).take_while(|(a, b)| **a == b.as_str()).count();
    let right = shared == named.len().min(truth.lineage.len());
    (f64::from(u8::from(right)), f64::from(u8::from(!right)), shared as f64)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn truth(photograph: usize) -> Truth {
        Truth {
            photograph,
            lineage: ["Mammalia", "Carnivora", "Felidae"].map(str::to_owned).to_vec(),
            compatible: vec![1],
        }
    }

    fn answer(lineage: &str) -> Identification {
        Identification {
            common_name: None,
            scientific_name: None,
            rank: None,
            lineage: lineage.to_owned(),
            confidence: 0.9,
            top: Vec::new(),
        }
    }

    #[test]
    fn names_above_and_below_the_label_are_right() {
        assert_eq!(compare(&answer("Mammalia;Carnivora"), &truth(0)), (1.0, 0.0, 2.0));
        assert_eq!(compare(&answer("Mammalia;Carnivora;Felidae;Panthera"), &truth(0)), (1.0, 0.0, 3.0));
        assert_eq!(compare(&answer("Mammalia;Primates"), &truth(0)), (0.0, 1.0, 1.0));
        assert_eq!(compare(&answer(""), &truth(0)), (0.0, 0.0, 0.0));
    }

    #[test]
    fn bursts_of_one_photograph_count_as_one_witness() {
        // Ten photographs, half right: the interval must not shrink when each is repeated a hundred times.
        let width = |copies: usize| {
            let truths: Vec<Truth> = (0..10).flat_map(|p| vec![truth(p); copies]).collect();
            let values: Vec<f64> = truths.iter().map(|t| (t.photograph % 2) as f64).collect();
            let estimate = estimate(&values, &truths, 3);
            assert!((estimate.value - 0.5).abs() < 1e-9);
            estimate.high - estimate.low
        };
        assert!((width(1) - width(100)).abs() < 1e-9);
        assert!(width(1) > 0.4);
    }
}
