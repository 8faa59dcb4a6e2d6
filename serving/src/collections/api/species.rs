//! Taxa.

use axum::Json;
use detector::taxonomy::Rank;
use serde::Deserialize;
use utoipa::IntoParams;

use super::extract::{Asking, Limit, Path, Query, read_token, token};
use super::problems::Problems;
use super::views::{SpeciesPage, SpeciesView};
use crate::collections::ids::shown;
use crate::collections::species::{Species, Status};
use crate::{Error, Result};

/// Which taxa to list.
#[derive(Debug, Deserialize, IntoParams)]
#[into_params(parameter_in = Query)]
#[serde(deny_unknown_fields)]
pub(super) struct Wanted {
    /// Only taxa with this text in a name, in small letters or capitals.
    text: Option<String>,
    /// Only taxa of this rank: class, order, family, genus, species.
    #[param(value_type = Option<String>)]
    rank: Option<Rank>,
    /// Only species of this category.
    #[param(inline)]
    status: Option<Status>,
    /// Only those that a collection counts, or only the others.
    collectable: Option<bool>,
    /// How many; 100 when not given.
    #[param(value_type = Option<u32>, minimum = 1, maximum = 1000)]
    limit: Option<Limit>,
    /// `next_page_token` of the page before.
    page_token: Option<String>,
}

/// Lists taxa by id.
#[utoipa::path(
    get, path = "/v1/species", operation_id = "listSpecies", params(Wanted), tag = "collections",
    responses((status = 200, description = "A page of taxa.", body = SpeciesPage), Problems)
)]
pub(super) async fn list(asking: Asking, Query(wanted): Query<Wanted>) -> Result<Json<SpeciesPage>> {
    let after = wanted.page_token.as_deref().map(read_token).transpose()?;
    let limit = Limit::of(wanted.limit);
    let text = wanted.text.as_deref().map(str::to_lowercase);
    let statuses = &asking.collections.statuses;
    let fits = |species: &&Species| {
        let named = |text: &String| {
            species.common_name.to_lowercase().contains(text) || species.scientific_name.to_lowercase().contains(text)
        };
        text.as_ref().is_none_or(named)
            && wanted.rank.is_none_or(|rank| rank == species.rank)
            && wanted.collectable.is_none_or(|collectable| collectable == species.is_leaf)
            && wanted.status.is_none_or(|status| statuses.of(species).is_some_and(|listed| listed.status == status))
    };
    let mut found = asking.catalogue.after(after.as_deref()).filter(fits);
    let species: Vec<SpeciesView> =
        found.by_ref().take(limit).map(|species| SpeciesView::of(statuses, species)).collect();
    let more = found.next().is_some();
    let next_page_token = species.last().filter(|_| more).map(|last| token(&last.id));
    Ok(Json(SpeciesPage { species, next_page_token }))
}

/// Shows a taxon.
#[utoipa::path(
    get, path = "/v1/species/{id}", operation_id = "showSpecies", tag = "collections",
    params(("id" = String, Path, description = "the taxon, such as panthera-tigris")),
    responses((status = 200, description = "The taxon.", body = SpeciesView), Problems)
)]
pub(super) async fn show(asking: Asking, Path(id): Path<String>) -> Result<Json<SpeciesView>> {
    let missing = || Error::NotFound(format!("there is no species `{}`: /v1/species lists them", shown(&id)));
    let species = asking.catalogue.get(&id).ok_or_else(missing)?;
    Ok(Json(SpeciesView::of(&asking.collections.statuses, species)))
}
