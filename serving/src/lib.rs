//! Live detection over HTTP and gRPC: micro-batching, hot swap of models, collections.

mod app;
pub mod batch;
pub mod cache;
pub mod collections;
pub mod detections;
pub mod doors;
mod error;
pub mod fetch;
pub mod health;
mod limits;
pub mod metrics;
pub mod models;
mod open_inference;
mod openapi;
pub mod options;
mod page;
pub mod problem;
mod routes;
pub mod service;
pub mod stream;
mod traces;
pub mod v2;

pub use app::App;
pub use error::{Error, Result, retry_seconds};
pub use options::Options;
pub use service::Service;
