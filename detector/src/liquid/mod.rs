//! The liquid network: what all frames of a burst together say about the species.
//!
//! [`BurstModel`] is the face for the rest of the crate: a burst at once with [`BurstModel::judge`], or frame by frame
//! with [`BurstModel::begin`], [`BurstModel::push`] and [`BurstModel::answer`]; both give the same answer.

pub mod baselines;
#[cfg(feature = "torch")]
pub mod cell;
#[cfg(feature = "torch")]
pub mod ensemble;
#[cfg(feature = "torch")]
pub mod features;
#[cfg(feature = "torch")]
mod model;
#[cfg(feature = "torch")]
pub mod network;
#[cfg(not(feature = "torch"))]
mod none;

#[cfg(feature = "torch")]
pub(crate) use model::rows;
#[cfg(feature = "torch")]
pub use model::{BurstModel, BurstState};
#[cfg(not(feature = "torch"))]
pub use none::{BurstModel, BurstState};

use crate::sighting::Sighting;

/// One animal as one frame of a burst shows it.
#[derive(Debug, Clone, Copy)]
pub struct LiquidFrame<'a> {
    /// What the networks saw.
    pub sighting: &'a Sighting,
    /// Seconds since the burst's last frame with this animal; 1 for the first.
    pub gap_seconds: f32,
}

#[cfg(all(test, feature = "torch"))]
pub(crate) mod tests {
    #![allow(clippy::unwrap_used)]
    use std::sync::{Mutex, MutexGuard};

    use rand::{RngExt, SeedableRng};
    use rand_chacha::ChaCha8Rng;
    use tch::nn::VarStore;
    use tch::{Device, Kind, Tensor};

    use super::ensemble::Ensemble;
    use super::*;
    use crate::nms::{BoundingBox, Category, ScoredBox};
    use crate::sighting::CropQuality;
    use crate::taxonomy::Evidence;

    pub(crate) const TAXA: usize = 12;

