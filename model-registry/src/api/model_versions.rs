//! `model-versions/…`

use axum::Json as Out;
use axum::extract::State;
use platform::identity::{Guarded, Permission};
use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::registered_models::{Done, Searched, Version, Versions, required};
use super::{App, Json, Query, wrong_type};
use crate::Result;
use crate::promotion::Principal;
use crate::registered::Tag;
use crate::store::{NewVersion, Page};

pub(super) fn routes() -> Guarded<App> {
    Guarded::new()
        .post("/model-versions/create", Permission::ModelsWrite, create)
        .get("/model-versions/get", Permission::ModelsRead, read)
        .patch("/model-versions/update", Permission::ModelsWrite, update)
        .delete("/model-versions/delete", Permission::ModelsWrite, remove)
        .get("/model-versions/search", Permission::ModelsRead, search)
        .post("/model-versions/set-tag", Permission::ModelsWrite, set_tag)
        .delete("/model-versions/delete-tag", Permission::ModelsWrite, delete_tag)
        .post("/model-versions/transition-stage", Permission::ModelsPromote, transition)
        .get("/model-versions/get-download-uri", Permission::ModelsRead, download_uri)
}

#[derive(Serialize)]
struct Uri {
    artifact_uri: String,
}

#[derive(Deserialize)]
struct Create {
    name: Option<String>,
    source: Option<String>,
    run_id: Option<String>,
    tags: Option<Vec<Tag>>,
    run_link: Option<String>,
    description: Option<String>,
    model_id: Option<String>,
}

#[derive(Deserialize)]
struct Named {
    name: Option<String>,
    version: Option<String>,
}

#[derive(Deserialize)]
struct Update {
    name: Option<String>,
    version: Option<String>,
    description: Option<String>,
}

#[derive(Deserialize)]
struct Transition {
    name: Option<String>,
    version: Option<String>,
    stage: Option<String>,
    archive_existing_versions: Option<bool>,
}

#[derive(Deserialize)]
struct OfTag {
    name: Option<String>,
    version: Option<String>,
    key: Option<String>,
    value: Option<String>,
}

async fn create(State(app): State<App>, Json(asked): Json<Create>) -> Result<Out<Version>> {
    let new = NewVersion {
        name: required(&asked.name, "name")?.to_owned(),
        source: required(&asked.source, "source")?.to_owned(),
        run_id: asked.run_id,
        model_id: asked.model_id,
        tags: asked.tags.unwrap_or_default(),
        run_link: asked.run_link.unwrap_or_default(),
        description: asked.description.unwrap_or_default(),
    };
    let model_version = app.store.create_model_version(&new).await?;
    Ok(Out(Version { model_version }))
}

async fn read(State(app): State<App>, Query(asked): Query<Named>) -> Result<Out<Version>> {
    let (name, version) = (required(&asked.name, "name")?, required(&asked.version, "version")?);
    let model_version = app.store.model_version(name, version).await?;
    Ok(Out(Version { model_version }))
}

async fn update(State(app): State<App>, Json(asked): Json<Update>) -> Result<Out<Version>> {
    let (name, version) = (required(&asked.name, "name")?, required(&asked.version, "version")?);
    let model_version = app.store.update_model_version(name, version, asked.description.as_deref()).await?;
    Ok(Out(Version { model_version }))
}

async fn remove(State(app): State<App>, who: Principal, Json(asked): Json<Named>) -> Result<Out<Done>> {
    let (name, version) = (required(&asked.name, "name")?, required(&asked.version, "version")?);
    app.store.delete_model_version(name, version, &who).await?;
    Ok(Out(Done {}))
}

async fn search(State(app): State<App>, Searched(search): Searched) -> Result<Out<Versions>> {
    // The original's words for this endpoint; its store has others.
    if let Some(max) = search.max_results.filter(|max| *max > 200_000) {
        return Err(wrong_type("max_results", &Value::from(max.to_string())));
    }
    let Page { items, next } = app.store.search_model_versions(&search).await?;
    Ok(Out(Versions { model_versions: items, next_page_token: next }))
}

async fn set_tag(State(app): State<App>, Json(asked): Json<OfTag>) -> Result<Out<Done>> {
    let (name, version) = (required(&asked.name, "name")?, required(&asked.version, "version")?);
    let tag = Tag { key: required(&asked.key, "key")?.to_owned(), value: asked.value.unwrap_or_default() };
    app.store.set_model_version_tag(name, version, &tag).await?;
    Ok(Out(Done {}))
}

async fn delete_tag(State(app): State<App>, Json(asked): Json<OfTag>) -> Result<Out<Done>> {
    let (name, version) = (required(&asked.name, "name")?, required(&asked.version, "version")?);
    app.store.delete_model_version_tag(name, version, required(&asked.key, "key")?).await?;
    Ok(Out(Done {}))
}

async fn transition(State(app): State<App>, Json(asked): Json<Transition>) -> Result<Out<Version>> {
    let (name, version) = (required(&asked.name, "name")?, required(&asked.version, "version")?);
    let stage = required(&asked.stage, "stage")?;
    let model_version =
        app.store.transition_stage(name, version, stage, asked.archive_existing_versions == Some(true)).await?;
    Ok(Out(Version { model_version }))
}

/// Unlike the others it has no required fields: the store's own words tell what is missing.
async fn download_uri(State(app): State<App>, Query(asked): Query<Named>) -> Result<Out<Uri>> {
    let (name, version) = (asked.name.unwrap_or_default(), asked.version.unwrap_or_default());
    let artifact_uri = app.store.download_uri(&name, &version).await?;
    Ok(Out(Uri { artifact_uri }))
}
