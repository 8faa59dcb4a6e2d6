//! A server with the part of `safari serve`'s API that a rollout asks. It follows the alias only when it is told to look.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};

use axum::extract::State;
use axum::http::StatusCode;
use axum::routing::{get, post, put};
use axum::{Json, Router};
use model_registry::client::Client;
use serde_json::{Value, json};
use tokio::net::TcpListener;
use tokio::task::JoinHandle;
use url::Url;

/// How often a look at the counters finds more answers, and what they are.
#[derive(Clone, Copy)]
pub struct Behaviour {
    /// Answers of each version between two looks.
    pub answers: u64,
    /// Of the candidate's, how many fail.
    pub failures: u64,
    /// Whether the candidate finds something in pictures in which the stable version finds nothing.
    pub drifts: bool,
    /// Whether it takes no candidate.
    pub refuses: bool,
}

impl Default for Behaviour {
    fn default() -> Self {
        Self { answers: 200, failures: 0, drifts: false, refuses: false }
    }
}

/// A running replica. It is away when this is dropped.
pub struct Replica {
    pub url: Url,
    pub models: Arc<Mutex<Models>>,
    serving: JoinHandle<()>,
}

/// What it has in memory.
pub struct Models {
    pub behaviour: Behaviour,
    client: Client,
    pub current: String,
    pub candidate: Option<(String, u64)>,
    /// Greatest share that a candidate had.
    pub greatest: u64,
    /// Answers and failures by source.
    counted: BTreeMap<String, (u64, u64)>,
}

type Shared = Arc<Mutex<Models>>;

impl Replica {
    pub async fn start(client: &Client, current: &str, behaviour: Behaviour) -> Self {
        Self::start_at("127.0.0.1:0", client, current, behaviour).await
    }

    /// At an address that another has left.
    pub async fn start_at(address: &str, client: &Client, current: &str, behaviour: Behaviour) -> Self {
        let models = Arc::new(Mutex::new(Models {
            behaviour,
            client: client.clone(),
            current: current.to_owned(),
            candidate: None,
            greatest: 0,
            counted: BTreeMap::new(),
        }));
        let router = Router::new()
            .route("/v1/model", get(show))
            .route("/v1/model/candidate", put(set).delete(remove))
            .route("/v1/model/refresh", post(refresh))
            .route("/v1/model/promote", post(promote))
            .route("/metrics", get(metrics))
            .with_state(Arc::clone(&models));
        let listener = TcpListener::bind(address).await.unwrap();
        let url = format!("http://{}", listener.local_addr().unwrap()).parse().unwrap();
        let serving = tokio::spawn(async move { axum::serve(listener, router).await.unwrap() });
        Self { url, models, serving }
    }

    pub fn current(&self) -> String {
        self.models.lock().unwrap().current.clone()
    }

    pub fn candidate(&self) -> Option<(String, u64)> {
        self.models.lock().unwrap().candidate.clone()
    }

    pub fn greatest(&self) -> u64 {
        self.models.lock().unwrap().greatest
    }
}

impl Drop for Replica {
    fn drop(&mut self) {
        self.serving.abort();
    }
}

fn status(models: &Models) -> Json<Value> {
    let model = |source: &str| json!({"name": "wildlife", "version": label(source), "source": source});
    let candidate = models.candidate.as_ref();
    Json(json!({
        "current": model(&models.current),
        "previous": null,
        "candidate": candidate.map(|(source, percent)| json!({"model": model(source), "mode": "canary", "percent": percent})),
        "refused": null,
    }))
}

fn label(source: &str) -> String {
    format!("content-of-{}", source.rsplit('/').next().unwrap())
}

async fn show(State(models): State<Shared>) -> Json<Value> {
    status(&models.lock().unwrap())
}

async fn set(State(models): State<Shared>, Json(asked): Json<Value>) -> Result<Json<Value>, (StatusCode, Json<Value>)> {
    let mut models = models.lock().unwrap();
    if models.behaviour.refuses {
        let detail = "the model is refused: its confidences lie outside of 0 to 1";
        return Err((StatusCode::UNPROCESSABLE_ENTITY, Json(json!({"detail": detail}))));
    }
    let percent = asked["percent"].as_u64().unwrap();
    models.candidate = Some((asked["model"].as_str().unwrap().to_owned(), percent));
    models.greatest = models.greatest.max(percent);
    Ok(status(&models))
}

async fn remove(State(models): State<Shared>) -> Json<Value> {
    let mut models = models.lock().unwrap();
    models.candidate = None;
    status(&models)
}

async fn promote(State(models): State<Shared>) -> Json<Value> {
    let mut models = models.lock().unwrap();
    if let Some((source, _)) = models.candidate.take() {
        models.current = source;
    }
    status(&models)
}

async fn refresh(State(models): State<Shared>) -> Json<Value> {
    let client = models.lock().unwrap().client.clone();
    let named = client.version_by_alias("wildlife", "champion").await.unwrap().unwrap();
    let mut models = models.lock().unwrap();
    models.current = format!("models:/wildlife/{}", named.version);
    if models.candidate.as_ref().is_some_and(|(source, _)| *source == models.current) {
        models.candidate = None;
    }
    status(&models)
}

/// Counters, after some more answers have come.
async fn metrics(State(models): State<Shared>) -> String {
    let mut models = models.lock().unwrap();
    let behaviour = models.behaviour;
    let current = models.current.clone();
    models.counted.entry(current.clone()).or_default().0 += behaviour.answers;
    if let Some((candidate, _)) = models.candidate.clone() {
        let counted = models.counted.entry(candidate).or_default();
        counted.0 += behaviour.answers - behaviour.failures;
        counted.1 += behaviour.failures;
    }
    let mut text = String::new();
    let there = [(Some(&current), "current"), (models.candidate.as_ref().map(|(source, _)| source), "candidate")];
    for (source, role) in there {
        let Some(source) = source else { continue };
        let version = label(source);
        text.push_str(&format!(
            "safari_serving_model{{version=\"{version}\",source=\"{source}\",role=\"{role}\"}} 1\n"
        ));
    }
    for (source, (good, failed)) in &models.counted {
        let version = label(source);
        for (outcome, count) in [("ok", good), ("failed", failed)] {
            for bound in ["0.1", "+Inf"] {
                text.push_str(&format!(
                    "safari_serving_answer_seconds_bucket{{outcome=\"{outcome}\",version=\"{version}\",le=\"{bound}\"}} {count}\n"
                ));
            }
        }
        let blank = if behaviour.drifts && *source != current { 0 } else { good / 2 };
        for (bound, count) in [("0", blank), ("1", *good), ("+Inf", *good)] {
            text.push_str(&format!(
                "safari_serving_score_bucket{{of=\"box\",version=\"{version}\",le=\"{bound}\"}} {count}\n"
            ));
        }
    }
    text
}
