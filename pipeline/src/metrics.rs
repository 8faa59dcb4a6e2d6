//! What this process has done since it started, for Prometheus: attempts and runs with their times.
//!
//! How many runs and tasks there are now is asked from the database when somebody looks, see `api::metrics`.

use std::sync::LazyLock;
use std::time::Duration;

use prometheus::{Encoder, HistogramOpts, HistogramVec, IntCounterVec, Opts, Registry, TextEncoder};

/// Seconds. A hot task starts within milliseconds, a cold one waits for a slot for minutes.
const DELAYS: [f64; 14] = [0.001, 0.002, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 1.0, 5.0, 15.0, 60.0, 300.0, 1800.0];
const DURATIONS: [f64; 14] =
    [0.001, 0.01, 0.1, 0.5, 1.0, 5.0, 15.0, 60.0, 300.0, 900.0, 3600.0, 14_400.0, 43_200.0, 86_400.0];

static METRICS: LazyLock<prometheus::Result<Metrics>> = LazyLock::new(Metrics::new);

struct Metrics {
    registry: Registry,
    scheduling_delay: HistogramVec,
    attempts: IntCounterVec,
    attempt_seconds: HistogramVec,
    runs: IntCounterVec,
    run_seconds: HistogramVec,
}

/// A worker has claimed an attempt: so long the task was ready before.
pub(crate) fn claimed(dag: &str, delay: Duration) {
    if let Ok(metrics) = &*METRICS {
        metrics.scheduling_delay.with_label_values(&[dag]).observe(delay.as_secs_f64());
    }
}

/// An attempt has come to an outcome: `succeeded`, `failed`, `retried`, `waiting`, `interrupted` or `fenced`.
pub(crate) fn attempt_ended(dag: &str, task: &str, outcome: &str, time: Duration) {
    if let Ok(metrics) = &*METRICS {
        metrics.attempts.with_label_values(&[dag, task, outcome]).inc();
        metrics.attempt_seconds.with_label_values(&[dag, task]).observe(time.as_secs_f64());
    }
}

/// An attempt was found lost with its worker.
pub(crate) fn attempt_lost(dag: &str, task: &str) {
    if let Ok(metrics) = &*METRICS {
        metrics.attempts.with_label_values(&[dag, task, "lost"]).inc();
    }
}

/// A run has come to its end.
pub(crate) fn run_ended(dag: &str, state: &str, time: Duration) {
    if let Ok(metrics) = &*METRICS {
        metrics.runs.with_label_values(&[dag, state]).inc();
        metrics.run_seconds.with_label_values(&[dag]).observe(time.as_secs_f64());
    }
}

/// All of them in Prometheus' text format.
///
/// # Errors
/// When a name or a label does not fit the format.
pub fn text() -> Result<String, String> {
    let metrics = METRICS.as_ref().map_err(ToString::to_string)?;
    let mut out = Vec::new();
    TextEncoder::new().encode(&metrics.registry.gather(), &mut out).map_err(|error| error.to_string())?;
    String::from_utf8(out).map_err(|error| error.to_string())
}

impl Metrics {
    fn new() -> prometheus::Result<Self> {
        let registry = Registry::new();
        let counter = |name, help, labels: &[&str]| {
            let counter = IntCounterVec::new(Opts::new(name, help), labels)?;
            registry.register(Box::new(counter.clone()))?;
            prometheus::Result::Ok(counter)
        };
        let histogram = |name, help, labels: &[&str], buckets: &[f64]| {
            let histogram = HistogramVec::new(HistogramOpts::new(name, help).buckets(buckets.to_vec()), labels)?;
            registry.register(Box::new(histogram.clone()))?;
            prometheus::Result::Ok(histogram)
        };
        Ok(Self {
            scheduling_delay: histogram(
                "safari_scheduling_delay_seconds",
                "from when a task was ready until a worker of this process claimed it",
                &["dag"],
                &DELAYS,
            )?,
            attempts: counter(
                "safari_attempts_total",
                "attempts that ended in this process, and lost ones that it found",
                &["dag", "task", "outcome"],
            )?,
            attempt_seconds: histogram(
                "safari_attempt_duration_seconds",
                "how long attempts took that ended in this process",
                &["dag", "task"],
                &DURATIONS,
            )?,
            runs: counter("safari_runs_ended_total", "runs whose last task ended in this process", &["dag", "state"])?,
            run_seconds: histogram(
                "safari_run_duration_seconds",
                "from the making of a run to its end, for runs whose last task ended in this process",
                &["dag"],
                &DURATIONS,
            )?,
            registry,
        })
    }
}
