//! The liquid network as tensors: frames of bursts in, one distribution over taxa a burst out.
//!
//! A CfC cell goes over the frames, its time the real gaps between them. From its state and the frame's features it
//! decides how much the frame counts, how far it may be wrong, and how much of its opinion is what the networks say
//! of anything; the frame's evidence, so corrected, is added to the burst's. Each step needs the state alone, so a
//! burst can be judged while it is being taken.

use tch::nn::{self, Init, Module};
use tch::{Device, Kind, Tensor};

use super::cell::CfcCell;
use super::features::{Batch, OWN, RELATIVE, relative_features};

/// Added to [`Network::nothing`] before its logarithm.
const NOTHING_FLOOR: f64 = 0.01;

/// Largest logarithm of a frame's weight, and its negative the smallest.
const WEIGHT_REACH: f64 = 3.0;

/// Least share of a frame's probability that is left when what `nothing` explains is taken off.
const LEAST_LEFT: f64 = 0.05;

/// Outputs of the frame head: weight, memory, trust, doubt, bias, share.
const HEAD: i64 = 6;

/// Sizes of a network.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Sizes {
    /// Taxa of the vocabulary.
    pub taxa: i64,
    /// Units of the liquid state.
    pub units: i64,
    /// Units of the cell's backbone.
    pub backbone: i64,
}

/// Weights of the network; they live in the store of the path that it was made under.
#[derive(Debug)]
pub struct Network {
    sizes: Sizes,
    cell: CfcCell,
    head: nn::Linear,
    last: nn::Linear,
    /// What the networks say of crops that show nothing of the animal: a distribution over taxa, measured, not learned.
    pub nothing: Tensor,
}

/// What is known after some frames of B bursts.
#[derive(Debug)]
pub struct State {
    /// B x units, the liquid state.
    hidden: Tensor,
    /// B x K, sum of weighted log evidence.
    evidence: Tensor,
    /// B x 1, sum of weights.
    weight: Tensor,
    /// B x E, weighted sum of embeddings.
    looks: Tensor,
    /// B x 1, number of frames.
    seen: Tensor,
}

/// One frame of each of B bursts.
#[derive(Debug)]
pub struct Step {
    /// B x [`OWN`].
    pub own: Tensor,
    /// B x K log probabilities.
    pub evidence: Tensor,
    /// B x E, of length 1.
    pub looks: Tensor,
    /// B x 1 seconds.
    pub gap: Tensor,
    /// B x 1, 0 where a burst has no more frames: its state stays.
    pub mask: Tensor,
}

/// What a whole batch was judged to be.
#[derive(Debug)]
pub struct Judged {
    /// B x K log probabilities.
    pub log_probabilities: Tensor,
    /// B x T, the network's logit that a frame alone names the species rightly.
    pub trust: Tensor,
}

impl Network {
    /// Makes the weights under `path`; a fresh network weighs all frames alike.
    pub fn new(path: &nn::Path<'_>, sizes: Sizes) -> Self {
        let input = (OWN + RELATIVE) as i64;
        let zeros = nn::LinearConfig { ws_init: Init::Const(0.0), bs_init: Some(Init::Const(0.0)), bias: true };
        let head = nn::linear(path / "head", sizes.units + input, HEAD, zeros);
        if let Some(bias) = &head.bs {
            // Weight 1, memory near 1, no trust known, doubt exp(-3), half of the bias taken off, then one share.
            tch::no_grad(|| bias.shallow_clone().copy_(&Tensor::from_slice(&[0.0_f32, 4.0, 0.0, -3.0, 0.0, 0.0])));
        }
        Self {
            sizes,
            cell: CfcCell::new(&(path / "cell"), input, sizes.units, sizes.backbone),
            head,
            last: nn::linear(path / "last", sizes.units + 1, 1, zeros),
            nothing: path.zeros_no_train("nothing", &[sizes.taxa]),
        }
    }

    /// Number of taxa.
    pub fn taxa(&self) -> i64 {
        self.sizes.taxa
    }

