//! The job kinds `backup` and `drill`.

mod settings;

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use ::backup::retention::Policy;
use ::backup::{Created, Places, Progress, Pruned, Repository, Step};
use async_trait::async_trait;
use pipeline::{Job, JobContext, JobError, JobOutput, ProgressSink};
use serde_json::{Value, json};

use crate::Result;
use crate::drill::{Inference, drill};
use crate::services::Services;
use crate::with::Templates;

use settings::Settings;

/// The job kind `backup`. Output: `{"id", "what", "bytes", "written", "removed"}`.
#[derive(Debug)]
pub struct BackupJob {
    services: Arc<Services>,
}

impl BackupJob {
    /// The job with the services of this process.
    pub fn new(services: Arc<Services>) -> Self {
        Self { services }
    }

    async fn back_up(&self, context: &JobContext, settings: Settings) -> Result<(Created, Option<Pruned>)> {
        let config = self.services.config();
        let (repository, places) = (Repository::of(config).await?, Places::of(config)?);
        let created =
            ::backup::create(&repository, &places, settings.what, &progress(&context.progress, "bytes")).await?;
        let pruned = match settings.prune {
            true => Some(::backup::prune(&repository, Policy::of(&config.backup), false).await?),
            false => None,
        };
        Ok((created, pruned))
    }
}

#[async_trait]
impl Job for BackupJob {
    fn kind(&self) -> &'static str {
        "backup"
    }

    fn check(&self, with: &Value) -> std::result::Result<(), String> {
        Settings::read(with, &["what", "prune"], Templates::Unrendered).map(drop)
    }

    async fn run(&self, context: JobContext, with: Value) -> std::result::Result<JobOutput, JobError> {
        let settings = Settings::read(&with, &["what", "prune"], Templates::Rendered).map_err(JobError::permanent)?;
        let (created, pruned) = tokio::select! {
            done = self.back_up(&context, settings) => done?,
            () = context.cancel.cancelled() => return Err(JobError::interrupted()),
        };
        let manifest = &created.manifest;
        let removed = pruned.map_or(0, |pruned| pruned.removed.len());
        Ok(JobOutput {
            summary: format!(
                "backup {} of {}: {} bytes, {} written, verified; {removed} old ones removed",
                manifest.id, manifest.what, manifest.bytes, manifest.written
            ),
            value: json!({
                "id": manifest.id,
                "what": manifest.what,
                "bytes": manifest.bytes,
                "written": manifest.written,
                "removed": removed,
            }),
            failures: 0,
        })
    }
}

/// The job kind `drill`. Output: the report of [`drill`].
#[derive(Debug)]
pub struct DrillJob {
    services: Arc<Services>,
}

impl DrillJob {
    /// The job with the services of this process.
    pub fn new(services: Arc<Services>) -> Self {
        Self { services }
    }
}

#[async_trait]
impl Job for DrillJob {
    fn kind(&self) -> &'static str {
        "drill"
    }

    fn check(&self, with: &Value) -> std::result::Result<(), String> {
        Settings::read(with, &["what"], Templates::Unrendered).map(drop)
    }

    async fn run(&self, context: JobContext, with: Value) -> std::result::Result<JobOutput, JobError> {
        let settings = Settings::read(&with, &["what"], Templates::Rendered).map_err(JobError::permanent)?;
        let told = progress(&context.progress, "bytes restored");
        let report = tokio::select! {
            done = drill(&self.services, settings.what, &told) => done?,
            () = context.cancel.cancelled() => return Err(JobError::interrupted()),
        };
        let model = match &report.inference {
            Inference::Ran { model } => format!("{model} works"),
            Inference::LeftOut { reason } => format!("no inference: {reason}"),
        };
        let restored = &report.restored;
        let value = serde_json::to_value(&report).map_err(|error| JobError::permanent(error.to_string()))?;
        Ok(JobOutput {
            summary: format!(
                "backup {} is restored in {:.1} s: {} rows, {} files; {model}",
                restored.id, restored.restore_seconds, restored.rows, restored.files
            ),
            value,
            failures: 0,
        })
    }
}

fn progress(sink: &ProgressSink, what: &'static str) -> Progress {
    let (sink, done) = (sink.clone(), AtomicU64::new(0));
    Progress::new(move |step| {
        if let Step::Bytes(bytes) = step {
            sink.set(done.fetch_add(bytes, Ordering::Relaxed) + bytes, 0, what);
        }
    })
}
