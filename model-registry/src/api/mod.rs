//! The REST API that the unmodified `mlflow` client speaks.
//!
//! One file for each group of endpoints, each with a `routes()` of paths below `/api/2.0/mlflow`; the prefix
//! `/ajax-api/2.0/mlflow` answers the same.

mod artifacts;
mod experiments;
mod extract;
mod guard;
mod logged_models;
mod metrics;
mod model_versions;
mod parts;
mod problem;
mod promotions;
mod ranges;
mod registered_models;
mod runs;
mod webhooks;
pub(crate) mod wire;

use std::sync::Arc;

use axum::Router;
use axum::extract::DefaultBodyLimit;
use axum::middleware;
use platform::identity::{Door, Guard, Guarded, Route};

use crate::artifacts::Artifacts;
use crate::limits::BODY_BYTES;
use crate::store::Store;
use crate::webhooks::Webhooks;

pub(crate) use extract::{Json, Query, wrong_type};

/// The version that `/version` gives: that of the MLflow whose API this is.
pub const MLFLOW_VERSION: &str = "3.17.2";

/// What the handlers share.
#[derive(Clone, Debug)]
pub struct App {
    /// The tables.
    pub store: Store,
    /// The files.
    pub artifacts: Arc<Artifacts>,
    /// What tells others of changes.
    pub webhooks: Webhooks,
}

/// All routes, open to whoever reaches them.
pub fn router(app: App) -> Router {
    router_behind(app, &Guard::Open)
}

/// All routes behind a guard, and those of identity where it is on.
pub fn router_behind(app: App, guard: &Guard) -> Router {
    guarded(guard)
        .into_router(guard, problem::refuse)
        .fallback(problem::no_such_route)
        .method_not_allowed_fallback(problem::no_such_method)
        .layer(middleware::from_fn(self::guard::check))
        .layer(DefaultBodyLimit::max(BODY_BYTES))
        .with_state(app)
}

/// All routes and what each needs.
pub fn routes(guard: &Guard) -> Vec<Route> {
    guarded(guard).routes()
}

fn guarded(guard: &Guard) -> Guarded<App> {
    let mlflow = Guarded::new()
        .merge(experiments::routes())
        .merge(runs::routes())
        .merge(metrics::routes())
        .merge(logged_models::routes())
        .merge(registered_models::routes())
        .merge(model_versions::routes())
        .merge(webhooks::routes())
        .merge(artifacts::run_routes());
    let own = Guarded::new().merge(promotions::routes()).merge(webhooks::own_routes());
    let files = artifacts::routes();
    Guarded::new()
        .nest("/api/2.0/mlflow", mlflow.clone())
        .nest("/ajax-api/2.0/mlflow", mlflow)
        .nest("/api/2.0/mlflow-artifacts", files.clone())
        .nest("/ajax-api/2.0/mlflow-artifacts", files)
        .merge(artifacts::page_routes())
        .nest("/api/v1", own)
        .get("/health", Door::Public, async || "OK")
        .get("/version", Door::Public, async || MLFLOW_VERSION)
        .merge(platform::identity::routes(guard))
}
