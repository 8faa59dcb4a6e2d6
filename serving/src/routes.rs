//! All routes. What each needs of who asks is in [`crate::doors`].

use std::sync::Arc;

use axum::Router;
use axum::extract::DefaultBodyLimit;
use axum::middleware::{from_fn_with_state, map_response};
use axum::response::IntoResponse;
use axum::routing::{get, post, put};
use platform::identity::{self, Guard, Refusal};

use crate::app::App;
use crate::open_inference::Served;
use crate::v2::{Backend, Limits, Models, grpc_router, rest_router};
use crate::{collections, detections, doors, health, limits, models, openapi, page, problem, stream};

/// Everything that a server answers.
pub fn router(app: App, models: &Arc<Models>, guard: &Guard) -> Router {
    let work = detecting().merge(operating()).merge(collections::api::router());
    let work = work.layer(DefaultBodyLimit::disable()).layer(from_fn_with_state(app.clone(), limits::work));
    Router::new()
        .merge(work)
        .merge(streaming())
        .merge(public())
        .fallback(problem::no_route)
        .method_not_allowed_fallback(problem::no_method)
        .with_state(app.clone())
        .merge(open_inference(&app, models))
        // Before anything of a body is read.
        .layer(from_fn_with_state(guard.clone(), doors::pass))
        .merge(identity::routes(guard).into_router(guard, Refusal::into_response))
        .layer(map_response(page::guarded))
        .layer(from_fn_with_state(app, limits::access))
}

/// For those who have pictures.
fn detecting() -> Router<App> {
    Router::new()
        .route("/v1/detections", post(detections::api::detect))
        .route("/v1/detection-jobs", post(detections::jobs::start))
        .route("/v1/detection-jobs/{id}", get(detections::jobs::follow))
}

/// The same for a stream of pictures; it is no request that ends.
fn streaming() -> Router<App> {
    Router::new().route("/v1/stream", get(stream::open))
}

/// For those who say which model answers.
fn operating() -> Router<App> {
    Router::new()
        .route("/v1/model", get(models::api::show))
        .route("/v1/model/refresh", post(models::api::look_again))
        .route("/v1/model/rollback", post(models::api::roll_back))
        .route("/v1/model/candidate", put(models::api::set_candidate).delete(models::api::remove_candidate))
        .route("/v1/model/promote", post(models::api::promote))
}

/// For everybody: whether the server lives, its counters, its document, its page.
fn public() -> Router<App> {
    Router::new()
        .route("/healthz", get(health::ready))
        .route("/healthz/live", get(health::live))
        .route("/healthz/ready", get(health::ready))
        .route("/healthz/startup", get(health::startup))
        .route("/metrics", get(health::metrics))
        .route("/openapi.json", get(|| async { axum::Json(openapi::document()) }))
        .route("/", get(page::index))
        .route("/try.js", get(page::script))
}

/// For those who have pictures or tensors, in the Open Inference Protocol.
fn open_inference(app: &App, models: &Arc<Models>) -> Router {
    let limits = app.inner.options.limits;
    let of_protocol = Limits { max_body: limits.body_bytes, max_time: limits.request_timeout, ..Limits::default() };
    let backend: Arc<dyn Backend> = Arc::new(Served::new(app.clone(), Arc::clone(models)));
    let rest = rest_router(Arc::clone(&backend), of_protocol);
    let rest = rest.layer(DefaultBodyLimit::disable()).layer(from_fn_with_state(app.clone(), limits::rest));
    let grpc = grpc_router(backend, of_protocol).layer(from_fn_with_state(app.clone(), limits::grpc));
    rest.merge(grpc)
}
