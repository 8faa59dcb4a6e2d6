//! The job `register`: a model folder becomes a version of a registered model, once for all attempts.
//!
//! Files go to a logged model that has the task instance's idempotency key as a tag, as has the version. So an attempt
//! finds what earlier ones have done, and goes on there.

mod settings;

use std::path::{Path, PathBuf};
use std::sync::Arc;

use async_trait::async_trait;
use detector::model;
use model_registry::client::{Client, LoggedModel, Metric, NewVersion, Progress, RunStatus, Step};
use model_registry::registered::{ModelVersion, Tag};
use pipeline::{Job, JobContext, JobError, JobOutput};
use serde_json::{Value, json};

use crate::models;
use crate::services::Services;
use crate::with::Templates;
use crate::{Error, Result};

use settings::Settings;

/// The tag of a version with the name and content of its model, as in the column `model_version` of the tables.
pub const MODEL_VERSION_TAG: &str = "safari.model_version";

/// The tag with the sha256 of the files that decide what the model answers.
const DIGEST_TAG: &str = "safari.model_digest";

/// The tag of what a task instance has made.
const KEY_TAG: &str = "safari.idempotency_key";

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
        let key = &context.idempotency_key;
        let mut made = made_before(client, &settings.name, key).await?;
        if made.is_empty() {
            let fetched = models::fetch(&self.services, Some(&settings.model)).await?;
            let own = self.make(client, context, &settings, &fetched.folder).await?;
            made = made_before(client, &settings.name, key).await?;
            if made.first().is_some_and(|first| first.version < own.version) {
                // An attempt that was thought dead was faster.
                client.delete_version(&own.name, own.version).await?;
            }
            if made.is_empty() {
                made.push(own);
            }
        }
        let Some(version) = made.into_iter().next() else { return Err(Error::Interrupted) };
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

    async fn make(
        &self,
        client: &Client,
        context: &JobContext,
        settings: &Settings,
        folder: &Path,
    ) -> Result<ModelVersion> {
        let experiment = client.ensure_experiment(&settings.name).await?;
        let key = tag(KEY_TAG, &context.idempotency_key);
        let logged = match begun_before(client, &experiment, &key).await? {
            Some(logged) => logged,
            None => {
                let tags = [key.clone(), tag("safari.dag", &context.dag)];
                let run = client.create_run(&experiment, &format!("{} {}", context.dag, context.run_id), &tags).await?;
                let run_id = run.info.run_id;
                client.create_logged_model(&experiment, &settings.name, Some(&run_id), &[key.clone()]).await?
            }
        };
        if !logged.is_ready() {
            upload(client, &logged, folder, context).await?;
        }
        let mut tags = vec![key];
        tags.extend(lineage_tags(folder)?);
        tags.extend(settings.tags.iter().map(|(key, value)| tag(key, value)));
        if let Some(run_id) = &logged.source_run_id {
            let mut metrics = metrics(folder)?;
            metrics.extend(settings.metrics.iter().map(|(key, value)| metric(key, *value)));
            client.log(run_id, &metrics, &[], &tags).await?;
            client.end_run(run_id, RunStatus::Finished).await?;
        }
        client.ensure_model(&settings.name, None, &[]).await?;
        let version = NewVersion {
            name: settings.name.clone(),
            source: format!("models:/{}", logged.model_id),
            run_id: logged.source_run_id.clone(),
            model_id: Some(logged.model_id.clone()),
            tags,
            description: settings.description.clone(),
        };
        Ok(client.create_version(&version).await?)
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

/// Versions that attempts of this task instance have made, the first first.
async fn made_before(client: &Client, name: &str, key: &str) -> Result<Vec<ModelVersion>> {
    if client.model(name).await?.is_none() {
        return Ok(Vec::new());
    }
    let filter = format!("name = {} and tags.`{KEY_TAG}` = {}", quoted(name), quoted(key));
    let mut versions = client.all_versions(&filter).await?;
    versions.sort_by_key(|version| version.version);
    Ok(versions)
}

/// The logged model that an earlier attempt has made.
async fn begun_before(client: &Client, experiment: &str, key: &Tag) -> Result<Option<LoggedModel>> {
    let filter = format!("tags.`{}` = {}", key.key, quoted(&key.value));
    Ok(client.search_logged_models(experiment, &filter, 1).await?.into_iter().next())
}

async fn upload(client: &Client, logged: &LoggedModel, folder: &Path, context: &JobContext) -> Result<()> {
    let files = files_of(folder)?;
    let (progress, total, sent) = (context.progress.clone(), Arc::new(0.into()), Arc::new(0.into()));
    let told = Progress::new(move |step| tell(&progress, &total, &sent, step));
    client.files(&logged.artifact_uri).await?.upload_all(&files, &told).await?;
    client.finish_logged_model(&logged.model_id).await?;
    Ok(())
}

fn tell(
    progress: &pipeline::ProgressSink,
    total: &std::sync::atomic::AtomicU64,
    sent: &std::sync::atomic::AtomicU64,
    step: Step,
) {
    use std::sync::atomic::Ordering::Relaxed;
    match step {
        Step::Total(bytes) => total.store(bytes, Relaxed),
        Step::Bytes(bytes) => drop(sent.fetch_add(bytes, Relaxed)),
        Step::Again(bytes) => drop(sent.fetch_sub(bytes, Relaxed)),
    }
    progress.set(sent.load(Relaxed), total.load(Relaxed), "bytes sent");
}

/// Files below a folder with their paths there.
fn files_of(folder: &Path) -> Result<Vec<(PathBuf, String)>> {
    let (mut files, mut folders) = (Vec::new(), vec![folder.to_owned()]);
    while let Some(next) = folders.pop() {
        for entry in std::fs::read_dir(&next).map_err(Error::read(&next))? {
            let path = entry.map_err(Error::read(&next))?.path();
            if path.is_dir() {
                folders.push(path);
            } else if let Ok(below) = path.strip_prefix(folder) {
                let below = below.to_string_lossy().into_owned();
                files.push((path, below));
            }
        }
    }
    files.sort();
    Ok(files)
}

/// What the version says of its content and where it comes from.
fn lineage_tags(folder: &Path) -> Result<Vec<Tag>> {
    let lineage = model::lineage(folder)?.unwrap_or_default();
    let table_version = lineage.training_table_version.map(|version| version.to_string());
    let said = [
        ("safari.dag", lineage.dag),
        ("safari.run_id", lineage.run_id),
        ("safari.training_data", lineage.training_data),
        ("safari.training_digest", lineage.training_digest),
        ("safari.training_table_version", table_version),
        ("safari.code_commit", lineage.code_commit),
        ("safari.base_model", lineage.base_model),
        (MODEL_VERSION_TAG, Some(model::version(folder)?.to_string())),
        (DIGEST_TAG, Some(model::digest(folder)?)),
    ];
    Ok(said.into_iter().filter_map(|(key, value)| value.map(|value| tag(key, &value))).collect())
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

/// A text in MLflow's filter language.
fn quoted(text: &str) -> String {
    if text.contains('\'') { format!("\"{text}\"") } else { format!("'{text}'") }
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

    #[test]
    fn files_lie_below_the_folder() {
        let folder = tempfile::tempdir().unwrap();
        std::fs::create_dir(folder.path().join("a")).unwrap();
        for file in ["MLmodel", "a/b.pt"] {
            std::fs::write(folder.path().join(file), file).unwrap();
        }
        let names: Vec<String> = files_of(folder.path()).unwrap().into_iter().map(|(_, name)| name).collect();
        assert_eq!(names, ["MLmodel", "a/b.pt"]);
    }
}
