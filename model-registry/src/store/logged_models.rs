//! Logged models: the models that runs make, before any is registered.

use std::collections::HashMap;

use platform::database::Statement;
use sqlx::AnyConnection;

use super::experiments::{Page, active as active_experiment};
use super::sets::{parts, push_one_of};
use super::{Store, Write, names};
use crate::clock::now_millis;
use crate::entities::{LoggedModel, LoggedModelData, LoggedModelInfo, LoggedModelStatus, Metric, Pair};
use crate::filter::{Filter, Order};
use crate::number::Stored;
use crate::{Error, ExperimentId, LoggedModelId, Result};

/// What a new logged model is to be.
#[derive(Clone, Debug)]
pub(crate) struct NewLoggedModel {
    pub(crate) experiment: ExperimentId,
    pub(crate) name: Option<String>,
    pub(crate) model_type: String,
    pub(crate) source_run_id: String,
    pub(crate) params: Vec<Pair>,
    pub(crate) tags: Vec<Pair>,
}

/// A search for logged models.
#[derive(Clone, Debug)]
pub(crate) struct LoggedModelSearch {
    pub(crate) experiments: Vec<i64>,
    pub(crate) filter: Filter,
    pub(crate) order: Order,
    pub(crate) page: Page,
}

/// `no`, id, experiment, name, artifacts, status, its message, type, run, made, changed.
type Row = (i64, String, i64, String, String, String, Option<String>, Option<String>, Option<String>, i64, i64);

const COLUMNS: &str = "SELECT l.no, l.id, l.experiment_id, l.name, l.artifact_location, l.status, l.status_message, \
                       l.model_type, l.source_run_id, l.created_at, l.updated_at FROM logged_model l WHERE ";

/// Kind, model, key, value; then of a metric: run, dataset's name and digest, value, step, time, whether it is no number.
type Part = (
    String,
    i64,
    String,
    Option<String>,
    Option<String>,
    Option<String>,
    Option<String>,
    Option<f64>,
    Option<i64>,
    Option<i64>,
    Option<i64>,
);

const SELECTS: [&str; 3] = [
    "SELECT 'metric' AS kind, model_no, key, CAST(NULL AS TEXT) AS text, run_id, dataset_name, dataset_digest, value, \
     step, time, is_nan FROM logged_model_metric WHERE ",
    " UNION ALL SELECT 'param', model_no, key, value, NULL, NULL, NULL, NULL, NULL, NULL, NULL \
     FROM logged_model_param WHERE ",
    " UNION ALL SELECT 'tag', model_no, key, value, NULL, NULL, NULL, NULL, NULL, NULL, NULL \
     FROM logged_model_tag WHERE ",
];

/// Of a table of pairs: the INSERT, and what happens to a key that is there.
const PARAMS: (&str, &str) = ("INSERT INTO logged_model_param (model_no, key, value) VALUES ", KEPT);
const KEPT: &str = " ON CONFLICT (model_no, key) DO UPDATE SET value = logged_model_param.value RETURNING key, value";
const TAGS: (&str, &str) = (
    "INSERT INTO logged_model_tag (model_no, key, value) VALUES ",
    " ON CONFLICT (model_no, key) DO UPDATE SET value = excluded.value RETURNING key, value",
);

