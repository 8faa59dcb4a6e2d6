//! The routes of collections below `/v1`.

mod collection;
mod export;
mod extract;
mod guard;
mod leaderboard;
mod own;
mod problems;
mod sent;
mod sightings;
mod species;
mod views;

use axum::Router;
use axum::middleware::from_fn;
use axum::routing::{get, post};
use utoipa::OpenApi;

pub(crate) use extract::Asking;

use crate::app::App;

/// The document that describes the routes.
#[derive(OpenApi)]
#[openapi(paths(
    species::list,
    species::show,
    sightings::record,
    sightings::sync,
    sightings::list,
    sightings::show,
    sightings::change,
    sightings::delete,
    sightings::picture,
    collection::show,
    leaderboard::show,
    own::profile,
    own::set_profile,
    export::export,
    own::delete
))]
pub(crate) struct Document;

/// All routes.
pub(crate) fn router() -> Router<App> {
    Router::new()
        .route("/v1/species", get(species::list))
        .route("/v1/species/{id}", get(species::show))
        .route("/v1/sightings", get(sightings::list).post(sightings::record))
        .route("/v1/sightings/sync", post(sightings::sync))
        .route("/v1/sightings/{id}", get(sightings::show).patch(sightings::change).delete(sightings::delete))
        .route("/v1/sightings/{id}/picture", get(sightings::picture))
        .route("/v1/collection", get(collection::show).delete(own::delete))
        .route("/v1/collection/profile", get(own::profile).put(own::set_profile))
        .route("/v1/collection/export", get(export::export))
        .route("/v1/leaderboard", get(leaderboard::show))
        .layer(from_fn(guard::check))
}
