//! `runs/…`.

use axum::Json as Reply;
use axum::extract::State;
use platform::identity::{Guarded, Permission};
use serde::{Deserialize, Deserializer, Serialize};
use serde_json::Value;

use super::experiments::{DONE, Empty, experiment_ids, missing_in, page_size, pairs, view};
use super::wire::{KeyValue, one_of, real, whole};
use super::{App, Json, Query};
use crate::entities::{Dataset, DatasetInput, Metric, ModelOutput, Pair, Run, RunInfo, RunStatus, View};
use crate::limits::{
    BATCH_ENTITIES, BATCH_METRICS, BATCH_PARAMS, BATCH_TAGS, DATASET, DATASET_TAG, KEY, RUNS_PAGE, SEARCH_PAGE,
};
use crate::store::experiments::Page;
use crate::store::run_log::Batch;
use crate::store::run_search::RunSearch;
use crate::store::runs::{NewRun, RunChange};
use crate::validate::{self, missing, not_allowed, required};
use crate::{Error, ErrorCode, Result, filter};

pub(super) fn routes() -> Guarded<App> {
    Guarded::new()
        .post("/runs/create", Permission::TrackingWrite, create)
        .post("/runs/update", Permission::TrackingWrite, update)
        .get("/runs/get", Permission::TrackingRead, by_id)
        .post("/runs/delete", Permission::TrackingWrite, delete)
        .post("/runs/restore", Permission::TrackingWrite, restore)
        .post("/runs/search", Permission::TrackingRead, find)
        .post("/runs/log-metric", Permission::TrackingWrite, log_metric)
        .post("/runs/log-parameter", Permission::TrackingWrite, log_param)
        .post("/runs/log-batch", Permission::TrackingWrite, log_batch)
        .post("/runs/set-tag", Permission::TrackingWrite, set_tag)
        .post("/runs/delete-tag", Permission::TrackingWrite, delete_tag)
        .post("/runs/log-inputs", Permission::TrackingWrite, log_inputs)
        .post("/runs/outputs", Permission::TrackingWrite, log_outputs)
        .post("/runs/log-model", Permission::TrackingWrite, log_model)
}

#[derive(Deserialize)]
struct Create {
    experiment_id: Option<String>,
    user_id: Option<String>,
    run_name: Option<String>,
    #[serde(default, deserialize_with = "whole")]
    start_time: Option<i64>,
    tags: Option<Vec<KeyValue>>,
}

#[derive(Serialize)]
struct One {
    run: Run,
}

async fn create(State(app): State<App>, Json(request): Json<Create>) -> Result<Reply<One>> {
    let experiment = request.experiment_id.filter(|id| !id.is_empty());
    let experiment = experiment.ok_or_else(|| Error::refused(ErrorCode::BadRequest, "a run needs an experiment_id"))?;
    let experiment = validate::experiment_id(&experiment)?;
    let new = NewRun {
        experiment,
        user_id: request.user_id.unwrap_or_default(),
        name: request.run_name,
        started_at: request.start_time.unwrap_or_default(),
        tags: run_tags(request.tags)?,
    };
    Ok(Reply(One { run: app.store.create_run(new).await? }))
}

#[derive(Deserialize)]
struct Update {
    run_id: Option<String>,
    run_uuid: Option<String>,
    #[serde(default, deserialize_with = "status")]
    status: Option<RunStatus>,
    #[serde(default, deserialize_with = "whole")]
    end_time: Option<i64>,
    run_name: Option<String>,
}

#[derive(Serialize)]
struct Updated {
    run_info: RunInfo,
}

async fn update(State(app): State<App>, Json(request): Json<Update>) -> Result<Reply<Updated>> {
    let id = run_id(request.run_id, request.run_uuid)?;
    let change = RunChange { status: request.status, ended_at: request.end_time, name: request.run_name };
    Ok(Reply(Updated { run_info: app.store.update_run(&id, change).await? }))
}

#[derive(Deserialize)]
struct ById {
    run_id: Option<String>,
    run_uuid: Option<String>,
}

async fn by_id(State(app): State<App>, Query(request): Query<ById>) -> Result<Reply<One>> {
    let id = run_id(request.run_id, request.run_uuid)?;
    Ok(Reply(One { run: app.store.run(&id).await? }))
}

async fn delete(State(app): State<App>, Json(request): Json<ById>) -> Result<Reply<Empty>> {
    app.store.delete_run(&run_id(request.run_id, request.run_uuid)?).await?;
    DONE
}

