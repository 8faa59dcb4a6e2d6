//! What runs log: metrics, params, tags, many of them in a few statements.

use std::cmp::Ordering;
use std::collections::{HashMap, HashSet};

use platform::database::Statement;
use sqlx::AnyConnection;

use super::Store;
use super::parts::{OF_RUN, WITH_RUN, set_tags};
use super::runs::{ActiveRun, RUN_NAME};
use super::sets::parts;
use crate::entities::{Metric, Pair};
use crate::number::Stored;
use crate::{Error, Result};

/// What one request logs. Keys of params occur once.
#[derive(Clone, Debug, Default)]
pub(crate) struct Batch {
    pub(crate) metrics: Vec<Metric>,
    pub(crate) params: Vec<Pair>,
    pub(crate) tags: Vec<Pair>,
    /// It is one param, of a request that has no others: a refusal then says so.
    pub(crate) is_one_param: bool,
}

/// A value of a metric as the tables have it.
struct Value<'a> {
    key: &'a str,
    step: i64,
    time: i64,
    stored: Stored,
}

impl Store {
    /// Logs all of it or nothing. What was logged before is not logged again.
    pub(crate) async fn log_batch(&self, run_id: &str, batch: &Batch) -> Result<()> {
        let mut write = self.write().await?;
        let run = self.active_run(&mut write, run_id).await?;
        let connection = write.connection();
        add_params(connection, run, run_id, batch).await?;
        add_metrics(connection, run, &batch.metrics).await?;
        add_model_metrics(connection, run_id, &batch.metrics).await?;
        add_tags(connection, run, &batch.tags).await?;
        write.commit().await
    }

    /// Appends a model's description to the list that old clients keep in a tag.
    pub(crate) async fn log_model(&self, run_id: &str, model: serde_json::Value) -> Result<()> {
        const LOGGED_MODELS: &str = "mlflow.log-model.history";
        let mut write = self.write().await?;
        let run = self.active_run(&mut write, run_id).await?;
        let before: Option<String> = sqlx::query_scalar("SELECT value FROM run_tag WHERE run_no = $1 AND key = $2")
            .bind(run.no)
            .bind(LOGGED_MODELS)
            .fetch_optional(write.connection())
            .await
            .map_err(Error::database("reading a run's models"))?;
        let mut models: Vec<serde_json::Value> = match before {
            Some(text) => serde_json::from_str(&text).map_err(|_| {
                Error::invalid(format!("the tag {LOGGED_MODELS} of the run is no JSON list; remove it"))
            })?,
            None => Vec::new(),
        };
        models.push(model);
        let mut value = serde_json::Value::from(models).to_string();
        crate::validate::run_tag(LOGGED_MODELS, &mut value, "key")?;
        set_tags(write.connection(), run.no, &[Pair { key: LOGGED_MODELS.to_owned(), value }]).await?;
        write.commit().await
    }
}

async fn add_tags(connection: &mut AnyConnection, run: ActiveRun, tags: &[Pair]) -> Result<()> {
    set_tags(connection, run.no, tags).await?;
    let Some(name) = tags.iter().rev().find(|tag| tag.key == RUN_NAME && !tag.value.is_empty()) else {
        return Ok(());
    };
    sqlx::query("UPDATE run SET name = $1 WHERE no = $2")
        .bind(&name.value)
        .bind(run.no)
        .execute(connection)
        .await
        .map_err(Error::database("naming a run"))?;
    Ok(())
}

async fn add_model_metrics(connection: &mut AnyConnection, run_id: &str, metrics: &[Metric]) -> Result<()> {
    let of_models: Vec<(&Metric, &str)> =
        metrics.iter().filter_map(|metric| Some((metric, metric.model_id.as_deref()?))).collect();
    if of_models.is_empty() {
        return Ok(());
    }
    let numbers = logged_model_numbers(connection, &of_models).await?;
    let mut rows: Vec<(i64, &Metric)> = Vec::with_capacity(of_models.len());
    for (metric, model) in of_models {
        let no = numbers.get(model).copied();
        let no = no.ok_or_else(|| Error::missing(format!("Logged model with ID '{model}' not found.")))?;
        rows.push((no, metric));
    }
    for part in parts(&rows) {
        let mut statement = Statement::new(
            "INSERT INTO logged_model_metric
             (model_no, run_id, key, step, time, value, is_nan, dataset_name, dataset_digest) VALUES ",
        );
        for (no, metric) in part {
            let stored = Stored::new(metric.value);
            statement.row().number(*no).text(run_id).text(&metric.key).number(metric.step);
            statement.number(metric.timestamp).float(stored.value).number(stored.is_nan);
            statement.maybe_text(metric.dataset_name.as_deref()).maybe_text(metric.dataset_digest.as_deref());
            statement.end_row();
        }
        statement.push(" ON CONFLICT (model_no, key, time, step, run_id) DO NOTHING");
        let done = statement.query().execute(&mut *connection).await;
        done.map_err(Error::database("logging metrics of models"))?;
    }
    Ok(())
}

