//! What was measured, as it is saved and shown.

use std::fs;
use std::path::{Path, PathBuf};

use chrono::{SecondsFormat, Utc};
use serde::{Deserialize, Serialize};

use crate::error::{Error, Result};
use crate::machine::{self, Machine};
use crate::workplace::Workplace;

/// One comparison.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(crate) struct Row {
    /// What is compared.
    pub(crate) what: String,
    /// With what.
    pub(crate) against: String,
    /// Unit of both numbers.
    pub(crate) unit: String,
    /// Safari's number.
    pub(crate) ours: Option<f64>,
    /// The other's number; none if it was skipped.
    pub(crate) peer: Option<f64>,
    /// How many times better ours is; for memory, how many times larger.
    pub(crate) ratio: Option<f64>,
    /// What the ratio, or a lone number, is to be.
    pub(crate) goal: Option<String>,
    /// Whether it is.
    pub(crate) met: Option<bool>,
    /// What else to know, such as why the other was skipped.
    pub(crate) note: Option<String>,
}

impl Row {
    /// Ours and theirs; `larger_is_better` for rates, not for times.
    pub(crate) fn compare(what: &str, against: &str, unit: &str, numbers: (f64, f64), larger_is_better: bool) -> Self {
        let (ours, peer) = numbers;
        let ratio = if larger_is_better { ours / peer } else { peer / ours };
        Self { peer: Some(peer), ratio: Some(ratio), ..Self::alone(what, against, unit, ours) }
    }

    /// Ours without the other.
    pub(crate) fn alone(what: &str, against: &str, unit: &str, ours: f64) -> Self {
        Self {
            what: what.to_owned(),
            against: against.to_owned(),
            unit: unit.to_owned(),
            ours: Some(ours),
            peer: None,
            ratio: None,
            goal: None,
            met: None,
            note: None,
        }
    }

    /// Nothing was measured, for `reason`.
    pub(crate) fn skipped(what: &str, against: &str, unit: &str, reason: &str) -> Self {
        Self { ours: None, note: Some(reason.to_owned()), ..Self::alone(what, against, unit, 0.0) }
    }

    /// The ratio is to be at least `least`.
    pub(crate) fn at_least(self, least: f64) -> Self {
        let met = self.ratio.map(|ratio| ratio >= least);
        Self { goal: Some(format!("ratio ≥ {least}")), met, ..self }
    }

    /// The lone number is to be at most `most`.
    pub(crate) fn at_most(self, most: f64) -> Self {
        let met = self.ours.map(|ours| ours <= most);
        Self { goal: Some(format!("≤ {most}")), met, ..self }
    }

    /// With a remark.
    pub(crate) fn note(self, note: impl Into<String>) -> Self {
        Self { note: Some(note.into()), ..self }
    }
}

/// All rows of a section, and where they come from.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(crate) struct Report {
    /// The section's name.
    pub(crate) section: String,
    /// When it was measured, in UTC.
    pub(crate) date: String,
    /// The checked-out commit.
    pub(crate) commit: String,
    /// True if the measurement was cut short to see that all works.
    pub(crate) quick: bool,
    /// The machine.
    pub(crate) machine: Machine,
    /// The comparisons.
    pub(crate) rows: Vec<Row>,
}

impl Report {
    /// Rows that were measured just now.
    pub(crate) fn new(section: &str, place: &Workplace, rows: Vec<Row>) -> Self {
        Self {
            section: section.to_owned(),
            date: Utc::now().to_rfc3339_opts(SecondsFormat::Secs, true),
            commit: machine::commit(&place.root),
            quick: place.quick,
            machine: Machine::here(),
            rows,
        }
    }

    /// Writes `target/bench/<section>.json`.
    pub(crate) fn save(&self, root: &Path) -> Result<()> {
        let path = path(root, &self.section);
        let folder = path.parent().unwrap_or(root);
        fs::create_dir_all(folder).map_err(Error::io(folder))?;
        let text = serde_json::to_string_pretty(self).map_err(Error::json(&self.section))?;
        fs::write(&path, text + "\n").map_err(Error::io(&path))
    }

    /// What was saved of a section, if anything was.
    pub(crate) fn load(root: &Path, section: &str) -> Result<Option<Self>> {
        let path = path(root, section);
        if !path.exists() {
            return Ok(None);
        }
        let text = fs::read_to_string(&path).map_err(Error::io(&path))?;
        serde_json::from_str(&text).map(Some).map_err(Error::json(path.display().to_string()))
    }
}

/// The middle of the numbers; the mean of the two in the middle for an even count.
pub(crate) fn median(numbers: &[f64]) -> f64 {
    let sorted = sorted(numbers);
    match sorted.len() {
        0 => f64::NAN,
        count if count % 2 == 1 => sorted[count / 2],
        count => (sorted[count / 2 - 1] + sorted[count / 2]) / 2.0,
    }
}

/// The smallest number that at least 95 % of the numbers do not exceed.
pub(crate) fn percentile_95(numbers: &[f64]) -> f64 {
    percentile(numbers, 0.95)
}

/// The smallest number that at least `part` of the numbers, between 0 and 1, do not exceed.
pub(crate) fn percentile(numbers: &[f64], part: f64) -> f64 {
    let sorted = sorted(numbers);
    let rank = (sorted.len() as f64 * part).ceil() as usize;
    sorted.get(rank.max(1) - 1).copied().unwrap_or(f64::NAN)
}

fn sorted(numbers: &[f64]) -> Vec<f64> {
    let mut sorted = numbers.to_vec();
    sorted.sort_by(f64::total_cmp);
    sorted
}

/// Results stay in the repository's own `target`, wherever the binaries are built.
fn path(root: &Path, section: &str) -> PathBuf {
    root.join("target/bench").join(format!("{section}.json"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_middle_and_the_end_of_an_even_and_an_odd_count() {
        assert_eq!(median(&[3.0, 1.0, 2.0]), 2.0);
        assert_eq!(median(&[4.0, 1.0, 2.0, 3.0]), 2.5);
        let twenty: Vec<f64> = (1..=20).map(f64::from).collect();
        assert_eq!(percentile_95(&twenty), 19.0);
        assert_eq!(percentile_95(&[7.0]), 7.0);
    }

    #[test]
    fn the_ratio_says_how_many_times_better_ours_is() {
        assert_eq!(Row::compare("a", "b", "images/s", (30.0, 20.0), true).ratio, Some(1.5));
        let slower = Row::compare("a", "b", "s", (2.0, 1.0), false).at_least(0.95);
        assert_eq!((slower.ratio, slower.met), (Some(0.5), Some(false)));
    }
}
