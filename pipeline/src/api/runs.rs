//! Runs: list, show, cancel.

use axum::Json;
use axum::extract::rejection::QueryRejection;
use axum::extract::{Path, Query, State};
use serde::{Deserialize, Serialize};
use utoipa::{IntoParams, ToSchema};

use super::problem::Problem;
use super::views::{RunView, TaskView};
use crate::clock::Timestamp;
use crate::ids::RunId;
use crate::state::{Again, Store};

/// Runs on one page.
const MOST: u32 = 1000;

/// Which runs to list.
#[derive(Debug, Deserialize, IntoParams)]
#[into_params(parameter_in = Query)]
#[serde(deny_unknown_fields)]
pub(super) struct Page {
    /// How many, at most 1000; 100 when not given.
    limit: Option<u32>,
    /// Only runs made before this one: the `next` of the page before.
    before: Option<String>,
    /// Only runs of this DAG.
    dag: Option<String>,
}

/// A page of runs, the newest first.
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct Runs {
    runs: Vec<RunView>,
    /// `before` of the next page; none on the last.
    next: Option<String>,
}

/// A run and its tasks in topological order.
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct RunWithTasks {
    run: RunView,
    tasks: Vec<TaskView>,
}

/// Lists runs, the newest first.
#[utoipa::path(
    get, path = "/api/v1/runs", params(Page), responses((status = 200, body = Runs), (status = "default", body = Problem))
)]
pub(super) async fn list(
    State(store): State<Store>,
    page: Result<Query<Page>, QueryRejection>,
) -> Result<Json<Runs>, Problem> {
    let Query(page) = page.map_err(|error| Problem::bad_request(error.body_text()))?;
    let limit = page.limit.unwrap_or(100).clamp(1, MOST);
    let before = page.before.as_deref().map(read_id).transpose()?;
    let runs = store.runs_before(limit, before, page.dag.as_deref()).await?;
    let full = runs.len() == usize::try_from(limit).unwrap_or(usize::MAX);
    let next = runs.last().filter(|_| full).map(|run| run.id.to_string());
    Ok(Json(Runs { runs: runs.into_iter().map(RunView::from).collect(), next }))
}

/// Shows a run and its tasks.
#[utoipa::path(
    get, path = "/api/v1/runs/{id}", params(("id" = String, Path, description = "the run")),
    responses((status = 200, body = RunWithTasks), (status = "default", body = Problem))
)]
pub(super) async fn show(State(store): State<Store>, Path(id): Path<String>) -> Result<Json<RunWithTasks>, Problem> {
    let id = read_id(&id)?;
    let run = store.run(id).await?.into();
    let tasks = store.tasks(id).await?.into_iter().map(TaskView::from).collect();
    Ok(Json(RunWithTasks { run, tasks }))
}

/// Stops a run for good; gives it as it stands now. One that has ended stays as it is.
#[utoipa::path(
    post, path = "/api/v1/runs/{id}/cancel", params(("id" = String, Path, description = "the run")),
    responses((status = 200, body = RunView), (status = "default", body = Problem))
)]
pub(super) async fn cancel(State(store): State<Store>, Path(id): Path<String>) -> Result<Json<RunView>, Problem> {
    let id = read_id(&id)?;
    store.cancel(id, Timestamp::now()).await?;
    Ok(Json(store.run(id).await?.into()))
}

/// Lets a run that failed or was cancelled go on with the tasks that did not succeed and all that comes after them.
#[utoipa::path(
    post, path = "/api/v1/runs/{id}/resume", params(("id" = String, Path, description = "the run")),
    responses((status = 200, body = RunView), (status = "default", body = Problem))
)]
pub(super) async fn resume(State(store): State<Store>, Path(id): Path<String>) -> Result<Json<RunView>, Problem> {
    let id = read_id(&id)?;
    store.reopen(id, Again::Failed, Timestamp::now()).await?;
    Ok(Json(store.run(id).await?.into()))
}

/// How much of a run is done again.
#[derive(Debug, Deserialize, IntoParams)]
#[into_params(parameter_in = Query)]
#[serde(deny_unknown_fields)]
pub(super) struct Clear {
    /// Whether all that comes after the task is done again too; true when not given.
    downstream: Option<bool>,
}

/// Does a task of a run that has ended again.
#[utoipa::path(
    post, path = "/api/v1/runs/{id}/tasks/{task}/clear",
    params(("id" = String, Path, description = "the run"), ("task" = String, Path, description = "the task"), Clear),
    responses((status = 200, body = RunView), (status = "default", body = Problem))
)]
pub(super) async fn clear(
    State(store): State<Store>,
    Path((id, task)): Path<(String, String)>,
    clear: Result<Query<Clear>, QueryRejection>,
) -> Result<Json<RunView>, Problem> {
    let Query(clear) = clear.map_err(|error| Problem::bad_request(error.body_text()))?;
    let id = read_id(&id)?;
    let again = Again::Task { task, downstream: clear.downstream.unwrap_or(true) };
    store.reopen(id, again, Timestamp::now()).await?;
    Ok(Json(store.run(id).await?.into()))
}

fn read_id(text: &str) -> Result<RunId, Problem> {
    text.parse().map_err(|_| Problem::bad_request(format!("`{text}` is no run; a run is named by a UUID")))
}
