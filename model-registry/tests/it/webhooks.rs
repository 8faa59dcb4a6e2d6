//! Webhooks, told to a real receiver that checks signatures, refuses, and goes away.

use std::sync::{Arc, Mutex};
use std::time::Duration;

use axum::Router;
use axum::body::Bytes;
use axum::extract::State;
use axum::http::{HeaderMap, StatusCode};
use axum::routing::post;
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use hmac::{Hmac, KeyInit, Mac};
use model_registry::webhooks::WebhookOptions;
use serde_json::{Value, json};
use sha2::Sha256;
use tokio::net::TcpListener;
use tokio::sync::watch;
use tokio::task::JoinHandle;

use crate::common::{Registry, receivers_here};

const SECRET: &str = "s3cret of the receiver";

/// What a receiver heard.
#[derive(Clone, Debug)]
struct Heard {
    headers: HeaderMap,
    body: String,
}

/// Listens on loopback and answers with the statuses it is given, then with 200.
struct Receiver {
    url: String,
    heard: Arc<Mutex<Vec<Heard>>>,
    server: JoinHandle<()>,
}

#[derive(Clone)]
struct Ear {
    heard: Arc<Mutex<Vec<Heard>>>,
    answers: Arc<Mutex<Vec<StatusCode>>>,
}

impl Receiver {
    async fn start(mut answers: Vec<u16>) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("http://{}/hook", listener.local_addr().unwrap());
        answers.reverse();
        let answers = answers.into_iter().map(|status| StatusCode::from_u16(status).unwrap()).collect();
        let ear = Ear { heard: Arc::default(), answers: Arc::new(Mutex::new(answers)) };
        let heard = Arc::clone(&ear.heard);
        let router = Router::new().route("/hook", post(hear)).with_state(ear);
        let server = tokio::spawn(async move { axum::serve(listener, router).await.unwrap() });
        Self { url, heard, server }
    }

    fn heard(&self) -> Vec<Heard> {
        self.heard.lock().unwrap().clone()
    }
}

impl Drop for Receiver {
    fn drop(&mut self) {
        self.server.abort();
    }
}

async fn hear(State(ear): State<Ear>, headers: HeaderMap, body: Bytes) -> (StatusCode, &'static str) {
    ear.heard.lock().unwrap().push(Heard { headers, body: String::from_utf8(body.to_vec()).unwrap() });
    (ear.answers.lock().unwrap().pop().unwrap_or(StatusCode::OK), "heard")
}

impl Heard {
    fn header(&self, name: &str) -> &str {
        self.headers.get(name).map_or("", |value| value.to_str().unwrap())
    }

    fn data(&self) -> Value {
        serde_json::from_str(&self.body).unwrap()
    }

    /// As MLflow's documentation tells receivers to check.
    fn is_signed(&self) -> bool {
        let mut mac = Hmac::<Sha256>::new_from_slice(SECRET.as_bytes()).unwrap();
        let (id, time) = (self.header("x-mlflow-delivery-id"), self.header("x-mlflow-timestamp"));
        mac.update(format!("{id}.{time}.{}", self.body).as_bytes());
        self.header("x-mlflow-signature") == format!("v1,{}", STANDARD.encode(mac.finalize().into_bytes()))
    }
}

async fn subscribe(registry: &Registry, url: &str, events: &[(&str, &str)]) -> String {
    let events: Vec<Value> =
        events.iter().map(|(entity, action)| json!({"entity": entity, "action": action})).collect();
    let body = json!({"name": "hook", "url": url, "events": events, "secret": SECRET});
    let made = registry.must("POST", "webhooks", body).await;
    assert!(!made.to_string().contains(SECRET));
    made["webhook"]["webhook_id"].as_str().unwrap().to_owned()
}

/// Tells until nothing is due any more, however long the waits.
async fn tell_all(registry: &Registry) {
    let deliverer = registry.deliverer();
    let mut now = chrono::Utc::now().timestamp_millis();
    for _ in 0..100 {
        deliverer.deliver_due(now).await.unwrap();
        now += 60_000;
    }
}

async fn deliveries(registry: &Registry, webhook: &str) -> Vec<Value> {
    let path = format!("/api/v1/webhooks/{webhook}/deliveries");
    let answer = registry.ask_as(&[], "GET", &path, Value::Null).await;
    answer.body["deliveries"].as_array().cloned().unwrap()
}

