//! Bodies: bounded in bytes, in time, and all together, so that slow or large senders cannot fill the memory. And a line
//! for each request in the log.

use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime};

use axum::body::{Body, BodyDataStream, Bytes};
use axum::extract::{MatchedPath, Request, State};
use axum::http::{HeaderMap, header};
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};
use bytes::BytesMut;
use futures::StreamExt;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tracing::info;

use crate::app::App;
use crate::detections::Timings;
use crate::traces::{Span, TraceContext};
use crate::{Error, Result, v2};

/// Bytes that one permit of the memory of bodies stands for.
const PERMIT: usize = 64 << 10;

/// When to ask again while bodies fill the memory.
const RETRY: Duration = Duration::from_secs(1);

/// Bytes for which there is room from the beginning; more are moved when they come.
const MOST_ROOM: u64 = 2 << 20;

/// How long the rest of a refused body is read.
const LINGER: Duration = Duration::from_secs(1);

/// The memory that bodies, and copies made of them, may take all together. Cheap to clone.
#[derive(Debug, Clone)]
pub(crate) struct Bodies {
    places: Arc<Semaphore>,
    all: usize,
}

impl Bodies {
    /// So many bytes.
    pub(crate) fn new(bytes: usize) -> Self {
        let all = bytes.div_ceil(PERMIT).clamp(1, u32::MAX as usize);
        Self { places: Arc::new(Semaphore::new(all)), all }
    }

    /// Takes `bytes` until the permit is dropped.
    ///
    /// # Errors
    /// [`Error::Full`]; [`Error::TooLarge`] for more than there is at all.
    pub(crate) fn hold(&self, bytes: usize) -> Result<OwnedSemaphorePermit> {
        let count = bytes.div_ceil(PERMIT);
        if count > self.all {
            return Err(Error::TooLarge {
                what: "the request".to_owned(),
                limit: format!("{} bytes of memory", self.all * PERMIT),
            });
        }
        let permit = Arc::clone(&self.places).try_acquire_many_owned(count as u32);
        permit.map_err(|_| Error::Full { retry_after: RETRY })
    }

    /// Bytes that are taken now.
    pub(crate) fn held(&self) -> usize {
        (self.all - self.places.available_permits()) * PERMIT
    }
}

/// Refuses requests while the server ends, and reads the body before the handler is asked.
pub(crate) async fn work(State(app): State<App>, request: Request, next: Next) -> Response {
    let _under_way = match app.admit() {
        Ok(under_way) => under_way,
        Err(error) => return error.into_response(),
    };
    match read_body(&app, request).await {
        Ok((request, _held)) => next.run(request).await,
        Err(error) => error.into_response(),
    }
}

/// The same for the Open Inference Protocol over REST, whose handlers refuse requests themselves.
pub(crate) async fn rest(State(app): State<App>, request: Request, next: Next) -> Response {
    match read_body(&app, request).await {
        Ok((request, _held)) => next.run(request).await,
        Err(error) => v2::rest::refused(error),
    }
}

/// And over gRPC.
pub(crate) async fn grpc(State(app): State<App>, request: Request, next: Next) -> Response {
    match read_body(&app, request).await {
        Ok((request, _held)) => next.run(request).await,
        Err(error) => tonic::Status::from(error).into_http(),
    }
}

async fn read_body(app: &App, request: Request) -> Result<(Request, Option<OwnedSemaphorePermit>)> {
    if hyper::body::Body::is_end_stream(request.body()) {
        return Ok((request, None));
    }
    let limits = app.inner.options.limits;
    let mut held = app.inner.bodies.hold(0)?;
    // What is there, not what is said to come: a slow sender holds no more than it has sent.
    let hold = |length: usize| {
        let more = length.saturating_sub(held.num_permits() * PERMIT);
        if more > 0 {
            held.merge(app.inner.bodies.hold(more)?);
        }
        Ok(())
    };
    let (parts, body) = request.into_parts();
    let bytes = collect(&parts.headers, body, limits.body_bytes, limits.body_timeout, hold).await?;
    Ok((Request::from_parts(parts, Body::from(bytes)), Some(held)))
}

