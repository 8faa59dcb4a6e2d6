//! The job `train`: fits the liquid network to labelled bursts and writes a model folder in MLflow's layout.

mod card;
mod material;
mod settings;

use std::ops::ControlFlow;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use async_trait::async_trait;
use detector::model::{self, Extras};
use detector::train::report::Metrics;
use detector::train::{Progress, TrainOptions, train};
use lake::Table;
use model_registry::folder::{CARD_FILE, LINEAGE_FILE, Lineage};
use pipeline::{Job, JobContext, JobError, JobOutput};
use platform::object_store::Location;
use serde_json::{Value, json};
use tokio::sync::Mutex;

use crate::labelled::LabelledSet;
use crate::models;
use crate::services::Services;
use crate::with::Templates;
use crate::{Error, Result};

use material::Prepared;
use settings::Settings;

/// One training at a time in a process: libtorch has one generator of random numbers, and a training takes all cores.
static TRAINING: Mutex<()> = Mutex::const_new(());

/// The variable with the commit of the code, where the task does not say it.
const COMMIT_VARIABLE: &str = "SAFARI_CODE_COMMIT";

/// The job kind `train`.
///
/// Output: `{"model": folder or URL, "model_version", "model_digest", "name", "training_data", "training_digest",
/// "training_table_version", "code_commit", "metrics": {"top1", "loss", …}, "bursts", "left_out"}`.
#[derive(Debug)]
pub struct TrainJob {
    services: Arc<Services>,
}

impl TrainJob {
    /// The job with the services of this process.
    pub fn new(services: Arc<Services>) -> Self {
        Self { services }
    }

    async fn train(&self, context: &JobContext, settings: Settings) -> Result<JobOutput> {
        let base = models::fetch(&self.services, settings.base.as_deref()).await?;
        let taxonomy = model::taxonomy(&base.folder)?;
        let set = LabelledSet::read(&self.services, &settings.set, &taxonomy, context).await?;
        let prepared = material::prepare(&set, context).await?;
        let lineage = Lineage {
            dag: Some(context.dag.clone()),
            dag_run: Some(context.run_id.to_string()),
            training_data: Some(set.source.clone()),
            training_digest: Some(set.digest(&prepared.contents)),
            training_table: match set.table_version {
                Some(_) => Some(self.services.lake().await?.table_location(Table::Detections)),
                None => None,
            },
            training_table_version: set.table_version,
            code_commit: commit(settings.commit.clone()).await,
            base_model: Some(model::version(&base.folder)?.to_string()),
        };
        let left_out = prepared.left_out;
        let folder = folder(context);
        let metrics = self.fit(context, &settings, &base.folder, &folder, prepared, &lineage).await?;
        let place = match &settings.output {
            Some(output) => {
                let target = Location::parse(output)?;
                models::publish(&folder, &target).await?;
                target.to_string()
            }
            None => folder.display().to_string(),
        };
        let (version, test) = (model::version(&folder)?, &metrics.test.liquid);
        let (top1, loss) = (test.top1.value, test.loss.value);
        let bursts = metrics.train_counts.bursts_with_an_animal_seen;
        Ok(JobOutput {
            value: json!({
                "model": place,
                "model_version": version,
                "model_digest": model::digest(&folder)?,
                "name": model::name(&folder)?,
                "training_data": lineage.training_data,
                "training_digest": lineage.training_digest,
                "training_table_version": lineage.training_table_version,
                "code_commit": lineage.code_commit,
                "metrics": summary(&metrics),
                "bursts": bursts,
                "left_out": left_out,
            }),
            failures: 0,
            summary: format!("{version} of {bursts} bursts: {:.1} % right, loss {loss:.2}", 100.0 * top1),
        })
    }

