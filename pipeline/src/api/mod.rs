//! The REST API: DAGs, runs and metrics over HTTP, described by an OpenAPI document at `/api/v1/openapi.json`.
//!
//! Errors are problem details (RFC 9457). It asks the store as everybody does and keeps nothing.

mod backfills;
mod body;
mod dags;
mod logs;
mod metrics;
mod problem;
mod runs;
mod views;

use axum::Router;
use axum::routing::{get, post};
use utoipa::OpenApi;

pub use problem::Problem;

use crate::state::Store;

/// The document that describes the API.
#[derive(OpenApi)]
#[openapi(
    info(title = "Safari", description = "Runs of DAGs: list, start, look at, cancel, let go on; backfills."),
    paths(
        dags::list,
        dags::start,
        dags::pause,
        dags::resume,
        runs::list,
        runs::show,
        runs::cancel,
        runs::resume,
        runs::clear,
        logs::read,
        backfills::list,
        backfills::start,
        backfills::cancel,
        metrics::health,
        metrics::metrics
    )
)]
struct Document;

/// All routes, on a store. With [`crate::Logs`] as an extension it gives the logs of attempts, too.
pub fn router(store: Store) -> Router {
    Router::new()
        .route("/healthz", get(metrics::health))
        .route("/metrics", get(metrics::metrics))
        .route("/api/v1/openapi.json", get(|| async { axum::Json(Document::openapi()) }))
        .route("/api/v1/dags", get(dags::list))
        .route("/api/v1/dags/{name}/runs", post(dags::start))
        .route("/api/v1/dags/{name}/pause", post(dags::pause))
        .route("/api/v1/dags/{name}/resume", post(dags::resume))
        .route("/api/v1/runs", get(runs::list))
        .route("/api/v1/runs/{id}", get(runs::show))
        .route("/api/v1/runs/{id}/cancel", post(runs::cancel))
        .route("/api/v1/runs/{id}/resume", post(runs::resume))
        .route("/api/v1/runs/{id}/tasks/{task}/clear", post(runs::clear))
        .route("/api/v1/runs/{id}/tasks/{task}/logs", get(logs::read))
        .route("/api/v1/backfills", get(backfills::list))
        .route("/api/v1/dags/{name}/backfills", post(backfills::start))
        .route("/api/v1/backfills/{id}/cancel", post(backfills::cancel))
        .fallback(problem::no_route)
        .method_not_allowed_fallback(problem::no_method)
        .with_state(store)
}
