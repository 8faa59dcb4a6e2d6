//! DAGs: list, start a run, pause, resume.

use axum::Json;
use axum::body::Bytes;
use axum::extract::{Path, State};
use axum::http::StatusCode;
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};
use utoipa::ToSchema;

use super::body::read;
use super::problem::Problem;
use super::views::{DagView, RunView};
use crate::clock::Timestamp;
use crate::state::Store;

/// All DAGs.
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct Dags {
    dags: Vec<DagView>,
}

/// A run to be made.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct NewRun {
    /// Parameters by name; what is left out has its default.
    #[serde(default)]
    params: Map<String, Value>,
}

/// Lists the DAGs that servers have read.
#[utoipa::path(get, path = "/api/v1/dags", responses((status = 200, body = Dags), (status = "default", body = Problem)))]
pub(super) async fn list(State(store): State<Store>) -> Result<Json<Dags>, Problem> {
    let dags = store.dags().await?.into_iter().map(DagView::from).collect();
    Ok(Json(Dags { dags }))
}

/// Makes a run; a server begins it when it is its turn. An empty body asks for all defaults.
#[utoipa::path(
    post, path = "/api/v1/dags/{name}/runs", params(("name" = String, Path, description = "name of the DAG")),
    request_body = NewRun, responses((status = 201, body = RunView), (status = "default", body = Problem))
)]
pub(super) async fn start(
    State(store): State<Store>,
    Path(name): Path<String>,
    body: Bytes,
) -> Result<(StatusCode, Json<RunView>), Problem> {
    let new: NewRun = read(&body)?;
    let dag = store.current_dag(&name).await?;
    let params = dag.params_from_json(new.params)?;
    let run = store.create_run(&dag, &params, Timestamp::now()).await?;
    Ok((StatusCode::CREATED, Json(store.run(run).await?.into())))
}

/// Lets the schedule of a DAG rest.
#[utoipa::path(
    post, path = "/api/v1/dags/{name}/pause", params(("name" = String, Path, description = "name of the DAG")),
    responses((status = 204), (status = "default", body = Problem))
)]
pub(super) async fn pause(State(store): State<Store>, Path(name): Path<String>) -> Result<StatusCode, Problem> {
    store.pause(&name, true).await?;
    Ok(StatusCode::NO_CONTENT)
}

/// Lets the schedule of a DAG go on.
#[utoipa::path(
    post, path = "/api/v1/dags/{name}/resume", params(("name" = String, Path, description = "name of the DAG")),
    responses((status = 204), (status = "default", body = Problem))
)]
pub(super) async fn resume(State(store): State<Store>, Path(name): Path<String>) -> Result<StatusCode, Problem> {
    store.pause(&name, false).await?;
    Ok(StatusCode::NO_CONTENT)
}