impl Store {
    /// Makes a logged model in an active experiment, whose files are still to come.
    pub(crate) async fn create_logged_model(&self, new: NewLoggedModel) -> Result<LoggedModel> {
        let id = LoggedModelId::random();
        let now = now_millis();
        let mut write = self.write().await?;
        let location = active_experiment(&mut write, new.experiment, self.for_share()).await?;
        let no: i64 = sqlx::query_scalar(
            "INSERT INTO logged_model (id, experiment_id, name, artifact_location, status, model_type, source_run_id,
               lifecycle, created_at, updated_at)
             VALUES ($1, $2, $3, $4, 'PENDING', $5, $6, 'active', $7, $8) RETURNING no",
        )
        .bind(id.as_str())
        .bind(new.experiment.0)
        .bind(new.name.unwrap_or_else(names::random))
        .bind(format!("{}/models/{id}/artifacts", location.trim_end_matches('/')))
        .bind(new.model_type)
        .bind(new.source_run_id)
        .bind(now)
        .bind(now)
        .fetch_one(write.connection())
        .await
        .map_err(Error::database("making a logged model"))?;
        add_params(write.connection(), no, id.as_str(), &new.params).await?;
        set_pairs(write.connection(), no, &new.tags, TAGS).await?;
        let made = self.read_logged_model(&mut write, no).await?;
        write.commit().await?;
        Ok(made)
    }

    /// A logged model; a deleted one only when asked for.
    pub(crate) async fn logged_model(&self, id: &str, also_deleted: bool) -> Result<LoggedModel> {
        let mut connection = self.pool().acquire().await.map_err(Error::database("reading a logged model"))?;
        let mut statement = Statement::new(COLUMNS);
        statement.push("l.id = ").text(id).push(if also_deleted { "" } else { " AND l.lifecycle = 'active'" });
        let row: Option<Row> = statement
            .query_as()
            .fetch_optional(&mut *connection)
            .await
            .map_err(Error::database("reading a logged model"))?;
        let row = row.ok_or_else(|| missing(id))?;
        let mut models = self.with_model_parts(&mut connection, vec![row]).await?;
        models.pop().ok_or_else(|| missing(id))
    }

    /// Says whether a logged model's files are complete.
    pub(crate) async fn finalize_logged_model(&self, id: &str, status: LoggedModelStatus) -> Result<LoggedModel> {
        let mut write = self.write().await?;
        let no: Option<i64> =
            sqlx::query_scalar("UPDATE logged_model SET status = $1, updated_at = $2 WHERE id = $3 RETURNING no")
                .bind(status.as_str())
                .bind(now_millis())
                .bind(id)
                .fetch_optional(write.connection())
                .await
                .map_err(Error::database("changing a logged model"))?;
        let no = no.ok_or_else(|| missing(id))?;
        let model = self.read_logged_model(&mut write, no).await?;
        write.commit().await?;
        Ok(model)
    }

    /// Deletes a logged model; its row stays until it is removed for good.
    pub(crate) async fn delete_logged_model(&self, id: &str) -> Result<()> {
        let now = now_millis();
        let mut write = self.write().await?;
        let done = sqlx::query(
            "UPDATE logged_model SET lifecycle = 'deleted', deleted_at = COALESCE(deleted_at, $1), updated_at = $2
             WHERE id = $3",
        )
        .bind(now)
        .bind(now)
        .bind(id)
        .execute(write.connection())
        .await
        .map_err(Error::database("deleting a logged model"))?;
        if done.rows_affected() == 0 {
            return Err(missing(id));
        }
        write.commit().await
    }

    /// Adds params of a logged model; one that is there keeps its value.
    pub(crate) async fn log_logged_model_params(&self, id: &str, params: &[Pair]) -> Result<()> {
        let mut write = self.write().await?;
        let no = self.logged_model_number(&mut write, id).await?;
        add_params(write.connection(), no, id, params).await?;
        write.commit().await
    }

    /// Sets tags of a logged model.
    pub(crate) async fn set_logged_model_tags(&self, id: &str, tags: &[Pair]) -> Result<()> {
        let mut write = self.write().await?;
        let no = self.logged_model_number(&mut write, id).await?;
        set_pairs(write.connection(), no, tags, TAGS).await?;
        write.commit().await
    }

    /// Removes a tag of a logged model.
    pub(crate) async fn delete_logged_model_tag(&self, id: &str, key: &str) -> Result<()> {
        let mut write = self.write().await?;
        let no = self.logged_model_number(&mut write, id).await?;
        let done = sqlx::query("DELETE FROM logged_model_tag WHERE model_no = $1 AND key = $2")
            .bind(no)
            .bind(key)
            .execute(write.connection())
            .await
            .map_err(Error::database("removing a logged model's tag"))?;
        if done.rows_affected() == 0 {
            return Err(Error::missing(format!("No tag with key '{key}' found for model with ID '{id}'.")));
        }
        write.commit().await
    }

    /// A page of logged models with all that was logged for them, and whether there is another page.
    pub(crate) async fn search_logged_models(&self, search: &LoggedModelSearch) -> Result<(Vec<LoggedModel>, bool)> {
        if search.experiments.is_empty() {
            return Ok((Vec::new(), false));
        }
        let mut connection = self.pool().acquire().await.map_err(Error::database("searching logged models"))?;
        let mut statement = Statement::new(COLUMNS);
        match search.experiments.as_slice() {
            [one] => {
                statement.push("l.experiment_id = ").number(*one);
            }
            many => push_one_of(&mut statement, self.engine(), "l.experiment_id", many),
        }
        statement.push(" AND l.lifecycle = 'active'");
        search.filter.push(&mut statement, self.engine(), None);
        search.order.push(&mut statement, self.engine());
        search.page.push(&mut statement);
        let mut rows: Vec<Row> = statement
            .query_as()
            .fetch_all(&mut *connection)
            .await
            .map_err(Error::database("searching logged models"))?;
        let has_next = search.page.cut(&mut rows).is_some();
        Ok((self.with_model_parts(&mut connection, rows).await?, has_next))
    }

    async fn logged_model_number(&self, write: &mut Write, id: &str) -> Result<i64> {
        let found: Option<i64> = sqlx::query_scalar("SELECT no FROM logged_model WHERE id = $1")
            .bind(id)
            .fetch_optional(write.connection())
            .await
            .map_err(Error::database("reading a logged model"))?;
        found.ok_or_else(|| missing(id))
    }

    async fn read_logged_model(&self, write: &mut Write, no: i64) -> Result<LoggedModel> {
        let mut statement = Statement::new(COLUMNS);
        statement.push("l.no = ").number(no);
        let row: Row = statement
            .query_as()
            .fetch_one(write.connection())
            .await
            .map_err(Error::database("reading a logged model"))?;
        let id = row.1.clone();
        let mut models = self.with_model_parts(write.connection(), vec![row]).await?;
        models.pop().ok_or_else(|| missing(&id))
    }

    /// The models of these rows, in their order.
    async fn with_model_parts(&self, connection: &mut AnyConnection, rows: Vec<Row>) -> Result<Vec<LoggedModel>> {
        let numbers: Vec<i64> = rows.iter().map(|row| row.0).collect();
        let places: HashMap<i64, usize> = numbers.iter().enumerate().map(|(place, no)| (*no, place)).collect();
        let mut models = rows.into_iter().map(model).collect::<Result<Vec<_>>>()?;
        if models.is_empty() {
            return Ok(models);
        }
        let mut statement = Statement::new("");
        for select in SELECTS {
            statement.push(select);
            match numbers.as_slice() {
                [one] => {
                    statement.push("model_no = ").number(*one);
                }
                many => push_one_of(&mut statement, self.engine(), "model_no", many),
            }
        }
        let found: Vec<Part> = statement
            .query_as()
            .fetch_all(connection)
            .await
            .map_err(Error::database("reading what was logged for models"))?;
        for part in found {
            if let Some(model) = places.get(&part.1).and_then(|&place| models.get_mut(place)) {
                add(model, part);
            }
        }
        for model in &mut models {
            model.info.tags.sort_by(|a, b| a.key.cmp(&b.key));
            model.data.params.sort_by(|a, b| a.key.cmp(&b.key));
        }
        Ok(models)
    }
}

