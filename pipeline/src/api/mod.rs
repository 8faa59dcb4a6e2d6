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

use axum::extract::FromRef;
use axum::middleware;
use axum::{Json, Router};
use platform::identity::{Door, Guard, Guarded, Permission, Route};
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

/// All routes, on a store, open to whoever reaches them; streams of events and of lines end when `ending` becomes true.
pub fn router_until(store: Store, ending: watch::Receiver<bool>) -> Router {
    router_behind(store, ending, &Guard::Open)
}

/// The same behind a guard, with the routes of identity where it is on.
pub fn router_behind(store: Store, ending: watch::Receiver<bool>, guard: &Guard) -> Router {
    guarded(guard)
        .into_router(guard, problem::refuse)
        .fallback(problem::no_route)
        .method_not_allowed_fallback(problem::no_method)
        .layer(middleware::from_fn(cross_site::refuse))
        .with_state(Api { feed: ChangeFeed::new(store.clone()), store, ending })
}

/// All routes and what each needs.
pub fn routes(guard: &Guard) -> Vec<Route> {
    guarded(guard).routes()
}

fn guarded(guard: &Guard) -> Guarded<Api> {
    Guarded::new()
        .get("/healthz", Door::Public, metrics::health)
        .get("/metrics", Permission::MetricsRead, metrics::metrics)
        .get("/api/v1/openapi.json", Door::Public, document)
        .get("/api/v1/dags", Permission::DagsRead, dags::list)
        .get("/api/v1/dags/{name}", Permission::DagsRead, dags::show)
        .post("/api/v1/dags/{name}/runs", Permission::RunsWrite, dags::start)
        .post("/api/v1/dags/{name}/pause", Permission::DagsWrite, dags::pause)
        .post("/api/v1/dags/{name}/resume", Permission::DagsWrite, dags::resume)
        .get("/api/v1/dags/{name}/versions", Permission::DagsRead, versions::list)
        .get("/api/v1/dags/{name}/versions/{version}", Permission::DagsRead, versions::show)
        .post("/api/v1/dags/{name}/backfills", Permission::RunsWrite, backfills::start)
        .get("/api/v1/runs", Permission::RunsRead, runs::list)
        .get("/api/v1/runs/{id}", Permission::RunsRead, runs::show)
        .post("/api/v1/runs/{id}/cancel", Permission::RunsWrite, runs::cancel)
        .post("/api/v1/runs/{id}/resume", Permission::RunsWrite, runs::resume)
        .get("/api/v1/runs/{id}/logs", Permission::LogsRead, logs::read_run)
        .get("/api/v1/runs/{id}/tasks/{task}", Permission::RunsRead, runs::instances)
        .post("/api/v1/runs/{id}/tasks/{task}/clear", Permission::RunsWrite, runs::clear)
        .get("/api/v1/runs/{id}/tasks/{task}/logs", Permission::LogsRead, logs::read)
        .get("/api/v1/backfills", Permission::RunsRead, backfills::list)
        .get("/api/v1/backfills/{id}", Permission::RunsRead, backfills::show)
        .get("/api/v1/streams", Permission::RunsRead, streams::list)
        .post("/api/v1/webhooks/{name}", Permission::StreamsWrite, streams::receive)
        .post("/api/v1/backfills/{id}/cancel", Permission::RunsWrite, backfills::cancel)
        .get("/api/v1/asset-updates", Permission::RunsRead, assets::list)
        .post("/api/v1/asset-updates", Permission::RunsWrite, assets::update)
        .get("/api/v1/history/removable", Permission::RunsRead, history::removable)
        .post("/api/v1/history/clean", Permission::HistoryWrite, history::clean)
        .post("/api/v1/cache/clear", Permission::RunsWrite, history::clear_cache)
        .get("/api/v1/events", Permission::RunsRead, events::follow)
        .merge(platform::identity::routes(guard))
}

async fn document() -> Json<utoipa::openapi::OpenApi> {
    Json(Document::openapi())
}