    async fn fit(
        &self,
        context: &JobContext,
        settings: &Settings,
        base: &Path,
        folder: &Path,
        prepared: Prepared,
        lineage: &Lineage,
    ) -> Result<Metrics> {
        let config = self.services.config();
        let example =
            prepared.example.as_ref().map(|path| std::fs::read(path).map_err(Error::read(path))).transpose()?;
        let mut options = TrainOptions {
            model: base.to_owned(),
            output: folder.to_owned(),
            bursts: settings.bursts,
            threshold: config.rollup.threshold,
            threads: config.detector.threads,
            fit: settings.fit,
            extras: Extras { example, files: vec![(LINEAGE_FILE.to_owned(), lineage.to_text())] },
        };
        let card = card::write(&model::name(base)?, lineage, &options);
        options.extras.files.push((CARD_FILE.to_owned(), card.into_bytes()));
        let turn = tokio::select! {
            turn = TRAINING.lock() => turn,
            () = context.cancel.cancelled() => return Err(Error::Interrupted),
        };
        let context = context.clone();
        let fitting = tokio::task::spawn_blocking(move || {
            let _turn = turn;
            train(&prepared.material, &options, &|progress| tell(&context, progress))
        });
        Ok(fitting.await.map_err(|error| detector::Error::Training(format!("it broke off: {error}")))??)
    }
}

#[async_trait]
impl Job for TrainJob {
    fn kind(&self) -> &'static str {
        "train"
    }

    fn check(&self, with: &Value) -> std::result::Result<(), String> {
        Settings::read(with, Templates::Unrendered).map(drop)
    }

    async fn run(&self, context: JobContext, with: Value) -> std::result::Result<JobOutput, JobError> {
        let settings = Settings::read(&with, Templates::Rendered).map_err(JobError::permanent)?;
        Ok(self.train(&context, settings).await?)
    }
}

/// A folder of the task instance below the run's.
fn folder(context: &JobContext) -> PathBuf {
    let name = match context.map_index {
        Some(index) => format!("{}-{index}", context.task),
        None => context.task.clone(),
    };
    context.work_dir.join("models").join(name)
}

fn tell(context: &JobContext, progress: Progress) -> ControlFlow<()> {
    let (done, of, note) = match progress {
        Progress::Bursts(done, of) => (done, of, "making bursts".to_owned()),
        Progress::Recorded(done, of) => (done, of, "looking at bursts".to_owned()),
        Progress::Epoch(done, of, loss) => (done, of, format!("fitting, loss {loss:.3}")),
    };
    context.progress(done as u64, of as u64, &note);
    if context.cancel.is_cancelled() { ControlFlow::Break(()) } else { ControlFlow::Continue(()) }
}

/// The numbers of `metrics.json` that are worth a look, as tracking servers have them: names and numbers.
fn summary(metrics: &Metrics) -> Value {
    let (test, held_out) = (&metrics.test, &metrics.cross_validated.liquid);
    json!({
        "test_top1": test.liquid.top1.value,
        "test_loss": test.liquid.loss.value,
        "test_rolled_up_right": test.liquid.rolled_up_right.value,
        "test_rolled_up_wrong": test.liquid.rolled_up_wrong.value,
        "test_top1_gain_over_mean": test.gain_over_mean_of_logits.top1.value,
        "test_loss_gain_over_mean": test.gain_over_mean_of_logits.loss.value,
        "held_out_top1": held_out.top1.value,
        "held_out_loss": held_out.loss.value,
        "sharpness": metrics.sharpness,
    })
}

/// The commit of the code: as the task says, as the environment says, or that of the working tree that Safari was started
/// in.
async fn commit(said: Option<String>) -> Option<String> {
    let given = said.or_else(|| std::env::var(COMMIT_VARIABLE).ok().filter(|commit| !commit.is_empty()));
    if given.is_some() {
        return given;
    }
    let asked =
        tokio::process::Command::new("git").args(["rev-parse", "HEAD"]).kill_on_drop(true).output().await.ok()?;
    let commit = String::from_utf8(asked.stdout).ok()?.trim().to_owned();
    (asked.status.success() && !commit.is_empty()).then_some(commit)
}
