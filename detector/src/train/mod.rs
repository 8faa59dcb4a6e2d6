//! Training the liquid network on bursts; the two other networks stay as they are.
//!
//! [`train`] does it all: photographs to bursts, these and recorded bursts through the frozen networks, the fit, the
//! comparison on bursts that the fit never saw, and the model folder.

pub mod bursts;
pub mod evaluate;
pub mod fit;
mod parallel;
pub mod photographs;
pub mod plan;
pub mod recorded;
pub mod report;
pub mod synthesis;

use std::ops::ControlFlow;
use std::path::{Path, PathBuf};

use tch::Device;

use crate::liquid::{BurstModel, baselines};
use crate::look::LookOptions;
use crate::model::{self, Extras, LIQUID_FILE, Model};
use crate::{Error, Result};
use bursts::{BurstMaker, SeenBurst};
use evaluate::{Outcome, Truth, outcome};
use fit::{FitOptions, Lesson, fit};
use photographs::{Photograph, Split};
use recorded::RecordedBurst;
use report::{Comparison, Counts, Judges, Metrics};

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

/// Trains a liquid network and writes a model folder with it; returns how well it does.
///
/// `progress` may stop the work, which then ends with [`Error::Interrupted`]. libtorch has one generator of random numbers
/// for the whole process: of two trainings at once neither would give the same network again.
pub fn train(
    material: &Material,
    options: &TrainOptions,
    progress: &(dyn Fn(Progress) -> ControlFlow<()> + Sync),
) -> Result<Metrics> {
    let model = Model::load(&options.model, Device::Cpu)?;
    // Each thread shows its own pictures to the networks.
    tch::set_num_threads(1);
    let seen = see(&model, material, options, progress)?;
    let set = |split| Set::new(&model, material, &seen, split, options.bursts);
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
    let metrics = Metrics {
        test: judged,
        cross_validated,
        train_counts: train.counts,
        test_counts: test.counts,
        epochs: fitted.epochs,
        sharpness: fitted.sharpness,
        roll_up_threshold: options.threshold,
        seed: options.fit.seed,
    };
    model::write_folder(&options.model, &options.output, &weights, &metrics, &options.extras)?;
    Ok(metrics)
}

/// What the networks saw of all bursts.
struct Seen {
    made: Vec<SeenBurst>,
    recorded: Vec<Vec<(f64, crate::sighting::Sighting)>>,
}

fn see(
    model: &Model,
    material: &Material,
    options: &TrainOptions,
    progress: &(dyn Fn(Progress) -> ControlFlow<()> + Sync),
) -> Result<Seen> {
    let threads = match options.threads {
        0 => std::thread::available_parallelism().map_or(1, usize::from),
        some => some,
    };
    let Material { folder, photographs, recorded } = material;
    let (networks, taxonomy) = (&model.networks, &model.taxonomy);
    let maker = BurstMaker::new(folder, photographs, networks, taxonomy, LookOptions::default(), options.fit.seed)?;
    let made = maker.all(options.bursts, threads, &|done, of| progress(Progress::Bursts(done, of)))?;
    let told = |done, of| progress(Progress::Recorded(done, of));
    let recorded = recorded::sightings(recorded, networks, taxonomy, threads, &told)?;
    Ok(Seen { made, recorded })
}

/// The bursts of one split in which an animal was seen.
struct Set {
    lessons: Vec<Lesson>,
    truths: Vec<Truth>,
    counts: Counts,
}

impl Set {
    fn new(model: &Model, material: &Material, seen: &Seen, split: Split, bursts: usize) -> Self {
        let Material { photographs, recorded, .. } = material;
        let made = seen
            .made
            .iter()
            .filter(|burst| photographs[burst.photograph].split == split)
            .map(|burst| (burst.photograph, photographs[burst.photograph].names(), &burst.sightings));
        // Each recorded burst is a witness of its own, numbered after the photographs.
        let taken = recorded.iter().zip(&seen.recorded).enumerate().filter(|(_, (burst, _))| burst.split == split);
        let taken =
            taken.map(|(index, (burst, sightings))| (photographs.len() + index, burst.lineage.clone(), sightings));
        let (mut lessons, mut truths) = (Vec::new(), Vec::new());
        for (photograph, lineage, sightings) in made.chain(taken).filter(|(_, _, sightings)| !sightings.is_empty()) {
            let compatible = model.taxonomy.compatible(&lineage);
            lessons.push(Lesson { photograph, sightings: sightings.clone(), compatible: compatible.clone() });
            truths.push(Truth { photograph, lineage, compatible });
        }
        let animals = photographs.iter().filter(|p| p.split == split && p.shows_animal()).count();
        let recorded = recorded.iter().filter(|burst| burst.split == split).count();
        let counts = Counts {
            photographs: animals,
            recorded_bursts: recorded,
            bursts: animals * bursts + recorded,
            bursts_with_an_animal_seen: lessons.len(),
            frames_with_an_animal_seen: lessons.iter().map(|lesson: &Lesson| lesson.sightings.len()).sum(),
        };
        Self { lessons, truths, counts }
    }
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
