//! The job `evaluate`: judges models by labelled media, and writes the scores to the table `evaluation`.

pub(crate) mod judge;
mod score;
mod settings;

use std::sync::Arc;

use async_trait::async_trait;
use chrono::Utc;
use detector::model;
use detector::taxonomy::Taxonomy;
use lake::{Appended, EvaluationRow, Role, Table, Transaction};
use model_registry::folder::Lineage;
use pipeline::{Job, JobContext, JobError, JobOutput};
use serde_json::{Value, json};

use crate::labelled::{Label, LabelledSet, Sequence};
use crate::models::{self, FetchedModel};
use crate::services::Services;
use crate::with::Templates;
use crate::{Error, Result};

use judge::{Verdict, judge, start, stop};
use score::{Scores, score};
use settings::Settings;

/// The job kind `evaluate`.
///
/// Output: `{"challenger": scores, "champion": scores or null, "dataset", "dataset_digest", "split", "rows",
/// "table_version"}`; scores are `{"model", "version", "model_version", "model_digest", "count", "accuracy", "macro_f1",
/// "coverage"}`. Rows are appended in one commit that is named after the task instance, so that no attempt adds a row twice.
#[derive(Debug)]
pub struct EvaluateJob {
    services: Arc<Services>,
}

impl EvaluateJob {
    /// The job with the services of this process.
    pub fn new(services: Arc<Services>) -> Self {
        Self { services }
    }

    async fn evaluate(&self, context: &JobContext, settings: Settings) -> Result<JobOutput> {
        let challenger = models::fetch(&self.services, Some(&settings.model)).await?;
        let champion = match &settings.against {
            Some(reference) => models::fetch_if_there(&self.services, reference).await?,
            None => None,
        };
        let taxonomy = model::taxonomy(&challenger.folder)?;
        let set = LabelledSet::read(&self.services, &settings.set, &taxonomy, context).await?;
        let sequences: Vec<&Sequence> =
            set.sequences.iter().filter(|sequence| settings.part.has(sequence.split)).collect();
        if sequences.is_empty() {
            let part = settings.part.name();
            return Err(Error::Labels(format!(
                "nothing of {} is in the split `{part}`; give another `split`",
                set.source
            )));
        }
        let models = [(Role::Challenger, Some(challenger)), (Role::Champion, champion)];
        let models: Vec<(Role, FetchedModel)> =
            models.into_iter().filter_map(|(role, model)| model.map(|model| (role, model))).collect();

        let media: usize = sequences.iter().map(|sequence| sequence.media.len()).sum();
        let total = (media * models.len()) as u64;
        let (mut rows, mut said, mut failures) = (Vec::new(), Vec::new(), 0);
        for (number, (role, fetched)) in models.iter().enumerate() {
            let before = (number * media) as u64;
            let told = |done: u64| {
                context.progress(before + done, total, &format!("judging the {role}"));
                !context.cancel.is_cancelled()
            };
            let engine = start(&self.services, &fetched.folder).await?;
            let verdict = judge(&self.services, &engine, &set.store, &sequences, &told).await;
            let taxonomy = engine.model().taxonomy.clone();
            stop(engine).await;
            let verdict = verdict?;
            let scores = score(&verdict.answers, &taxonomy);
            failures = failures.max(verdict.failures);
            let facts = Facts::new(context, &settings, &set, *role, fetched, &verdict)?;
            said.push((*role, facts.summary(&scores)));
            rows.extend(facts.rows(&scores, &taxonomy));
        }
        let lake = self.services.lake().await?;
        let name = Transaction::new(context.idempotency_key.clone(), 1);
        let version = match lake.append_evaluation(&rows, &name).await? {
            Appended::Committed { version, .. } => Some(version),
            Appended::AlreadyThere => lake.version(Table::Evaluation).await?,
        };
        let of = |role: Role| said.iter().find(|(other, _)| *other == role).map(|(_, scores)| scores.clone());
        let first = rows.first();
        let value = json!({
            "challenger": of(Role::Challenger),
            "champion": of(Role::Champion),
            "dataset": set.source,
            "dataset_digest": first.map(|row| row.dataset_digest.clone()),
            "split": settings.part.name(),
            "rows": rows.len(),
            "table_version": version,
        });
        Ok(JobOutput { value, failures, summary: summary(&said, sequences.len()) })
    }
}