#[tokio::test]
async fn a_webhook_is_made_listed_changed_and_deleted() {
    let registry = Registry::new().await;
    let url = "http://127.0.0.1:9/hook";
    let id = subscribe(&registry, url, &[("MODEL_VERSION", "CREATED"), ("REGISTERED_MODEL", "CREATED")]).await;
    let read = registry.must("GET", &format!("webhooks/{id}"), Value::Null).await;
    let webhook = &read["webhook"];
    let events = json!([
        {"entity": "MODEL_VERSION", "action": "CREATED"}, {"entity": "REGISTERED_MODEL", "action": "CREATED"},
    ]);
    assert_eq!((&webhook["events"], &webhook["status"], &webhook["url"]), (&events, &json!("ACTIVE"), &json!(url)));
    let body = json!({"description": "for ops", "status": "DISABLED", "events": [{"entity": "MODEL_VERSION_TAG", "action": "SET"}]});
    let changed = registry.must("PATCH", &format!("webhooks/{id}"), body).await;
    assert_eq!(changed["webhook"]["description"], "for ops");
    assert_eq!(changed["webhook"]["name"], "hook", "what is not given stays");
    assert_eq!(changed["webhook"]["events"], json!([{"entity": "MODEL_VERSION_TAG", "action": "SET"}]));
    subscribe(&registry, url, &[("PROMPT", "CREATED")]).await;
    let page = registry.must("GET", "webhooks?max_results=1", Value::Null).await;
    assert_eq!(page["webhooks"].as_array().unwrap().len(), 1);
    let token = page["next_page_token"].as_str().unwrap().replace('=', "%3D");
    let page = registry.must("GET", &format!("webhooks?max_results=1&page_token={token}"), Value::Null).await;
    assert!(page.get("next_page_token").is_none());
    assert!(!registry.must("GET", "webhooks", Value::Null).await.to_string().contains(SECRET));
    assert_eq!(registry.sql("SELECT count(*) FROM webhook WHERE secret LIKE '%s3cret%'").await, 0);
    registry.must("DELETE", &format!("webhooks/{id}"), Value::Null).await;
    let gone = registry.get(&format!("webhooks/{id}")).await;
    let message = format!("Webhook with ID {id} not found.");
    assert_eq!(gone.refusal(), (404, "RESOURCE_DOES_NOT_EXIST", message.as_str()));
}

#[tokio::test]
async fn addresses_inside_and_other_nonsense_are_refused() {
    let registry = Registry::with(WebhookOptions::default()).await;
    let event = json!([{"entity": "MODEL_VERSION", "action": "CREATED"}]);
    for (name, url, events) in [
        ("hook", "https://127.0.0.1/x", event.clone()),
        ("hook", "https://169.254.169.254/latest/meta-data", event.clone()),
        ("hook", "https://[::ffff:10.0.0.1]/", event.clone()),
        ("hook", "https://localhost/", event.clone()),
        ("hook", "http://8.8.8.8/", event.clone()),
        ("hook", "https://user:pass@8.8.8.8/", event.clone()),
        ("-hook", "https://8.8.8.8/", event.clone()),
        ("hook", "https://8.8.8.8/", json!([])),
        ("hook", "https://8.8.8.8/", json!([{"entity": "MODEL_VERSION", "action": "SET"}])),
        ("hook", "https://8.8.8.8/", json!([{"entity": "WEATHER", "action": "SET"}])),
    ] {
        let body = json!({"name": name, "url": url, "events": events});
        let answer = registry.ask("POST", "webhooks", body).await;
        assert_eq!((answer.refusal().0, answer.refusal().1), (400, "INVALID_PARAMETER_VALUE"), "{url} {}", answer.body);
    }
    let body = json!({"name": "hook", "url": "https://8.8.8.8/", "events": event});
    let id = registry.must("POST", "webhooks", body).await["webhook"]["webhook_id"].as_str().unwrap().to_owned();
    // As if the name had resolved to another address by now.
    registry.change("UPDATE webhook SET url = 'https://127.0.0.1:1/'").await;
    let tested = registry.must("POST", &format!("webhooks/{id}/test"), json!({})).await;
    assert_eq!(tested["result"]["success"], false);
    let message = tested["result"]["error_message"].as_str().unwrap();
    assert!(message.contains("non-public"), "{message}");
}

