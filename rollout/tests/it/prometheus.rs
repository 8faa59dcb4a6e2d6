//! Counters as Prometheus has them: a real server that scrapes the replicas, and answers that a real one gives now and then.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use axum::extract::{Query, State};
use axum::http::{HeaderMap, StatusCode};
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use axum::{Json, Router};
use rollout::fleet::ClusterAccess;
use rollout::prometheus::PrometheusSource;
use rollout::{Access, NewRollout, Pace, Phase, Rollout, Rollouts, Tokens};
use serde_json::{Value, json};
use tokio::net::TcpListener;

use crate::replica::{Behaviour, Replica};
use crate::world::{CANDIDATE, STABLE, World, to};

/// What a server answers.
#[derive(Clone, Copy, PartialEq)]
enum Mode {
    /// 100 more answers of each version at each look, of which so many of the candidate failed.
    Counts { failed: u64 },
    /// Its values are no numbers.
    NotANumber,
    /// It knows no such series.
    Empty,
    /// A proxy before it answers.
    Away,
    /// It does not understand the question.
    Refuses,
}

#[derive(Clone)]
struct Recorded {
    mode: Mode,
    looks: Arc<Mutex<u64>>,
    authorization: Arc<Mutex<Option<String>>>,
}

async fn query(
    State(recorded): State<Recorded>,
    headers: HeaderMap,
    Query(asked): Query<BTreeMap<String, String>>,
) -> Response {
    let authorization = headers.get("authorization").map(|value| value.to_str().unwrap().to_owned());
    *recorded.authorization.lock().unwrap() = authorization;
    let failed = match recorded.mode {
        Mode::Away => return (StatusCode::BAD_GATEWAY, "<html>bad gateway</html>").into_response(),
        Mode::Refuses => {
            let error = json!({"status": "error", "errorType": "bad_data", "error": "1:3: parse error"});
            return (StatusCode::BAD_REQUEST, Json(error)).into_response();
        }
        Mode::Empty => return vector(Vec::new()),
        Mode::NotANumber => 0,
        Mode::Counts { failed } => failed,
    };
    let labels = [(STABLE, "content-of-1"), (CANDIDATE, "content-of-2")];
    if asked["query"].starts_with("safari_serving_model{namespace=\"e2e\",source=") {
        let series = |(source, version): (&str, &str)| json!({"metric": {"source": source, "version": version, "instance": "a:1"}, "value": [1.5, "1"]});
        return vector(labels.into_iter().map(series).collect());
    }
    let looks = {
        let mut looks = recorded.looks.lock().unwrap();
        *looks += 1;
        *looks
    };
    let mut all = Vec::new();
    for (source, version) in labels {
        let failed = if source == CANDIDATE { failed * looks } else { 0 };
        for (outcome, count) in [("ok", 100 * looks - failed), ("failed", failed)] {
            for bound in ["0.1", "+Inf"] {
                let value = if recorded.mode == Mode::NotANumber { "NaN".to_owned() } else { count.to_string() };
                all.push(json!({"metric": {
                    "__name__": "safari_serving_answer_seconds_bucket", "instance": "a:1", "outcome": outcome,
                    "version": version, "le": bound,
                }, "value": [1.5, value]}));
            }
        }
        for bound in ["0", "+Inf"] {
            all.push(json!({"metric": {
                "__name__": "safari_serving_score_bucket", "instance": "a:1", "of": "box", "version": version, "le": bound,
            }, "value": [1.5, (50 * looks).to_string()]}));
        }
    }
    vector(all)
}

fn vector(result: Vec<Value>) -> Response {
    Json(json!({"status": "success", "data": {"resultType": "vector", "result": result}})).into_response()
}

/// A rollout of which a server of this mode tells; and what the server was told of who asks.
async fn judged_by(world: &World, mode: Mode) -> (Rollout, Option<String>) {
    let recorded = Recorded { mode, looks: Arc::default(), authorization: Arc::default() };
    let router = Router::new().route("/behind/a/proxy/api/v1/query", get(query)).with_state(recorded.clone());
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let source = PrometheusSource {
        matchers: "namespace=\"e2e\"".to_owned(),
        ..PrometheusSource::new(&format!("http://{}/behind/a/proxy", listener.local_addr().unwrap())).unwrap()
    };
    let serving = tokio::spawn(async move { axum::serve(listener, router).await.unwrap() });
    // By the replicas' own counters the candidate would be aborted.
    let replicas = world.replicas(1, Behaviour { failures: 100, ..Behaviour::default() }).await;
    let ended = roll_out(world, &replicas, source).await;
    serving.abort();
    let authorization = recorded.authorization.lock().unwrap().clone();
    (ended, authorization)
}

