//! A span for each request, told to an OpenTelemetry collector; and the trace that a caller's request belongs to.
//!
//! Forms: W3C Trace Context, level 1; the JSON encoding of OpenTelemetry's protocol (OTLP 1.x,
//! `ExportTraceServiceRequest`). No request waits for the collector: spans are lost when it is away for long.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use axum::http::HeaderMap;
use platform::config::TracesConfig;
use reqwest::header::{AUTHORIZATION, CONTENT_TYPE, HeaderValue};
use serde_json::{Value, json};
use tokio::sync::{mpsc, oneshot};
use tracing::warn;

use crate::detections::Timings;
use crate::{Error, Result};

/// The header of W3C Trace Context.
pub(crate) const HEADER: &str = "traceparent";

/// Spans that may wait; more are lost.
const WAITING: usize = 4096;

/// Spans in one call.
const BATCH: usize = 256;

/// How long spans are gathered.
const EVERY: Duration = Duration::from_secs(2);

/// How long a call may take.
const PATIENCE: Duration = Duration::from_secs(5);

/// `SPAN_KIND_SERVER`.
const SERVER: u8 = 2;

/// The trace and span of a request.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct TraceContext {
    trace: String,
    parent: Option<String>,
    span: String,
    sampled: bool,
}

/// A request that was answered.
#[derive(Debug)]
pub(crate) struct Span {
    pub(crate) context: TraceContext,
    pub(crate) name: String,
    pub(crate) began_at: SystemTime,
    pub(crate) took: Duration,
    pub(crate) status: String,
    pub(crate) failed: bool,
    pub(crate) timings: Option<Timings>,
}

/// Tells the collector. Cheap to clone.
#[derive(Debug, Clone)]
pub(crate) struct Traces {
    told: mpsc::Sender<Told>,
}

#[derive(Debug)]
enum Told {
    Span(Value),
    /// All that came before is to be told now.
    Flush(oneshot::Sender<()>),
}

impl TraceContext {
    /// A span of the caller's trace, or of a new one.
    pub(crate) fn of(headers: &HeaderMap) -> Self {
        let span = hex::encode(&uuid::Uuid::new_v4().as_bytes()[..8]);
        let given = headers.get(HEADER).and_then(|value| value.to_str().ok()).and_then(parse);
        match given {
            Some((trace, parent, sampled)) => Self { trace, parent: Some(parent), span, sampled },
            None => Self { trace: uuid::Uuid::new_v4().simple().to_string(), parent: None, span, sampled: true },
        }
    }

    /// The trace's id.
    pub(crate) fn trace(&self) -> &str {
        &self.trace
    }

    /// What is handed on to servers that are asked because of the request.
    pub(crate) fn header(&self) -> String {
        format!("00-{}-{}-0{}", self.trace, self.span, u8::from(self.sampled))
    }
}

impl Traces {
    /// Tells the collector of the settings; none if there is none.
    ///
    /// # Errors
    /// The header of the settings cannot be one.
    pub(crate) fn start(config: &TracesConfig) -> Result<Option<Self>> {
        if config.url.is_empty() {
            return Ok(None);
        }
        let client = reqwest::Client::builder().timeout(PATIENCE).build();
        let client = client.map_err(|error| Error::Setup(format!("no client for traces.url: {error}")))?;
        let authorization = Some(&config.authorization).filter(|value| !value.is_empty());
        let authorization = authorization.map(|value| HeaderValue::from_str(value)).transpose();
        let authorization =
            authorization.map_err(|_| Error::Setup("traces.authorization is no value of a header".to_owned()))?;
        let (told, spans) = mpsc::channel(WAITING);
        let collector = Collector { client, url: config.url.clone(), authorization };
        tokio::spawn(collector.tell(spans));
        Ok(Some(Self { told }))
    }

    /// Tells of a request, unless its trace is not sampled.
    pub(crate) fn record(&self, span: &Span) {
        if span.context.sampled {
            // A collector that is away costs spans, and nothing else.
            let _ = self.told.try_send(Told::Span(span.to_json()));
        }
    }

    /// Waits until all spans so far were told, or could not be.
    pub(crate) async fn flush(&self) {
        let (done, is_done) = oneshot::channel();
        if self.told.send(Told::Flush(done)).await.is_ok() {
            let _ = is_done.await;
        }
    }
}

impl Span {
    fn to_json(&self) -> Value {
        let mut attributes = vec![text("http.response.status", &self.status)];
        if let Some(timings) = &self.timings {
            let parts = [("queue", timings.queue_ms), ("decode", timings.decode_ms), ("forward", timings.forward_ms)];
            let given = parts.into_iter().filter_map(|(name, ms)| Some((name, ms?)));
            attributes.extend(
                given.map(
                    |(name, ms)| json!({"key": format!("safari.{name}_milliseconds"), "value": {"doubleValue": ms}}),
                ),
            );
        }
        let mut span = json!({
            "traceId": self.context.trace,
            "spanId": self.context.span,
            "name": self.name,
            "kind": SERVER,
            "startTimeUnixNano": nanoseconds(self.began_at),
            "endTimeUnixNano": nanoseconds(self.began_at + self.took),
            "attributes": attributes,
            "status": {"code": if self.failed { 2 } else { 1 }},
        });
        if let Some(parent) = &self.context.parent {
            span["parentSpanId"] = parent.as_str().into();
        }
        span
    }
}