#[tokio::test]
async fn every_change_is_told_once_and_signed() {
    let registry = Registry::new().await;
    let receiver = Receiver::start(Vec::new()).await;
    let events = [
        ("REGISTERED_MODEL", "CREATED"),
        ("MODEL_VERSION", "CREATED"),
        ("MODEL_VERSION_TAG", "SET"),
        ("MODEL_VERSION_TAG", "DELETED"),
        ("MODEL_VERSION_ALIAS", "CREATED"),
        ("MODEL_VERSION_ALIAS", "DELETED"),
    ];
    let id = subscribe(&registry, &receiver.url, &events).await;
    registry.must("POST", "registered-models/create", json!({"name": "owl", "description": "hoots"})).await;
    registry.version("owl", "s3://bucket/owl").await;
    let tag = json!({"name": "owl", "version": "1", "key": "k", "value": "v"});
    registry.must("POST", "model-versions/set-tag", tag.clone()).await;
    registry.must("DELETE", "model-versions/delete-tag", tag).await;
    let alias = json!({"name": "owl", "alias": "champion", "version": "1"});
    registry.must("POST", "registered-models/alias", alias.clone()).await;
    registry.must("DELETE", "registered-models/alias", alias).await;
    let promote = json!({"alias": "champion", "version": 1});
    registry.ask_as(&[], "POST", "/api/v1/models/owl/promotions", promote).await;
    let refused = json!({"alias": "champion", "version": 1, "required": [{"name": "a", "tags": {"a": "b"}}]});
    assert_eq!(registry.ask_as(&[], "POST", "/api/v1/models/owl/promotions", refused).await.status, 422);
    // Not asked for.
    registry.must("POST", "registered-models/set-tag", json!({"name": "owl", "key": "k", "value": "v"})).await;
    tell_all(&registry).await;

    let mut heard = receiver.heard();
    assert!(heard.iter().all(Heard::is_signed));
    heard.sort_by_key(|heard| heard.data()["timestamp"].as_str().unwrap().to_owned());
    let shown: Vec<String> = heard
        .iter()
        .map(|heard| {
            let data = heard.data();
            format!("{}.{}", data["entity"].as_str().unwrap(), data["action"].as_str().unwrap())
        })
        .collect();
    assert_eq!(
        shown,
        [
            "registered_model.created",
            "model_version.created",
            "model_version_tag.set",
            "model_version_tag.deleted",
            "model_version_alias.created",
            "model_version_alias.deleted",
            "model_version_alias.created",
        ]
    );
    assert_eq!(heard[0].data()["data"], json!({"name": "owl", "tags": {}, "description": "hoots"}));
    let version = json!({
        "name": "owl", "version": "1", "source": "s3://bucket/owl", "run_id": null, "tags": {}, "description": null,
    });
    assert_eq!(heard[1].data()["data"], version);
    assert_eq!(heard[2].data()["data"], json!({"name": "owl", "version": "1", "key": "k", "value": "v"}));
    assert_eq!(heard[4].data()["data"], json!({"name": "owl", "alias": "champion", "version": "1"}));
    let told = deliveries(&registry, &id).await;
    assert!(told.iter().all(|row| row["status"] == "DELIVERED" && row["response_status"] == 200), "{told:?}");
}

#[tokio::test]
async fn what_is_refused_is_told_again_under_the_same_name_or_given_up() {
    let registry = Registry::with(WebhookOptions { attempts: 4, ..receivers_here() }).await;
    let busy = Receiver::start(vec![503, 429, 500]).await;
    let deaf = Receiver::start(vec![500; 50]).await;
    let strict = Receiver::start(vec![400]).await;
    let mut hooks = Vec::new();
    for receiver in [&busy, &deaf, &strict] {
        hooks.push(subscribe(&registry, &receiver.url, &[("REGISTERED_MODEL", "CREATED")]).await);
    }
    registry.model("owl", 0).await;
    tell_all(&registry).await;
    let heard = busy.heard();
    assert_eq!(heard.len(), 4);
    assert!(heard.iter().all(Heard::is_signed), "each attempt is signed with its own time");
    let id = heard[0].header("x-mlflow-delivery-id");
    assert!(heard.iter().all(|heard| heard.header("x-mlflow-delivery-id") == id));
    assert_ne!(id, deaf.heard()[0].header("x-mlflow-delivery-id"), "each webhook has deliveries of its own");
    assert_eq!((deaf.heard().len(), strict.heard().len()), (4, 1));
    for (hook, status, attempts) in
        [(&hooks[0], "DELIVERED", 4), (&hooks[1], "GIVEN_UP", 4), (&hooks[2], "GIVEN_UP", 1)]
    {
        let rows = deliveries(&registry, hook).await;
        assert_eq!((&rows[0]["status"], &rows[0]["attempts"]), (&json!(status), &json!(attempts)), "{rows:?}");
    }
}

