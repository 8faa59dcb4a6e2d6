//! Live detection over HTTP and gRPC: micro-batching, hot swap of models, collections.

mod app;
pub mod batch;
pub mod cache;
pub mod detections;
mod error;
pub mod fetch;
pub mod health;
mod limits;
pub mod metrics;
pub mod models;
mod openapi;
pub mod options;
mod page;
pub mod problem;
pub mod service;
pub mod stream;
pub mod v2;

pub use app::App;
pub use error::{Error, Result, retry_seconds};
pub use options::Options;
pub use service::Service;
