//! What a rollout is to do: a YAML file, or flags.
//!
//! ```yaml
//! steps: [5, 25, 50, 100]          # percent of requests; also [{percent: 5, pause: 10m}, 100]
//! pause: 60s                       # how long each step is watched
//! patience: 10m                    # how much longer it may wait for replicas and for enough answers
//! limits:
//!   max_error_rate: 0.01           # of the candidate's answers; null: any
//!   max_p99: 500ms                 # of the candidate's answers; left out: any
//!   max_drift: 0.25                # population stability index of the two versions' scores; null: any
//!   min_answers: 50                # with fewer of the candidate's nothing is judged
//! prometheus:                      # left out: replicas are asked themselves
//!   url: http://prometheus.monitoring:9090
//!   match: namespace="safari"      # left out: all series
//! kubernetes: {deployment: detection, namespace: safari}
//! ```

use std::time::Duration;

use serde::{Deserialize, Deserializer, Serialize, Serializer};
use serde_saphyr::Spanned;

use crate::fleet::Target;
use crate::prometheus::PrometheusSource;
use crate::{Error, Result};

/// A file of a plan may have at most this many bytes.
const MOST_BYTES: usize = 64 * 1024;
const MOST_STEPS: usize = 100;
/// Steps without a pause would be judged by nothing.
const SHORTEST_PAUSE: Duration = Duration::from_secs(1);
/// A shift of this size is commonly called major: Siddiqi, Credit Risk Scorecards, 2006.
const MAJOR_DRIFT: f64 = 0.25;

/// What a rollout is to do.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Plan {
    /// From small to large; the last has 100 percent.
    pub steps: Vec<Step>,
    /// How much longer than its pause a step may wait for replicas that do not take it and for enough answers.
    #[serde(with = "duration")]
    pub patience: Duration,
    /// What the candidate must keep to.
    pub limits: Limits,
    /// Who has counted the answers; none: the replicas themselves.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub prometheus: Option<PrometheusSource>,
    /// The Deployment to begin it on, where a file names one. What it was begun on is kept beside the plan.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub kubernetes: Option<Target>,
}

/// A share of the requests, and how long it is watched.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct Step {
    /// Share of the requests that the candidate answers, 1 to 100.
    pub percent: u8,
    /// How long it is watched.
    #[serde(with = "duration")]
    pub pause: Duration,
}

/// What the candidate must keep to.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Limits {
    /// Share of its answers that may be failures, 0 to 1.
    pub max_error_rate: Option<f64>,
    /// 99 of 100 answers must have come by then.
    #[serde(with = "maybe_duration")]
    pub max_p99: Option<Duration>,
    /// How far its scores may be from those of the stable version: population stability index.
    pub max_drift: Option<f64>,
    /// With fewer answers of the candidate nothing is judged.
    pub min_answers: u64,
}

/// What flags say; each replaces what a file says.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Changes {
    /// Percents.
    pub steps: Option<Vec<u8>>,
    /// The pause of all steps.
    pub pause: Option<Duration>,
    /// [`Plan::patience`].
    pub patience: Option<Duration>,
    /// [`Limits::max_error_rate`].
    pub max_error_rate: Option<f64>,
    /// [`Limits::max_p99`].
    pub max_p99: Option<Duration>,
    /// [`Limits::max_drift`].
    pub max_drift: Option<f64>,
    /// [`Limits::min_answers`].
    pub min_answers: Option<u64>,
    /// [`PrometheusSource::url`].
    pub prometheus: Option<String>,
    /// [`PrometheusSource::matchers`].
    pub prometheus_match: Option<String>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct File {
    steps: Option<Vec<Spanned<Entry>>>,
    pause: Option<Spanned<String>>,
    patience: Option<Spanned<String>>,
    #[serde(default)]
    limits: FileLimits,
    prometheus: Option<Spanned<PrometheusSource>>,
    kubernetes: Option<Target>,
}

#[derive(Deserialize)]
#[serde(untagged, expecting = "a step is a percent, or {percent: 5, pause: 10m}")]
enum Entry {
    Percent(i64),
    Full(FullEntry),
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct FullEntry {
    percent: i64,
    pause: Option<String>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields, default)]
struct FileLimits {
    max_error_rate: Option<Spanned<f64>>,
    max_p99: Option<Spanned<String>>,
    max_drift: Option<Spanned<f64>>,
    min_answers: Spanned<u64>,
}