    /// The state before any frame of `bursts` bursts, whose embeddings have `looks` values.
    pub fn begin(&self, bursts: i64, looks: i64) -> State {
        let zeros = |width: i64| Tensor::zeros([bursts, width], (Kind::Float, Device::Cpu));
        State {
            hidden: zeros(self.sizes.units),
            evidence: zeros(self.sizes.taxa),
            weight: zeros(1),
            looks: zeros(looks),
            seen: zeros(1),
        }
    }

    /// The state after one more frame, and the frame's trust (B x 1). `dropout` is 0 except in training.
    pub fn step(&self, state: &State, step: &Step, dropout: f64) -> (State, Tensor) {
        let drop = |values: &Tensor| if dropout > 0.0 { values.dropout(dropout, true) } else { values.shallow_clone() };
        let so_far = (&state.evidence / state.weight.clamp_min(1e-6)).log_softmax(1, Kind::Float);
        let relative = relative_features(&step.evidence, &so_far, &step.looks, &state.looks, &state.seen, &step.gap);
        let input = drop(&Tensor::cat(&[&step.own, &relative], 1));
        let hidden = self.cell.step(&input, &state.hidden, &step.gap.log1p());
        let opinion = self.head.forward(&Tensor::cat(&[&drop(&hidden), &input], 1));
        let output = |index: i64| opinion.narrow(1, index, 1);
        let weight = (output(0).tanh() * WEIGHT_REACH).exp();
        let memory = output(1).sigmoid();
        let evidence = self.corrected(&step.evidence, &output(3), &output(4), &output(5));
        let after = |now: Tensor, before: &Tensor| &step.mask * now + (1.0 - &step.mask) * before;
        let state = State {
            hidden: after(hidden, &state.hidden),
            evidence: after(&memory * &state.evidence + &weight * evidence, &state.evidence),
            weight: after(&memory * &state.weight + &weight, &state.weight),
            looks: after(&memory * &state.looks + &weight * &step.looks, &state.looks),
            seen: after(&state.seen + 1.0, &state.seen),
        };
        (state, output(2))
    }

    /// The distribution over taxa that the frames so far carry: B x K log probabilities.
    pub fn answer(&self, state: &State) -> Tensor {
        let sharpness = self.last.forward(&Tensor::cat(&[&state.hidden, &state.seen.log1p()], 1)).exp();
        (sharpness * &state.evidence / state.weight.clamp_min(1e-6)).log_softmax(1, Kind::Float)
    }

    /// All frames of a batch.
    pub fn forward(&self, batch: &Batch, dropout: f64) -> Judged {
        let size = batch.evidence.size();
        let (bursts, frames) = (size[0], size[1]);
        let mut state = self.begin(bursts, batch.looks.size()[2]);
        let mut trust = Vec::new();
        for frame in 0..frames {
            let step = Step {
                own: batch.own.select(1, frame),
                evidence: batch.evidence.select(1, frame),
                looks: batch.looks.select(1, frame),
                gap: batch.gaps.narrow(1, frame, 1),
                mask: batch.mask.narrow(1, frame, 1),
            };
            let (next, frame_trust) = self.step(&state, &step, dropout);
            state = next;
            trust.push(frame_trust);
        }
        Judged { log_probabilities: self.answer(&state), trust: Tensor::cat(&trust, 1) }
    }

    /// A frame's evidence without what `nothing` explains, and never certain that a taxon is not there.
    ///
    /// `bias` divides the distribution by `nothing` to a power, `share` takes a multiple of it off. With much `doubt`
    /// added, the sum over frames is that of probabilities; with little, that of their logarithms.
    fn corrected(&self, log_probabilities: &Tensor, doubt: &Tensor, bias: &Tensor, share: &Tensor) -> Tensor {
        let expected = (&self.nothing + NOTHING_FLOOR).log();
        let flattened = (log_probabilities - bias.sigmoid() * expected).softmax(1, Kind::Float);
        let left = (flattened - share.clamp(-3.0, 2.0).exp() * &self.nothing).clamp_min(0.0);
        let sum = left.sum_dim_intlist([1_i64].as_slice(), true, Kind::Float).clamp_min(LEAST_LEFT);
        (left / sum + doubt.clamp(-8.0, 1.0).exp()).log()
    }
}