    /// Held while libtorch's random numbers must not be drawn by another test: there is one generator a process.
    pub(crate) fn random_numbers() -> MutexGuard<'static, ()> {
        static LOCK: Mutex<()> = Mutex::new(());
        LOCK.lock().unwrap_or_else(|poisoned| poisoned.into_inner())
    }

    /// A sighting that gives `best` of the probability to `taxon`.
    pub(crate) fn sighting(score: f32, taxon: usize, best: f32) -> Sighting {
        let other = (1.0 - best) / (TAXA - 1) as f32;
        let log_probabilities = (0..TAXA).map(|t| if t == taxon { best.ln() } else { other.ln() }).collect();
        Sighting {
            scored: ScoredBox {
                bounds: BoundingBox { ymin: 0.2, xmin: 0.1, ymax: 0.6, xmax: 0.9 },
                category: Category::Animal,
                score,
                coco: 17,
                animal_scores: [0.1; 10],
            },
            evidence: Evidence { log_probabilities, animal_mass: best },
            embedding: (0..20).map(|i| ((i * (taxon + 1)) as f32).sin() + 1.0).collect(),
            quality: CropQuality { brightness: 0.4, contrast: 0.2, sharpness: 0.08, colourfulness: 0.1 },
        }
    }

    /// A network whose weights are all drawn at random, so that every part of it matters.
    fn model(seed: i64) -> BurstModel {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("liquid.safetensors");
        let _guard = random_numbers();
        let store = VarStore::new(Device::Cpu);
        let _ensemble = Ensemble::new(&store, 2, network::Sizes { taxa: TAXA as i64, units: 8, backbone: 16 });
        tch::manual_seed(seed);
        tch::no_grad(|| {
            for (name, mut variable) in store.variables() {
                if name == "sharpness" {
                    continue;
                }
                let values = Tensor::randn_like(&variable) * 0.5;
                let values = if name.ends_with("nothing") { values.softmax(0, Kind::Float) } else { values };
                variable.copy_(&values);
            }
        });
        store.save(&path).unwrap();
        BurstModel::load(&path).unwrap()
    }

    fn bursts(seed: u64) -> Vec<Vec<(Sighting, f32)>> {
        let mut rng = ChaCha8Rng::seed_from_u64(seed);
        [1, 5, 2, 8, 3]
            .map(|frames| {
                (0..frames)
                    .map(|_| {
                        let taxon = rng.random_range(0..TAXA);
                        let look = sighting(rng.random_range(0.1..1.0), taxon, rng.random_range(0.1..0.99));
                        (look, rng.random_range(0.3..60.0))
                    })
                    .collect()
            })
            .to_vec()
    }

    fn frames(burst: &[(Sighting, f32)]) -> Vec<LiquidFrame<'_>> {
        burst.iter().map(|(sighting, gap_seconds)| LiquidFrame { sighting, gap_seconds: *gap_seconds }).collect()
    }

    /// As in the engine. With more, another test that sets the number meanwhile changes the order of sums within this one.
    fn one_thread() {
        tch::set_num_threads(1);
    }

    /// Largest difference between two distributions given as logarithms.
    fn difference(a: &[f32], b: &[f32]) -> f32 {
        a.iter().zip(b).map(|(a, b)| (a.exp() - b.exp()).abs()).fold(0.0, f32::max)
    }

    #[test]
    fn bursts_side_by_side_are_judged_as_alone() {
        one_thread();
        let (model, bursts) = (model(1), bursts(2));
        let frames: Vec<Vec<LiquidFrame<'_>>> = bursts.iter().map(|burst| frames(burst)).collect();
        for (together, alone) in model.judge_all(&frames).unwrap().iter().zip(&frames) {
            let difference = difference(together, &model.judge(alone).unwrap());
            assert!(difference < 1e-6, "off by {difference}");
            let sum: f32 = together.iter().map(|l| l.exp()).sum();
            assert!((sum - 1.0).abs() < 1e-5);
        }
    }

    #[test]
    fn frame_by_frame_is_the_burst_at_once() {
        one_thread();
        let (model, bursts) = (model(3), bursts(4));
        for burst in &bursts {
            let mut state = model.begin();
            assert!(model.answer(&state).unwrap().is_none());
            for (count, frame) in frames(burst).into_iter().enumerate() {
                state = model.push(state, frame).unwrap();
                let streamed = model.answer(&state).unwrap().unwrap();
                assert!(difference(&streamed, &model.judge(&frames(burst)[..=count]).unwrap()) < 1e-6);
            }
        }
    }

    #[test]
    fn the_gap_between_frames_matters() {
        let model = model(5);
        let (a, b) = (sighting(0.9, 1, 0.8), sighting(0.4, 2, 0.9));
        let judged = |gap_seconds: f32| {
            let frames = [LiquidFrame { sighting: &a, gap_seconds: 1.0 }, LiquidFrame { sighting: &b, gap_seconds }];
            model.judge(&frames).unwrap()
        };
        assert!(difference(&judged(0.3), &judged(30.0)) > 1e-3);
    }

    #[test]
    fn frames_of_another_vocabulary_are_refused() {
        let mut other = sighting(0.9, 1, 0.8);
        other.evidence.log_probabilities.pop();
        let error = model(6).judge(&[LiquidFrame { sighting: &other, gap_seconds: 1.0 }]).unwrap_err().to_string();
        assert!(error.contains("12 taxa") && error.contains("11"), "{error}");
        assert!(model(6).judge(&[]).is_err());
    }

    #[test]
    fn a_file_without_a_network_is_refused() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("liquid.safetensors");
        assert!(BurstModel::load(&path).unwrap_err().to_string().contains("missing"));
        Tensor::write_safetensors(&[("x", Tensor::zeros([1], (Kind::Float, Device::Cpu)))], &path).unwrap();
        assert!(BurstModel::load(&path).unwrap_err().to_string().contains("safari train"));
        std::fs::write(&path, b"no tensors").unwrap();
        assert!(BurstModel::load(&path).is_err());
    }
}