impl Default for Plan {
    fn default() -> Self {
        let steps = [5, 25, 50, 100].map(|percent| Step { percent, pause: Duration::from_secs(60) });
        Self {
            steps: steps.to_vec(),
            patience: Duration::from_secs(600),
            limits: Limits::default(),
            prometheus: None,
            kubernetes: None,
        }
    }
}

impl Default for Limits {
    fn default() -> Self {
        Self { max_error_rate: Some(0.01), max_p99: None, max_drift: Some(MAJOR_DRIFT), min_answers: 50 }
    }
}

impl Default for FileLimits {
    fn default() -> Self {
        let Limits { max_error_rate, max_drift, min_answers, .. } = Limits::default();
        Self {
            max_error_rate: max_error_rate.map(nowhere),
            max_p99: None,
            max_drift: max_drift.map(nowhere),
            min_answers: nowhere(min_answers),
        }
    }
}

impl Plan {
    /// Reads a file; `file` is its name for messages.
    ///
    /// # Errors
    /// [`Error::Plan`]: `file:line:column: message`.
    pub fn parse(file: &str, yaml: &str) -> Result<Self> {
        if yaml.len() > MOST_BYTES {
            return Err(Error::Plan(format!("{file}: the file has more than the {MOST_BYTES} bytes allowed")));
        }
        let options = serde_saphyr::options! {
            budget: serde_saphyr::budget! { max_depth: 8, max_nodes: 2_000, max_aliases: 20, max_anchors: 20, },
            strict_booleans: true,
            with_snippet: false,
        };
        let read: File = serde_saphyr::from_str_with_options(yaml, options).map_err(|error| {
            let error = error.without_snippet();
            let (line, column) = error.location().map_or((1, 1), |place| (place.line(), place.column()));
            let text = error.to_string();
            let message = text.lines().next().unwrap_or_default();
            let message = message.split(" at line ").next().unwrap_or(message);
            Error::Plan(format!("{file}:{line}:{column}: {message}"))
        })?;
        let plan = read.plan(file)?;
        plan.check().map_err(|reason| Error::Plan(format!("{file}: {reason}")))?;
        Ok(plan)
    }

    /// The plan with what flags say in the place of what it says.
    ///
    /// # Errors
    /// [`Error::Plan`] with what is wrong.
    pub fn with(mut self, changes: &Changes) -> Result<Self> {
        let pause = changes.pause.or(self.steps.first().map(|step| step.pause)).unwrap_or_default();
        if let Some(percents) = &changes.steps {
            self.steps = percents.iter().map(|&percent| Step { percent, pause }).collect();
        } else if changes.pause.is_some() {
            self.steps.iter_mut().for_each(|step| step.pause = pause);
        }
        self.patience = changes.patience.unwrap_or(self.patience);
        let limits = &mut self.limits;
        limits.max_error_rate = changes.max_error_rate.or(limits.max_error_rate);
        limits.max_p99 = changes.max_p99.or(limits.max_p99);
        limits.max_drift = changes.max_drift.or(limits.max_drift);
        limits.min_answers = changes.min_answers.unwrap_or(limits.min_answers);
        if let Some(url) = &changes.prometheus {
            let matchers = self.prometheus.take().map(|before| before.matchers).unwrap_or_default();
            self.prometheus = Some(PrometheusSource { matchers, ..PrometheusSource::new(url)? });
        }
        if let Some(matchers) = &changes.prometheus_match {
            let none = || Error::Plan("prometheus_match: no Prometheus is named that it could be for".to_owned());
            self.prometheus.as_mut().ok_or_else(none)?.matchers = matchers.clone();
        }
        self.check().map_err(Error::Plan)?;
        Ok(self)
    }

