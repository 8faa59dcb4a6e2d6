//! Fits the liquid networks to bursts: AdamW on the likelihood of the taxa that agree with the label.
//!
//! Photographs are dealt into folds. Each network of the ensemble is fitted without one fold, which decides which epoch's
//! weights it keeps; what it answers there, for photographs that it was not fitted to, also sets the ensemble's sharpness.

use std::collections::HashMap;
use std::ops::ControlFlow;

use rand::seq::SliceRandom;
use rand::{RngExt, SeedableRng};
use rand_chacha::ChaCha8Rng;
use tch::nn::{self, OptimizerConfig, VarStore};
use tch::{Device, Kind, Tensor};

use super::FitOptions;
use crate::liquid::ensemble::Ensemble;
use crate::liquid::features::Batch;
use crate::liquid::network::{Judged, Network, Sizes};
use crate::liquid::{LiquidFrame, rows};
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

/// How far the networks' answers may be sharpened or softened, and in which steps.
const SHARPNESS: (f64, f64, f64) = (0.5, 1.5, 0.05);

/// A burst and what it shows.
#[derive(Debug, Clone)]
pub struct Lesson {
    /// Number of the photograph that it was made from; a recorded burst has a number of its own.
    pub photograph: usize,
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

/// Fitted networks.
#[derive(Debug)]
pub struct Fitted {
    /// The ensemble's weights.
    pub store: VarStore,
    /// For every lesson, in their order: the log probabilities of the network that was not fitted to its photograph,
    /// sharpened like the ensemble.
    pub held_out: Vec<Vec<f32>>,
    /// The epoch, from 1, whose weights each network kept.
    pub epochs: Vec<usize>,
    /// What the answers are sharpened by; chosen for the least loss of `held_out`.
    pub sharpness: f64,
}

/// Fits the ensemble to `lessons`.
///
/// `progress` hears the number of each finished epoch, counted over all networks, and its loss on the fold held out; it may
/// stop the work.
pub fn fit(
    lessons: &[Lesson],
    taxa: usize,
    options: &FitOptions,
    progress: &dyn Fn(usize, f64) -> ControlFlow<()>,
) -> Result<Fitted> {
    let folds = deal(lessons, options)?;
    let store = VarStore::new(Device::Cpu);
    let sizes = Sizes { taxa: taxa as i64, units: options.units, backbone: options.backbone };
    let ensemble = Ensemble::new(&store, options.folds, sizes);
    let (mut epochs, mut held_out) = (Vec::new(), vec![Vec::new(); lessons.len()]);
    for (fold, network) in ensemble.members().iter().enumerate() {
        let (mut train, mut held) = (Vec::new(), Vec::new());
        for (index, lesson) in lessons.iter().enumerate() {
            if folds[index] == fold { held.push((index, lesson)) } else { train.push(lesson) }
        }
        let scratch = VarStore::new(Device::Cpu);
        let own = FitOptions { seed: options.seed + fold as u64, ..*options };
        tch::manual_seed(own.seed as i64);
        let fresh = Network::new(&scratch.root(), sizes);
        let held_lessons: Vec<&Lesson> = held.iter().map(|&(_, lesson)| lesson).collect();
        let told = |epoch, loss| progress(fold * options.epochs + epoch, loss);
        epochs.push(fit_one(&scratch, &fresh, &train, &held_lessons, taxa, &own, &told)?);
        let prefix = format!("members.{fold}.");
        let kept = scratch.variables();
        tch::no_grad(|| {
            for (name, mut value) in store.variables() {
                if let Some(fitted) = name.strip_prefix(&prefix).and_then(|name| kept.get(name)) {
                    value.copy_(fitted);
                }
            }
        });
        let frames: Vec<_> = held_lessons.iter().map(|lesson| lesson.frames()).collect();
        let judged = tch::no_grad(|| Ok::<_, Error>(network.forward(&Batch::new(&frames)?, 0.0).log_probabilities))?;
        for ((index, _), answer) in held.iter().zip(rows(&judged)?) {
            held_out[*index] = answer;
        }
    }
    let sharpness = best_sharpness(lessons, &held_out);
    ensemble.set_sharpness(sharpness);
    for answer in &mut held_out {
        *answer = sharpened(answer, sharpness);
    }
    Ok(Fitted { store, held_out, epochs, sharpness })
}

/// The fold of each lesson; all lessons of a photograph are in one.
fn deal(lessons: &[Lesson], options: &FitOptions) -> Result<Vec<usize>> {
    let mut photographs: Vec<usize> = lessons.iter().map(|lesson| lesson.photograph).collect();
    photographs.sort_unstable();
    photographs.dedup();
    if options.folds < 2 || photographs.len() < options.folds {
        return Err(Error::Training(format!(
            "animals were seen in bursts of {} photographs and recorded bursts, too few for {} folds",
            photographs.len(),
            options.folds
        )));
    }
    photographs.shuffle(&mut ChaCha8Rng::seed_from_u64(options.seed));
    let fold = |lesson: &Lesson| photographs.iter().position(|&p| p == lesson.photograph).unwrap_or(0) % options.folds;
    Ok(lessons.iter().map(fold).collect())
}

/// Fits one network and leaves the weights of its best epoch, whose number is returned, in `store`.
fn fit_one(
    store: &VarStore,
    network: &Network,
    train: &[&Lesson],
    held_out: &[&Lesson],
    taxa: usize,
    options: &FitOptions,
    progress: &dyn Fn(usize, f64) -> ControlFlow<()>,
) -> Result<usize> {
    let mut rng = ChaCha8Rng::seed_from_u64(options.seed);
    set_nothing(network, train, taxa);
    let mut optimiser = nn::AdamW { wd: options.weight_decay, ..nn::AdamW::default() }
        .build(store, options.learning_rate)
        .map_err(Error::from)?;
    let held_out = Examples::new(held_out.iter().map(|&lesson| (lesson.frames(), lesson)), taxa)?;
    let steps = (options.epochs * train.len().div_ceil(options.batch)).max(1);
    let (mut step, mut best) = (0, None::<(usize, f64, HashMap<String, Tensor>)>);
    let mut order: Vec<usize> = (0..train.len()).collect();
    for epoch in 1..=options.epochs {
        order.shuffle(&mut rng);
        for chunk in order.chunks(options.batch) {
            let fallen = 0.5 * (1.0 + (std::f64::consts::PI * step as f64 / steps as f64).cos());
            optimiser.set_lr(options.learning_rate * fallen + 1e-5);
            step += 1;
            let parts: Vec<_> = chunk.iter().map(|&index| (part_of(train[index], &mut rng), train[index])).collect();
            let examples = Examples::new(parts.into_iter(), taxa)?;
            let judged = network.forward(&examples.batch, options.dropout);
            let loss = examples.loss(&judged).clamp_max(LARGEST_LOSS).mean(Kind::Float)
                + TRUST_WEIGHT * examples.trust_loss(&judged);
            optimiser.backward_step_clip_norm(&loss, 1.0);
        }
        let loss = tch::no_grad(|| {
            let judged = network.forward(&held_out.batch, 0.0);
            held_out.loss(&judged).mean(Kind::Float).double_value(&[])
        });
        if !loss.is_finite() {
            return Err(Error::Training(format!("the loss of epoch {epoch} is {loss}; try a smaller learning rate")));
        }
        if best.as_ref().is_none_or(|(_, smallest, _)| loss < *smallest) {
            let weights = store.variables().into_iter().map(|(name, value)| (name, value.detach().copy())).collect();
            best = Some((epoch, loss, weights));
        }
        if progress(epoch, loss).is_break() {
            return Err(Error::Interrupted);
        }
    }
    let Some((epoch, _, weights)) = best else {
        return Err(Error::Training("at least one epoch is needed".to_owned()));
    };
    tch::no_grad(|| {
        for (name, mut value) in store.variables() {
            if let Some(kept) = weights.get(&name) {
                value.copy_(kept);
            }
        }
    });
    Ok(epoch)
}

/// The sharpness with the least mean loss of the answers.
fn best_sharpness(lessons: &[Lesson], answers: &[Vec<f32>]) -> f64 {
    let (from, to, by) = SHARPNESS;
    let loss = |sharpness: f64| -> f64 {
        let losses = lessons.iter().zip(answers).map(|(lesson, answer)| {
            let answer = sharpened(answer, sharpness);
            let mass: f64 = lesson.compatible.iter().map(|&taxon| f64::from(answer[taxon]).exp()).sum();
            -(mass + SMALLEST).ln()
        });
        losses.sum()
    };
    let steps = ((to - from) / by).round() as usize;
    let tried = (0..=steps).map(|step| from + step as f64 * by).map(|sharpness| (sharpness, loss(sharpness)));
    tried.min_by(|a, b| a.1.total_cmp(&b.1)).map_or(1.0, |(sharpness, _)| sharpness)
}

/// Log probabilities times `sharpness`, summing to one again.
fn sharpened(log_probabilities: &[f32], sharpness: f64) -> Vec<f32> {
    let scaled: Vec<f64> = log_probabilities.iter().map(|&l| f64::from(l) * sharpness).collect();
    let largest = scaled.iter().copied().fold(f64::NEG_INFINITY, f64::max);
    let sum: f64 = scaled.iter().map(|l| (l - largest).exp()).sum();
    scaled.iter().map(|l| (l - largest - sum.ln()) as f32).collect()
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
fn set_nothing(network: &Network, lessons: &[&Lesson], taxa: usize) {
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

    /// The bright frame is right and the many dark ones agree on a wrong species.
    fn lessons(seed: u64, count: usize) -> Vec<Lesson> {
        let mut rng = ChaCha8Rng::seed_from_u64(seed);
        (0..count)
            .map(|photograph| {
                let truth = rng.random_range(1..TAXA);
                let right = rng.random_range(0..4);
                let sightings = (0..4)
                    .map(|frame| {
                        let mut seen = sighting(0.6, if frame == right { truth } else { 0 }, 0.6);
                        seen.quality.brightness = if frame == right { 0.6 } else { 0.1 };
                        (frame as f64, seen)
                    })
                    .collect();
                Lesson { photograph, sightings, compatible: vec![truth] }
            })
            .collect()
    }

    fn is_right(lesson: &Lesson, judged: &[f32]) -> bool {
        let best = (0..TAXA).max_by(|&a, &b| judged[a].total_cmp(&judged[b]));
        best.is_some_and(|best| lesson.compatible.contains(&best))
    }

    #[test]
    fn it_learns_which_frames_to_believe() {
        let _guard = random_numbers();
        let options = FitOptions {
            folds: 2,
            epochs: 25,
            batch: 16,
            units: 8,
            backbone: 16,
            dropout: 0.1,
            ..FitOptions::default()
        };
        let known = lessons(1, 160);
        let fitted = fit(&known, TAXA, &options, &|_, _| ControlFlow::Continue(())).unwrap();
        let held_out = known.iter().zip(&fitted.held_out).filter(|(lesson, judged)| is_right(lesson, judged));
        assert!(held_out.count() >= 144);

        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("liquid.safetensors");
        fitted.store.save(&path).unwrap();
        let model = BurstModel::load(&path).unwrap();
        let new = lessons(3, 50);
        assert!(new.iter().filter(|lesson| is_right(lesson, &model.judge(&lesson.frames()).unwrap())).count() >= 45);
    }

    #[test]
    fn the_same_seed_gives_the_same_networks() {
        let _guard = random_numbers();
        let options = FitOptions { folds: 2, epochs: 2, batch: 8, units: 4, backbone: 8, ..FitOptions::default() };
        let answers = |seed: u64| {
            fit(&lessons(1, 16), TAXA, &FitOptions { seed, ..options }, &|_, _| ControlFlow::Continue(()))
                .unwrap()
                .held_out
        };
        assert_eq!(answers(5), answers(5));
        assert_ne!(answers(5), answers(6));
    }

    #[test]
    fn bursts_of_a_photograph_are_never_apart() {
        let mut lessons = lessons(1, 30);
        for (index, lesson) in lessons.iter_mut().enumerate() {
            lesson.photograph = index / 3;
        }
        let folds = deal(&lessons, &FitOptions::default()).unwrap();
        assert!(folds.chunks(3).all(|chunk| chunk.iter().all(|&fold| fold == chunk[0])));
        assert_eq!(folds.iter().copied().max(), Some(4));
    }

    #[test]
    fn overconfident_answers_are_softened() {
        let lessons = lessons(1, 40);
        let sure = |taxon: usize| (0..TAXA).map(|t| if t == taxon { -0.001 } else { -9.0 }).collect::<Vec<f32>>();
        let half_wrong: Vec<Vec<f32>> =
            lessons.iter().enumerate().map(|(i, l)| sure(if i % 2 == 0 { l.compatible[0] } else { 0 })).collect();
        assert!(best_sharpness(&lessons, &half_wrong) < 0.7);
    }

    #[test]
    fn too_little_to_learn_from_is_an_error() {
        let error = fit(&[], TAXA, &FitOptions::default(), &|_, _| ControlFlow::Continue(())).unwrap_err().to_string();
        assert!(error.contains("too few"), "{error}");
    }
}
