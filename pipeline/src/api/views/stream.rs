//! Continuous DAGs.

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use crate::clock::Timestamp;
use crate::state::StreamRecord;

/// How a continuous DAG stands.
#[derive(Clone, Debug, Serialize, Deserialize, ToSchema)]
pub struct StreamView {
    /// Name of the DAG.
    pub dag: String,
    /// Items that have come in and are in no batch.
    pub waiting: u64,
    /// Batches that are queued or running.
    pub in_flight: u64,
    /// Batches so far.
    pub batches: u64,
    /// How long the oldest item has been there whose batch has not ended.
    pub lag_seconds: f64,
    /// Why the source could not be read the last time.
    pub error: Option<String>,
}

/// A page of continuous DAGs by name.
#[derive(Clone, Debug, Serialize, Deserialize, ToSchema)]
pub struct Streams {
    /// The continuous DAGs.
    pub streams: Vec<StreamView>,
    /// `after` of the next page; none on the last.
    pub next: Option<String>,
}

impl StreamView {
    /// How it stands at `now`.
    pub fn new(record: StreamRecord, now: Timestamp) -> Self {
        Self {
            lag_seconds: record.lag(now).as_secs_f64(),
            dag: record.dag,
            waiting: record.waiting,
            in_flight: record.in_flight,
            batches: record.batches,
            error: record.error,
        }
    }
}
