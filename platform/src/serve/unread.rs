//! Bodies of HTTP/1.1 requests that were answered before they were read to the end.
//!
//! An answer that says no by the head alone leaves the body in the connection, and many clients send it in a packet of its own,
//! later. A server reads it or closes the connection (RFC 9112, 9.3); closed without a word, it takes the client's next request
//! with it. So what is short is read to its end, and of what is long the answer says that the connection closes.

use std::pin::Pin;
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context, Poll};
use std::time::Duration;

use axum::body::{Body, HttpBody, to_bytes};
use axum::http::header::{CONNECTION, EXPECT};
use axum::http::{HeaderValue, Request, Response, Version};
use bytes::Bytes;
use hyper::body::{Frame, Incoming, SizeHint};

/// What is read and thrown away after an answer, at most.
const READ_BYTES: usize = 256 * 1024;
/// How long it is waited for.
const READ_TIME: Duration = Duration::from_millis(500);

/// What was left of a request's body.
pub(super) struct Unread {
    rest: Arc<Mutex<Option<Incoming>>>,
    /// The client sends the body only when somebody begins to read it.
    waits: bool,
}

impl Unread {
    /// The request with a body that gives back what nobody reads; nothing where there can be none of it.
    pub(super) fn of(request: Request<Incoming>) -> (Request<Body>, Option<Self>) {
        if request.version() > Version::HTTP_11 || request.body().is_end_stream() {
            return (request.map(Body::new), None);
        }
        let rest = Arc::default();
        let unread = Self { rest: Arc::clone(&rest), waits: request.headers().contains_key(EXPECT) };
        (request.map(|body| Body::new(Lent { body: Some(body), rest })), Some(unread))
    }

    /// Makes the connection fit for the next request, or lets `response` say that there is none.
    pub(super) async fn settle(self, response: &mut Response<Body>) {
        let rest = self.rest.lock().unwrap_or_else(PoisonError::into_inner).take();
        let Some(rest) = rest else { return };
        let is_long = rest.size_hint().lower() > READ_BYTES as u64;
        if self.waits || is_long || !read_to_end(rest).await {
            response.headers_mut().insert(CONNECTION, HeaderValue::from_static("close"));
        }
    }
}

async fn read_to_end(rest: Incoming) -> bool {
    let reading = to_bytes(Body::new(rest), READ_BYTES);
    tokio::time::timeout(READ_TIME, reading).await.is_ok_and(|read| read.is_ok())
}

/// A body that gives itself back when it is dropped before its end.
struct Lent {
    body: Option<Incoming>,
    rest: Arc<Mutex<Option<Incoming>>>,
}

impl HttpBody for Lent {
    type Data = Bytes;
    type Error = hyper::Error;

    fn poll_frame(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, hyper::Error>>> {
        match &mut self.body {
            Some(body) => Pin::new(body).poll_frame(cx),
            None => Poll::Ready(None),
        }
    }

    fn is_end_stream(&self) -> bool {
        self.body.as_ref().is_none_or(HttpBody::is_end_stream)
    }

    fn size_hint(&self) -> SizeHint {
        self.body.as_ref().map_or_else(|| SizeHint::with_exact(0), HttpBody::size_hint)
    }
}

impl Drop for Lent {
    fn drop(&mut self) {
        if let Some(body) = self.body.take().filter(|body| !body.is_end_stream()) {
            *self.rest.lock().unwrap_or_else(PoisonError::into_inner) = Some(body);
        }
    }
}
