//! Health and metrics, for probes and Prometheus.

use axum::extract::State;
use axum::http::{StatusCode, header};
use axum::response::IntoResponse;
use prometheus::{Encoder, IntGaugeVec, Opts, Registry, TextEncoder};

use super::problem::{Problem, Problems};
use crate::clock::Timestamp;
use crate::state::Store;

/// Answers when the state database does.
#[utoipa::path(
    get, path = "/healthz", operation_id = "health",
    responses((status = 200, description = "It does.", body = String, content_type = "text/plain"), Problems)
)]
pub(super) async fn health(State(store): State<Store>) -> Result<&'static str, Problem> {
    store.depth(Timestamp::now()).await?;
    Ok("ok\n")
}

/// Metrics in Prometheus' text format: gauges are of the whole deployment, whichever process is asked; counters and
/// histograms are of what ended in this process.
#[utoipa::path(
    get, path = "/metrics", operation_id = "metrics",
    responses((status = 200, description = "The metrics.", body = String, content_type = "text/plain"), Problems)
)]
pub(super) async fn metrics(State(store): State<Store>) -> Result<impl IntoResponse, Problem> {
    let failed = |detail: String| Problem::new("the server failed", StatusCode::INTERNAL_SERVER_ERROR, detail);
    let text = text(&store).await.map_err(failed)?;
    Ok(([(header::CONTENT_TYPE, prometheus::TEXT_FORMAT)], text))
}

async fn text(store: &Store) -> Result<String, String> {
    let told = |error: crate::Error| error.to_string();
    let registry = Registry::new();
    let depth = store.depth(Timestamp::now()).await.map_err(told)?;
    let runs = gauge(&registry, "safari_runs", "runs that have not ended", &["state"])?;
    runs.with_label_values(&["queued"]).set(depth.queued_runs);
    runs.with_label_values(&["running"]).set(depth.running_runs);
    let tasks = gauge(&registry, "safari_task_instances", "task instances that could run or do", &["state"])?;
    tasks.with_label_values(&["ready"]).set(depth.ready);
    tasks.with_label_values(&["running"]).set(depth.running);
    let delay = gauge(&registry, "safari_oldest_ready_milliseconds", "how long the oldest ready task has waited", &[])?;
    delay.with_label_values::<&str>(&[]).set(depth.oldest_ready_millis);
    let slots = gauge(&registry, "safari_pool_slots", "slots of pools", &["pool"])?;
    let used = gauge(&registry, "safari_pool_used", "slots of pools in use", &["pool"])?;
    for (pool, all, taken) in store.pools().await.map_err(told)? {
        slots.with_label_values(&[pool.as_str()]).set(i64::from(all));
        used.with_label_values(&[pool.as_str()]).set(i64::from(taken));
    }
    let waiting = gauge(&registry, "safari_stream_waiting_items", "items of continuous dags in no batch", &["dag"])?;
    let in_flight = gauge(&registry, "safari_stream_batches", "batches that have not ended", &["dag"])?;
    let lag = gauge(&registry, "safari_stream_lag_milliseconds", "age of the oldest item not done", &["dag"])?;
    let now = Timestamp::now();
    for stream in store.streams().await.map_err(told)? {
        let count = |number: u64| i64::try_from(number).unwrap_or(i64::MAX);
        waiting.with_label_values(&[stream.dag.as_str()]).set(count(stream.waiting));
        in_flight.with_label_values(&[stream.dag.as_str()]).set(count(stream.in_flight));
        let millis = u64::try_from(stream.lag(now).as_millis()).unwrap_or(u64::MAX);
        lag.with_label_values(&[stream.dag.as_str()]).set(count(millis));
    }
    let mut out = Vec::new();
    TextEncoder::new().encode(&registry.gather(), &mut out).map_err(|error| error.to_string())?;
    let now = String::from_utf8(out).map_err(|error| error.to_string())?;
    Ok(now + &crate::metrics::text()?)
}

fn gauge(registry: &Registry, name: &str, help: &str, labels: &[&str]) -> Result<IntGaugeVec, String> {
    let gauge = IntGaugeVec::new(Opts::new(name, help), labels).map_err(|error| error.to_string())?;
    registry.register(Box::new(gauge.clone())).map_err(|error| error.to_string())?;
    Ok(gauge)
}