    /// Says in words what is wrong with it.
    fn check(&self) -> Result<(), String> {
        if self.steps.is_empty() || self.steps.len() > MOST_STEPS {
            return Err(format!("a plan has 1 to {MOST_STEPS} steps; give them as 5,25,50,100"));
        }
        let mut before = 0;
        for step in &self.steps {
            if step.percent <= before || step.percent > 100 {
                return Err(format!(
                    "step {} after {before}: steps are percents that grow from 1 to 100, such as 5,25,50,100",
                    step.percent
                ));
            }
            if step.pause < SHORTEST_PAUSE {
                return Err(format!("step {}: its pause is at least 1s, or nothing could be watched", step.percent));
            }
            before = step.percent;
        }
        if before != 100 {
            return Err(format!("the last step is {before}; the last step is 100, after which the alias moves"));
        }
        let Limits { max_error_rate, max_p99, max_drift, min_answers } = &self.limits;
        if max_error_rate.is_some_and(|rate| !(0.0..=1.0).contains(&rate)) {
            return Err("max_error_rate is a share, 0 to 1".to_owned());
        }
        if max_p99.is_some_and(|time| time.is_zero()) {
            return Err("max_p99 is a time above zero, such as 500ms".to_owned());
        }
        if max_drift.is_some_and(|drift| !drift.is_finite() || drift <= 0.0) {
            return Err("max_drift is a number above zero, such as 0.25".to_owned());
        }
        if *min_answers == 0 {
            return Err("min_answers is at least 1".to_owned());
        }
        match &self.prometheus {
            Some(source) => source.check().map_err(|reason| format!("prometheus: {reason}")),
            None => Ok(()),
        }
    }
}

/// A length of time as people write it: `500ms`, `60s`, `1m 30s`.
///
/// # Errors
/// [`Error::Plan`] with what is wrong.
pub fn parse_time(text: &str) -> Result<Duration> {
    let shown = || Error::Plan(format!("`{text}` is no length of time; write it as 500ms, 60s or 10m"));
    humantime::parse_duration(text).map_err(|_| shown())
}

impl File {
    fn plan(self, file: &str) -> Result<Plan> {
        let default = Plan::default();
        let at = |place: serde_saphyr::Location, message: String| {
            Error::Plan(format!("{file}:{}:{}: {message}", place.line(), place.column()))
        };
        let time =
            |text: &Spanned<String>| parse_time(&text.value).map_err(|error| at(text.referenced, error.to_string()));
        let pause = self.pause.as_ref().map(time).transpose()?;
        let usual = pause.unwrap_or(default.steps[0].pause);
        let step = |entry: Spanned<Entry>| {
            let (percent, own) = match entry.value {
                Entry::Percent(percent) => (percent, None),
                Entry::Full(FullEntry { percent, pause }) => (percent, pause),
            };
            let percent = u8::try_from(percent).ok().filter(|percent| (1..=100).contains(percent));
            let percent =
                percent.ok_or_else(|| at(entry.referenced, "a step is a percent from 1 to 100".to_owned()))?;
            let own = own.map(|text| parse_time(&text).map_err(|error| at(entry.referenced, error.to_string())));
            Ok(Step { percent, pause: own.transpose()?.unwrap_or(usual) })
        };
        let steps = match self.steps {
            Some(entries) => entries.into_iter().map(step).collect::<Result<Vec<Step>>>()?,
            None => default.steps.iter().map(|step| Step { pause: usual, ..*step }).collect(),
        };
        let FileLimits { max_error_rate, max_p99, max_drift, min_answers } = self.limits;
        let limits = Limits {
            max_error_rate: max_error_rate.map(|rate| rate.value),
            max_p99: max_p99.as_ref().map(time).transpose()?,
            max_drift: max_drift.map(|drift| drift.value),
            min_answers: min_answers.value,
        };
        let patience = self.patience.as_ref().map(time).transpose()?.unwrap_or(default.patience);
        let prometheus = self.prometheus.map(|source| match source.value.check() {
            Ok(()) => Ok(source.value),
            Err(reason) => Err(at(source.referenced, format!("prometheus: {reason}"))),
        });
        Ok(Plan { steps, patience, limits, prometheus: prometheus.transpose()?, kubernetes: self.kubernetes })
    }
}

/// A default, which has no place in a file.
fn nowhere<T>(value: T) -> Spanned<T> {
    let place = serde_saphyr::Location::UNKNOWN;
    Spanned { value, referenced: place, defined: place }
}

mod duration {
    use super::*;

    pub(super) fn serialize<S: Serializer>(time: &Duration, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(&humantime::format_duration(*time))
    }

    pub(super) fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Duration, D::Error> {
        let text = String::deserialize(deserializer)?;
        humantime::parse_duration(&text).map_err(serde::de::Error::custom)
    }
}

mod maybe_duration {
    use super::*;

    pub(super) fn serialize<S: Serializer>(time: &Option<Duration>, serializer: S) -> Result<S::Ok, S::Error> {
        match time {
            Some(time) => super::duration::serialize(time, serializer),
            None => serializer.serialize_none(),
        }
    }

