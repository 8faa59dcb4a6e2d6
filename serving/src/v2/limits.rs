//! What a request may cost.

use std::time::Duration;

/// Limits of requests.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Limits {
    /// Bytes of a body or message.
    pub max_body: usize,
    /// Inputs, and requested outputs, of a request.
    pub max_tensors: usize,
    /// How long a request may take, whatever it asks for.
    pub max_time: Duration,
}

impl Default for Limits {
    fn default() -> Self {
        Self { max_body: 64 * 1024 * 1024, max_tensors: 64, max_time: Duration::from_secs(60) }
    }
}
