//! Datasets and logged models that runs read or made.

use std::collections::HashMap;

use platform::database::Statement;
use serde::{Deserialize, Serialize};
use sqlx::AnyConnection;

use super::Store;
use super::runs::ActiveRun;
use super::sets::{parts, push_one_of};
use crate::entities::{DatasetInput, DatasetSummary, ModelOutput, Pair};
use crate::limits::DATASETS_LISTED;
use crate::{Error, Result};

/// The tag that says what a run read a dataset for.
const CONTEXT: &str = "mlflow.data.context";

/// Tags as the table has them.
#[derive(Deserialize, Serialize)]
struct Tag {
    key: String,
    value: String,
}

/// Reads the tags of a dataset's use.
pub(super) fn read_tags(text: &str) -> Result<Vec<Pair>> {
    let tags: Vec<Tag> = serde_json::from_str(text)
        .map_err(|_| Error::Unreadable { what: "the tags of a dataset", found: text.to_owned() })?;
    Ok(tags.into_iter().map(|tag| Pair { key: tag.key, value: tag.value }).collect())
}

impl Store {
    /// Notes what a run read. A dataset that the run read before stays as it was.
    pub(crate) async fn log_inputs(&self, run: &str, datasets: &[DatasetInput], models: &[String]) -> Result<()> {
        let mut write = self.write().await?;
        let run = self.active_run(&mut write, run).await?;
        if !datasets.is_empty() {
            self.add_datasets(write.connection(), run, datasets).await?;
        }
        let models: Vec<(&str, i64)> = models.iter().map(|model| (model.as_str(), 0)).collect();
        add_models(write.connection(), run, "input", &models).await?;
        write.commit().await
    }

    /// Notes which logged models a run made.
    pub(crate) async fn log_outputs(&self, run: &str, models: &[ModelOutput]) -> Result<()> {
        let mut write = self.write().await?;
        let run = self.active_run(&mut write, run).await?;
        let models: Vec<(&str, i64)> = models.iter().map(|model| (model.model_id.as_str(), model.step)).collect();
        add_models(write.connection(), run, "output", &models).await?;
        write.commit().await
    }

    /// The datasets that runs of experiments read, at most 1000.
    pub(crate) async fn datasets_of(&self, experiments: &[i64]) -> Result<Vec<DatasetSummary>> {
        let mut statement = Statement::new(
            "SELECT DISTINCT s.experiment_id, s.name, s.digest, d.context FROM dataset s
             JOIN run_dataset d ON d.dataset_no = s.no WHERE ",
        );
        push_one_of(&mut statement, self.engine(), "s.experiment_id", experiments);
        statement.push(" ORDER BY 1, 2, 3, 4 LIMIT ").number(DATASETS_LISTED);
        let rows: Vec<(i64, String, String, Option<String>)> =
            statement.query_as().fetch_all(self.pool()).await.map_err(Error::database("listing datasets"))?;
        let summary = |(experiment, name, digest, context): (i64, String, String, Option<String>)| DatasetSummary {
            experiment_id: experiment.to_string(),
            name,
            digest,
            context,
        };
        Ok(rows.into_iter().map(summary).collect())
    }

    async fn add_datasets(
        &self,
        connection: &mut AnyConnection,
        run: ActiveRun,
        datasets: &[DatasetInput],
    ) -> Result<()> {
        // In one order, so that two transactions never wait for each other; of equals the first is kept.
        let mut inputs: Vec<&DatasetInput> = Vec::new();
        for input in datasets {
            if !inputs.iter().any(|earlier| same(earlier, input)) {
                inputs.push(input);
            }
        }
        inputs.sort_by(|a, b| (&a.dataset.name, &a.dataset.digest).cmp(&(&b.dataset.name, &b.dataset.digest)));
        for part in parts(&inputs) {
            let mut statement = Statement::new(
                "INSERT INTO dataset (experiment_id, name, digest, source_type, source, schema, profile) VALUES ",
            );
            for DatasetInput { dataset, .. } in part {
                statement.row().number(run.experiment).text(&dataset.name).text(&dataset.digest);
                statement.text(&dataset.source_type).text(&dataset.source);
                statement.maybe_text(dataset.schema.as_deref()).maybe_text(dataset.profile.as_deref()).end_row();
            }
            statement.push(" ON CONFLICT (experiment_id, name, digest) DO NOTHING");
            statement.query().execute(&mut *connection).await.map_err(Error::database("noting datasets"))?;
        }
        let numbers = numbers_of(connection, run.experiment, &inputs).await?;
        for part in parts(&inputs) {
            let mut statement = Statement::new("INSERT INTO run_dataset (run_no, dataset_no, tags, context) VALUES ");
            for input in part {
                let key = (input.dataset.name.clone(), input.dataset.digest.clone());
                let no = numbers.get(&key).copied().ok_or_else(|| Error::missing("a dataset vanished; try again"))?;
                let context = input.tags.iter().rev().find(|tag| tag.key == CONTEXT).map(|tag| tag.value.as_str());
                statement.row().number(run.no).number(no).text(write_tags(&input.tags)).maybe_text(context).end_row();
            }
            statement.push(" ON CONFLICT (run_no, dataset_no) DO NOTHING");
            statement.query().execute(&mut *connection).await.map_err(Error::database("noting what a run read"))?;
        }
        Ok(())
    }
}

async fn numbers_of(
    connection: &mut AnyConnection,
    experiment: i64,
    inputs: &[&DatasetInput],
) -> Result<HashMap<(String, String), i64>> {
    let mut numbers = HashMap::new();
    for part in parts(inputs) {
        let mut statement = Statement::new("SELECT no, name, digest FROM dataset WHERE experiment_id = ");
        statement.number(experiment).push(" AND (name, digest) IN (VALUES ");
        for (at, input) in part.iter().enumerate() {
            // `row` would put no comma behind an earlier `VALUES`.
            statement.push(if at == 0 { "(" } else { ", (" });
            statement.text(&input.dataset.name).push(", ").text(&input.dataset.digest).push(")");
        }
        statement.push(")");
        let rows: Vec<(i64, String, String)> =
            statement.query_as().fetch_all(&mut *connection).await.map_err(Error::database("reading datasets"))?;
        numbers.extend(rows.into_iter().map(|(no, name, digest)| ((name, digest), no)));
    }
    Ok(numbers)
}

async fn add_models(
    connection: &mut AnyConnection,
    run: ActiveRun,
    direction: &'static str,
    models: &[(&str, i64)],
) -> Result<()> {
    for part in parts(models) {
        let mut statement = Statement::new("INSERT INTO run_model (run_no, direction, model_id, step) VALUES ");
        for &(model, step) in part {
            statement.row().number(run.no).text(direction).text(model).number(step).end_row();
        }
        statement.push(" ON CONFLICT (run_no, direction, model_id, step) DO NOTHING");
        statement.query().execute(&mut *connection).await.map_err(Error::database("noting models of a run"))?;
    }
    Ok(())
}

fn same(a: &DatasetInput, b: &DatasetInput) -> bool {
    a.dataset.name == b.dataset.name && a.dataset.digest == b.dataset.digest
}

/// Writing texts as JSON does not fail.
fn write_tags(tags: &[Pair]) -> String {
    let tags: Vec<Tag> = tags.iter().map(|tag| Tag { key: tag.key.clone(), value: tag.value.clone() }).collect();
    serde_json::to_string(&tags).unwrap_or_else(|_| "[]".to_owned())
}
