//! `registered-models/…`

use axum::Json as Out;
use axum::extract::{FromRequestParts, State};
use axum::http::request::Parts;
use platform::identity::{Guarded, Permission};
use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::{App, Json, Query, wrong_type};
use crate::promotion::Principal;
use crate::registered::{ModelVersion, RegisteredModel, Tag};
use crate::store::{Page, Search};
use crate::{Error, Result, validate};

pub(super) fn routes() -> Guarded<App> {
    Guarded::new()
        .post("/registered-models/create", Permission::ModelsWrite, create)
        .get("/registered-models/get", Permission::ModelsRead, read)
        .post("/registered-models/rename", Permission::ModelsWrite, rename)
        .patch("/registered-models/update", Permission::ModelsWrite, update)
        .delete("/registered-models/delete", Permission::ModelsWrite, remove)
        .get("/registered-models/search", Permission::ModelsRead, search)
        .post("/registered-models/set-tag", Permission::ModelsWrite, set_tag)
        .delete("/registered-models/delete-tag", Permission::ModelsWrite, delete_tag)
        .get("/registered-models/get-latest-versions", Permission::ModelsRead, latest_of_query)
        .post("/registered-models/get-latest-versions", Permission::ModelsRead, latest)
        .get("/registered-models/alias", Permission::ModelsRead, read_alias)
        .post("/registered-models/alias", Permission::ModelsPromote, set_alias)
        .delete("/registered-models/alias", Permission::ModelsPromote, delete_alias)
}

/// An answer without anything in it.
#[derive(Serialize)]
pub(super) struct Done {}

#[derive(Serialize)]
struct Model {
    registered_model: RegisteredModel,
}

#[derive(Serialize)]
struct Models {
    #[serde(skip_serializing_if = "Vec::is_empty")]
    registered_models: Vec<RegisteredModel>,
    #[serde(skip_serializing_if = "Option::is_none")]
    next_page_token: Option<String>,
}

#[derive(Serialize)]
pub(super) struct Version {
    pub(super) model_version: ModelVersion,
}

#[derive(Serialize)]
pub(super) struct Versions {
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub(super) model_versions: Vec<ModelVersion>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) next_page_token: Option<String>,
}

#[derive(Deserialize)]
struct Create {
    name: Option<String>,
    tags: Option<Vec<Tag>>,
    description: Option<String>,
}

#[derive(Deserialize)]
struct Named {
    name: Option<String>,
}

#[derive(Deserialize)]
struct Rename {
    name: Option<String>,
    new_name: Option<String>,
}

#[derive(Deserialize)]
struct Update {
    name: Option<String>,
    description: Option<String>,
}

#[derive(Deserialize)]
struct SetTag {
    name: Option<String>,
    key: Option<String>,
    value: Option<String>,
}

#[derive(Deserialize)]
struct Latest {
    name: Option<String>,
    stages: Option<Vec<String>>,
}

#[derive(Deserialize)]
struct OfAlias {
    name: Option<String>,
    alias: Option<String>,
    version: Option<String>,
}

async fn create(State(app): State<App>, Json(asked): Json<Create>) -> Result<Out<Model>> {
    let name = required(&asked.name, "name")?;
    let description = asked.description.as_deref().unwrap_or_default();
    let registered_model =
        app.store.create_registered_model(name, &asked.tags.unwrap_or_default(), description).await?;
    Ok(Out(Model { registered_model }))
}

async fn read(State(app): State<App>, Query(asked): Query<Named>) -> Result<Out<Model>> {
    let registered_model = app.store.registered_model(required(&asked.name, "name")?).await?;
    Ok(Out(Model { registered_model }))
}

async fn rename(State(app): State<App>, Json(asked): Json<Rename>) -> Result<Out<Model>> {
    let (name, new_name) = (required(&asked.name, "name")?, required(&asked.new_name, "new_name")?);
    let registered_model = app.store.rename_registered_model(name, new_name).await?;
    Ok(Out(Model { registered_model }))
}

async fn update(State(app): State<App>, Json(asked): Json<Update>) -> Result<Out<Model>> {
    let name = required(&asked.name, "name")?;
    let description = asked.description.as_deref().unwrap_or_default();
    let registered_model = app.store.update_registered_model(name, description).await?;
    Ok(Out(Model { registered_model }))
}

async fn remove(State(app): State<App>, who: Principal, Json(asked): Json<Named>) -> Result<Out<Done>> {
    app.store.delete_registered_model(required(&asked.name, "name")?, &who).await?;
    Ok(Out(Done {}))
}

