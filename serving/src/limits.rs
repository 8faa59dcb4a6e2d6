//! Bodies: bounded in bytes, in time, and all together, so that slow or large senders cannot fill the memory. And a line
//! for each request in the log.

use std::sync::Arc;
use std::time::Instant;

use axum::body::{Body, Bytes};
use axum::extract::{MatchedPath, Request, State};
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};
use bytes::BytesMut;
use futures::StreamExt;
use tokio::sync::OwnedSemaphorePermit;
use tracing::info;

use crate::app::App;
use crate::{Error, Result};

/// Bytes that one permit of the memory of bodies stands for.
pub(crate) const PERMIT: usize = 64 << 10;

/// Reads the body before the handler is asked.
pub(crate) async fn bodies(State(app): State<App>, request: Request, next: Next) -> Response {
    let (parts, body) = request.into_parts();
    if hyper::body::Body::is_end_stream(&body) {
        return next.run(Request::from_parts(parts, body)).await;
    }
    let timeout = app.inner.options.limits.body_timeout;
    let declared =
        parts.headers.get(axum::http::header::CONTENT_LENGTH).and_then(|value| value.to_str().ok()?.parse().ok());
    let read = tokio::time::timeout(timeout, read(&app, body, declared)).await;
    match read {
        Ok(Ok((bytes, permits))) => {
            let held = bytes.len() as i64;
            app.inner.metrics.body_bytes.add(held);
            let answer = next.run(Request::from_parts(parts, Body::from(bytes))).await;
            app.inner.metrics.body_bytes.sub(held);
            drop(permits);
            answer
        }
        Ok(Err(error)) => error.into_response(),
        Err(_) => Error::Slow.into_response(),
    }
}

async fn read(app: &App, body: Body, declared: Option<usize>) -> Result<(Bytes, Vec<OwnedSemaphorePermit>)> {
    let limit = app.inner.options.limits.body_bytes;
    let too_large = || Error::TooLarge { what: "the body".to_owned(), limit: format!("{limit} bytes") };
    if declared.is_some_and(|declared| declared > limit) {
        return Err(too_large());
    }
    let mut permits = Vec::new();
    let mut bytes = BytesMut::new();
    let mut pieces = body.into_data_stream();
    while let Some(piece) = pieces.next().await {
        let piece = piece.map_err(|_| Error::Invalid("the body broke off".to_owned()))?;
        if bytes.len() + piece.len() > limit {
            return Err(too_large());
        }
        while permits.len() * PERMIT < bytes.len() + piece.len() {
            let permit = Arc::clone(&app.inner.bodies).try_acquire_owned();
            permits.push(permit.map_err(|_| Error::Full { retry_after: std::time::Duration::from_secs(1) })?);
        }
        bytes.extend_from_slice(&piece);
    }
    Ok((bytes.freeze(), permits))
}

/// Counts a request and writes a line about it. Neither its query nor its body is in it.
pub(crate) async fn access(State(app): State<App>, request: Request, next: Next) -> Response {
    let begun = Instant::now();
    let route = request.extensions().get::<MatchedPath>().map_or("other", |path| path.as_str()).to_owned();
    let method = request.method().clone();
    let remote = request.extensions().get::<std::net::SocketAddr>().map(ToString::to_string).unwrap_or_default();
    let answer = next.run(request).await;
    let took = begun.elapsed();
    let status = answer.status().as_u16();
    app.inner.metrics.answered(&route, status, took);
    let ms = (took.as_secs_f64() * 1e6).round() / 1e3;
    info!(target: "serving::access", %method, route, status, ms, remote, "request");
    answer
}
