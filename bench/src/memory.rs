//! Peak memory of the whole job: it must not grow with the number of photographs.

use crate::error::{Error, Result};
use crate::photographs;
use crate::process;
use crate::results::{Row, median};
use crate::workplace::Workplace;

/// Largest difference that the project allows.
const ALLOWED: f64 = 0.05;

/// Measures the section.
pub(crate) fn run(place: &Workplace) -> Result<Vec<Row>> {
    let (few, many) = (place.pick(200, 50), place.pick(2000, 500));
    let rounds = place.pick(3, 1);
    let peak_of_few = peaks(place, few, rounds)?;
    let peak_of_many = peaks(place, many, rounds)?;
    let what = format!("peak memory of the job over {many} photographs");
    let against = format!("over {few}");
    let mut row = Row::alone(&what, &against, "MiB", peak_of_many);
    let ratio = peak_of_many / peak_of_few;
    row.peer = Some(peak_of_few);
    row.ratio = Some(ratio);
    row.goal = Some("equal within 5 %".to_owned());
    row.met = Some((ratio - 1.0).abs() <= ALLOWED);
    Ok(vec![row.note(format!("largest resident size, medians of {rounds} runs"))])
}

/// The median of the peaks in MiB of some runs over `count` photographs.
fn peaks(place: &Workplace, count: usize, rounds: usize) -> Result<f64> {
    let photographs = photographs::make(&place.root, count)?;
    let mut peaks = Vec::with_capacity(rounds);
    for round in 1..=rounds {
        eprintln!("  {count} photographs, run {round} of {rounds}");
        let home = tempfile::tempdir().map_err(Error::io(std::env::temp_dir()))?;
        let bytes = process::peak_memory(place.whole_job(photographs.folder(), home.path()))?;
        peaks.push(bytes as f64 / 1_048_576.0);
    }
    Ok(median(&peaks))
}
