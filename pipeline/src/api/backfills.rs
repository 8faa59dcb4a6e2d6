//! Backfills: make, list, show, cancel.

use axum::Json;
use axum::extract::State;
use axum::http::StatusCode;
use serde::Deserialize;
use utoipa::IntoParams;

use super::extract::{Body, Limit, Path, Query, id, next};
use super::problem::{Problem, Problems};
use super::views::{BackfillView, Backfills, NewRange};
use crate::clock::Timestamp;
use crate::schedule::DataInterval;
use crate::state::{BackfillFilter, BackfillState, NewBackfill, Store};

/// Runs of a backfill at once when nobody says how many, and at most.
const USUAL_ACTIVE: u32 = 2;
const MOST_ACTIVE: u32 = 1000;

/// Which backfills to list.
#[derive(Debug, Deserialize, IntoParams)]
#[into_params(parameter_in = Query)]
#[serde(deny_unknown_fields)]
pub(super) struct Page {
    /// How many; 100 when not given.
    #[param(value_type = Option<u32>, minimum = 1, maximum = 1000)]
    limit: Option<Limit>,
    /// Only backfills made before this one: the `next` of the page before.
    #[param(value_type = Option<String>, format = "uuid")]
    before: Option<String>,
    /// Only backfills of this DAG.
    #[param(pattern = r"^[^\u0000]*$")]
    dag: Option<String>,
    /// Only backfills in this state.
    state: Option<BackfillState>,
}

/// Lists backfills, the newest first.
#[utoipa::path(
    get, path = "/api/v1/backfills", operation_id = "listBackfills", params(Page),
    responses((status = 200, description = "A page of backfills.", body = Backfills), Problems)
)]
pub(super) async fn list(State(store): State<Store>, Query(page): Query<Page>) -> Result<Json<Backfills>, Problem> {
    let limit = Limit::of(page.limit);
    let before = page.before.map(|before| id(&before, "backfill")).transpose()?;
    let filter = BackfillFilter { dag: page.dag, state: page.state };
    let backfills = store.backfills(limit, before, &filter).await?;
    let next = next(&backfills, limit, |backfill| backfill.id);
    Ok(Json(Backfills { backfills: backfills.into_iter().map(BackfillView::from).collect(), next }))
}

/// Shows a backfill.
#[utoipa::path(
    get, path = "/api/v1/backfills/{id}", operation_id = "showBackfill",
    params(("id" = String, Path, format = "uuid", description = "the backfill")),
    responses((status = 200, description = "The backfill.", body = BackfillView), Problems)
)]
pub(super) async fn show(
    State(store): State<Store>,
    Path(backfill): Path<String>,
) -> Result<Json<BackfillView>, Problem> {
    Ok(Json(store.backfill_record(id(&backfill, "backfill")?).await?.into()))
}

/// Makes a backfill: a scheduler makes its runs.
#[utoipa::path(
    post, path = "/api/v1/dags/{name}/backfills", operation_id = "startBackfill",
    params(("name" = String, Path, pattern = r"^[^\u0000]*$", description = "name of the DAG")), request_body = NewRange,
    responses((status = 201, description = "The backfill.", body = BackfillView), Problems)
)]
pub(super) async fn start(
    State(store): State<Store>,
    Path(name): Path<String>,
    Body(new): Body<NewRange>,
) -> Result<(StatusCode, Json<BackfillView>), Problem> {
    let max_active = new.max_active.unwrap_or(USUAL_ACTIVE);
    if !(1..=MOST_ACTIVE).contains(&max_active) {
        return Err(Problem::bad_request(format!("`max_active` must be from 1 to {MOST_ACTIVE}")));
    }
    if new.to <= new.from {
        let detail = "`to` is not after `from`";
        return Err(Problem::new("nothing to do", StatusCode::UNPROCESSABLE_ENTITY, detail));
    }
    let params = store.current_dag(&name).await?.params_from_json(new.params)?;
    let range = DataInterval { start: new.from.time(), end: new.to.time() };
    let new = NewBackfill { range, params, rerun: new.rerun, max_active };
    let made = store.backfill(&name, &new, Timestamp::now()).await?;
    Ok((StatusCode::CREATED, Json(store.backfill_record(made).await?.into())))
}

/// Stops a backfill for good and cancels its runs that have not ended; gives it as it stands now.
#[utoipa::path(
    post, path = "/api/v1/backfills/{id}/cancel", operation_id = "cancelBackfill",
    params(("id" = String, Path, format = "uuid", description = "the backfill")),
    responses((status = 200, description = "The backfill.", body = BackfillView), Problems)
)]
pub(super) async fn cancel(
    State(store): State<Store>,
    Path(backfill): Path<String>,
) -> Result<Json<BackfillView>, Problem> {
    let backfill = id(&backfill, "backfill")?;
    Ok(Json(store.cancel_backfill(backfill, Timestamp::now()).await?.into()))
}
