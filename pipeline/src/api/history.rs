//! Removing what ended long ago, and forgetting outputs that later tasks would take.

use std::time::Duration;

use axum::extract::State;
use axum::http::StatusCode;
use axum::{Extension, Json};
use serde::Deserialize;
use utoipa::IntoParams;

use super::extract::{Limit, Query};
use super::problem::{Problem, Problems};
use super::views::{Forgotten, RemovableView, RemovedView};
use crate::clock::Timestamp;
use crate::history::History;
use crate::state::Store;

/// Clocks of clients may be so much ahead.
const AHEAD: Duration = Duration::from_secs(60);

/// Which runs would be removed.
#[derive(Debug, Deserialize, IntoParams)]
#[into_params(parameter_in = Query)]
#[serde(deny_unknown_fields)]
pub(super) struct Old {
    /// Runs that ended before this moment.
    #[param(value_type = String, format = "date-time")]
    ended_before: Timestamp,
}

/// Which runs are removed.
#[derive(Debug, Deserialize, IntoParams)]
#[into_params(parameter_in = Query)]
#[serde(deny_unknown_fields)]
pub(super) struct Clean {
    /// Runs that ended before this moment.
    #[param(value_type = String, format = "date-time")]
    ended_before: Timestamp,
    /// At most so many runs in one call; 100 when not given.
    #[param(value_type = Option<u32>, minimum = 1, maximum = 1000)]
    limit: Option<Limit>,
}

/// Which outputs are forgotten.
#[derive(Debug, Deserialize, IntoParams)]
#[into_params(parameter_in = Query)]
#[serde(deny_unknown_fields)]
pub(super) struct Outputs {
    /// Only those that runs of this DAG have made; all when not given.
    #[param(pattern = r"^[^\u0000]*$")]
    dag: Option<String>,
}

/// Says how much `cleanHistory` would remove, called until nothing is left.
#[utoipa::path(
    get, path = "/api/v1/history/removable", operation_id = "previewHistory", params(Old),
    responses((status = 200, description = "What would be removed.", body = RemovableView), Problems)
)]
pub(super) async fn removable(
    State(store): State<Store>,
    Query(old): Query<Old>,
) -> Result<Json<RemovableView>, Problem> {
    refuse_future(old.ended_before)?;
    Ok(Json(store.removable(old.ended_before).await?.into()))
}

/// Removes runs that ended before a moment with all that belongs to them: tasks, attempts, alerts, logs, work folders.
/// Runs that something still needs stay, and so do rows of tables. It may be called again at any time.
#[utoipa::path(
    post, path = "/api/v1/history/clean", operation_id = "cleanHistory", params(Clean),
    responses((status = 200, description = "What was removed.", body = RemovedView), Problems)
)]
pub(super) async fn clean(
    history: Option<Extension<History>>,
    Query(clean): Query<Clean>,
) -> Result<Json<RemovedView>, Problem> {
    refuse_future(clean.ended_before)?;
    let Some(Extension(history)) = history else {
        return Err(Problem::not_found("this server knows neither logs nor work folders, and removes no runs"));
    };
    let (removed, more) = history.clean_some(clean.ended_before, Limit::of(clean.limit)).await?;
    Ok(Json(RemovedView::new(removed, more)))
}

/// Forgets outputs of tasks with `cache`, so that these are done again the next time.
#[utoipa::path(
    post, path = "/api/v1/cache/clear", operation_id = "clearCache", params(Outputs),
    responses((status = 200, description = "How many there were.", body = Forgotten), Problems)
)]
pub(super) async fn clear_cache(
    State(store): State<Store>,
    Query(outputs): Query<Outputs>,
) -> Result<Json<Forgotten>, Problem> {
    Ok(Json(Forgotten { outputs: store.forget_cached_outputs(outputs.dag.as_deref()).await? }))
}

/// A slip in the year would remove all runs.
fn refuse_future(ended_before: Timestamp) -> Result<(), Problem> {
    if ended_before <= Timestamp::now().plus(AHEAD) {
        return Ok(());
    }
    let detail = format!("`ended_before` is {ended_before}, which is yet to come; give a moment of the past");
    Err(Problem::new("nothing has ended then", StatusCode::UNPROCESSABLE_ENTITY, detail))
}
