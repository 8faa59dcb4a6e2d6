//! Runs: list, show, cancel, let go on; instances of their tasks.

use axum::Json;
use axum::extract::State;
use serde::Deserialize;
use utoipa::IntoParams;

use super::extract::{Limit, Path, Query, id, next};
use super::problem::{Problem, Problems};
use super::views::{InstanceView, Instances, RunView, RunWithTasks, Runs, TaskView};
use crate::clock::Timestamp;
use crate::state::{Again, RunCause, RunFilter, RunState, Store};

/// Which runs to list.
#[derive(Debug, Deserialize, IntoParams)]
#[into_params(parameter_in = Query)]
#[serde(deny_unknown_fields)]
pub(super) struct Page {
    /// How many; 100 when not given.
    #[param(value_type = Option<u32>, minimum = 1, maximum = 1000)]
    limit: Option<Limit>,
    /// Only runs made before this one: the `next` of the page before.
    #[param(value_type = Option<String>, format = "uuid")]
    before: Option<String>,
    /// Only runs of this DAG.
    #[param(pattern = r"^[^\u0000]*$")]
    dag: Option<String>,
    /// Only runs in this state.
    state: Option<RunState>,
    /// Only runs that this has started.
    cause: Option<RunCause>,
}

/// Lists runs, the newest first.
#[utoipa::path(
    get, path = "/api/v1/runs", operation_id = "listRuns", params(Page),
    responses((status = 200, description = "A page of runs.", body = Runs), Problems)
)]
pub(super) async fn list(State(store): State<Store>, Query(page): Query<Page>) -> Result<Json<Runs>, Problem> {
    let limit = Limit::of(page.limit);
    let before = page.before.map(|before| id(&before, "run")).transpose()?;
    let filter = RunFilter { dag: page.dag, state: page.state, cause: page.cause };
    let runs = store.runs_before(limit, before, &filter).await?;
    let next = next(&runs, limit, |run| run.id);
    Ok(Json(Runs { runs: runs.into_iter().map(RunView::from).collect(), next }))
}

/// Shows a run and its tasks.
#[utoipa::path(
    get, path = "/api/v1/runs/{id}", operation_id = "showRun",
    params(("id" = String, Path, format = "uuid", description = "the run")),
    responses((status = 200, description = "The run.", body = RunWithTasks), Problems)
)]
pub(super) async fn show(State(store): State<Store>, Path(run): Path<String>) -> Result<Json<RunWithTasks>, Problem> {
    let run = id(&run, "run")?;
    let tasks = store.tasks(run).await?.into_iter().map(TaskView::from).collect();
    Ok(Json(RunWithTasks { run: store.run(run).await?.into(), tasks }))
}

/// Stops a run for good; gives it as it stands now. One that has ended stays as it is.
#[utoipa::path(
    post, path = "/api/v1/runs/{id}/cancel", operation_id = "cancelRun",
    params(("id" = String, Path, format = "uuid", description = "the run")),
    responses((status = 200, description = "The run.", body = RunView), Problems)
)]
pub(super) async fn cancel(State(store): State<Store>, Path(run): Path<String>) -> Result<Json<RunView>, Problem> {
    let run = id(&run, "run")?;
    store.cancel(run, Timestamp::now()).await?;
    Ok(Json(store.run(run).await?.into()))
}

/// Lets a run that failed or was cancelled go on with the tasks that did not succeed and all that comes after them.
#[utoipa::path(
    post, path = "/api/v1/runs/{id}/resume", operation_id = "resumeRun",
    params(("id" = String, Path, format = "uuid", description = "the run")),
    responses((status = 200, description = "The run.", body = RunView), Problems)
)]
pub(super) async fn resume(State(store): State<Store>, Path(run): Path<String>) -> Result<Json<RunView>, Problem> {
    let run = id(&run, "run")?;
    store.reopen(run, Again::Failed, Timestamp::now()).await?;
    Ok(Json(store.run(run).await?.into()))
}

/// Which instances of a task to list.
#[derive(Debug, Deserialize, IntoParams)]
#[into_params(parameter_in = Query)]
#[serde(deny_unknown_fields)]
pub(super) struct InstancesPage {
    /// How many; 100 when not given.
    #[param(value_type = Option<u32>, minimum = 1, maximum = 1000)]
    limit: Option<Limit>,
    /// Only items behind this one: the `next` of the page before.
    #[param(minimum = 0, maximum = 4_294_967_295_u32)]
    after: Option<u32>,
}

/// Lists the instances of a task with their attempts: the items of a mapped task, or the one of another.
#[utoipa::path(
    get, path = "/api/v1/runs/{id}/tasks/{task}", operation_id = "listInstances",
    params(
        ("id" = String, Path, format = "uuid", description = "the run"),
        ("task" = String, Path, pattern = r"^[^\u0000]*$", description = "the task"), InstancesPage
    ),
    responses((status = 200, description = "A page of instances.", body = Instances), Problems)
)]
pub(super) async fn instances(
    State(store): State<Store>,
    Path((run, task)): Path<(String, String)>,
    Query(page): Query<InstancesPage>,
) -> Result<Json<Instances>, Problem> {
    let limit = Limit::of(page.limit);
    let instances = store.instances_of(id(&run, "run")?, &task, limit, page.after).await?;
    let next = next(&instances, limit, |(instance, _)| instance.map_index).flatten();
    Ok(Json(Instances { instances: instances.into_iter().map(InstanceView::from).collect(), next }))
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
    post, path = "/api/v1/runs/{id}/tasks/{task}/clear", operation_id = "clearTask",
    params(
        ("id" = String, Path, format = "uuid", description = "the run"),
        ("task" = String, Path, pattern = r"^[^\u0000]*$", description = "the task"), Clear
    ),
    responses((status = 200, description = "The run.", body = RunView), Problems)
)]
pub(super) async fn clear(
    State(store): State<Store>,
    Path((run, task)): Path<(String, String)>,
    Query(clear): Query<Clear>,
) -> Result<Json<RunView>, Problem> {
    let run = id(&run, "run")?;
    let again = Again::Task { task, downstream: clear.downstream.unwrap_or(true) };
    store.reopen(run, again, Timestamp::now()).await?;
    Ok(Json(store.run(run).await?.into()))
}