async fn add_params(connection: &mut AnyConnection, no: i64, id: &str, params: &[Pair]) -> Result<()> {
    let kept = set_pairs(connection, no, params, PARAMS).await?;
    let changed = params.iter().find_map(|param| {
        let value = kept.get(&param.key)?;
        (*value != param.value).then_some((param, value))
    });
    let Some((param, old)) = changed else { return Ok(()) };
    Err(Error::invalid(format!(
        "Changing param values is not allowed. Param with key='{}' was already logged with value='{old}' for model \
         ID='{id}'. Attempted logging new value '{}'.",
        param.key, param.value
    )))
}

/// Writes pairs, and gives back what is there now. Of a key that occurs twice, the last value counts.
async fn set_pairs(
    connection: &mut AnyConnection,
    no: i64,
    pairs: &[Pair],
    (insert, end): (&'static str, &'static str),
) -> Result<HashMap<String, String>> {
    let last: HashMap<&str, &str> = pairs.iter().map(|pair| (pair.key.as_str(), pair.value.as_str())).collect();
    let mut last: Vec<(&str, &str)> = last.into_iter().collect();
    last.sort_unstable();
    let mut now = HashMap::new();
    for part in parts(&last) {
        let mut statement = Statement::new(insert);
        for &(key, value) in part {
            statement.row().number(no).text(key).text(value).end_row();
        }
        statement.push(end);
        let rows: Vec<(String, String)> = statement
            .query_as()
            .fetch_all(&mut *connection)
            .await
            .map_err(Error::database("writing pairs of a logged model"))?;
        now.extend(rows);
    }
    Ok(now)
}

fn model(row: Row) -> Result<LoggedModel> {
    let (_, model_id, experiment, name, artifact_uri, status, status_message, model_type, source_run_id, made, changed) =
        row;
    let info = LoggedModelInfo {
        model_id,
        experiment_id: experiment.to_string(),
        name,
        creation_timestamp_ms: made,
        last_updated_timestamp_ms: changed,
        artifact_uri,
        status: LoggedModelStatus::read(&status)?,
        model_type: model_type.unwrap_or_default(),
        source_run_id: source_run_id.unwrap_or_default(),
        status_message,
        tags: Vec::new(),
    };
    Ok(LoggedModel { info, data: LoggedModelData::default() })
}

fn add(model: &mut LoggedModel, part: Part) {
    let (kind, _, key, text, run_id, dataset_name, dataset_digest, value, step, time, is_nan) = part;
    if kind == "metric" {
        let stored = Stored { value: value.unwrap_or_default(), is_nan: is_nan.unwrap_or_default() };
        model.data.metrics.push(Metric {
            key,
            value: stored.value(),
            timestamp: time.unwrap_or_default(),
            step: step.unwrap_or_default(),
            dataset_name,
            dataset_digest,
            model_id: Some(model.info.model_id.clone()),
            run_id,
        });
        return;
    }
    let pair = Pair { key, value: text.unwrap_or_default() };
    if kind == "tag" { model.info.tags.push(pair) } else { model.data.params.push(pair) }
}

fn missing(id: &str) -> Error {
    Error::missing(format!("Logged model with ID '{id}' not found."))
}