    pub(super) fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<Duration>, D::Error> {
        let text = Option::<String>::deserialize(deserializer)?;
        text.map(|text| humantime::parse_duration(&text).map_err(serde::de::Error::custom)).transpose()
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    fn refused(yaml: &str) -> String {
        Plan::parse("plan.yaml", yaml).unwrap_err().to_string()
    }

    #[test]
    fn a_file_says_what_differs_from_the_usual() {
        assert_eq!(Plan::parse("plan.yaml", "{}").unwrap(), Plan::default());
        let yaml =
            "steps: [{percent: 1, pause: 10m}, 50, 100]\npause: 90s\nlimits: {max_p99: 500ms, max_drift: null}\n";
        let plan = Plan::parse("plan.yaml", yaml).unwrap();
        let shown: Vec<(u8, u64)> = plan.steps.iter().map(|step| (step.percent, step.pause.as_secs())).collect();
        assert_eq!(shown, [(1, 600), (50, 90), (100, 90)]);
        assert_eq!(plan.limits.max_p99, Some(Duration::from_millis(500)));
        assert_eq!((plan.limits.max_drift, plan.limits.max_error_rate), (None, Some(0.01)));
        let text = serde_json::to_string(&plan).unwrap();
        assert_eq!(serde_json::from_str::<Plan>(&text).unwrap(), plan);
    }

    #[test]
    fn mistakes_have_their_place() {
        assert!(refused("steps: [5, 100]\npauses: 3s\n").starts_with("plan.yaml:2:1: "), "{}", refused("pauses: 3s"));
        let told = refused("steps:\n  - 5\n  - {percent: 300}\n");
        assert!(told.starts_with("plan.yaml:3:5: a step is a percent"), "{told}");
        let told = refused("pause: soon\n");
        assert!(told.starts_with("plan.yaml:1:8: `soon` is no length of time"), "{told}");
        assert!(refused("steps: [5, 50]").contains("the last step is 100"));
        assert!(refused("steps: [50, 50, 100]").contains("step 50 after 50"));
        assert!(refused("limits: {max_drift: 0}").contains("max_drift"));
        assert!(refused("limits: {max_error_rate: 2}").contains("max_error_rate"));
        assert!(refused("limits: {min_answers: 0}").contains("min_answers"));
        assert!(refused("pause: 0s").contains("at least 1s"));
    }

    #[test]
    fn where_it_runs_and_who_counts_may_be_in_a_file() {
        let yaml = "kubernetes: {deployment: detection}\nprometheus: {url: 'http://a:9090', match: 'job=\"b\"'}\n";
        let plan = Plan::parse("plan.yaml", yaml).unwrap();
        assert_eq!(plan.kubernetes.as_ref().map(|target| target.deployment.as_str()), Some("detection"));
        let text = serde_json::to_string(&plan).unwrap();
        assert_eq!(serde_json::from_str::<Plan>(&text).unwrap(), plan);
        let changes = Changes { prometheus: Some("http://c:9090".to_owned()), ..Changes::default() };
        let source = plan.with(&changes).unwrap().prometheus.unwrap();
        assert_eq!((source.url.as_str(), source.matchers.as_str()), ("http://c:9090/", "job=\"b\""));
        let alone = Changes { prometheus_match: Some("a=\"b\"".to_owned()), ..Changes::default() };
        assert!(Plan::default().with(&alone).unwrap_err().to_string().contains("no Prometheus is named"));
        let told = refused("pause: 5s\nprometheus: {url: 'http://ada:s3cret@a'}\n");
        assert!(told.starts_with("plan.yaml:2:13: prometheus: its URL may hold no password"), "{told}");
        assert!(!told.contains("s3cret"), "{told}");
        assert!(refused("kubernetes: {deploymnt: a}").starts_with("plan.yaml:1:"));
    }

    #[test]
    fn flags_go_before_the_file() {
        let changes = Changes {
            steps: Some(vec![10, 100]),
            pause: Some(Duration::from_secs(2)),
            max_error_rate: Some(0.5),
            ..Changes::default()
        };
        let plan = Plan::default().with(&changes).unwrap();
        assert_eq!(plan.steps.len(), 2);
        assert!(plan.steps.iter().all(|step| step.pause == Duration::from_secs(2)));
        assert_eq!((plan.limits.max_error_rate, plan.limits.max_drift), (Some(0.5), Some(MAJOR_DRIFT)));
        let wrong = Changes { steps: Some(vec![100, 5]), ..Changes::default() };
        assert!(Plan::default().with(&wrong).unwrap_err().to_string().contains("step 5 after 100"));
    }
}