async fn restore(State(app): State<App>, Json(request): Json<ById>) -> Result<Reply<Empty>> {
    app.store.restore_run(&run_id(request.run_id, request.run_uuid)?).await?;
    DONE
}

#[derive(Deserialize)]
struct Find {
    experiment_ids: Option<Vec<String>>,
    filter: Option<String>,
    #[serde(default, deserialize_with = "view")]
    run_view_type: Option<View>,
    #[serde(default, deserialize_with = "whole")]
    max_results: Option<i64>,
    order_by: Option<Vec<String>>,
    page_token: Option<String>,
}

#[derive(Serialize)]
struct Found {
    #[serde(skip_serializing_if = "Vec::is_empty")]
    runs: Vec<Run>,
    #[serde(skip_serializing_if = "Option::is_none")]
    next_page_token: Option<String>,
}

async fn find(State(app): State<App>, Json(request): Json<Find>) -> Result<Reply<Found>> {
    let size = request.max_results.unwrap_or(RUNS_PAGE.0);
    if size > SEARCH_PAGE {
        let hint = " Hint: Value was of type 'int'. See the API docs for more information about request parameters.";
        return Err(not_allowed("max_results", &Value::from(size), hint));
    }
    let search = RunSearch {
        experiments: experiment_ids(&request.experiment_ids.unwrap_or_default())?,
        filter: filter::runs(request.filter.as_deref())?,
        order: filter::runs_order(&request.order_by.unwrap_or_default())?,
        view: request.run_view_type.unwrap_or_default(),
        page: Page::new(page_size(size)?, request.page_token.as_deref())?,
    };
    let (runs, next_page_token) = app.store.search_runs(&search).await?;
    Ok(Reply(Found { runs, next_page_token }))
}

/// A metric, alone or in a batch.
#[derive(Deserialize)]
struct LoggedMetric {
    key: Option<String>,
    #[serde(default, deserialize_with = "real")]
    value: Option<f64>,
    #[serde(default, deserialize_with = "whole")]
    timestamp: Option<i64>,
    #[serde(default, deserialize_with = "whole")]
    step: Option<i64>,
    model_id: Option<String>,
    dataset_name: Option<String>,
    dataset_digest: Option<String>,
}

#[derive(Deserialize)]
struct LogMetric {
    run_id: Option<String>,
    run_uuid: Option<String>,
    #[serde(flatten)]
    metric: LoggedMetric,
}

async fn log_metric(State(app): State<App>, Json(request): Json<LogMetric>) -> Result<Reply<Empty>> {
    let id = run_id(request.run_id, request.run_uuid)?;
    let metric = request.metric.read("", missing)?;
    app.store.log_batch(&id, &Batch { metrics: vec![metric], ..Batch::default() }).await?;
    DONE
}

#[derive(Deserialize)]
struct LogPair {
    run_id: Option<String>,
    run_uuid: Option<String>,
    key: Option<String>,
    value: Option<String>,
}

async fn log_param(State(app): State<App>, Json(request): Json<LogPair>) -> Result<Reply<Empty>> {
    let id = run_id(request.run_id, request.run_uuid)?;
    let mut param = Pair { key: required(request.key, "key")?, value: request.value.unwrap_or_default() };
    validate::param(&param.key, &mut param.value, "key")?;
    app.store.log_batch(&id, &Batch { params: vec![param], is_one_param: true, ..Batch::default() }).await?;
    DONE
}

async fn set_tag(State(app): State<App>, Json(request): Json<LogPair>) -> Result<Reply<Empty>> {
    let id = run_id(request.run_id, request.run_uuid)?;
    let mut tag = Pair { key: required(request.key, "key")?, value: request.value.unwrap_or_default() };
    validate::run_tag(&tag.key, &mut tag.value, "key")?;
    app.store.log_batch(&id, &Batch { tags: vec![tag], ..Batch::default() }).await?;
    DONE
}

async fn delete_tag(State(app): State<App>, Json(request): Json<LogPair>) -> Result<Reply<Empty>> {
    let id = run_id(request.run_id, request.run_uuid)?;
    app.store.delete_run_tag(&id, &required(request.key, "key")?).await?;
    DONE
}

#[derive(Deserialize)]
struct LogBatch {
    run_id: Option<String>,
    metrics: Option<Vec<LoggedMetric>>,
    params: Option<Vec<KeyValue>>,
    tags: Option<Vec<KeyValue>>,
}