#[tokio::test]
async fn a_receiver_that_is_away_hears_later_and_a_change_that_failed_is_never_told() {
    let registry = Registry::new().await;
    let receiver = Receiver::start(Vec::new()).await;
    let url = receiver.url.clone();
    let id = subscribe(&registry, &url, &[("REGISTERED_MODEL", "CREATED")]).await;
    drop(receiver);
    registry.model("owl", 0).await;
    assert_eq!(registry.ask("POST", "registered-models/create", json!({"name": "owl"})).await.status, 400);
    let now = chrono::Utc::now().timestamp_millis();
    assert_eq!(registry.deliverer().deliver_due(now).await.unwrap(), 1);
    let rows = deliveries(&registry, &id).await;
    assert_eq!(rows.len(), 1);
    assert_eq!((&rows[0]["status"], rows[0]["error"].is_string()), (&json!("PENDING"), true), "{rows:?}");

    // It is back on another port, and somebody says where.
    let receiver = Receiver::start(Vec::new()).await;
    registry.must("PATCH", &format!("webhooks/{id}"), json!({"url": receiver.url})).await;
    tell_all(&registry).await;
    assert_eq!(receiver.heard().len(), 1);
    assert!(receiver.heard()[0].is_signed());
}

#[tokio::test]
async fn an_attempt_whose_process_died_is_made_again_by_another() {
    let registry = Registry::new().await;
    let receiver = Receiver::start(Vec::new()).await;
    subscribe(&registry, &receiver.url, &[("REGISTERED_MODEL", "CREATED")]).await;
    registry.model("owl", 0).await;
    // As a process leaves it that took it and died.
    registry.change("UPDATE webhook_delivery SET attempts = 1, due_at = due_at + 60000").await;
    let now = chrono::Utc::now().timestamp_millis();
    assert_eq!(registry.deliverer().deliver_due(now).await.unwrap(), 0, "it may still be under way");
    let (one, other) = (registry.deliverer(), registry.deliverer());
    let (one, other) = tokio::join!(one.deliver_due(now + 61_000), other.deliver_due(now + 61_000));
    assert_eq!(one.unwrap() + other.unwrap(), 1, "of two who look one takes it");
    assert_eq!(receiver.heard().len(), 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn the_loop_tells_by_itself_and_stops_when_it_is_told_to() {
    let registry = Registry::new().await;
    let receiver = Receiver::start(vec![503]).await;
    subscribe(&registry, &receiver.url, &[("REGISTERED_MODEL", "CREATED")]).await;
    let (stop, stopped) = watch::channel(false);
    let deliverer = registry.deliverer();
    let serving = tokio::spawn(async move { deliverer.serve(stopped).await });
    registry.model("owl", 0).await;
    for _ in 0..500 {
        if receiver.heard().len() == 2 {
            break;
        }
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    assert_eq!(receiver.heard().len(), 2);
    stop.send(true).unwrap();
    tokio::time::timeout(Duration::from_secs(20), serving).await.unwrap().unwrap();
}

#[tokio::test]
async fn a_test_says_what_the_receiver_answered() {
    let registry = Registry::new().await;
    let receiver = Receiver::start(vec![200, 418]).await;
    let id = subscribe(&registry, &receiver.url, &[("MODEL_VERSION", "CREATED")]).await;
    let good = registry.must("POST", &format!("webhooks/{id}/test"), json!({})).await;
    assert_eq!(good["result"], json!({"success": true, "response_status": 200, "response_body": "heard"}));
    let event = json!({"event": {"entity": "PROMPT_VERSION", "action": "CREATED"}});
    let bad = registry.must("POST", &format!("webhooks/{id}/test"), event).await;
    assert_eq!((&bad["result"]["success"], &bad["result"]["response_status"]), (&json!(false), &json!(418)));
    let heard = receiver.heard();
    assert!(heard.iter().all(Heard::is_signed));
    assert_eq!(heard[0].data()["data"]["name"], "example_model");
    assert_eq!(heard[1].data()["data"]["template"], "Hello {{name}}!");
    drop(receiver);
    let away = registry.must("POST", &format!("webhooks/{id}/test"), json!({})).await;
    assert_eq!(away["result"]["success"], false);
}

#[tokio::test]
async fn a_disabled_webhook_hears_nothing() {
    let registry = Registry::new().await;
    let receiver = Receiver::start(Vec::new()).await;
    let id = subscribe(&registry, &receiver.url, &[("REGISTERED_MODEL", "CREATED")]).await;
    registry.model("owl", 0).await;
    registry.must("PATCH", &format!("webhooks/{id}"), json!({"status": "DISABLED"})).await;
    registry.model("hawk", 0).await;
    tell_all(&registry).await;
    assert_eq!(receiver.heard().len(), 0);
    let rows = deliveries(&registry, &id).await;
    assert_eq!(rows.len(), 1);
    assert_eq!((&rows[0]["status"], &rows[0]["error"]), (&json!("GIVEN_UP"), &json!("the webhook was disabled")));
}
