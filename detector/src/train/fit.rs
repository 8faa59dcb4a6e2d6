//! Fits the liquid network to bursts: AdamW on the likelihood of the taxa that agree with the label.

use std::collections::HashMap;

use rand::seq::SliceRandom;
use rand::{RngExt, SeedableRng};
use rand_chacha::ChaCha8Rng;
use tch::nn::{self, OptimizerConfig, VarStore};
use tch::{Device, Kind, Tensor};

use crate::liquid::LiquidFrame;
use crate::liquid::features::Batch;
use crate::liquid::network::{Judged, Network, Sizes};
use crate::sighting::Sighting;
use crate::{Error, Result};

/// Largest loss that one burst may count in training: a mislabelled or hopeless burst must not lead.
const LARGEST_LOSS: f64 = 6.0;

/// Weight of the loss of the frames' trust.
const TRUST_WEIGHT: f64 = 0.3;

/// Shares of a burst's frames that training leaves out, one of them drawn for each burst and epoch.
const LEFT_OUT: [f64; 3] = [0.0, 0.2, 0.4];

/// Added to probabilities before their logarithm.
const SMALLEST: f64 = 1e-9;

/// How the network is fitted.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct FitOptions {
    /// Times that all bursts are seen.
    pub epochs: usize,
    /// Bursts a step.
    pub batch: usize,
    /// Learning rate of the first step; it falls to nearly 0 along a cosine.
    pub learning_rate: f64,
    /// AdamW's weight decay.
    pub weight_decay: f64,
    /// Share of inputs and states that training sets to 0.
    pub dropout: f64,
    /// Units of the liquid state.
    pub units: i64,
    /// Units of the cell's backbone.
    pub backbone: i64,
    /// Seed of weights, order and dropout.
    pub seed: u64,
}

impl Default for FitOptions {
    fn default() -> Self {
        Self {
            epochs: 60,
            batch: 64,
            learning_rate: 3e-3,
            weight_decay: 1e-2,
            dropout: 0.1,
            units: 32,
            backbone: 64,
            seed: 7,
        }
    }
}

/// A burst and what it shows.
#[derive(Debug, Clone)]
pub struct Lesson {
    /// Seconds since the burst's first frame, and what was seen.
    pub sightings: Vec<(f64, Sighting)>,
    /// Taxa that agree with the label.
    pub compatible: Vec<usize>,
}

impl Lesson {
    /// The frames with the gaps between them.
    pub fn frames(&self) -> Vec<LiquidFrame<'_>> {
        with_gaps(self.sightings.iter())
    }
}

/// A fitted network.
#[derive(Debug)]
pub struct Fitted {
    /// Its weights.
    pub store: VarStore,
    /// Epoch whose weights these are, from 1.
    pub epoch: usize,
    /// Mean loss on the validation bursts then.
    pub validation_loss: f64,
}

