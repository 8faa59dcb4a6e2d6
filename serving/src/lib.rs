//! Live detection over HTTP and gRPC: micro-batching, hot swap of models, collections.

pub mod batch;
mod error;
pub mod v2;

pub use error::{Error, Result, retry_seconds};
