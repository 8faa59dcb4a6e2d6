//! What a task can do: the job kinds `ingest`, `infer` and `report`, each an implementation of [`pipeline::Job`].
//!
//! [`registry`] gives a runner all kinds; they share the [`Services`] of the process: the lake, and one detection
//! engine that is loaded when the first task needs it.

mod error;
pub mod infer;
pub mod ingest;
pub mod manifest;
pub mod media;
pub mod quick;
pub mod report;
pub mod services;

use std::sync::Arc;

use pipeline::JobRegistry;

pub use error::{Error, Result};
pub use services::Services;

/// All job kinds of this crate.
pub fn registry(services: &Arc<Services>) -> pipeline::Result<JobRegistry> {
    let mut registry = JobRegistry::new();
    registry.register(Arc::new(ingest::IngestJob::new(Arc::clone(services))))?;
    registry.register(Arc::new(infer::InferJob::new(Arc::clone(services))))?;
    registry.register(Arc::new(report::ReportJob::new(Arc::clone(services))))?;
    Ok(registry)
}
