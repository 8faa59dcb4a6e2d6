//! What a server counts, for Prometheus.

use std::time::Duration;

use prometheus::{
    Encoder, Gauge, HistogramOpts, HistogramVec, IntCounter, IntCounterVec, IntGauge, IntGaugeVec, Opts, Registry,
    TextEncoder,
};

use crate::batch::BatchMetrics;
use crate::{Error, Result};

const SECONDS: [f64; 14] = [0.001, 0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1.0, 2.0, 5.0, 10.0, 30.0];
/// Of scores, which lie from 0 to 1: 0 is a bucket of its own, for nothing found.
const SCORES: [f64; 11] = [0.0, 0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9, 1.0];
const SIZES: [f64; 8] = [1.0, 2.0, 4.0, 8.0, 16.0, 32.0, 64.0, 128.0];

/// Counters of one server. Cheap to clone.
#[derive(Debug, Clone)]
pub struct Metrics {
    registry: Registry,
    /// By route and status: HTTP's, or `grpc-8` where gRPC's says more.
    pub requests: IntCounterVec,
    /// By route.
    pub request_seconds: HistogramVec,
    /// Pictures that were answered, by model version.
    pub pictures: IntCounterVec,
    /// Failed looks, by model version.
    pub failures: IntCounterVec,
    /// Requests by model version and outcome: `ok`, `failed`, `late`, `full`, `media`.
    pub answers: HistogramVec,
    /// The greatest score of each picture that was answered, by model version and what it is of: `box`, `name`.
    pub scores: HistogramVec,
    /// By `hit`, `miss`, `shared` and the kind of cache.
    pub cache: IntCounterVec,
    /// Calls of Redis that failed.
    pub redis_failures: IntCounter,
    /// 1 for the version that serves, by version and role.
    pub model: IntGaugeVec,
    /// Switches, by how they ended: `switched`, `refused`, `rolled_back`.
    pub swaps: IntCounterVec,
    /// Shadow answers: `same`, `different`, `failed`.
    pub shadow: IntCounterVec,
    /// Connections now.
    pub connections: IntGauge,
    /// Cameras whose bursts are kept.
    pub deployments: IntGauge,
    /// Bytes of bodies in memory.
    pub body_bytes: IntGauge,
    /// Bytes of the GPU's memory in use; 0 without a GPU.
    pub gpu_memory: Gauge,
    waiting: IntGaugeVec,
    batch: HistogramVec,
    wait_seconds: HistogramVec,
    run_seconds: HistogramVec,
    left_out: IntCounterVec,
}

impl Metrics {
    /// All at zero.
    ///
    /// # Errors
    /// A name does not fit the format.
    pub fn new() -> Result<Self> {
        Self::make().map_err(|error| Error::Setup(format!("metrics: {error}")))
    }

