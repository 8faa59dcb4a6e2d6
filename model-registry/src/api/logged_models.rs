//! `logged-models/…`.

use axum::Json as Reply;
use axum::extract::{Path, State};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use platform::identity::{Guarded, Permission};
use serde::{Deserialize, Deserializer, Serialize};

use super::experiments::{DONE, Empty, experiment_ids, pairs};
use super::wire::{KeyValue, one_of, whole};
use super::{App, Json, Query};
use crate::entities::{LoggedModel, LoggedModelStatus};
use crate::filter::{self, Dataset, ModelOrder};
use crate::limits::LOGGED_MODELS_PAGE;
use crate::store::experiments::Page;
use crate::store::logged_models::{LoggedModelSearch, NewLoggedModel};
use crate::validate::{experiment_id, logged_model_name, missing, required};
use crate::{Error, Result};

pub(super) fn routes() -> Guarded<App> {
    Guarded::new()
        .post("/logged-models", Permission::TrackingWrite, create)
        .post("/logged-models/search", Permission::TrackingRead, find)
        .get("/logged-models/{model_id}", Permission::TrackingRead, by_id)
        .patch("/logged-models/{model_id}", Permission::TrackingWrite, finalize)
        .delete("/logged-models/{model_id}", Permission::TrackingWrite, remove)
        .post("/logged-models/{model_id}/params", Permission::TrackingWrite, log_params)
        .patch("/logged-models/{model_id}/tags", Permission::TrackingWrite, set_tags)
        .delete("/logged-models/{model_id}/tags/{tag_key}", Permission::TrackingWrite, delete_tag)
}

#[derive(Deserialize)]
struct Create {
    experiment_id: Option<String>,
    name: Option<String>,
    model_type: Option<String>,
    source_run_id: Option<String>,
    params: Option<Vec<KeyValue>>,
    tags: Option<Vec<KeyValue>>,
}

#[derive(Serialize)]
struct One {
    model: LoggedModel,
}

async fn create(State(app): State<App>, Json(request): Json<Create>) -> Result<Reply<One>> {
    let experiment = experiment_id(&required(request.experiment_id, "experiment_id")?)?;
    let name = request.name.filter(|name| !name.is_empty());
    if let Some(name) = &name {
        logged_model_name(name)?;
    }
    let new = NewLoggedModel {
        experiment,
        name,
        model_type: request.model_type.unwrap_or_default(),
        source_run_id: request.source_run_id.unwrap_or_default(),
        params: pairs(request.params),
        tags: pairs(request.tags),
    };
    Ok(Reply(One { model: app.store.create_logged_model(new).await? }))
}

#[derive(Deserialize)]
struct Get {
    allow_deleted: Option<String>,
}

async fn by_id(State(app): State<App>, Path(id): Path<String>, Query(request): Query<Get>) -> Result<Reply<One>> {
    let also_deleted = request.allow_deleted.is_some_and(|text| text.eq_ignore_ascii_case("true"));
    Ok(Reply(One { model: app.store.logged_model(&id, also_deleted).await? }))
}

#[derive(Deserialize)]
struct Finalize {
    #[serde(default, deserialize_with = "status")]
    status: Option<LoggedModelStatus>,
}

async fn finalize(State(app): State<App>, Path(id): Path<String>, Json(request): Json<Finalize>) -> Result<Reply<One>> {
    let status = request.status.ok_or_else(|| missing("status"))?;
    Ok(Reply(One { model: app.store.finalize_logged_model(&id, status).await? }))
}

async fn remove(State(app): State<App>, Path(id): Path<String>) -> Result<Reply<Empty>> {
    app.store.delete_logged_model(&id).await?;
    DONE
}

#[derive(Deserialize)]
struct Pairs {
    params: Option<Vec<KeyValue>>,
    tags: Option<Vec<KeyValue>>,
}

async fn log_params(
    State(app): State<App>,
    Path(id): Path<String>,
    Json(request): Json<Pairs>,
) -> Result<Reply<Empty>> {
    app.store.log_logged_model_params(&id, &pairs(request.params)).await?;
    DONE
}

async fn set_tags(State(app): State<App>, Path(id): Path<String>, Json(request): Json<Pairs>) -> Result<Reply<Empty>> {
    app.store.set_logged_model_tags(&id, &pairs(request.tags)).await?;
    DONE
}

async fn delete_tag(State(app): State<App>, Path((id, key)): Path<(String, String)>) -> Result<Reply<Empty>> {
    app.store.delete_logged_model_tag(&id, &key).await?;
    DONE
}

#[derive(Deserialize)]
struct Find {
    experiment_ids: Option<Vec<String>>,
    filter: Option<String>,
    datasets: Option<Vec<OnDataset>>,
    #[serde(default, deserialize_with = "whole")]
    max_results: Option<i64>,
    order_by: Option<Vec<OrderBy>>,
    page_token: Option<String>,
}

