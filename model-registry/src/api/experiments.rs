//! `experiments/…`.

use axum::Json as Reply;
use axum::extract::{RawQuery, State};
use platform::identity::{Guarded, Permission};
use serde::{Deserialize, Deserializer, Serialize};

use super::metrics::Repeated;
use super::wire::{KeyValue, one_of, whole};
use super::{App, Json, Query};
use crate::entities::{DatasetSummary, Experiment, Pair, View};
use crate::limits::{ARTIFACT_LOCATION, DATASET_EXPERIMENTS, SEARCH_PAGE};
use crate::store::experiments::{Page, search};
use crate::validate::{experiment_id, experiment_name, experiment_tag, length, missing, not_allowed, required};
use crate::{Error, ExperimentId, Result};

pub(super) fn routes() -> Guarded<App> {
    Guarded::new()
        .post("/experiments/create", Permission::TrackingWrite, create)
        .get("/experiments/get", Permission::TrackingRead, by_id)
        .get("/experiments/get-by-name", Permission::TrackingRead, by_name)
        .post("/experiments/search", Permission::TrackingRead, find)
        .get("/experiments/search", Permission::TrackingRead, find_by_query)
        .post("/experiments/delete", Permission::TrackingWrite, delete)
        .post("/experiments/restore", Permission::TrackingWrite, restore)
        .post("/experiments/update", Permission::TrackingWrite, rename)
        .post("/experiments/set-experiment-tag", Permission::TrackingWrite, set_tag)
        .post("/experiments/delete-experiment-tag", Permission::TrackingWrite, delete_tag)
        .post("/experiments/search-datasets", Permission::TrackingRead, datasets)
}

/// An answer that says nothing.
#[derive(Serialize)]
pub(super) struct Empty {}

pub(super) const DONE: Result<Reply<Empty>> = Ok(Reply(Empty {}));

#[derive(Deserialize)]
struct Create {
    name: Option<String>,
    artifact_location: Option<String>,
    tags: Option<Vec<KeyValue>>,
}

#[derive(Serialize)]
struct Created {
    experiment_id: String,
}

async fn create(State(app): State<App>, Json(request): Json<Create>) -> Result<Reply<Created>> {
    let name = required(request.name, "name")?;
    experiment_name(&name)?;
    let tags = pairs(request.tags);
    for tag in &tags {
        experiment_tag(&tag.key, &tag.value)?;
    }
    let location = request.artifact_location.filter(|location| !location.is_empty());
    if let Some(location) = &location {
        artifact_location(location)?;
    }
    let id = app.store.create_experiment(&name, location.as_deref(), &tags).await?;
    Ok(Reply(Created { experiment_id: id.to_string() }))
}

#[derive(Deserialize)]
struct ById {
    experiment_id: Option<String>,
}

impl ById {
    fn id(self) -> Result<ExperimentId> {
        experiment_id(&required(self.experiment_id, "experiment_id")?)
    }
}

#[derive(Serialize)]
struct One {
    experiment: Experiment,
}

async fn by_id(State(app): State<App>, Query(request): Query<ById>) -> Result<Reply<One>> {
    Ok(Reply(One { experiment: app.store.experiment(request.id()?).await? }))
}

#[derive(Deserialize)]
struct ByName {
    experiment_name: Option<String>,
}

async fn by_name(State(app): State<App>, Query(request): Query<ByName>) -> Result<Reply<One>> {
    let name = required(request.experiment_name, "experiment_name")?;
    Ok(Reply(One { experiment: app.store.experiment_by_name(&name).await? }))
}

async fn delete(State(app): State<App>, Json(request): Json<ById>) -> Result<Reply<Empty>> {
    app.store.delete_experiment(request.id()?).await?;
    DONE
}

async fn restore(State(app): State<App>, Json(request): Json<ById>) -> Result<Reply<Empty>> {
    app.store.restore_experiment(request.id()?).await?;
    DONE
}

#[derive(Deserialize)]
struct Rename {
    experiment_id: Option<String>,
    new_name: Option<String>,
}

async fn rename(State(app): State<App>, Json(request): Json<Rename>) -> Result<Reply<Empty>> {
    let id = experiment_id(&required(request.experiment_id, "experiment_id")?)?;
    let name = required(request.new_name, "new_name")?;
    experiment_name(&name)?;
    app.store.rename_experiment(id, &name).await?;
    DONE
}

#[derive(Deserialize)]
struct Tag {
    experiment_id: Option<String>,
    key: Option<String>,
    value: Option<String>,
}

async fn set_tag(State(app): State<App>, Json(request): Json<Tag>) -> Result<Reply<Empty>> {
    let id = required(request.experiment_id, "experiment_id")?;
    let key = required(request.key, "key")?;
    let value = request.value.unwrap_or_default();
    experiment_tag(&key, &value)?;
    app.store.set_experiment_tag(experiment_id(&id)?, Pair { key, value }).await?;
    DONE
}

async fn delete_tag(State(app): State<App>, Json(request): Json<Tag>) -> Result<Reply<Empty>> {
    let id = required(request.experiment_id, "experiment_id")?;
    let key = required(request.key, "key")?;
    app.store.delete_experiment_tag(experiment_id(&id)?, &key).await?;
    DONE
}

#[derive(Deserialize)]
struct Find {
    #[serde(default, deserialize_with = "whole")]
    max_results: Option<i64>,
    page_token: Option<String>,
    filter: Option<String>,
    order_by: Option<Vec<String>>,
    #[serde(default, deserialize_with = "view")]
    view_type: Option<View>,
}