    fn make() -> prometheus::Result<Self> {
        let registry = Registry::new();
        let counters = |name: &str, help: &str, labels: &[&str]| {
            let made = IntCounterVec::new(Opts::new(name, help), labels)?;
            registry.register(Box::new(made.clone()))?;
            prometheus::Result::Ok(made)
        };
        let gauges = |name: &str, help: &str, labels: &[&str]| {
            let made = IntGaugeVec::new(Opts::new(name, help), labels)?;
            registry.register(Box::new(made.clone()))?;
            prometheus::Result::Ok(made)
        };
        let gauge = |name: &str, help: &str| {
            let made = IntGauge::new(name, help)?;
            registry.register(Box::new(made.clone()))?;
            prometheus::Result::Ok(made)
        };
        let histograms = |name: &str, help: &str, labels: &[&str], buckets: &[f64]| {
            let made = HistogramVec::new(HistogramOpts::new(name, help).buckets(buckets.to_vec()), labels)?;
            registry.register(Box::new(made.clone()))?;
            prometheus::Result::Ok(made)
        };
        let redis_failures =
            IntCounter::new("safari_serving_redis_failures_total", "calls of Redis that failed or took too long")?;
        registry.register(Box::new(redis_failures.clone()))?;
        let gpu_memory =
            Gauge::new("safari_serving_gpu_memory_bytes", "memory of the GPU that is in use, by all processes")?;
        registry.register(Box::new(gpu_memory.clone()))?;
        Ok(Self {
            requests: counters("safari_serving_requests_total", "requests that were answered", &["route", "status"])?,
            request_seconds: histograms(
                "safari_serving_request_seconds",
                "from a request's headers to its answer's",
                &["route"],
                &SECONDS,
            )?,
            pictures: counters("safari_serving_pictures_total", "pictures that were looked at", &["version"])?,
            failures: counters("safari_serving_failures_total", "requests that the model failed on", &["version"])?,
            answers: histograms(
                "safari_serving_answer_seconds",
                "from a request's turn to a model to its answer",
                &["version", "outcome"],
                &SECONDS,
            )?,
            scores: histograms(
                "safari_serving_score",
                "greatest score of a picture, 0 without one",
                &["version", "of"],
                &SCORES,
            )?,
            cache: counters("safari_serving_cache_total", "pictures by what the caches said", &["cache", "outcome"])?,
            redis_failures,
            model: gauges(
                "safari_serving_model",
                "the models in memory and their roles",
                &["version", "source", "role"],
            )?,
            swaps: counters("safari_serving_swaps_total", "changes of the model", &["outcome"])?,
            shadow: counters(
                "safari_serving_shadow_total",
                "answers of a shadow compared with those given",
                &["version", "outcome"],
            )?,
            connections: gauge("safari_serving_connections", "open connections")?,
            deployments: gauge("safari_serving_deployments", "cameras whose bursts are kept")?,
            body_bytes: gauge("safari_serving_body_bytes", "bytes of requests in memory")?,
            gpu_memory,
            waiting: gauges("safari_serving_queue", "requests that wait for a worker", &["version"])?,
            batch: histograms("safari_serving_batch_size", "requests in a batch", &["version"], &SIZES)?,
            wait_seconds: histograms(
                "safari_serving_wait_seconds",
                "from a request's arrival in the queue to its work",
                &["version"],
                &SECONDS,
            )?,
            run_seconds: histograms("safari_serving_run_seconds", "work of a batch", &["version"], &SECONDS)?,
            left_out: counters(
                "safari_serving_left_out_total",
                "requests without work: queue full, deadline passed, caller gone",
                &["version", "reason"],
            )?,
            registry,
        })
    }

    /// The counters of the batcher of one model version.
    pub fn batch(&self, version: &str) -> BatchMetrics {
        BatchMetrics {
            waiting: self.waiting.with_label_values(&[version]),
            batch: self.batch.with_label_values(&[version]),
            wait_seconds: self.wait_seconds.with_label_values(&[version]),
            run_seconds: self.run_seconds.with_label_values(&[version]),
            refused: self.left_out.with_label_values(&[version, "full"]),
            late: self.left_out.with_label_values(&[version, "late"]),
            gone: self.left_out.with_label_values(&[version, "gone"]),
        }
    }

    /// Notes a request that was answered.
    pub fn answered(&self, route: &str, status: &str, took: Duration) {
        self.requests.with_label_values(&[route, status]).inc();
        self.request_seconds.with_label_values(&[route]).observe(took.as_secs_f64());
    }

    /// Notes how a request to a model ended. One that was refused for the server's end says nothing of the model.
    pub fn judged<T>(&self, version: &str, answer: &Result<T>, took: Duration) {
        let outcome = match answer {
            Ok(_) => "ok",
            Err(Error::Model(_)) => "failed",
            Err(Error::Late) => "late",
            Err(Error::Full { .. }) => "full",
            Err(Error::Media(_)) => "media",
            Err(_) => return,
        };
        self.answers.with_label_values(&[version, outcome]).observe(took.as_secs_f64());
    }

    /// All of them in Prometheus' text format.
    ///
    /// # Errors
    /// A name or label does not fit the format.
    pub fn text(&self) -> Result<String> {
        let failed = |error: &dyn std::fmt::Display| Error::Setup(format!("metrics: {error}"));
        let mut out = Vec::new();
        TextEncoder::new().encode(&self.registry.gather(), &mut out).map_err(|error| failed(&error))?;
        String::from_utf8(out).map_err(|error| failed(&error))
    }
}
