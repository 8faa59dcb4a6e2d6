//! One's own profile, and the end of one's collection.

use axum::Json;
use axum::http::StatusCode;
use serde::Deserialize;
use utoipa::IntoParams;

use super::extract::{Asking, Body, Query};
use super::problems::Problems;
use super::views::{ProfileChange, ProfileView, Visibility};
use crate::collections::store::LONGEST_NAME;
use crate::{Error, Result};

/// Shows what others are shown of oneself.
#[utoipa::path(
    get, path = "/v1/collection/profile", operation_id = "showProfile", tag = "collections",
    responses((status = 200, description = "The profile.", body = ProfileView), Problems)
)]
pub(super) async fn profile(asking: Asking) -> Result<Json<ProfileView>> {
    let profile = asking.collections.store.profile(&asking.person.id).await?;
    Ok(Json(ProfileView::of(&asking.person, profile)))
}

/// Changes the name that others are shown, and whether they are shown anything.
#[utoipa::path(
    put, path = "/v1/collection/profile", operation_id = "setProfile", tag = "collections", request_body = ProfileChange,
    responses((status = 200, description = "The profile as it is now.", body = ProfileView), Problems)
)]
pub(super) async fn set_profile(
    asking: Asking,
    Body { value: change, .. }: Body<ProfileChange>,
) -> Result<Json<ProfileView>> {
    let name = change.name.trim();
    if name.is_empty() || name.chars().count() > LONGEST_NAME || name.chars().any(char::is_control) {
        let reason = format!("`name` must be 1 to {LONGEST_NAME} characters without control characters");
        return Err(Error::Unmet(reason));
    }
    let hidden = change.visibility == Visibility::Hidden;
    let profile = asking.collections.store.set_profile(&asking.person, name, hidden).await?;
    Ok(Json(ProfileView::of(&asking.person, Some(profile))))
}

/// The confirmation of a deletion.
#[derive(Debug, Deserialize, IntoParams)]
#[into_params(parameter_in = Query)]
#[serde(deny_unknown_fields)]
pub(super) struct Confirmation {
    /// Must be `true`.
    confirm: Option<bool>,
}

/// Deletes one's whole collection: profile, sightings, keys, and photographs that nobody else's sighting shows. There is no way
/// back. One who has nothing gets the same answer.
#[utoipa::path(
    delete, path = "/v1/collection", operation_id = "deleteCollection", params(Confirmation), tag = "collections",
    responses((status = 204, description = "Nothing is left."), Problems)
)]
pub(super) async fn delete(asking: Asking, Query(confirmation): Query<Confirmation>) -> Result<StatusCode> {
    if confirmation.confirm != Some(true) {
        let reason = "this deletes your whole collection for ever; say so with `?confirm=true`";
        return Err(Error::Invalid(reason.to_owned()));
    }
    asking.collections.store.delete_everything(&asking.person.id).await?;
    Ok(StatusCode::NO_CONTENT)
}
