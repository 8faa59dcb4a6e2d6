//! Spans of requests at a collector, within the caller's trace.

use std::sync::{Arc, Mutex};

use axum::Router;
use axum::extract::State;
use axum::routing::post;
use serde_json::Value;
use tokio::net::TcpListener;

use crate::server::{Server, sample};

type Calls = Arc<Mutex<Vec<Value>>>;

async fn take(State(calls): State<Calls>, body: String) {
    calls.lock().unwrap().push(serde_json::from_str(&body).unwrap());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_request_is_a_span_of_its_callers_trace() {
    let calls = Calls::default();
    let collector = Router::new().route("/v1/traces", post(take)).with_state(Arc::clone(&calls));
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}/v1/traces", listener.local_addr().unwrap());
    tokio::spawn(async move { axum::serve(listener, collector).await });
    let home = tempfile::tempdir().unwrap();
    let server = Server::start_in(home, &[("traces.url", &url)], |_| {}).await;
    server.wait_ready().await;

    let trace = "4bf92f3577b34da6a3ce929d0e0e4736";
    let asked = server.picture(&sample("farmyard/cow.jpg"));
    let asked = asked.header("traceparent", format!("00-{trace}-00f067aa0ba902b7-01")).send().await.unwrap();
    assert_eq!(asked.status(), 200);
    // All that was told is sent before it ends.
    server.end().await.unwrap();
    let calls = calls.lock().unwrap();
    let spans = calls.iter().flat_map(|call| call["resourceSpans"][0]["scopeSpans"][0]["spans"].as_array().unwrap());
    let own: Vec<&Value> = spans.filter(|span| span["traceId"] == trace).collect();
    assert_eq!(own.len(), 1, "{calls:?}");
    assert_eq!((&own[0]["name"], &own[0]["kind"]), (&"POST /v1/detections".into(), &2.into()));
    assert_eq!(own[0]["parentSpanId"], "00f067aa0ba902b7");
    let keys: Vec<&str> =
        own[0]["attributes"].as_array().unwrap().iter().map(|one| one["key"].as_str().unwrap()).collect();
    assert!(keys.contains(&"safari.forward_milliseconds"), "{keys:?}");
}
