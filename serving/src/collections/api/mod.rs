//! The routes of collections below `/v1`. Errors are problem details (RFC 9457).

mod collection;
mod extract;
mod guard;
mod leaderboard;
mod me;
mod problem;
mod sent;
mod sightings;
mod species;
mod views;

use axum::extract::DefaultBodyLimit;
use axum::routing::{get, post};
use axum::{Router, middleware};
use utoipa::OpenApi;

pub use problem::Problem;
pub use views::*;

use super::Collections;

/// Bytes of a body that may hold photographs.
pub const PICTURE_BODY_BYTES: usize = 32 * 1024 * 1024;
/// Bytes of any other body.
pub const BODY_BYTES: usize = 64 * 1024;

/// The document that describes the routes.
#[derive(OpenApi)]
#[openapi(
    info(title = "Safari", description = "Collections of species: what people have seen."),
    paths(
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
        me::profile,
        me::set_profile,
        me::export,
        me::delete
    ),
    components(schemas(Problem))
)]
struct Document;

/// The document that describes the routes.
pub fn openapi() -> utoipa::openapi::OpenApi {
    Document::openapi()
}

/// All routes. Who asks is read from the extension [`super::person::Person`]; without one it is the local person.
pub fn router(collections: Collections) -> Router {
    let with_pictures = Router::new()
        .route("/v1/sightings", get(sightings::list).post(sightings::record))
        .route("/v1/sightings/sync", post(sightings::sync))
        .layer(DefaultBodyLimit::max(PICTURE_BODY_BYTES));
    Router::new()
        .route("/v1/species", get(species::list))
        .route("/v1/species/{id}", get(species::show))
        .route("/v1/sightings/{id}", get(sightings::show).patch(sightings::change).delete(sightings::delete))
        .route("/v1/sightings/{id}/picture", get(sightings::picture))
        .route("/v1/collection", get(collection::show))
        .route("/v1/leaderboard", get(leaderboard::show))
        .route("/v1/me", axum::routing::delete(me::delete))
        .route("/v1/me/profile", get(me::profile).put(me::set_profile))
        .route("/v1/me/export", get(me::export))
        .layer(DefaultBodyLimit::max(BODY_BYTES))
        .merge(with_pictures)
        .layer(middleware::from_fn(guard::check))
        .with_state(collections)
}
