//! Updates of assets: list them, tell of one.

use axum::Json;
use axum::extract::State;
use axum::http::StatusCode;
use serde::Deserialize;
use utoipa::IntoParams;

use super::extract::{Body, Limit, Query, id, next};
use super::problem::{Problem, Problems};
use super::views::{AssetUpdateView, AssetUpdates, NewAssetUpdate};
use crate::clock::Timestamp;
use crate::state::Store;

/// Which updates to list.
#[derive(Debug, Deserialize, IntoParams)]
#[into_params(parameter_in = Query)]
#[serde(deny_unknown_fields)]
pub(super) struct Page {
    /// How many; 100 when not given.
    #[param(value_type = Option<u32>, minimum = 1, maximum = 1000)]
    limit: Option<Limit>,
    /// Only updates before this one: the `next` of the page before.
    #[param(value_type = Option<String>, format = "uuid")]
    before: Option<String>,
    /// Only updates of this asset.
    #[param(pattern = r"^[^\u0000]*$")]
    asset: Option<String>,
}

/// Lists updates of assets, the newest first.
#[utoipa::path(
    get, path = "/api/v1/asset-updates", operation_id = "listAssetUpdates", params(Page),
    responses((status = 200, description = "A page of updates.", body = AssetUpdates), Problems)
)]
pub(super) async fn list(State(store): State<Store>, Query(page): Query<Page>) -> Result<Json<AssetUpdates>, Problem> {
    let limit = Limit::of(page.limit);
    let before = page.before.map(|before| id(&before, "update of an asset")).transpose()?;
    let events = store.asset_events(limit, before, page.asset.as_deref()).await?;
    let next = next(&events, limit, |event| event.id);
    Ok(Json(AssetUpdates { updates: events.into_iter().map(AssetUpdateView::from).collect(), next }))
}

/// Notes that an asset was updated; DAGs that wait for it run.
#[utoipa::path(
    post, path = "/api/v1/asset-updates", operation_id = "updateAsset", request_body = NewAssetUpdate,
    responses((status = 201, description = "The update.", body = AssetUpdateView), Problems)
)]
pub(super) async fn update(
    State(store): State<Store>,
    Body(new): Body<NewAssetUpdate>,
) -> Result<(StatusCode, Json<AssetUpdateView>), Problem> {
    let event = store.update_asset(&new.asset, Timestamp::now()).await?;
    Ok((StatusCode::CREATED, Json(event.into())))
}
