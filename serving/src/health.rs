//! Whether the server lives, has started, and is to be sent requests; and its metrics.

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
    let status = if *app.inner.ending.borrow() {
        "draining"
    } else if app.inner.slot.current().is_none() {
        "loading"
    } else {
        "ready"
    };
    let code = if status == "ready" { StatusCode::OK } else { StatusCode::SERVICE_UNAVAILABLE };
    (code, Json(Health { status: status.to_owned() })).into_response()
}

/// The first model is loaded and warm.
#[utoipa::path(get, path = "/healthz/startup", tag = "health", responses((status = 200, body = Health), (status = 503, body = Health)))]
pub(crate) async fn startup(State(app): State<App>) -> Response {
    let started = app.inner.slot.current().is_some();
    let (code, status) = if started { (StatusCode::OK, "live") } else { (StatusCode::SERVICE_UNAVAILABLE, "loading") };
    (code, Json(Health { status: status.to_owned() })).into_response()
}

/// Counters in Prometheus' text format.
#[utoipa::path(get, path = "/metrics", tag = "health", responses((status = 200, body = String, content_type = "text/plain")))]
pub(crate) async fn metrics(State(app): State<App>) -> Result<Response> {
    app.inner.metrics.deployments.set(app.inner.deployments.count().await as i64);
    let text = app.inner.metrics.text()?;
    Ok(([(header::CONTENT_TYPE, "text/plain; version=0.0.4")], text).into_response())
}
