//! What a task can do: job kinds, each an implementation of [`pipeline::Job`].
//!
//! | kind | does |
//! |---|---|
//! | `ingest`, `infer`, `report` | media to tables and a page |
//! | `train`, `evaluate`, `register`, `promote` | labelled media to a model, its scores, a version and an alias |
//! | `backup`, `drill` | backs up databases, models and tables; tries the newest backup out |
//! | `rollout` | a version to serving replicas, step by step |
//! | `command` | runs a program in a process group of its own |
//! | `http` | sends one request |
//! | `sql` | runs a statement on the tables of the lake, PostgreSQL or SQLite |
//! | `wait_for_object`, `wait_for_time`, `wait_for_http`, `wait_for_sql` | waits for something |
//!
//! [`registry`] gives a runner all kinds. Those that look at media share the [`Services`] of the process: the lake, and
//! one detection engine that is loaded when the first task needs it. The waiting kinds look once and say when to look
//! again ([`pipeline::Retry::Later`]), so that no slot is held meanwhile. What programs write goes to the log of
//! their attempt, and secrets pass a [`Masker`] before they go anywhere.

pub mod backup;
pub mod command;
pub mod drill;
mod error;
pub mod evaluate;
pub mod http;
pub mod infer;
pub mod ingest;
mod labelled;
mod log;
pub mod manifest;
pub mod media;
mod models;
pub mod promote;
pub mod quick;
pub mod register;
pub mod report;
pub mod rollout;
pub mod services;
pub mod sql;
mod text;
mod trace;
pub mod train;
pub mod wait;
mod with;

use std::sync::Arc;

use pipeline::JobRegistry;

pub use command::CommandJob;
pub use error::{Error, Result};
pub use http::HttpJob;
pub use pipeline::Masker;
pub use services::Services;
pub use sql::{SqlJob, WaitForSqlJob};
pub use wait::{WaitForHttpJob, WaitForObjectJob, WaitForTimeJob};

/// All job kinds of this crate. What their logs and errors show passes `masker`.
pub fn registry(services: &Arc<Services>, masker: &Masker) -> pipeline::Result<JobRegistry> {
    let mut registry = JobRegistry::new();
    registry.register(Arc::new(ingest::IngestJob::new(Arc::clone(services))))?;
    registry.register(Arc::new(infer::InferJob::new(Arc::clone(services))))?;
    registry.register(Arc::new(report::ReportJob::new(Arc::clone(services))))?;
    registry.register(Arc::new(train::TrainJob::new(Arc::clone(services))))?;
    registry.register(Arc::new(evaluate::EvaluateJob::new(Arc::clone(services))))?;
    registry.register(Arc::new(register::RegisterJob::new(Arc::clone(services))))?;
    registry.register(Arc::new(promote::PromoteJob::new(Arc::clone(services))))?;
    registry.register(Arc::new(backup::BackupJob::new(Arc::clone(services))))?;
    registry.register(Arc::new(backup::DrillJob::new(Arc::clone(services))))?;
    registry.register(Arc::new(rollout::RolloutJob::new(Arc::clone(services))))?;
    registry.register(Arc::new(SqlJob::new(Arc::clone(services), masker.clone())))?;
    registry.register(Arc::new(WaitForSqlJob::new(Arc::clone(services), masker.clone())))?;
    register_general(&mut registry, masker)?;
    Ok(registry)
}

/// Adds the kinds that need nothing of Safari's own.
///
/// # Errors
/// [`pipeline::Error::DuplicateJob`] when a kind is there already.
pub fn register_general(registry: &mut JobRegistry, masker: &Masker) -> pipeline::Result<()> {
    registry.register(Arc::new(CommandJob::new(masker.clone())))?;
    registry.register(Arc::new(HttpJob::new(masker.clone())))?;
    registry.register(Arc::new(WaitForObjectJob::new()))?;
    registry.register(Arc::new(WaitForTimeJob::new()))?;
    registry.register(Arc::new(WaitForHttpJob::new(masker.clone())))
}
