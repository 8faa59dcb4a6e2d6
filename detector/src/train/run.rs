//! The training as a whole.

use std::ops::ControlFlow;

use tch::Device;

use super::bursts::{BurstMaker, SeenBurst};
use super::evaluate::{Outcome, Truth, outcome};
use super::fit::{Lesson, fit};
use super::photographs::Split;
use super::report::{Comparison, Counts, Judges, Metrics};
use super::{Material, Progress, TrainOptions, recorded};
use crate::liquid::{BurstModel, baselines};
use crate::look::LookOptions;
use crate::model::{self, LIQUID_FILE, Model};
use crate::{Error, Result};

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
