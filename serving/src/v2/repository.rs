//! The extension for model repositories over REST: what there is, loading and unloading.
//! Source: Triton's `protocol/extension_model_repository.md`.

use std::sync::Arc;

use axum::extract::{Path, Request, State};
use axum::response::{IntoResponse, Json, Response};
use axum::routing::{Router, post};
use serde::Deserialize;
use serde_json::{Map, Value, json};

use super::backend::{Backend, IndexEntry, ModelState};
use super::rest::{Face, Problem, body};
use crate::Error;
use crate::v2::Result;

/// Bytes of a request; none needs many.
const MAX_BODY: usize = 64 * 1024;

/// Its routes, below `/v2`.
pub(super) fn routes() -> Router<Face> {
    Router::new()
        .route("/repository/index", post(index))
        .route("/repository/models/{model}/load", post(load))
        .route("/repository/models/{model}/unload", post(unload))
}

/// The models of a repository, as a request for them asks.
pub(super) fn listed(backend: &dyn Backend, only_ready: bool) -> Vec<IndexEntry> {
    let mut entries = backend.index();
    entries.retain(|entry| !only_ready || entry.state == ModelState::Ready);
    entries
}

/// Checks the names of a load's or unload's parameters: files and settings that a client sends are not taken.
///
/// # Errors
/// [`Error::Unsupported`] with the first that there is not.
pub(super) fn check_parameters<'a>(mut names: impl Iterator<Item = &'a String>) -> Result<()> {
    match names.find(|name| *name != "unload_dependents") {
        Some(name) => Err(Error::Unsupported(format!(
            "parameter `{}` is not supported: models are loaded as their files are",
            super::tensor::shortened(name)
        ))),
        None => Ok(()),
    }
}

#[derive(Default, Deserialize)]
#[serde(default)]
struct IndexBody {
    ready: bool,
}

#[derive(Default, Deserialize)]
#[serde(default)]
struct ChangeBody {
    parameters: Map<String, Value>,
}

async fn index(State(face): State<Face>, request: Request) -> Result<Response, Problem> {
    let IndexBody { ready } = optional(request).await?;
    Ok(Json(listed(face.backend.as_ref(), ready)).into_response())
}

async fn load(State(face): State<Face>, Path(model): Path<String>, request: Request) -> Result<Response, Problem> {
    let ChangeBody { parameters } = optional(request).await?;
    check_parameters(parameters.keys())?;
    Arc::clone(&face.backend).load(&model).await?;
    Ok(Json(json!({ "name": model, "load": true })).into_response())
}

async fn unload(State(face): State<Face>, Path(model): Path<String>, request: Request) -> Result<Response, Problem> {
    let ChangeBody { parameters } = optional(request).await?;
    check_parameters(parameters.keys())?;
    face.backend.unload(&model).await?;
    Ok(Json(json!({ "name": model, "unload": true })).into_response())
}

/// A body that may be left out.
async fn optional<T: Default + for<'a> Deserialize<'a>>(request: Request) -> Result<T> {
    let bytes = body::collect(request, MAX_BODY).await?;
    if bytes.is_empty() {
        return Ok(T::default());
    }
    serde_json::from_slice(&bytes).map_err(|error| Error::Invalid(format!("the body is no such request: {error}")))
}