async fn roll_out(world: &World, replicas: &[Replica], source: PrometheusSource) -> Rollout {
    let access = Access {
        tokens: Tokens::new(|_| None),
        cluster: ClusterAccess::default(),
        // As a setting; a plan does not name it.
        prometheus: Some(source),
        prometheus_authorization: rollout::Authorization::new("Bearer owl"),
    };
    let pace = Pace { look: Duration::from_millis(100), lease: Duration::from_secs(2) };
    let rollouts = Rollouts::new(world.store.clone(), world.client.clone(), access, pace);
    let mut new: NewRollout = to(replicas);
    new.plan.patience = Duration::from_secs(6);
    let begun = rollouts.start(&new).await.unwrap();
    assert!(begun.stored.plan.prometheus.is_some(), "whoever goes on with it finds where it is counted");
    let mut told = Vec::new();
    let following = rollouts.follow(begun.id, |event| told.push(event.text.clone()));
    let ended = tokio::time::timeout(Duration::from_secs(60), following).await;
    ended.unwrap_or_else(|_| panic!("it has no end: {told:#?}")).unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn it_is_judged_by_what_the_server_has_counted() {
    let world = World::sqlite().await;
    let cases = [
        (Mode::Counts { failed: 20 }, "answers of the candidate failed"),
        (Mode::NotANumber, "0 of 50 answers"),
        (Mode::Empty, "has no safari_serving_model of models:/wildlife/1"),
        (Mode::Away, "answers 502 Bad Gateway"),
        (Mode::Refuses, "refuses: 1:3: parse error"),
    ];
    for (mode, word) in cases {
        let (ended, _) = judged_by(&world, mode).await;
        assert!(ended.phase == Phase::Aborted && ended.note.contains(word), "{}", ended.note);
        assert_eq!(world.champion().await, 1);
    }
    let (ended, authorization) = judged_by(&world, Mode::Counts { failed: 0 }).await;
    assert_eq!((ended.phase, world.champion().await), (Phase::Promoted, 2), "{}", ended.note);
    assert_eq!(authorization.as_deref(), Some("Bearer owl"));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_server_that_is_not_there_ends_the_rollout_after_its_patience() {
    let world = World::sqlite().await;
    let replicas = world.replicas(1, Behaviour::default()).await;
    let nobody = PrometheusSource::new("http://127.0.0.1:1").unwrap();
    let ended = roll_out(&world, &replicas, nobody).await;
    assert_eq!(ended.phase, Phase::Aborted);
    assert!(ended.note.contains("http://127.0.0.1:1 does not answer"), "{}", ended.note);
    assert!(ended.note.contains("too little to judge by"), "{}", ended.note);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_real_server_that_scrapes_the_replicas_gives_their_counters() {
    let server = e2e::prometheus::Server::start().await.unwrap();
    let source =
        PrometheusSource { matchers: "namespace=\"e2e\"".to_owned(), ..PrometheusSource::new(&server.url()).unwrap() };
    for (behaviour, phase) in [
        (Behaviour { failures: 50, ..Behaviour::default() }, Phase::Aborted),
        (Behaviour { drifts: true, ..Behaviour::default() }, Phase::Aborted),
        (Behaviour::default(), Phase::Promoted),
    ] {
        let world = World::sqlite().await;
        let replicas = world.replicas(2, behaviour).await;
        let targets: Vec<String> =
            replicas.iter().map(|replica| replica.url.socket_addrs(|| None).unwrap()[0].to_string()).collect();
        server.scrape(&targets).unwrap();
        let ended = roll_out(&world, &replicas, source.clone()).await;
        assert_eq!(ended.phase, phase, "{}", ended.note);
        let word = match phase {
            Phase::Promoted => "version 2 answers at all 2 replicas",
            _ if behaviour.drifts => "stability index",
            _ => "max_error_rate",
        };
        assert!(ended.note.contains(word), "{}", ended.note);
    }
}