#[derive(Serialize)]
struct Found {
    #[serde(skip_serializing_if = "Vec::is_empty")]
    experiments: Vec<Experiment>,
    #[serde(skip_serializing_if = "Option::is_none")]
    next_page_token: Option<String>,
}

async fn find(State(app): State<App>, Json(request): Json<Find>) -> Result<Reply<Found>> {
    answer(&app, request).await
}

async fn find_by_query(State(app): State<App>, RawQuery(query): RawQuery) -> Result<Reply<Found>> {
    let query = Repeated::read(query)?;
    let text = |name: &str| query.first(name).map(str::to_owned);
    // A view that is none is the first one, as protobuf has it.
    let view_type = match query.first("view_type") {
        Some("DELETED_ONLY" | "2") => View::DeletedOnly,
        Some("ALL" | "3") => View::All,
        _ => View::ActiveOnly,
    };
    let request = Find {
        max_results: query.number("max_results")?,
        page_token: text("page_token"),
        filter: text("filter"),
        order_by: Some(query.all("order_by")),
        view_type: Some(view_type),
    };
    answer(&app, request).await
}

async fn answer(app: &App, request: Find) -> Result<Reply<Found>> {
    let size = page_size(request.max_results.unwrap_or(0))?;
    let page = Page::new(size, request.page_token.as_deref())?;
    let order_by = request.order_by.unwrap_or_default();
    let view = request.view_type.unwrap_or_default();
    let search = search(request.filter.as_deref(), &order_by, view, page)?;
    let (experiments, next_page_token) = app.store.search_experiments(&search).await?;
    Ok(Reply(Found { experiments, next_page_token }))
}

#[derive(Deserialize)]
struct Datasets {
    experiment_ids: Option<Vec<String>>,
}

#[derive(Serialize)]
struct FoundDatasets {
    #[serde(skip_serializing_if = "Vec::is_empty")]
    dataset_summaries: Vec<DatasetSummary>,
}

async fn datasets(State(app): State<App>, Json(request): Json<Datasets>) -> Result<Reply<FoundDatasets>> {
    let ids = experiment_ids(&request.experiment_ids.unwrap_or_default())?;
    if ids.is_empty() {
        return Err(Error::invalid("SearchDatasets request must specify at least one experiment_id."));
    }
    if ids.len() > DATASET_EXPERIMENTS {
        return Err(Error::invalid(format!(
            "SearchDatasets request cannot specify more than {DATASET_EXPERIMENTS} experiment_ids. Received {} \
             experiment_ids.",
            ids.len()
        )));
    }
    Ok(Reply(FoundDatasets { dataset_summaries: app.store.datasets_of(&ids).await? }))
}

/// Pairs of a request; what is missing is empty.
pub(super) fn pairs(given: Option<Vec<KeyValue>>) -> Vec<Pair> {
    let pair = |pair: KeyValue| Pair { key: pair.key.unwrap_or_default(), value: pair.value.unwrap_or_default() };
    given.unwrap_or_default().into_iter().map(pair).collect()
}

/// Numbers of experiments.
pub(super) fn experiment_ids(given: &[String]) -> Result<Vec<i64>> {
    given.iter().map(|text| experiment_id(text).map(|id| id.0)).collect()
}

/// The size of a page of runs or experiments.
pub(super) fn page_size(size: i64) -> Result<i64> {
    let refused = |why: String| {
        Err(Error::invalid(format!("Invalid value {size} for parameter 'max_results' supplied. It must be {why}")))
    };
    if size < 1 {
        return refused("a positive integer".to_owned());
    }
    if size > SEARCH_PAGE {
        return refused(format!("at most {SEARCH_PAGE}"));
    }
    Ok(size)
}

/// Reads a view by its name or number.
pub(super) fn view<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<View>, D::Error> {
    let views = [("ACTIVE_ONLY", 1, View::ActiveOnly), ("DELETED_ONLY", 2, View::DeletedOnly), ("ALL", 3, View::All)];
    one_of(deserializer, &views)
}

fn artifact_location(location: &str) -> Result<()> {
    length(location, ARTIFACT_LOCATION, "artifact_location")?;
    if location.contains(['#', ';']) {
        return Err(Error::invalid("'artifact_location' URL can't include fragments or params."));
    }
    if let Some((scheme, _)) = location.split_once("://")
        && ["http", "https", "ftp", "sftp"].contains(&scheme.to_ascii_lowercase().as_str())
    {
        return Err(Error::invalid(format!(
            "'artifact_location' cannot use the '{scheme}' scheme: it would lead to a host other than the server's \
             artifact storage"
        )));
    }
    if location.starts_with("runs:") {
        return Err(Error::invalid(format!("Artifact location cannot be a runs:/ URI. Given: '{location}'")));
    }
    let decoded = percent_encoding::percent_decode_str(location).decode_utf8_lossy();
    if decoded.split(['/', '\\', '?', '&', '=']).any(|part| part == "..") {
        return Err(not_allowed("artifact_location", &location.into(), "it must not lead out of its folder by '..'"));
    }
    Ok(())
}

/// The name of a field that is missing where a list holds it.
pub(super) fn missing_in(list: &str, at: usize, field: &str) -> Error {
    missing(&format!("{list}[{at}].{field}"))
}
