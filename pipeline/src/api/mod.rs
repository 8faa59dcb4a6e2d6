//! The REST API: DAGs, runs, logs, backfills, assets, history and metrics over HTTP, described by an OpenAPI document at
//! `/api/v1/openapi.json`, and changes of runs as a stream of events.
//!
//! Errors are problem details (RFC 9457). It asks the store as everybody does and keeps nothing.

mod assets;
mod backfills;
mod cross_site;
mod dags;
mod events;
mod extract;
mod history;
mod logs;
mod metrics;
mod problem;
mod runs;
mod streams;
mod versions;
mod views;

use axum::Router;
use axum::extract::FromRef;
use axum::middleware;
use axum::routing::{get, post};
use tokio::sync::watch;
use utoipa::OpenApi;

pub use events::{KEEP_ALIVE, LAST_EVENT_ID, RUN_EVENT};
pub use problem::{PROBLEM_TYPE, Problem};
pub use views::*;

use crate::changes::ChangeFeed;
use crate::state::Store;

/// The document that describes the API.
#[derive(OpenApi)]
#[openapi(
    info(
        title = "Safari",
        description = "Runs of DAGs: list, start, look at, follow, cancel, let go on; logs; versions of DAGs; backfills; assets; \
            continuous DAGs; history."
    ),
    paths(
        dags::list,
        dags::show,
        dags::start,
        dags::pause,
        dags::resume,
        versions::list,
        versions::show,
        runs::list,
        runs::show,
        runs::cancel,
        runs::resume,
        runs::instances,
        runs::clear,
        logs::read,
        logs::read_run,
        backfills::list,
        backfills::show,
        backfills::start,
        backfills::cancel,
        streams::list,
        streams::receive,
        assets::list,
        assets::update,
        history::removable,
        history::clean,
        history::clear_cache,
        events::follow,
        metrics::health,
        metrics::metrics
    ),
    components(schemas(Problem, RunChangeView))
)]
struct Document;

/// What handlers are given.
#[derive(Clone, Debug)]
struct Api {
    store: Store,
    feed: ChangeFeed,
    /// Becomes true when the server is to end.
    ending: watch::Receiver<bool>,
}

impl FromRef<Api> for Store {
    fn from_ref(api: &Api) -> Self {
        api.store.clone()
    }
}

/// All routes, on a store. With [`crate::Logs`] as an extension it gives the logs of attempts, too, and with
/// [`crate::History`] as one it removes runs.
pub fn router(store: Store) -> Router {
    let (_, never) = watch::channel(false);
    router_until(store, never)
}

/// All routes, on a store; streams of events and of lines end when `ending` becomes true.
pub fn router_until(store: Store, ending: watch::Receiver<bool>) -> Router {
    Router::new()
        .route("/healthz", get(metrics::health))
        .route("/metrics", get(metrics::metrics))
        .route("/api/v1/openapi.json", get(|| async { axum::Json(Document::openapi()) }))
        .route("/api/v1/dags", get(dags::list))
        .route("/api/v1/dags/{name}", get(dags::show))
        .route("/api/v1/dags/{name}/runs", post(dags::start))
        .route("/api/v1/dags/{name}/pause", post(dags::pause))
        .route("/api/v1/dags/{name}/resume", post(dags::resume))
        .route("/api/v1/dags/{name}/versions", get(versions::list))
        .route("/api/v1/dags/{name}/versions/{version}", get(versions::show))
        .route("/api/v1/dags/{name}/backfills", post(backfills::start))
        .route("/api/v1/runs", get(runs::list))
        .route("/api/v1/runs/{id}", get(runs::show))
        .route("/api/v1/runs/{id}/cancel", post(runs::cancel))
        .route("/api/v1/runs/{id}/resume", post(runs::resume))
        .route("/api/v1/runs/{id}/logs", get(logs::read_run))
        .route("/api/v1/runs/{id}/tasks/{task}", get(runs::instances))
        .route("/api/v1/runs/{id}/tasks/{task}/clear", post(runs::clear))
        .route("/api/v1/runs/{id}/tasks/{task}/logs", get(logs::read))
        .route("/api/v1/backfills", get(backfills::list))
        .route("/api/v1/backfills/{id}", get(backfills::show))
        .route("/api/v1/streams", get(streams::list))
        .route("/api/v1/webhooks/{name}", post(streams::receive))
        .route("/api/v1/backfills/{id}/cancel", post(backfills::cancel))
        .route("/api/v1/asset-updates", get(assets::list).post(assets::update))
        .route("/api/v1/history/removable", get(history::removable))
        .route("/api/v1/history/clean", post(history::clean))
        .route("/api/v1/cache/clear", post(history::clear_cache))
        .route("/api/v1/events", get(events::follow))
        .fallback(problem::no_route)
        .method_not_allowed_fallback(problem::no_method)
        .layer(middleware::from_fn(cross_site::refuse))
        .with_state(Api { feed: ChangeFeed::new(store.clone()), store, ending })
}