/// Fits a network to `train` and keeps the weights of the epoch with the smallest loss on `validation`.
///
/// `progress` hears the number of each finished epoch and its loss on `validation`.
pub fn fit(
    train: &[Lesson],
    validation: &[Lesson],
    taxa: usize,
    options: &FitOptions,
    progress: &dyn Fn(usize, f64),
) -> Result<Fitted> {
    if train.is_empty() || validation.is_empty() {
        return Err(Error::Training("no animal was seen in any burst for training or for validation".to_owned()));
    }
    tch::manual_seed(options.seed as i64);
    let mut rng = ChaCha8Rng::seed_from_u64(options.seed);
    let store = VarStore::new(Device::Cpu);
    let sizes = Sizes { taxa: taxa as i64, units: options.units, backbone: options.backbone };
    let network = Network::new(&store, sizes);
    set_nothing(&network, train, taxa)?;
    let mut optimiser = nn::AdamW { wd: options.weight_decay, ..nn::AdamW::default() }
        .build(&store, options.learning_rate)
        .map_err(Error::Torch)?;
    let validation = Examples::new(validation.iter().map(|lesson| (lesson.frames(), lesson)), taxa)?;
    let steps = (options.epochs * train.len().div_ceil(options.batch)).max(1);
    let (mut step, mut best) = (0, None::<(usize, f64, HashMap<String, Tensor>)>);
    let mut order: Vec<usize> = (0..train.len()).collect();
    for epoch in 1..=options.epochs {
        order.shuffle(&mut rng);
        for chunk in order.chunks(options.batch) {
            let fallen = 0.5 * (1.0 + (std::f64::consts::PI * step as f64 / steps as f64).cos());
            optimiser.set_lr(options.learning_rate * fallen + 1e-5);
            step += 1;
            let parts: Vec<_> = chunk.iter().map(|&index| (part_of(&train[index], &mut rng), &train[index])).collect();
            let examples = Examples::new(parts.into_iter(), taxa)?;
            let judged = network.forward(&examples.batch, options.dropout);
            let loss = examples.loss(&judged).clamp_max(LARGEST_LOSS).mean(Kind::Float)
                + TRUST_WEIGHT * examples.trust_loss(&judged);
            optimiser.backward_step_clip_norm(&loss, 1.0);
        }
        let loss = tch::no_grad(|| {
            let judged = network.forward(&validation.batch, 0.0);
            validation.loss(&judged).mean(Kind::Float).double_value(&[])
        });
        if !loss.is_finite() {
            return Err(Error::Training(format!("the loss of epoch {epoch} is {loss}; try a smaller learning rate")));
        }
        if best.as_ref().is_none_or(|(_, smallest, _)| loss < *smallest) {
            let weights = store.variables().into_iter().map(|(name, value)| (name, value.detach().copy())).collect();
            best = Some((epoch, loss, weights));
        }
        progress(epoch, loss);
    }
    let Some((epoch, validation_loss, weights)) = best else {
        return Err(Error::Training("at least one epoch is needed".to_owned()));
    };
    tch::no_grad(|| {
        for (name, mut value) in store.variables() {
            if let Some(kept) = weights.get(&name) {
                value.copy_(kept);
            }
        }
    });
    Ok(Fitted { store, epoch, validation_loss })
}

/// Bursts as tensors, with what they show.
struct Examples {
    batch: Batch,
    /// B x K, true for taxa that agree.
    compatible: Tensor,
}

impl Examples {
    fn new<'a>(lessons: impl Iterator<Item = (Vec<LiquidFrame<'a>>, &'a Lesson)>, taxa: usize) -> Result<Self> {
        let (mut bursts, mut compatible) = (Vec::new(), Vec::new());
        for (frames, lesson) in lessons {
            bursts.push(frames);
            compatible.extend((0..taxa).map(|taxon| lesson.compatible.contains(&taxon)));
        }
        let shape = [bursts.len() as i64, taxa as i64];
        Ok(Self { batch: Batch::new(&bursts)?, compatible: Tensor::f_from_slice(&compatible)?.f_view(shape)? })
    }

    /// Negative log-likelihood of the taxa that agree: B.
    fn loss(&self, judged: &Judged) -> Tensor {
        let others = self.compatible.logical_not();
        -judged.log_probabilities.masked_fill(&others, -1e9).logsumexp([1_i64].as_slice(), false)
    }

    /// How badly the network foretold which frames name the species rightly by themselves.
    fn trust_loss(&self, judged: &Judged) -> Tensor {
        let right = self.compatible.gather(1, &self.batch.evidence.argmax(2, false), false).to_kind(Kind::Float);
        let loss = judged.trust.squeeze_dim(-1).binary_cross_entropy_with_logits::<Tensor>(
            &right,
            None,
            None,
            tch::Reduction::None,
        );
        (loss * &self.batch.mask).sum(Kind::Float) / self.batch.mask.sum(Kind::Float)
    }
}

