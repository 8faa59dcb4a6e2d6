//! Training the liquid network on bursts made from photographs; the two other networks stay as they are.
//!
//! [`train`] does it all: photographs to bursts, bursts through the frozen networks, the fit, the comparison on bursts
//! of photographs that the fit never saw, and the model folder.

pub mod bursts;
pub mod evaluate;
pub mod fit;
pub mod photographs;
pub mod plan;
pub mod report;
pub mod synthesis;

use std::path::PathBuf;

use tch::Device;

use crate::liquid::{BurstModel, baselines};
use crate::look::LookOptions;
use crate::model::{self, LIQUID_FILE, Model};
use crate::{Error, Result};
use bursts::{BurstMaker, SeenBurst};
use evaluate::{Outcome, Truth, outcome};
use fit::{FitOptions, Lesson, fit};
use photographs::{Photograph, Split};
use report::{Comparison, Counts, Judges, Metrics};

/// What to train from and where to.
#[derive(Debug, Clone)]
pub struct TrainOptions {
    /// Folder of photographs with its `labels.csv`.
    pub photographs: PathBuf,
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
}

/// How far the training is.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Progress {
    /// Photographs whose bursts were made and seen, of how many.
    Bursts(usize, usize),
    /// Epochs done over all networks, of how many, and the loss on the fold held out.
    Epoch(usize, usize, f64),
}

/// Trains a liquid network and writes a model folder with it; returns how well it does.
pub fn train(options: &TrainOptions, progress: &(dyn Fn(Progress) + Sync)) -> Result<Metrics> {
    let model = Model::load(&options.model, Device::Cpu)?;
    let photographs = photographs::read(&options.photographs)?;
    // Each thread shows its own pictures to the networks.
    tch::set_num_threads(1);
    let threads = match options.threads {
        0 => std::thread::available_parallelism().map_or(1, usize::from),
        some => some,
    };
    let seed = options.fit.seed;
    let maker = BurstMaker::new(
        &options.photographs,
        &photographs,
        &model.networks,
        &model.taxonomy,
        LookOptions::default(),
        seed,
    )?;
    let made = maker.all(options.bursts, threads, &|done, of| progress(Progress::Bursts(done, of)))?;
    let set = |split| lessons(&model, &photographs, &made, split);
    let (train, test) = (set(Split::Train), set(Split::Test));

    let taxa = model.taxonomy.taxa().len();
    let epochs = options.fit.epochs * options.fit.folds;
    let told = |epoch, loss| progress(Progress::Epoch(epoch, epochs, loss));
    let fitted = fit(&train.lessons, taxa, &options.fit, &told)?;
    let scratch = tempfile::tempdir().map_err(Error::io(std::env::temp_dir()))?;
    let weights = scratch.path().join(LIQUID_FILE);
    fitted.store.save(&weights)?;

    let liquid = BurstModel::load(&weights)?;
    let frames: Vec<_> = test.lessons.iter().map(Lesson::frames).collect();
    let judged = compare(&model, &test, liquid.judge_all(&frames)?, options);
    let cross_validated = compare(&model, &train, fitted.held_out, options);
    let counts = |set: &Set| set.counts(&photographs, options.bursts);
    let metrics = Metrics {
        test: judged,
        cross_validated,
        train_counts: counts(&train),
        test_counts: counts(&test),
        epochs: fitted.epochs,
        sharpness: fitted.sharpness,
        roll_up_threshold: options.threshold,
        seed,
    };
    model::write_folder(&options.model, &options.output, &weights, &metrics)?;
    Ok(metrics)
}

/// The bursts of one split in which an animal was seen.
struct Set {
    split: Split,
    lessons: Vec<Lesson>,
    truths: Vec<Truth>,
}

impl Set {
    fn counts(&self, photographs: &[Photograph], bursts: usize) -> Counts {
        let animals = photographs.iter().filter(|p| p.split == self.split && p.shows_animal()).count();
        Counts {
            photographs: animals,
            bursts: animals * bursts,
            bursts_with_an_animal_seen: self.lessons.len(),
            frames_with_an_animal_seen: self.lessons.iter().map(|lesson| lesson.sightings.len()).sum(),
        }
    }
}

fn lessons(model: &Model, photographs: &[Photograph], made: &[SeenBurst], split: Split) -> Set {
    let (mut lessons, mut truths) = (Vec::new(), Vec::new());
    for burst in made {
        let photograph = &photographs[burst.photograph];
        if photograph.split != split || burst.sightings.is_empty() {
            continue;
        }
        let lineage = photograph.names();
        let compatible = model.taxonomy.compatible(&lineage);
        lessons.push(Lesson {
            photograph: burst.photograph,
            sightings: burst.sightings.clone(),
            compatible: compatible.clone(),
        });
        truths.push(Truth { photograph: burst.photograph, lineage, compatible });
    }
    Set { split, lessons, truths }
}

/// The liquid network's `answers` beside those of the baselines, on the bursts of a set.
fn compare(model: &Model, set: &Set, answers: Vec<Vec<f32>>, options: &TrainOptions) -> Comparison {
    let frames: Vec<_> = set.lessons.iter().map(Lesson::frames).collect();
    let outcomes = |answers: Vec<Vec<f32>>| -> Vec<Outcome> {
        let pairs = answers.iter().zip(&set.truths);
        pairs.map(|(answer, truth)| outcome(&model.taxonomy, truth, answer, options.threshold)).collect()
    };
    let judges = Judges {
        liquid: outcomes(answers),
        mean_of_logits: outcomes(frames.iter().map(|f| baselines::mean_of_logits(f)).collect()),
        surest_frame: outcomes(frames.iter().map(|f| baselines::surest_frame(f)).collect()),
        frame_of_surest_box: outcomes(frames.iter().map(|f| baselines::frame_of_surest_box(f)).collect()),
    };
    Comparison::new(&judges, &set.truths, options.fit.seed)
}
