//! Reads counters in Prometheus' text format
//! (<https://prometheus.io/docs/instrumenting/exposition_formats/#text-based-format>), as far as a rollout needs them.

use std::collections::BTreeMap;

use crate::analysis::{Counters, Histogram};

/// Answers by version and outcome (`serving/src/metrics.rs`).
const ANSWERS: &str = "safari_serving_answer_seconds_bucket";
/// Scores by version and what they are of.
const SCORES: &str = "safari_serving_score_bucket";

/// Buckets by the label that tells histograms of a version apart.
type Buckets = BTreeMap<String, Vec<(f64, u64)>>;

/// Buckets of one version at one replica, as they are found.
#[derive(Debug, Default)]
pub(crate) struct Gathered {
    answers: Buckets,
    scores: Buckets,
}

impl Gathered {
    /// The two metrics whose buckets count.
    pub(crate) const METRICS: [&'static str; 2] = [ANSWERS, SCORES];

    /// Takes a bucket: the cumulative count of a metric with these labels. Others, and counts that are none, are left out.
    pub(crate) fn take(&mut self, metric: &str, labels: &BTreeMap<String, String>, value: f64) {
        let (into, key) = match metric {
            ANSWERS => (&mut self.answers, "outcome"),
            SCORES => (&mut self.scores, "of"),
            _ => return,
        };
        let bound: Option<f64> = labels.get("le").and_then(|bound| bound.parse().ok());
        let Some((bound, name)) = bound.filter(|bound| !bound.is_nan()).zip(labels.get(key)) else { return };
        if value.is_finite() && value >= 0.0 {
            into.entry(name.clone()).or_default().push((bound, value as u64));
        }
    }

    /// All that was taken.
    pub(crate) fn counters(self) -> Counters {
        let histograms = |buckets: Buckets| {
            buckets.into_iter().map(|(name, buckets)| (name, Histogram::of_cumulative(buckets))).collect()
        };
        Counters { answers: histograms(self.answers), scores: histograms(self.scores) }
    }
}

/// What was counted of the version with this label.
pub(super) fn counters(text: &str, version: &str) -> Counters {
    let mut gathered = Gathered::default();
    for line in text.lines() {
        let Some(metric) = Gathered::METRICS.into_iter().find(|metric| line.starts_with(metric)) else { continue };
        let Some((labels, value)) = sample(line) else { continue };
        if labels.get("version").map(String::as_str) == Some(version) {
            gathered.take(metric, &labels, value);
        }
    }
    gathered.counters()
}

/// Labels and value of a line `name{label="value",…} 12`; none of a line that is no sample with labels.
fn sample(line: &str) -> Option<(BTreeMap<String, String>, f64)> {
    let mut rest = &line[line.find('{')? + 1..];
    let mut labels = BTreeMap::new();
    loop {
        rest = rest.trim_start_matches([',', ' ']);
        if let Some(after) = rest.strip_prefix('}') {
            let value = after.split_whitespace().next()?.parse().ok()?;
            return Some((labels, value));
        }
        let (name, after) = rest.split_once("=\"")?;
        let (value, after) = quoted(after)?;
        labels.insert(name.trim().to_owned(), value);
        rest = after;
    }
}

/// A text up to its closing quote, and what comes after that.
fn quoted(text: &str) -> Option<(String, &str)> {
    let mut value = String::new();
    let mut characters = text.char_indices();
    while let Some((index, character)) = characters.next() {
        match character {
            '"' => return Some((value, &text[index + 1..])),
            '\\' => match characters.next()?.1 {
                'n' => value.push('\n'),
                other => value.push(other),
            },
            other => value.push(other),
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn counters_of_one_version_are_found() {
        let text = "\
# HELP safari_serving_answer_seconds answers
# TYPE safari_serving_answer_seconds histogram
safari_serving_answer_seconds_bucket{outcome=\"ok\",version=\"a-1\",le=\"0.1\"} 3
safari_serving_answer_seconds_bucket{outcome=\"ok\",version=\"a-1\",le=\"+Inf\"} 5
safari_serving_answer_seconds_sum{outcome=\"ok\",version=\"a-1\"} 1.5
safari_serving_answer_seconds_bucket{outcome=\"ok\",version=\"b\\\"}-2\",le=\"+Inf\"} 7
safari_serving_score_bucket{of=\"box\",version=\"a-1\",le=\"0\"} 1
safari_serving_score_bucket{of=\"box\",version=\"a-1\",le=\"0.5\"} 1
safari_serving_score_bucket{of=\"box\",version=\"a-1\",le=\"+Inf\"} 4
safari_serving_score_bucket{of=\"box\",version=\"a-1\" 4
";
        let found = counters(text, "a-1");
        assert_eq!(found.answers["ok"], Histogram::of(&[0.1], &[3, 2]));
        assert_eq!(found.scores["box"], Histogram::of(&[0.0, 0.5], &[1, 0, 3]));
        assert_eq!(counters(text, "b\"}-2").answers["ok"].total(), 7);
        assert_eq!(counters(text, "c"), Counters::default());
    }
}