async fn logged_model_numbers(
    connection: &mut AnyConnection,
    metrics: &[(&Metric, &str)],
) -> Result<HashMap<String, i64>> {
    let ids: Vec<&str> = metrics.iter().map(|(_, id)| *id).collect::<HashSet<_>>().into_iter().collect();
    let mut numbers = HashMap::new();
    for part in parts(&ids) {
        let mut statement = Statement::new("SELECT id, no FROM logged_model WHERE id IN ");
        statement.row();
        for id in part {
            statement.text(*id);
        }
        statement.end_row();
        let rows: Vec<(String, i64)> =
            statement.query_as().fetch_all(&mut *connection).await.map_err(Error::database("reading logged models"))?;
        numbers.extend(rows);
    }
    Ok(numbers)
}

/// A param that is there keeps its value; another value for it is refused.
async fn add_params(connection: &mut AnyConnection, run: ActiveRun, run_id: &str, batch: &Batch) -> Result<()> {
    let mut refused = Vec::new();
    for part in parts(&batch.params) {
        let mut statement = Statement::new("INSERT INTO param (run_no, key, value, experiment_id, started_at) ");
        statement.push(WITH_RUN).push("(VALUES ");
        for param in part {
            statement.row().number(run.no).text(&param.key).text(&param.value).end_row();
        }
        // An update to the same, so that the row is given back.
        statement.push(OF_RUN);
        statement.push(" ON CONFLICT (run_no, key) DO UPDATE SET value = param.value RETURNING key, value");
        let rows: Vec<(String, String)> =
            statement.query_as().fetch_all(&mut *connection).await.map_err(Error::database("logging params"))?;
        let kept: HashMap<&str, &str> = rows.iter().map(|(key, value)| (key.as_str(), value.as_str())).collect();
        for param in part {
            match kept.get(param.key.as_str()) {
                Some(value) if *value != param.value => refused.push((param, (*value).to_owned())),
                _ => {}
            }
        }
    }
    match refused.as_slice() {
        [] => Ok(()),
        [(param, old)] if batch.is_one_param => Err(Error::invalid(format!(
            "Changing param values is not allowed. Param with key='{}' was already logged with value='{old}' for run \
             ID='{run_id}'. Attempted logging new value '{}'.",
            param.key, param.value
        ))),
        many => {
            let shown = many.iter().map(|(param, old)| {
                format!("{{'key': '{}', 'old_value': '{old}', 'new_value': '{}'}}", param.key, param.value)
            });
            let shown = shown.collect::<Vec<_>>().join(", ");
            Err(Error::invalid(format!(
                "Changing param values is not allowed. Params were already logged='[{shown}]' for run ID='{run_id}'."
            )))
        }
    }
}

async fn add_metrics(connection: &mut AnyConnection, run: ActiveRun, metrics: &[Metric]) -> Result<()> {
    let values: Vec<Value<'_>> = metrics.iter().map(Value::of).collect();
    for part in parts(&values) {
        let mut statement = Statement::new("INSERT INTO metric (run_no, key, step, time, value, is_nan) VALUES ");
        push_values(&mut statement, run, part.iter());
        statement.push(" ON CONFLICT (run_no, key, time, step, value, is_nan) DO NOTHING");
        statement.query().execute(&mut *connection).await.map_err(Error::database("logging metrics"))?;
    }
    let latest = latest(&values);
    for part in parts(&latest) {
        let mut statement =
            Statement::new("INSERT INTO latest_metric (run_no, key, step, time, value, is_nan) VALUES ");
        push_values(&mut statement, run, part.iter().copied());
        statement.push(
            " ON CONFLICT (run_no, key) DO UPDATE SET step = excluded.step, time = excluded.time,
              value = excluded.value, is_nan = excluded.is_nan
              WHERE (excluded.step, excluded.time, excluded.value)
                  > (latest_metric.step, latest_metric.time, latest_metric.value)",
        );
        statement.query().execute(&mut *connection).await.map_err(Error::database("noting the latest metrics"))?;
    }
    Ok(())
}

fn push_values<'a>(statement: &mut Statement, run: ActiveRun, values: impl Iterator<Item = &'a Value<'a>>) {
    for value in values {
        statement.row().number(run.no).text(value.key).number(value.step).number(value.time);
        statement.float(value.stored.value).number(value.stored.is_nan).end_row();
    }
}

/// The latest value of each key, by step, time and value; of equals the first.
fn latest<'a>(values: &'a [Value<'a>]) -> Vec<&'a Value<'a>> {
    let mut latest: Vec<&Value<'_>> = Vec::new();
    let mut places: HashMap<&str, usize> = HashMap::new();
    for value in values {
        match places.get(value.key) {
            Some(&place) if value.order(latest[place]) == Ordering::Greater => latest[place] = value,
            Some(_) => {}
            None => {
                places.insert(value.key, latest.len());
                latest.push(value);
            }
        }
    }
    latest
}

impl<'a> Value<'a> {
    fn of(metric: &'a Metric) -> Self {
        Self { key: &metric.key, step: metric.step, time: metric.timestamp, stored: Stored::new(metric.value) }
    }

    fn order(&self, other: &Self) -> Ordering {
        let by_time = (self.step, self.time).cmp(&(other.step, other.time));
        by_time.then(self.stored.value.total_cmp(&other.stored.value))
    }
}
