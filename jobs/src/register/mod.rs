//! The job `register`: a model folder becomes a version of a registered model, once for all attempts.
//!
//! What an attempt makes has the task instance's idempotency key as a tag, so that later attempts find it and go on there.

mod settings;

use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use async_trait::async_trait;
use detector::model;
use model_registry::client::{Client, Metric, Progress, RunStatus, Step};
use model_registry::folder::{Lineage, StageOptions};
use model_registry::register::{IDEMPOTENCY_TAG, Registration, register_folder, registered_before};
use model_registry::registered::{ModelVersion, Tag};
use pipeline::{Job, JobContext, JobError, JobOutput, ProgressSink};
use serde_json::{Value, json};

use crate::models;
use crate::services::Services;
use crate::with::Templates;
use crate::{Error, Result};

use settings::Settings;

/// The tag of a version with the name and content of its model, as in the column `model_version` of the tables.
pub const MODEL_VERSION_TAG: &str = "safari.model_version";

/// How the model was judged when it was trained.
const METRICS_FILE: &str = "metrics.json";

/// The job kind `register`. Output: `{"name", "version", "uri", "run_id", "model_version"}`.
#[derive(Debug)]
pub struct RegisterJob {
    services: Arc<Services>,
}

impl RegisterJob {
    /// The job with the services of this process.
    pub fn new(services: Arc<Services>) -> Self {
        Self { services }
    }

    async fn register(&self, context: &JobContext, settings: Settings) -> Result<JobOutput> {
        let client = self.services.registry().await?;
        let version = match registered_before(client, &settings.name, &context.idempotency_key).await? {
            Some(version) => version,
            None => {
                let fetched = models::fetch(&self.services, Some(&settings.model)).await?;
                make(client, context, &settings, &fetched.folder).await?
            }
        };
        let content = version.tags.iter().find(|tag| tag.key == MODEL_VERSION_TAG).map(|tag| tag.value.clone());
        let uri = format!("models:/{}/{}", version.name, version.version);
        Ok(JobOutput {
            summary: format!("{uri} is {}", content.as_deref().unwrap_or("there")),
            value: json!({
                "name": version.name,
                "version": version.version.0,
                "uri": uri,
                "run_id": version.run_id.filter(|run| !run.is_empty()),
                "model_version": content,
            }),
            failures: 0,
        })
    }
}

#[async_trait]
impl Job for RegisterJob {
    fn kind(&self) -> &'static str {
        "register"
    }

    fn check(&self, with: &Value) -> std::result::Result<(), String> {
        Settings::read(with, Templates::Unrendered).map(drop)
    }

    async fn run(&self, context: JobContext, with: Value) -> std::result::Result<JobOutput, JobError> {
        let settings = Settings::read(&with, Templates::Rendered).map_err(JobError::permanent)?;
        tokio::select! {
            registered = self.register(&context, settings) => Ok(registered?),
            () = context.cancel.cancelled() => Err(JobError::interrupted()),
        }
    }
}

/// Logs a run with the model's numbers, sends its files, and makes the version.
async fn make(client: &Client, context: &JobContext, settings: &Settings, folder: &Path) -> Result<ModelVersion> {
    let lineage = Lineage::of_folder(folder)?;
    let run_id = log_run(client, context, settings, folder, &lineage).await?;
    let mut tags = vec![tag(MODEL_VERSION_TAG, model::version(folder)?.as_str())];
    tags.extend(settings.tags.iter().map(|(key, value)| tag(key, value)));
    let registration = Registration {
        name: settings.name.clone(),
        experiment: settings.name.clone(),
        run_id: Some(run_id),
        description: settings.description.clone(),
        tags,
        aliases: Vec::new(),
        key: Some(context.idempotency_key.clone()),
        stage: StageOptions { lineage, ..StageOptions::default() },
    };
    let (progress, total, sent) = (context.progress.clone(), AtomicU64::new(0), AtomicU64::new(0));
    let told = Progress::new(move |step| tell(&progress, &total, &sent, step));
    Ok(register_folder(client, folder, &registration, &told).await?.version)
}

/// The run in the tracking server that shows the model's numbers: that of an earlier attempt, or a new one.
async fn log_run(
    client: &Client,
    context: &JobContext,
    settings: &Settings,
    folder: &Path,
    lineage: &Lineage,
) -> Result<String> {
    let experiment = client.ensure_experiment(&settings.name).await?;
    let key = tag(IDEMPOTENCY_TAG, &context.idempotency_key);
    let filter = format!("tags.`{}` = '{}'", key.key, key.value);
    let begun = client.search_logged_models(&experiment, &filter, 1).await?.into_iter().next();
    if let Some(run_id) = begun.and_then(|model| model.source_run_id).filter(|run_id| !run_id.is_empty()) {
        return Ok(run_id);
    }
    let mut tags = lineage.tags();
    tags.push(key);
    let name = format!("{} {}", context.dag, context.run_id);
    let run_id = client.create_run(&experiment, &name, &tags).await?.info.run_id;
    let mut metrics = metrics(folder)?;
    metrics.extend(settings.metrics.iter().map(|(key, value)| metric(key, *value)));
    client.log(&run_id, &metrics, &[], &[]).await?;
    client.end_run(&run_id, RunStatus::Finished).await?;
    Ok(run_id)
}

fn tell(progress: &ProgressSink, total: &AtomicU64, sent: &AtomicU64, step: Step) {
    match step {
        Step::Total(bytes) => total.store(bytes, Ordering::Relaxed),
        Step::Bytes(bytes) => {
            sent.fetch_add(bytes, Ordering::Relaxed);
        }
        Step::Again(bytes) => {
            sent.fetch_sub(bytes, Ordering::Relaxed);
        }
    }
    progress.set(sent.load(Ordering::Relaxed), total.load(Ordering::Relaxed), "bytes sent");
}

/// The estimates of `metrics.json`, each by its path: `test/liquid/top1`.
fn metrics(folder: &Path) -> Result<Vec<Metric>> {
    let path = folder.join(METRICS_FILE);
    if !path.exists() {
        return Ok(Vec::new());
    }
    let bytes = std::fs::read(&path).map_err(Error::read(&path))?;
    let read: Value = serde_json::from_slice(&bytes).map_err(|error| Error::Model {
        model: folder.display().to_string(),
        reason: format!("{METRICS_FILE}: {error}"),
    })?;
    let mut found = Vec::new();
    estimates("", &read, &mut found);
    Ok(found)
}

fn estimates(path: &str, value: &Value, found: &mut Vec<Metric>) {
    let Value::Object(entries) = value else { return };
    if let Some(number) = entries.get("value").and_then(Value::as_f64) {
        found.push(metric(path, number));
        return;
    }
    for (name, inside) in entries {
        let below = if path.is_empty() { name.clone() } else { format!("{path}/{name}") };
        estimates(&below, inside, found);
    }
}

fn metric(key: &str, value: f64) -> Metric {
    Metric { key: key.to_owned(), value, timestamp: chrono::Utc::now().timestamp_millis(), step: 0 }
}

fn tag(key: &str, value: &str) -> Tag {
    Tag { key: key.to_owned(), value: value.to_owned() }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn estimates_have_their_paths() {
        let file =
            json!({"test": {"liquid": {"top1": {"value": 0.5, "low": 0.1, "high": 0.9}}}, "epochs": [3], "seed": 7});
        let mut found = Vec::new();
        estimates("", &file, &mut found);
        assert_eq!(found.len(), 1);
        assert_eq!((found[0].key.as_str(), found[0].value), ("test/liquid/top1", 0.5));
    }
}