#[derive(Deserialize)]
struct OnDataset {
    dataset_name: Option<String>,
    dataset_digest: Option<String>,
}

#[derive(Clone, Debug, Deserialize, PartialEq, Serialize)]
struct OrderBy {
    field_name: Option<String>,
    ascending: Option<bool>,
    dataset_name: Option<String>,
    dataset_digest: Option<String>,
}

#[derive(Serialize)]
struct Found {
    #[serde(skip_serializing_if = "Vec::is_empty")]
    models: Vec<LoggedModel>,
    #[serde(skip_serializing_if = "Option::is_none")]
    next_page_token: Option<String>,
}

/// A page token here also says what was searched: another search is refused.
#[derive(Deserialize, Serialize)]
struct Token {
    experiment_ids: Vec<String>,
    filter_string: Option<String>,
    order_by: Option<Vec<OrderBy>>,
    offset: i64,
}

async fn find(State(app): State<App>, Json(request): Json<Find>) -> Result<Reply<Found>> {
    let experiments = request.experiment_ids.ok_or_else(|| missing("experiment_ids"))?;
    let filter_string = request.filter.filter(|filter| !filter.is_empty());
    let order_by = request.order_by.filter(|order| !order.is_empty());
    let mut token = Token { experiment_ids: experiments, filter_string, order_by, offset: 0 };
    if let Some(given) = request.page_token.filter(|token| !token.is_empty()) {
        token.offset = token.read(&given)?;
    }
    let datasets = request.datasets.unwrap_or_default();
    let datasets = datasets.into_iter().map(OnDataset::read).collect::<Result<Vec<_>>>()?;
    let size = request.max_results.unwrap_or(LOGGED_MODELS_PAGE);
    if size < 0 {
        return Err(Error::invalid(format!(
            "Invalid value {size} for parameter 'max_results' supplied. It must be a positive integer"
        )));
    }
    let size = if size == 0 { 2 * LOGGED_MODELS_PAGE } else { size };
    let order: Vec<ModelOrder> = token.order_by.iter().flatten().cloned().map(OrderBy::read).collect::<Result<_>>()?;
    let search = LoggedModelSearch {
        experiments: experiment_ids(&token.experiment_ids)?,
        filter: filter::logged_models(token.filter_string.as_deref(), datasets)?,
        order: filter::logged_models_order(&order)?,
        page: Page { size, offset: token.offset },
    };
    let (models, has_next) = app.store.search_logged_models(&search).await?;
    token.offset = token.offset.saturating_add(size);
    Ok(Reply(Found { models, next_page_token: has_next.then(|| token.write()) }))
}

impl Token {
    /// Where the page begins, if the token belongs to this search.
    fn read(&self, given: &str) -> Result<i64> {
        let token = STANDARD.decode(given).ok().and_then(|bytes| serde_json::from_slice::<Self>(&bytes).ok());
        let token = token.ok_or_else(|| Error::invalid(format!("Invalid page token: {given}")))?;
        let differs = |what: &str| {
            Err(Error::invalid(format!("{what} in the page token do not match the requested {what}; search anew")))
        };
        if token.experiment_ids != self.experiment_ids {
            return differs("Experiment IDs");
        }
        if token.filter_string != self.filter_string {
            return differs("Filter string");
        }
        if token.order_by != self.order_by {
            return differs("Order by");
        }
        if token.offset < 0 {
            return Err(Error::invalid(format!("Invalid page token: {given}")));
        }
        Ok(token.offset)
    }

    /// Writing numbers and texts as JSON does not fail.
    fn write(&self) -> String {
        STANDARD.encode(serde_json::to_vec(self).unwrap_or_default())
    }
}

impl OnDataset {
    fn read(self) -> Result<Dataset> {
        let name = self.dataset_name.filter(|name| !name.is_empty());
        let name = name.ok_or_else(|| Error::invalid("`dataset_name` in the `datasets` clause must be specified."))?;
        Ok(Dataset { name, digest: self.dataset_digest.filter(|digest| !digest.is_empty()) })
    }
}

impl OrderBy {
    fn read(self) -> Result<ModelOrder> {
        let field_name = self.field_name.filter(|name| !name.is_empty());
        let field_name =
            field_name.ok_or_else(|| Error::invalid("`field_name` in the `order_by` clause must be specified."))?;
        let given = |text: Option<String>| text.filter(|text| !text.is_empty());
        Ok(ModelOrder {
            field_name,
            ascending: self.ascending.unwrap_or(true),
            dataset_name: given(self.dataset_name),
            dataset_digest: given(self.dataset_digest),
        })
    }
}

fn status<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<LoggedModelStatus>, D::Error> {
    use LoggedModelStatus::{Failed, Pending, Ready};
    let statuses = [
        ("LOGGED_MODEL_PENDING", 1, Pending),
        ("LOGGED_MODEL_READY", 2, Ready),
        ("LOGGED_MODEL_UPLOAD_FAILED", 3, Failed),
    ];
    one_of(deserializer, &statuses)
}