async fn search(State(app): State<App>, Searched(search): Searched) -> Result<Out<Models>> {
    // The original's words for this endpoint; its store has others.
    if let Some(max) = search.max_results.filter(|max| *max > 1000) {
        return Err(wrong_type("max_results", &Value::from(max.to_string())));
    }
    let Page { items, next } = app.store.search_registered_models(&search).await?;
    Ok(Out(Models { registered_models: items, next_page_token: next }))
}

async fn set_tag(State(app): State<App>, Json(asked): Json<SetTag>) -> Result<Out<Done>> {
    let (name, key) = (required(&asked.name, "name")?, required(&asked.key, "key")?);
    let tag = Tag { key: key.to_owned(), value: asked.value.unwrap_or_default() };
    app.store.set_registered_model_tag(name, &tag).await?;
    Ok(Out(Done {}))
}

async fn delete_tag(State(app): State<App>, Json(asked): Json<SetTag>) -> Result<Out<Done>> {
    let (name, key) = (required(&asked.name, "name")?, required(&asked.key, "key")?);
    app.store.delete_registered_model_tag(name, key).await?;
    Ok(Out(Done {}))
}

async fn latest(State(app): State<App>, Json(asked): Json<Latest>) -> Result<Out<Versions>> {
    let stages = asked.stages.unwrap_or_default();
    let model_versions = app.store.latest_versions(required(&asked.name, "name")?, &stages).await?;
    Ok(Out(Versions { model_versions, next_page_token: None }))
}

async fn latest_of_query(State(app): State<App>, Pairs(pairs): Pairs) -> Result<Out<Versions>> {
    let name = pairs.iter().find(|(key, _)| key == "name").map(|(_, value)| value.clone());
    let stages = pairs.into_iter().filter(|(key, _)| key == "stages").map(|(_, value)| value).collect();
    latest(State(app), Json(Latest { name, stages: Some(stages) })).await
}

async fn read_alias(State(app): State<App>, Query(asked): Query<OfAlias>) -> Result<Out<Version>> {
    let (name, alias) = (required(&asked.name, "name")?, required(&asked.alias, "alias")?);
    let model_version = app.store.model_version_by_alias(name, alias).await?;
    Ok(Out(Version { model_version }))
}

async fn set_alias(State(app): State<App>, who: Principal, Json(asked): Json<OfAlias>) -> Result<Out<Done>> {
    let (name, alias) = (required(&asked.name, "name")?, required(&asked.alias, "alias")?);
    app.store.set_alias(name, alias, required(&asked.version, "version")?, &who).await?;
    Ok(Out(Done {}))
}

async fn delete_alias(State(app): State<App>, who: Principal, Json(asked): Json<OfAlias>) -> Result<Out<Done>> {
    let (name, alias) = (required(&asked.name, "name")?, required(&asked.alias, "alias")?);
    app.store.delete_alias(name, alias, &who).await?;
    Ok(Out(Done {}))
}

/// A field that must be there and not empty.
pub(super) fn required<'a>(value: &'a Option<String>, name: &str) -> Result<&'a str> {
    validate::required(value.as_deref(), name)
}

/// What is behind the question mark, where a name may occur more than once.
pub(super) struct Pairs(pub(super) Vec<(String, String)>);

/// A search as a query asks for it.
pub(super) struct Searched(pub(super) Search);

impl<S: Send + Sync> FromRequestParts<S> for Pairs {
    type Rejection = Error;

    async fn from_request_parts(parts: &mut Parts, _: &S) -> Result<Self> {
        let query = parts.uri.query().unwrap_or_default();
        if query.contains("%00") {
            return Err(Error::invalid("the address holds a NUL character; leave it out"));
        }
        Ok(Self(url::form_urlencoded::parse(query.as_bytes()).into_owned().collect()))
    }
}

impl<S: Send + Sync> FromRequestParts<S> for Searched {
    type Rejection = Error;

    async fn from_request_parts(parts: &mut Parts, state: &S) -> Result<Self> {
        let Pairs(pairs) = Pairs::from_request_parts(parts, state).await?;
        let mut search = Search::default();
        for (key, value) in pairs {
            match key.as_str() {
                "filter" => search.filter = Some(value).filter(|text| !text.is_empty()),
                "order_by" => search.order_by.push(value),
                "page_token" => search.page_token = Some(value).filter(|text| !text.is_empty()),
                "max_results" => {
                    let wrong = |_| wrong_type("max_results", &Value::from(value.as_str()));
                    search.max_results = Some(value.parse().map_err(wrong)?);
                }
                _ => {}
            }
        }
        Ok(Self(search))
    }
}
