//! DAGs: list, show, start a run, pause, resume.

use axum::Json;
use axum::extract::State;
use axum::http::StatusCode;
use serde::Deserialize;
use utoipa::IntoParams;

use super::extract::{Body, Limit, Path, Query, next};
use super::problem::{Problem, Problems};
use super::views::{DagView, DagWithTasks, Dags, NewRun, RunView};
use crate::clock::Timestamp;
use crate::state::Store;

/// Which DAGs to list.
#[derive(Debug, Deserialize, IntoParams)]
#[into_params(parameter_in = Query)]
#[serde(deny_unknown_fields)]
pub(super) struct Page {
    /// How many; 100 when not given.
    #[param(value_type = Option<u32>, minimum = 1, maximum = 1000)]
    limit: Option<Limit>,
    /// Only DAGs behind this name: the `next` of the page before.
    #[param(pattern = r"^[^\u0000]*$")]
    after: Option<String>,
    /// Only DAGs whose schedule rests, or only others.
    paused: Option<bool>,
}

/// Lists the DAGs that servers have read or that runs were made of, by name.
#[utoipa::path(
    get, path = "/api/v1/dags", operation_id = "listDags", params(Page),
    responses((status = 200, description = "A page of DAGs.", body = Dags), Problems)
)]
pub(super) async fn list(State(store): State<Store>, Query(page): Query<Page>) -> Result<Json<Dags>, Problem> {
    let limit = Limit::of(page.limit);
    let dags = store.dags_after(limit, page.after.as_deref(), page.paused).await?;
    let next = next(&dags, limit, |dag| dag.name.clone());
    Ok(Json(Dags { dags: dags.into_iter().map(DagView::from).collect(), next }))
}

/// Shows a DAG with its parameters and tasks.
#[utoipa::path(
    get, path = "/api/v1/dags/{name}", operation_id = "showDag",
    params(("name" = String, Path, pattern = r"^[^\u0000]*$", description = "name of the DAG")),
    responses((status = 200, description = "The DAG.", body = DagWithTasks), Problems)
)]
pub(super) async fn show(State(store): State<Store>, Path(name): Path<String>) -> Result<Json<DagWithTasks>, Problem> {
    let record = store.dag_record(&name).await?;
    let dag = store.dag_version(record.version).await?;
    Ok(Json(DagWithTasks::new(record, &dag)))
}

/// Makes a run; a server begins it when it is its turn. An empty body asks for all defaults.
#[utoipa::path(
    post, path = "/api/v1/dags/{name}/runs", operation_id = "startRun",
    params(("name" = String, Path, pattern = r"^[^\u0000]*$", description = "name of the DAG")), request_body = Option<NewRun>,
    responses((status = 201, description = "The run.", body = RunView), Problems)
)]
pub(super) async fn start(
    State(store): State<Store>,
    Path(name): Path<String>,
    Body(new): Body<Option<NewRun>>,
) -> Result<(StatusCode, Json<RunView>), Problem> {
    let dag = store.current_dag(&name).await?;
    let params = dag.params_from_json(new.unwrap_or_default().params)?;
    let run = store.create_run(&dag, &params, Timestamp::now()).await?;
    Ok((StatusCode::CREATED, Json(store.run(run).await?.into())))
}

/// Lets the schedule of a DAG rest.
#[utoipa::path(
    post, path = "/api/v1/dags/{name}/pause", operation_id = "pauseDag",
    params(("name" = String, Path, pattern = r"^[^\u0000]*$", description = "name of the DAG")),
    responses((status = 204, description = "It rests."), Problems)
)]
pub(super) async fn pause(State(store): State<Store>, Path(name): Path<String>) -> Result<StatusCode, Problem> {
    store.pause(&name, true).await?;
    Ok(StatusCode::NO_CONTENT)
}

/// Lets the schedule of a DAG go on.
#[utoipa::path(
    post, path = "/api/v1/dags/{name}/resume", operation_id = "resumeDag",
    params(("name" = String, Path, pattern = r"^[^\u0000]*$", description = "name of the DAG")),
    responses((status = 204, description = "It goes on."), Problems)
)]
pub(super) async fn resume(State(store): State<Store>, Path(name): Path<String>) -> Result<StatusCode, Problem> {
    store.pause(&name, false).await?;
    Ok(StatusCode::NO_CONTENT)
}