/// Measures what the networks say of crops beside the truth: the mean distribution over the taxa that do not agree.
fn set_nothing(network: &Network, lessons: &[Lesson], taxa: usize) -> Result<()> {
    let mut nothing = vec![0.0_f64; taxa];
    for lesson in lessons {
        for (_, sighting) in &lesson.sightings {
            for (taxon, &log_probability) in sighting.evidence.log_probabilities.iter().enumerate() {
                if !lesson.compatible.contains(&taxon) {
                    nothing[taxon] += f64::from(log_probability).exp();
                }
            }
        }
    }
    let sum: f64 = nothing.iter().sum::<f64>() + SMALLEST;
    let shares: Vec<f32> = nothing.iter().map(|value| (value / sum) as f32).collect();
    tch::no_grad(|| network.nothing.shallow_clone().copy_(&Tensor::from_slice(&shares)));
    Ok(())
}

/// The lesson with some frames left out, never all.
fn part_of<'a>(lesson: &'a Lesson, rng: &mut ChaCha8Rng) -> Vec<LiquidFrame<'a>> {
    let left_out = LEFT_OUT[rng.random_range(0..LEFT_OUT.len())];
    let mut kept: Vec<&(f64, Sighting)> = lesson.sightings.iter().filter(|_| !rng.random_bool(left_out)).collect();
    if kept.is_empty() {
        kept.push(&lesson.sightings[rng.random_range(0..lesson.sightings.len())]);
    }
    with_gaps(kept.into_iter())
}

fn with_gaps<'a>(sightings: impl Iterator<Item = &'a (f64, Sighting)>) -> Vec<LiquidFrame<'a>> {
    let mut last = None;
    sightings
        .map(|(seconds, sighting)| {
            let gap = last.map_or(1.0, |last: f64| seconds - last);
            last = Some(*seconds);
            LiquidFrame { sighting, gap_seconds: gap as f32 }
        })
        .collect()
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use crate::liquid::BurstModel;
    use crate::liquid::tests::{TAXA, random_numbers, sighting};

    /// The sharp frame is right and the many dark ones agree on a wrong species.
    fn lessons(seed: u64, count: usize) -> Vec<Lesson> {
        let mut rng = ChaCha8Rng::seed_from_u64(seed);
        (0..count)
            .map(|_| {
                let truth = rng.random_range(1..TAXA);
                let right = rng.random_range(0..4);
                let sightings = (0..4)
                    .map(|frame| {
                        let mut seen = sighting(0.6, if frame == right { truth } else { 0 }, 0.6);
                        seen.quality.brightness = if frame == right { 0.6 } else { 0.1 };
                        (frame as f64, seen)
                    })
                    .collect();
                Lesson { sightings, compatible: vec![truth] }
            })
            .collect()
    }

    #[test]
    fn it_learns_which_frames_to_believe() {
        let _guard = random_numbers();
        let options = FitOptions { epochs: 25, batch: 16, units: 8, backbone: 16, ..FitOptions::default() };
        let fitted = fit(&lessons(1, 96), &lessons(2, 32), TAXA, &options, &|_, _| ()).unwrap();
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("liquid.safetensors");
        fitted.store.save(&path).unwrap();
        let model = BurstModel::load(&path).unwrap();
        let held_out = lessons(3, 50);
        let right = held_out.iter().filter(|lesson| {
            let judged = model.judge(&lesson.frames()).unwrap();
            let best = (0..TAXA).max_by(|&a, &b| judged[a].total_cmp(&judged[b])).unwrap();
            lesson.compatible.contains(&best)
        });
        assert!(right.count() >= 45);
    }

    #[test]
    fn the_same_seed_gives_the_same_network() {
        let _guard = random_numbers();
        let options = FitOptions { epochs: 2, batch: 8, units: 4, backbone: 8, ..FitOptions::default() };
        let loss = |seed: u64| {
            let options = FitOptions { seed, ..options };
            fit(&lessons(1, 16), &lessons(2, 8), TAXA, &options, &|_, _| ()).unwrap().validation_loss
        };
        assert_eq!(loss(5), loss(5));
        assert_ne!(loss(5), loss(6));
    }

    #[test]
    fn nothing_to_learn_from_is_an_error() {
        let error = fit(&[], &[], TAXA, &FitOptions::default(), &|_, _| ()).unwrap_err().to_string();
        assert!(error.contains("no animal"), "{error}");
    }
}