async fn log_batch(State(app): State<App>, Json(request): Json<LogBatch>) -> Result<Reply<Empty>> {
    let id = required(request.run_id, "run_id")?;
    validate::run_id(&id)?;
    let metrics = request.metrics.unwrap_or_default().into_iter().enumerate();
    let metrics = metrics
        .map(|(at, metric)| metric.read(&format!("metrics[{at}]."), |field| missing_in("metrics", at, field)))
        .collect::<Result<Vec<_>>>()?;
    let params = listed("params", request.params, validate::param)?;
    let tags = listed("tags", request.tags, validate::run_tag)?;
    let all = metrics.len() + params.len() + tags.len();
    for (what, limit, count) in [
        ("metrics", BATCH_METRICS, metrics.len()),
        ("params", BATCH_PARAMS, params.len()),
        ("tags", BATCH_TAGS, tags.len()),
        ("metrics, params, and tags", BATCH_ENTITIES, all),
    ] {
        if count > limit {
            return Err(Error::invalid(format!(
                "A batch logging request can contain at most {limit} {what}. Got {count} {what}. Please split up {what} \
                 across multiple requests and try again."
            )));
        }
    }
    refuse_repeated(&params)?;
    app.store.log_batch(&id, &Batch { metrics, params, tags, is_one_param: false }).await?;
    DONE
}

#[derive(Deserialize)]
struct LogInputs {
    run_id: Option<String>,
    datasets: Option<Vec<GivenInput>>,
    models: Option<Vec<GivenModel>>,
}

#[derive(Deserialize)]
struct GivenInput {
    tags: Option<Vec<KeyValue>>,
    dataset: Option<GivenDataset>,
}

#[derive(Deserialize)]
struct GivenDataset {
    name: Option<String>,
    digest: Option<String>,
    source_type: Option<String>,
    source: Option<String>,
    schema: Option<String>,
    profile: Option<String>,
}

#[derive(Deserialize)]
struct GivenModel {
    model_id: Option<String>,
    #[serde(default, deserialize_with = "whole")]
    step: Option<i64>,
}

async fn log_inputs(State(app): State<App>, Json(request): Json<LogInputs>) -> Result<Reply<Empty>> {
    let id = required(request.run_id, "run_id")?;
    validate::run_id(&id)?;
    let datasets = request.datasets.unwrap_or_default();
    let datasets = datasets.into_iter().map(GivenInput::read).collect::<Result<Vec<_>>>()?;
    let models = request.models.unwrap_or_default();
    let models: Vec<String> = models.into_iter().map(|model| model.model_id.unwrap_or_default()).collect();
    app.store.log_inputs(&id, &datasets, &models).await?;
    DONE
}

#[derive(Deserialize)]
struct LogOutputs {
    run_id: Option<String>,
    models: Option<Vec<GivenModel>>,
}

async fn log_outputs(State(app): State<App>, Json(request): Json<LogOutputs>) -> Result<Reply<Empty>> {
    let id = required(request.run_id, "run_id")?;
    let models = request.models.ok_or_else(|| missing("models"))?;
    let output = |model: GivenModel| ModelOutput {
        model_id: model.model_id.unwrap_or_default(),
        step: model.step.unwrap_or_default(),
    };
    let models: Vec<ModelOutput> = models.into_iter().map(output).collect();
    app.store.log_outputs(&id, &models).await?;
    DONE
}

#[derive(Deserialize)]
struct LogModel {
    run_id: Option<String>,
    model_json: Option<String>,
}

async fn log_model(State(app): State<App>, Json(request): Json<LogModel>) -> Result<Reply<Empty>> {
    let id = required(request.run_id, "run_id")?;
    let text = required(request.model_json, "model_json")?;
    let Ok(Value::Object(mut model)) = serde_json::from_str(&text) else {
        return Err(Error::invalid(format!("Malformed model info. \n {text} \n is not a valid JSON.")));
    };
    let fields = ["artifact_path", "flavors", "run_id", "utc_time_created"];
    let gone: Vec<_> = fields.iter().filter(|field| !model.contains_key(**field)).map(|f| format!("'{f}'")).collect();
    if !gone.is_empty() {
        return Err(Error::invalid(format!("Model json is missing mandatory fields: {{{}}}", gone.join(", "))));
    }
    // The rest is in the model's own file.
    model.retain(|key, _| {
        ["run_id", "utc_time_created", "artifact_path", "model_uuid", "flavors"].contains(&key.as_str())
    });
    if let Some(Value::Object(flavors)) = model.get_mut("flavors") {
        flavors.values_mut().filter_map(Value::as_object_mut).for_each(|flavor| drop(flavor.remove("config")));
    }
    app.store.log_model(&id, Value::Object(model)).await?;
    DONE
}

