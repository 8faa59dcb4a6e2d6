//! Training the liquid network on bursts; the two other networks stay as they are.
//!
//! [`train`] does it all: photographs to bursts, these and recorded bursts through the frozen networks, the fit, the
//! comparison on bursts that the fit never saw, and the model folder.

pub mod bursts;
pub mod evaluate;
#[cfg(feature = "torch")]
pub mod fit;
#[cfg(not(feature = "torch"))]
mod none;
mod parallel;
pub mod photographs;
pub mod plan;
pub mod recorded;
pub mod report;
#[cfg(feature = "torch")]
mod run;
pub mod synthesis;

use std::path::{Path, PathBuf};

use crate::Result;
use crate::model::Extras;
use photographs::Photograph;
use recorded::RecordedBurst;

#[cfg(not(feature = "torch"))]
pub use none::train;
#[cfg(feature = "torch")]
pub use run::train;

/// What to learn from: at least one burst with an animal in each split.
#[derive(Debug, Clone, Default)]
pub struct Material {
    /// Folder of the photographs' files.
    pub folder: PathBuf,
    /// Pictures that bursts are made from; with an animal among them, each split needs a place without animals, too.
    pub photographs: Vec<Photograph>,
    /// Bursts that a camera took.
    pub recorded: Vec<RecordedBurst>,
}

impl Material {
    /// The photographs that `labels.csv` in `folder` lists; see [`photographs::read`].
    pub fn listed(folder: &Path) -> Result<Self> {
        Ok(Self { folder: folder.to_owned(), photographs: photographs::read(folder)?, recorded: Vec::new() })
    }
}

/// What to train from and where to.
#[derive(Debug, Clone)]
pub struct TrainOptions {
    /// Model folder whose networks and vocabulary are used.
    pub model: PathBuf,
    /// Folder that gets the trained model.
    pub output: PathBuf,
    /// Bursts made of each photograph.
    pub bursts: usize,
    /// Probability that a name needs in the reported roll-up.
    pub threshold: f32,
    /// Threads that make bursts; 0 for as many as there are cores.
    pub threads: usize,
    /// How the network is fitted; its seed is also that of the bursts.
    pub fit: FitOptions,
    /// What the model folder is to hold beside the model.
    pub extras: Extras,
}

/// How far the training is.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Progress {
    /// Photographs whose bursts were made and seen, of how many.
    Bursts(usize, usize),
    /// Recorded bursts that were seen, of how many.
    Recorded(usize, usize),
    /// Epochs done over all networks, of how many, and the loss on the fold held out.
    Epoch(usize, usize, f64),
}

/// How the networks are fitted.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct FitOptions {
    /// Folds of photographs, and so networks of the ensemble; at least 2.
    pub folds: usize,
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
            folds: 5,
            epochs: 40,
            batch: 64,
            learning_rate: 3e-3,
            weight_decay: 1e-2,
            dropout: 0.3,
            units: 16,
            backbone: 32,
            seed: 7,
        }
    }
}
