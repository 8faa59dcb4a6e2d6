//! `safari train`: fits the liquid network to bursts made from photographs and writes a model folder.

use std::io::{IsTerminal, Write, stderr, stdout};
use std::ops::ControlFlow;
use std::path::PathBuf;
use std::process::ExitCode;
use std::sync::Mutex;

use clap::Args;
use detector::model::{self, Extras};
use detector::train::FitOptions;
use detector::train::evaluate::Estimate;
use detector::train::report::{Comparison, Metrics};
use detector::train::{Material, Progress, TrainOptions, train};
use indicatif::{ProgressBar, ProgressStyle};
use platform::config::Config;

use crate::error::{Error, Result};

const NOTES: &str = "The photographs come with scripts/fetch-training-photos; a labels.csv in their folder names each \
file, its kind (photo, cutout, background, occluder), its split (train, test) and its lineage. The two \
other networks of the model stay as they are. The same seed and photographs give the same network.";

#[derive(Debug, Args)]
#[command(after_help = NOTES)]
pub(crate) struct TrainArgs {
    /// Folder of photographs with a labels.csv
    #[arg(long, value_name = "DIR", default_value = "training-photos")]
    photographs: PathBuf,
    /// Model folder to write; may be the one that --model names
    #[arg(long, value_name = "DIR")]
    output: PathBuf,
    /// Bursts made of each photograph
    #[arg(long, value_name = "N", default_value_t = 12, value_parser = clap::value_parser!(u16).range(1..))]
    bursts: u16,
    /// Times that all bursts are seen
    #[arg(long, value_name = "N", default_value_t = 40, value_parser = clap::value_parser!(u16).range(1..))]
    epochs: u16,
    /// Seed of the bursts, the weights and their order
    #[arg(long, value_name = "N", default_value_t = 7)]
    seed: u32,
    /// Print the metrics as JSON
    #[arg(long)]
    json: bool,
}

/// Trains and prints how the network compares with judging bursts without one.
pub(crate) fn run(args: TrainArgs, config: &Config) -> Result<ExitCode> {
    let options = TrainOptions {
        model: model::locate(config.model.as_deref())?,
        output: args.output,
        bursts: usize::from(args.bursts),
        threshold: config.rollup.threshold,
        threads: config.detector.threads,
        fit: FitOptions { epochs: usize::from(args.epochs), seed: u64::from(args.seed), ..FitOptions::default() },
        extras: Extras::default(),
    };
    let material = Material::listed(&args.photographs)?;
    let screen = Screen { bar: Mutex::new(None), drawn: stderr().is_terminal() };
    let show = |progress| {
        screen.show(progress);
        ControlFlow::Continue(())
    };
    let metrics = train(&material, &options, &show)?;
    screen.end();
    let text = match args.json {
        true => serde_json::to_string_pretty(&metrics).unwrap_or_default(),
        false => table(&metrics),
    };
    writeln!(stdout(), "{text}").map_err(Error::write("stdout"))?;
    eprintln!("the model is in {}; use it with --model {0}", options.output.display());
    Ok(ExitCode::SUCCESS)
}

fn table(metrics: &Metrics) -> String {
    let test = &metrics.test_counts;
    let title = format!(
        "{} bursts of {} photographs that nothing was fitted to, {} frames with an animal; 95 % intervals:",
        test.bursts_with_an_animal_seen, test.photographs, test.frames_with_an_animal_seen
    );
    let train = &metrics.train_counts;
    let other = format!(
        "{} bursts of the {} training photographs, each judged by the network that was not fitted to it (its epoch was chosen there):",
        train.bursts_with_an_animal_seen, train.photographs
    );
    [title, comparison(&metrics.test), String::new(), other, comparison(&metrics.cross_validated)].join("\n")
}

fn comparison(compared: &Comparison) -> String {
    let percent = |e: &Estimate| format!("{:5.1} % [{:.1}, {:.1}]", 100.0 * e.value, 100.0 * e.low, 100.0 * e.high);
    let plain = |e: &Estimate| format!("{:.2} [{:.2}, {:.2}]", e.value, e.low, e.high);
    let mut lines = vec![format!("{:24} {:24} {:20} wrong name", "", "right species", "loss")];
    for (name, score) in [
        ("liquid network", &compared.liquid),
        ("mean of frames' logits", &compared.mean_of_logits),
        ("best single frame", &compared.best_single_frame),
        ("frame of the surest box", &compared.frame_of_surest_box),
    ] {
        let (top1, loss, wrong) = (percent(&score.top1), plain(&score.loss), percent(&score.rolled_up_wrong));
        lines.push(format!("{name:24} {top1:24} {loss:20} {wrong}"));
    }
    for (name, gain) in [
        ("the mean", &compared.gain_over_mean_of_logits),
        ("the best single frame", &compared.gain_over_best_single_frame),
        ("the surest box's frame", &compared.gain_over_frame_of_surest_box),
    ] {
        lines.push(format!("gain over {name:24} {} species, {} loss", percent(&gain.top1), plain(&gain.loss)));
    }
    lines.join("\n")
}

/// Progress as a bar on a terminal, as some lines elsewhere.
struct Screen {
    bar: Mutex<Option<(&'static str, ProgressBar)>>,
    drawn: bool,
}

impl Screen {
    fn show(&self, progress: Progress) {
        let (stage, done, of, note) = match progress {
            Progress::Bursts(done, of) | Progress::Recorded(done, of) => ("bursts", done, of, String::new()),
            Progress::Epoch(done, of, loss) => ("epochs", done, of, format!("loss {loss:.3}")),
        };
        if !self.drawn {
            if done == of || done % 10 == 0 {
                eprintln!("{stage}: {done} of {of} {note}");
            }
            return;
        }
        let Ok(mut bar) = self.bar.lock() else { return };
        if bar.as_ref().is_none_or(|(shown, _)| *shown != stage) {
            if let Some((_, old)) = bar.take() {
                old.finish_and_clear();
            }
            let new = ProgressBar::new(of as u64);
            if let Ok(style) = ProgressStyle::with_template("{prefix:>8} [{bar:32}] {pos}/{len} eta {eta} {msg}") {
                new.set_style(style.progress_chars("=> "));
            }
            new.set_prefix(stage);
            *bar = Some((stage, new));
        }
        if let Some((_, bar)) = bar.as_ref() {
            bar.set_position(done as u64);
            bar.set_message(note);
        }
    }

    fn end(&self) {
        if let Ok(mut bar) = self.bar.lock()
            && let Some((_, bar)) = bar.take()
        {
            bar.finish_and_clear();
        }
    }
}
