//! Whether the server lives, has started, and is to be sent requests; and its metrics.

use std::sync::atomic::Ordering;

use axum::Json;
use axum::extract::State;
use axum::http::{StatusCode, header};
use axum::response::{IntoResponse, Response};
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use crate::Result;
use crate::app::App;

/// How the server is.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Health {
    /// `live`, `ready`, `loading` or `draining`.
    pub status: String,
}

/// The process answers.
#[utoipa::path(get, path = "/healthz/live", tag = "health", responses((status = 200, body = Health)))]
pub(crate) async fn live() -> Json<Health> {
    Json(Health { status: "live".to_owned() })
}

/// The model is loaded and warm, and the server is not about to end.
#[utoipa::path(get, path = "/healthz/ready", tag = "health", responses((status = 200, body = Health), (status = 503, body = Health)))]
pub(crate) async fn ready(State(app): State<App>) -> Response {
    match app.is_ready() {
        true => told("ready", true),
        false if app.is_ending() => told("draining", false),
        false => told("loading", false),
    }
}

/// The first model is loaded and warm.
#[utoipa::path(get, path = "/healthz/startup", tag = "health", responses((status = 200, body = Health), (status = 503, body = Health)))]
pub(crate) async fn startup(State(app): State<App>) -> Response {
    match app.inner.started.load(Ordering::Acquire) {
        true => told("live", true),
        false => told("loading", false),
    }
}

fn told(status: &str, good: bool) -> Response {
    let code = if good { StatusCode::OK } else { StatusCode::SERVICE_UNAVAILABLE };
    (code, Json(Health { status: status.to_owned() })).into_response()
}

/// Counters in Prometheus' text format.
#[utoipa::path(get, path = "/metrics", tag = "health", responses((status = 200, body = String, content_type = "text/plain")))]
pub(crate) async fn metrics(State(app): State<App>) -> Result<Response> {
    app.inner.metrics.deployments.set(app.inner.deployments.count().await as i64);
    let open = app.inner.options.limits.connections.saturating_sub(app.inner.places.available_permits());
    app.inner.metrics.connections.set(open as i64);
    app.inner.metrics.body_bytes.set(app.inner.bodies.held() as i64);
    if let Some(bytes) = detector::device::gpu_memory_in_use(app.inner.loader.device) {
        app.inner.metrics.gpu_memory.set(bytes as f64);
    }
    let text = app.inner.metrics.text()?;
    Ok(([(header::CONTENT_TYPE, "text/plain; version=0.0.4")], text).into_response())
}