#[async_trait]
impl Job for EvaluateJob {
    fn kind(&self) -> &'static str {
        "evaluate"
    }

    fn check(&self, with: &Value) -> std::result::Result<(), String> {
        Settings::read(with, Templates::Unrendered).map(drop)
    }

    async fn run(&self, context: JobContext, with: Value) -> std::result::Result<JobOutput, JobError> {
        let settings = Settings::read(&with, Templates::Rendered).map_err(JobError::permanent)?;
        Ok(self.evaluate(&context, settings).await?)
    }
}

/// What all rows of one judgement of one model have in common.
struct Facts {
    row: EvaluationRow,
}

impl Facts {
    fn new(
        context: &JobContext,
        settings: &Settings,
        set: &LabelledSet,
        role: Role,
        fetched: &FetchedModel,
        verdict: &Verdict,
    ) -> Result<Self> {
        let model_version = model::version(&fetched.folder)?.to_string();
        let lineage = Lineage::of_folder(&fetched.folder)?;
        let registered = fetched.registered.as_ref();
        let name = match (&settings.name, registered) {
            (Some(name), _) => name.clone(),
            (None, Some((name, _))) => name.clone(),
            (None, None) => model::name(&fetched.folder)?,
        };
        let row = EvaluationRow {
            evaluation_id: format!("{}/{role}", context.idempotency_key),
            model: name,
            version: registered.map(|(_, version)| *version),
            model_version,
            model_digest: model::digest(&fetched.folder)?,
            role: Some(role),
            dataset: set.source.clone(),
            dataset_digest: set.digest(&verdict.contents),
            split: settings.part.name().to_owned(),
            label: None,
            species: None,
            count: 0,
            accuracy: None,
            macro_f1: None,
            coverage: 0.0,
            precision: None,
            recall: None,
            f1: None,
            support: 0,
            training_digest: lineage.training_digest,
            training_table_version: lineage.training_table_version,
            run_id: context.run_id.to_string(),
            task: context.task.clone(),
            evaluated_at: Utc::now(),
        };
        Ok(Self { row })
    }

    /// One row over all labels, and one for each.
    fn rows(&self, scores: &Scores, taxonomy: &Taxonomy) -> Vec<EvaluationRow> {
        let count = scores.count as i64;
        let overall = EvaluationRow {
            count,
            accuracy: Some(scores.accuracy),
            macro_f1: Some(scores.macro_f1),
            coverage: scores.coverage,
            support: count,
            ..self.row.clone()
        };
        let of_labels = scores.labels.iter().map(|label| {
            let name = label.label.name();
            let species = match label.label {
                Label::Animal(_) => taxonomy.english(name).map(str::to_owned),
                _ => None,
            };
            EvaluationRow {
                label: Some(name.to_owned()),
                species,
                count: label.support as i64,
                coverage: label.coverage,
                precision: Some(label.precision),
                recall: Some(label.recall),
                f1: Some(label.f1),
                support: label.support as i64,
                ..self.row.clone()
            }
        });
        std::iter::once(overall).chain(of_labels).collect()
    }

    fn summary(&self, scores: &Scores) -> Value {
        json!({
            "model": self.row.model,
            "version": self.row.version,
            "model_version": self.row.model_version,
            "model_digest": self.row.model_digest,
            "count": scores.count,
            "accuracy": scores.accuracy,
            "macro_f1": scores.macro_f1,
            "coverage": scores.coverage,
        })
    }
}

fn summary(said: &[(Role, Value)], count: usize) -> String {
    let one = |(role, scores): &(Role, Value)| {
        format!("{role} macro F1 {:.3}", scores["macro_f1"].as_f64().unwrap_or_default())
    };
    let all: Vec<String> = said.iter().map(one).collect();
    format!("{} on {count} sequences", all.join(", "))
}