impl LoggedMetric {
    /// `path` is where the metric is in the request, with the point that ends it.
    fn read(self, path: &str, missing: impl Fn(&str) -> Error) -> Result<Metric> {
        let key = self.key.filter(|key| !key.is_empty()).ok_or_else(|| missing("key"))?;
        let value = self.value.ok_or_else(|| missing("value"))?;
        let timestamp = self.timestamp.ok_or_else(|| missing("timestamp"))?;
        validate::metric_key(&key, &format!("{path}name"))?;
        if timestamp < 0 {
            let why =
                format!("metric '{key}' (value={value:?}). Timestamp must be a nonnegative long (64-bit integer) ");
            return Err(not_allowed(&format!("{path}timestamp"), &Value::from(timestamp), &why));
        }
        let given = |text: Option<String>| text.filter(|text| !text.is_empty());
        Ok(Metric {
            key,
            value,
            timestamp,
            step: self.step.unwrap_or_default(),
            dataset_name: given(self.dataset_name),
            dataset_digest: given(self.dataset_digest),
            model_id: given(self.model_id),
            run_id: None,
        })
    }
}

impl GivenInput {
    fn read(self) -> Result<DatasetInput> {
        let given = self.dataset.ok_or_else(|| Error::invalid("Dataset cannot be None"))?;
        let optional = |text: Option<String>| text.filter(|text| !text.is_empty());
        let dataset = Dataset {
            name: given.name.unwrap_or_default(),
            digest: given.digest.unwrap_or_default(),
            source_type: given.source_type.unwrap_or_default(),
            source: given.source.unwrap_or_default(),
            schema: optional(given.schema),
            profile: optional(given.profile),
        };
        let texts = [
            Some(&dataset.name),
            Some(&dataset.digest),
            Some(&dataset.source),
            dataset.schema.as_ref(),
            dataset.profile.as_ref(),
        ];
        for ((text, limit), name) in texts.iter().zip(DATASET).zip(["name", "digest", "source", "schema", "profile"]) {
            if let Some(text) = text {
                validate::length(text, limit, name)?;
            }
        }
        let tags = pairs(self.tags);
        for tag in &tags {
            validate::length(&tag.key, DATASET_TAG.0, "key")?;
            validate::length(&tag.value, DATASET_TAG.1, "value")?;
        }
        Ok(DatasetInput { tags, dataset })
    }
}

fn run_id(run_id: Option<String>, run_uuid: Option<String>) -> Result<String> {
    required(run_id.filter(|id| !id.is_empty()).or(run_uuid), "run_id")
}

/// Tags of a new run: names are not looked at, as MLflow does not.
fn run_tags(given: Option<Vec<KeyValue>>) -> Result<Vec<Pair>> {
    let mut tags = pairs(given);
    for tag in &mut tags {
        validate::length(&tag.key, KEY, "key")?;
        validate::cut(&mut tag.value, crate::limits::TAG_VALUE);
    }
    Ok(tags)
}

fn listed(
    list: &str,
    given: Option<Vec<KeyValue>>,
    check: impl Fn(&str, &mut String, &str) -> Result<()>,
) -> Result<Vec<Pair>> {
    let read = |(at, pair): (usize, KeyValue)| {
        let key = pair.key.filter(|key| !key.is_empty()).ok_or_else(|| missing_in(list, at, "key"))?;
        let mut value = pair.value.unwrap_or_default();
        check(&key, &mut value, &format!("{list}[{at}].key"))?;
        Ok(Pair { key, value })
    };
    given.unwrap_or_default().into_iter().enumerate().map(read).collect()
}

fn refuse_repeated(params: &[Pair]) -> Result<()> {
    let mut seen = std::collections::HashSet::new();
    let repeated: Vec<_> =
        params.iter().filter(|param| !seen.insert(&param.key)).map(|param| format!("'{}'", param.key)).collect();
    if repeated.is_empty() {
        return Ok(());
    }
    Err(Error::invalid(format!(
        "Duplicate parameter keys have been submitted: [{}]. Please ensure the request contains only one param value per \
         param key.",
        repeated.join(", ")
    )))
}

fn status<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<RunStatus>, D::Error> {
    one_of(deserializer, &RunStatus::ALL.map(|(status, number)| (status.as_str(), number, status)))
}
