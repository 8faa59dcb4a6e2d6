//! What a batcher counts.

use prometheus::{Histogram, IntCounter, IntGauge};

/// Counters of one batcher, already labelled.
#[derive(Debug, Clone)]
pub struct BatchMetrics {
    /// Requests that wait.
    pub waiting: IntGauge,
    /// Requests in a batch.
    pub batch: Histogram,
    /// Seconds from a request's arrival to its work.
    pub wait_seconds: Histogram,
    /// Seconds of the work of a batch.
    pub run_seconds: Histogram,
    /// Requests refused because the queue was full.
    pub refused: IntCounter,
    /// Requests left out because their deadline had passed.
    pub late: IntCounter,
    /// Requests left out because their caller had gone.
    pub gone: IntCounter,
}