/// All bytes of a body, which must come in time. `hold` is asked before so many bytes are kept.
///
/// # Errors
/// [`Error::TooLarge`]; [`Error::Slow`]; [`Error::Invalid`] when it breaks off; those of `hold`.
pub(crate) async fn collect(
    headers: &HeaderMap,
    body: Body,
    limit: usize,
    patience: Duration,
    hold: impl FnMut(usize) -> Result<()>,
) -> Result<Bytes> {
    let mut pieces = body.into_data_stream();
    let declared = headers.get(header::CONTENT_LENGTH).and_then(|value| value.to_str().ok()?.parse::<u64>().ok());
    let read = match declared {
        Some(declared) if declared > limit as u64 => Err(too_large(limit)),
        _ => {
            // Bytes that are said to come are room only: memory is taken by those that have come.
            let room = declared.map_or(0, |declared| declared.min(MOST_ROOM));
            let bytes = BytesMut::with_capacity(room as usize);
            let gathered = tokio::time::timeout(patience, gather(&mut pieces, bytes, limit, hold)).await;
            gathered.unwrap_or(Err(Error::Slow))
        }
    };
    // Whoever is slow has been waited for, and whoever waits for leave to send need not.
    if matches!(read, Err(Error::TooLarge { .. } | Error::Full { .. })) && !headers.contains_key(header::EXPECT) {
        linger(pieces, limit).await;
    }
    read
}

async fn gather(
    pieces: &mut BodyDataStream,
    mut bytes: BytesMut,
    limit: usize,
    mut hold: impl FnMut(usize) -> Result<()>,
) -> Result<Bytes> {
    while let Some(piece) = pieces.next().await {
        let piece = piece.map_err(|_| Error::Invalid("the body broke off".to_owned()))?;
        let length = bytes.len() + piece.len();
        if length > limit {
            return Err(too_large(limit));
        }
        hold(length)?;
        bytes.extend_from_slice(&piece);
    }
    Ok(bytes.freeze())
}

fn too_large(limit: usize) -> Error {
    Error::TooLarge { what: "the body".to_owned(), limit: format!("{limit} bytes") }
}

/// Reads on for a while: a sender whose connection is closed while it sends does not see the answer that says why.
async fn linger(mut pieces: BodyDataStream, most: usize) {
    let read = async {
        let mut count = 0;
        while let Some(Ok(piece)) = pieces.next().await {
            count += piece.len();
            if count > most {
                return;
            }
        }
    };
    // It is about to be refused either way.
    let _ = tokio::time::timeout(LINGER, read).await;
}

/// Counts a request, writes a line about it, and its span. Neither its query nor its body is in them.
pub(crate) async fn access(State(app): State<App>, mut request: Request, next: Next) -> Response {
    let (begun, began_at) = (Instant::now(), SystemTime::now());
    let route = request.extensions().get::<MatchedPath>().map_or("other", |path| path.as_str()).to_owned();
    let method = request.method().clone();
    let remote = request.extensions().get::<std::net::SocketAddr>().map(ToString::to_string).unwrap_or_default();
    let context = TraceContext::of(request.headers());
    request.extensions_mut().insert(context.clone());
    let answer = next.run(request).await;
    let took = begun.elapsed();
    let status = status(&answer);
    app.inner.metrics.answered(&route, &status, took);
    let ms = (took.as_secs_f64() * 1e6).round() / 1e3;
    info!(target: "serving::access", %method, route, status, ms, remote, trace = context.trace(), "request");
    if let Some(traces) = &app.inner.traces {
        let timings = answer.extensions().get::<Timings>().copied();
        let failed = answer.status().is_server_error();
        traces.record(&Span { context, name: format!("{method} {route}"), began_at, took, status, failed, timings });
    }
    answer
}

/// The HTTP status, or that of gRPC where it says more.
fn status(answer: &Response) -> String {
    let of_grpc = answer.headers().get("grpc-status").and_then(|status| status.to_str().ok());
    match of_grpc {
        Some(code) if code != "0" => format!("grpc-{code}"),
        _ => answer.status().as_u16().to_string(),
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn memory_is_taken_and_given_back() {
        let bodies = Bodies::new(3 * PERMIT);
        let two = bodies.hold(PERMIT + 1).unwrap();
        assert_eq!(bodies.held(), 2 * PERMIT);
        assert!(matches!(bodies.hold(2 * PERMIT), Err(Error::Full { .. })));
        let none = bodies.hold(0).unwrap();
        drop(two);
        assert_eq!(bodies.held(), 0);
        assert!(matches!(bodies.hold(4 * PERMIT), Err(Error::TooLarge { .. })));
        drop(none);
    }
}