struct Collector {
    client: reqwest::Client,
    url: String,
    authorization: Option<HeaderValue>,
}

impl Collector {
    /// Until nobody is left who could tell.
    async fn tell(self, mut spans: mpsc::Receiver<Told>) {
        let mut waiting = Vec::new();
        let mut every = tokio::time::interval(EVERY);
        loop {
            let told = tokio::select! {
                told = spans.recv() => told,
                _ = every.tick() => {
                    self.send(&mut waiting).await;
                    continue;
                }
            };
            match told {
                Some(Told::Span(span)) => {
                    waiting.push(span);
                    if waiting.len() >= BATCH {
                        self.send(&mut waiting).await;
                    }
                }
                Some(Told::Flush(done)) => {
                    self.send(&mut waiting).await;
                    let _ = done.send(());
                }
                None => return self.send(&mut waiting).await,
            }
        }
    }

    async fn send(&self, waiting: &mut Vec<Value>) {
        if waiting.is_empty() {
            return;
        }
        let spans = std::mem::take(waiting);
        let count = spans.len();
        let mut request = self.client.post(&self.url).header(CONTENT_TYPE, "application/json");
        if let Some(authorization) = &self.authorization {
            request = request.header(AUTHORIZATION, authorization.clone());
        }
        // The words of the client may hold the address, and that a password.
        let failure = match request.body(all(spans).to_string()).send().await {
            Ok(answer) if answer.status().is_success() => return,
            Ok(answer) => format!("it answers {}", answer.status().as_u16()),
            Err(error) => error.without_url().to_string(),
        };
        warn!(failure, spans = count, "the collector of traces does not take spans; they are lost");
    }
}

fn all(spans: Vec<Value>) -> Value {
    let version = env!("CARGO_PKG_VERSION");
    json!({"resourceSpans": [{
        "resource": {"attributes": [text("service.name", "safari"), text("service.version", version)]},
        "scopeSpans": [{"scope": {"name": "safari.serving", "version": version}, "spans": spans}],
    }]})
}

fn text(key: &str, value: &str) -> Value {
    json!({"key": key, "value": {"stringValue": value}})
}

fn nanoseconds(at: SystemTime) -> String {
    at.duration_since(UNIX_EPOCH).unwrap_or_default().as_nanos().to_string()
}

/// Trace, parent and whether it is sampled; none for what the standard says is to be ignored.
fn parse(text: &str) -> Option<(String, String, bool)> {
    let mut parts = text.trim().split('-');
    let (version, trace, parent, flags) = (parts.next()?, parts.next()?, parts.next()?, parts.next()?);
    let is_id = |id: &str, length: usize| {
        id.len() == length
            && id.bytes().all(|byte| matches!(byte, b'0'..=b'9' | b'a'..=b'f'))
            && id.bytes().any(|byte| byte != b'0')
    };
    let known = version.len() == 2 && version != "ff" && (version != "00" || parts.next().is_none());
    if !known || !is_id(trace, 32) || !is_id(parent, 16) || flags.len() != 2 {
        return None;
    }
    let flags = u8::from_str_radix(flags, 16).ok()?;
    Some((trace.to_owned(), parent.to_owned(), flags & 1 == 1))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    const TRACE: &str = "4bf92f3577b34da6a3ce929d0e0e4736";

    fn context(value: &str) -> TraceContext {
        let mut headers = HeaderMap::new();
        headers.insert(HEADER, value.parse().unwrap());
        TraceContext::of(&headers)
    }

    #[test]
    fn a_callers_trace_goes_on_and_others_begin_one() {
        let given = context(&format!("00-{TRACE}-00f067aa0ba902b7-01"));
        assert_eq!((given.trace(), given.parent.as_deref()), (TRACE, Some("00f067aa0ba902b7")));
        let handed_on = given.header();
        assert!(handed_on.starts_with(&format!("00-{TRACE}-")) && handed_on.ends_with("-01"), "{handed_on}");
        assert!(!context(&format!("00-{TRACE}-00f067aa0ba902b7-00")).sampled);
        for bad in [
            "",
            "00",
            "00-0-0-01",
            &format!("ff-{TRACE}-00f067aa0ba902b7-01"),
            &format!("00-{TRACE}-0000000000000000-01"),
            &format!("00-{}-00f067aa0ba902b7-01", TRACE.to_uppercase()),
            &format!("00-{TRACE}-00f067aa0ba902b7-01-more"),
        ] {
            let own = context(bad);
            assert!(own.parent.is_none() && own.trace() != TRACE && own.trace().len() == 32, "{bad}");
        }
    }
}
