//! Backfills: make, list, cancel.

use axum::Json;
use axum::body::Bytes;
use axum::extract::{Path, State};
use axum::http::StatusCode;
use chrono::{DateTime, Utc};
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};
use utoipa::ToSchema;

use super::body::read;
use super::problem::Problem;
use super::views::BackfillView;
use crate::clock::Timestamp;
use crate::ids::BackfillId;
use crate::schedule::DataInterval;
use crate::state::{NewBackfill, Rerun, Store};

/// Backfills on one page.
const MOST: u32 = 1000;

/// The newest backfills, newest first.
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct Backfills {
    backfills: Vec<BackfillView>,
}

/// A backfill to be made.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct NewRange {
    /// Data intervals that begin at or after this moment.
    #[schema(value_type = String, format = DateTime)]
    from: DateTime<Utc>,
    /// Data intervals that end at or before this moment.
    #[schema(value_type = String, format = DateTime)]
    to: DateTime<Utc>,
    /// Which intervals get a run: missing, failed or all; missing when not given.
    rerun: Option<String>,
    /// Runs that are queued or running at once, at least 1; 2 when not given.
    #[schema(minimum = 1)]
    max_active: Option<u32>,
    /// Parameters by name; what is left out has its default.
    #[serde(default)]
    params: Map<String, Value>,
}

/// Lists the newest thousand backfills.
#[utoipa::path(
    get, path = "/api/v1/backfills", responses((status = 200, body = Backfills), (status = "default", body = Problem))
)]
pub(super) async fn list(State(store): State<Store>) -> Result<Json<Backfills>, Problem> {
    let backfills = store.backfills(MOST).await?.into_iter().map(BackfillView::from).collect();
    Ok(Json(Backfills { backfills }))
}

/// Makes a backfill: a scheduler makes its runs.
#[utoipa::path(
    post, path = "/api/v1/dags/{name}/backfills", params(("name" = String, Path, description = "name of the DAG")),
    request_body = NewRange, responses((status = 201, body = BackfillView), (status = "default", body = Problem))
)]
pub(super) async fn start(
    State(store): State<Store>,
    Path(name): Path<String>,
    body: Bytes,
) -> Result<(StatusCode, Json<BackfillView>), Problem> {
    let new: NewRange = read(&body)?;
    if new.to <= new.from {
        return Err(Problem::bad_request("`to` is not after `from`"));
    }
    let rerun = new.rerun.as_deref().unwrap_or(Rerun::Missing.as_str());
    let rerun = Rerun::ALL.into_iter().find(|(_, name)| *name == rerun).map(|(value, _)| value);
    let rerun = rerun.ok_or_else(|| Problem::bad_request("`rerun` must be missing, failed or all"))?;
    let params = store.current_dag(&name).await?.params_from_json(new.params)?;
    let range = DataInterval { start: new.from, end: new.to };
    let new = NewBackfill { range, params, rerun, max_active: new.max_active.unwrap_or(2).max(1) };
    let id = store.backfill(&name, &new, Timestamp::now()).await?;
    Ok((StatusCode::CREATED, Json(store.backfill_record(id).await?.into())))
}

/// Stops a backfill for good and cancels its runs that have not ended; gives it as it stands now.
#[utoipa::path(
    post, path = "/api/v1/backfills/{id}/cancel", params(("id" = String, Path, description = "the backfill")),
    responses((status = 200, body = BackfillView), (status = "default", body = Problem))
)]
pub(super) async fn cancel(State(store): State<Store>, Path(id): Path<String>) -> Result<Json<BackfillView>, Problem> {
    let id: BackfillId = id
        .parse()
        .map_err(|_| Problem::bad_request(format!("`{id}` is no backfill; a backfill is named by a UUID")))?;
    Ok(Json(store.cancel_backfill(id, Timestamp::now()).await?.into()))
}
