//! Models come and go while requests are answered.

use std::collections::BTreeSet;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use model_registry::client::{Client, Progress, Source};
use model_registry::register::{Registration, register_folder};
use serde_json::{Value, json};
use tempfile::TempDir;

use crate::server::{Server, config, json, model_folder, problem, said, sample};

/// A registry in a folder, with versions of one model.
struct Registry {
    home: TempDir,
    client: Client,
}

impl Registry {
    async fn open() -> Self {
        let home = tempfile::tempdir().unwrap();
        let client = Client::open(&config(&home, &[])).await.unwrap();
        Self { home, client }
    }

    /// Registers a folder; the registry's number of the version.
    async fn add(&self, folder: &Path) -> String {
        let registration = Registration { name: "wildlife".to_owned(), ..Registration::default() };
        let made = register_folder(&self.client, folder, &registration, &Progress::default()).await.unwrap();
        made.version.version.to_string()
    }

    async fn serve(self) -> (Server, Client) {
        let Self { home, client } = self;
        let server = Server::start_in(home, &[], |options| {
            options.model = "models:/wildlife@champion".parse().unwrap();
            options.poll = std::time::Duration::ZERO;
        })
        .await;
        server.wait_ready().await;
        (server, client)
    }
}

async fn operate(server: &Server, path: &str) -> Value {
    json(server.client.post(server.url(path)).send().await.unwrap()).await
}

async fn point(client: &Client, alias: &str, number: &str) {
    let Source::Version(name, version) = format!("models:/wildlife/{number}").parse().unwrap() else {
        panic!("no version")
    };
    client.set_alias(&name, alias, version).await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn an_alias_is_followed_between_two_requests_and_bad_models_stay_out() {
    let registry = Registry::open().await;
    let place = registry.home.path().to_owned();
    let first = registry.add(&model_folder(&place, 1)).await;
    let second = registry.add(&model_folder(&place, 2)).await;
    let broken = model_folder(&place, 3);
    std::fs::write(broken.join("embedder.pt"), "no network").unwrap();
    let third = registry.add(&broken).await;
    point(&registry.client, "champion", &first).await;
    let (server, client) = registry.serve().await;
    let server = Arc::new(server);
    let picture = sample("farmyard/cow.jpg");
    let expected = server.found(&picture).await;
    assert_eq!(expected["model"]["source"], format!("models:/wildlife/{first}"));

    // Somebody always asks.
    let stop = Arc::new(AtomicBool::new(false));
    let asking = tokio::spawn({
        let (server, stop, picture) = (Arc::clone(&server), Arc::clone(&stop), picture.clone());
        async move {
            let (mut versions, mut answers) = (BTreeSet::new(), Vec::new());
            let mut ask = async |server: &Server| {
                let answer = server.found(&picture).await;
                versions.insert(answer["model"]["source"].as_str().unwrap().to_owned());
                answers.push(answer);
            };
            while !stop.load(Ordering::Relaxed) {
                ask(&server).await;
            }
            (versions, answers)
        }
    });

    point(&client, "champion", &second).await;
    let status = operate(&server, "/v1/model/refresh").await;
    assert_eq!(status["current"]["source"], format!("models:/wildlife/{second}"), "{status}");
    assert_eq!(status["previous"]["source"], format!("models:/wildlife/{first}"));
    let now = server.found(&picture).await;
    assert_eq!(now["model"]["source"], format!("models:/wildlife/{second}"));
    assert_ne!(now["model"]["version"], expected["model"]["version"]);

    point(&client, "champion", &third).await;
    let refused = server.client.post(server.url("/v1/model/refresh")).send().await.unwrap();
    let (code, detail) = problem(refused).await;
    assert!(code == 422 && detail.contains("refused"), "{code} {detail}");
    let status = json(server.get("/v1/model").await).await;
    assert_eq!(status["current"]["source"], format!("models:/wildlife/{second}"), "the one before goes on");
    assert_eq!(status["refused"]["source"], format!("models:/wildlife/{third}"), "{status}");
    assert_eq!(server.metric("safari_serving_swaps_total{outcome=\"refused\"}").await, 1.0);

    let status = operate(&server, "/v1/model/rollback").await;
    assert_eq!(status["current"]["source"], format!("models:/wildlife/{first}"), "{status}");
    stop.store(true, Ordering::Relaxed);
    let (versions, answers) = asking.await.unwrap();
    assert!(versions.len() == 2 && answers.len() > 4, "{versions:?} in {} answers", answers.len());
    let boxes = |answer: &Value| {
        let found = answer["media"][0]["detections"].as_array().unwrap().clone();
        // What tells of the version differs.
        found.into_iter().map(|mut one| (one["id"].take(), one["token"].take(), one).2).collect::<Vec<_>>()
    };
    for answer in &answers {
        assert_eq!(boxes(answer), boxes(&expected), "{answer}");
    }
    let server = Arc::into_inner(server).unwrap();
    server.end().await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_watched_alias_is_followed_by_itself() {
    let registry = Registry::open().await;
    let place = registry.home.path().to_owned();
    let first = registry.add(&model_folder(&place, 1)).await;
    let second = registry.add(&model_folder(&place, 2)).await;
    point(&registry.client, "champion", &first).await;
    let Registry { home, client } = registry;
    let server = Server::start_in(home, &[], |options| {
        options.model = "models:/wildlife@champion".parse().unwrap();
        options.poll = std::time::Duration::from_millis(50);
    })
    .await;
    server.wait_ready().await;
    point(&client, "champion", &second).await;
    let named = format!("models:/wildlife/{second}");
    let follows = async || json(server.get("/v1/model").await).await["current"]["source"] == named.as_str();
    server.wait_for("the alias is followed", follows).await;
    server.end().await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_second_model_answers_its_share_or_looks_besides() {
    let registry = Registry::open().await;
    let place = registry.home.path().to_owned();
    let first = registry.add(&model_folder(&place, 1)).await;
    let second = registry.add(&model_folder(&place, 2)).await;
    point(&registry.client, "champion", &first).await;
    let (server, _client) = registry.serve().await;
    let put = async |body: Value| {
        let request = server.client.put(server.url("/v1/model/candidate")).header("content-type", "application/json");
        request.body(body.to_string()).send().await.unwrap()
    };
    let named = format!("models:/wildlife/{second}");

    let status = json(put(json!({"model": named, "mode": "canary", "percent": 50})).await).await;
    assert_eq!(status["candidate"]["model"]["source"], named.as_str(), "{status}");
    let picture = sample("farmyard/cow.jpg");
    let mut sources = BTreeSet::new();
    // Half of them by chance: 40 in a row for one model come once in 10^12 times.
    for _ in 0..40 {
        sources.insert(server.found(&picture).await["model"]["source"].as_str().unwrap().to_owned());
    }
    assert_eq!(sources.len(), 2, "{sources:?}");

    json(put(json!({"model": named, "mode": "shadow", "percent": 100})).await).await;
    let answer = server.found(&sample("farmyard/pig.jpg")).await;
    assert_eq!(answer["model"]["source"], format!("models:/wildlife/{first}"));
    let version = status["candidate"]["model"]["version"].as_str().unwrap();
    let same = format!("safari_serving_shadow_total{{outcome=\"same\",version=\"{version}\"}}");
    server.wait_for("the shadow has looked", async || server.metric(&same).await == 1.0).await;

    for (body, expected) in [
        (json!({"model": named, "mode": "canary", "percent": 101}), 400),
        (json!({"model": "/etc", "mode": "canary", "percent": 1}), 400),
        (json!({"model": "models:/wildlife/99", "mode": "canary", "percent": 1}), 502),
    ] {
        assert_eq!(problem(put(body.clone()).await).await.0, expected, "{body}");
    }
    let promoted = operate(&server, "/v1/model/promote").await;
    assert_eq!(promoted["current"]["source"], named.as_str(), "{promoted}");
    assert_eq!(said(&server.found(&picture).await)[0]["category"], "animal");
    let none = server.client.post(server.url("/v1/model/promote")).send().await.unwrap();
    assert_eq!(problem(none).await.0, 409);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_model_in_memory_is_not_loaded_again_and_a_candidate_may_go_by_itself() {
    let registry = Registry::open().await;
    let place = registry.home.path().to_owned();
    let first = registry.add(&model_folder(&place, 1)).await;
    let second = registry.add(&model_folder(&place, 2)).await;
    let third = registry.add(&model_folder(&place, 3)).await;
    point(&registry.client, "champion", &first).await;
    let (server, client) = registry.serve().await;
    let put = async |number: &str, more: Value| {
        let mut body = json!({"model": format!("models:/wildlife/{number}"), "mode": "canary"});
        body.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
        let request = server.client.put(server.url("/v1/model/candidate")).header("content-type", "application/json");
        json(request.body(body.to_string()).send().await.unwrap()).await
    };

    // Its share changes though the registry does not have it any more.
    put(&third, json!({"percent": 5, "for_seconds": 60})).await;
    let Source::Version(name, version) = format!("models:/wildlife/{third}").parse().unwrap() else {
        panic!("no version")
    };
    client.delete_version(&name, version).await.unwrap();
    let status = put(&third, json!({"percent": 100, "for_seconds": 5})).await;
    assert_eq!(status["candidate"]["percent"], 100, "{status}");
    let answered = server.found(&sample("farmyard/cow.jpg")).await;
    assert_eq!(answered["model"]["source"], format!("models:/wildlife/{third}"));
    let version = answered["model"]["version"].as_str().unwrap().to_owned();
    let counted =
        |outcome: &str| format!("safari_serving_answer_seconds_count{{outcome=\"{outcome}\",version=\"{version}\"}}");
    assert_eq!(server.metric(&counted("ok")).await, 1.0);
    for of in ["box", "name"] {
        let scores =
            |bound: &str| format!("safari_serving_score_bucket{{of=\"{of}\",version=\"{version}\",le=\"{bound}\"}}");
        assert_eq!(server.metric(&scores("+Inf")).await, 1.0, "{of}");
        assert_eq!(server.metric(&scores("0")).await, 0.0, "a cow has a score of its {of}");
    }
    let refused = server.client.post(server.url("/v1/detections")).body("no picture").send().await.unwrap();
    assert_eq!(problem(refused).await.0, 422);
    assert_eq!(server.metric(&counted("failed")).await, 0.0, "that is no fault of the model");
    let gone = async || json(server.get("/v1/model").await).await["candidate"].is_null();
    server.wait_for("the candidate goes away", gone).await;
    assert_eq!(server.found(&sample("farmyard/cow.jpg")).await["model"]["source"], format!("models:/wildlife/{first}"));

    // The alias comes to name the candidate, and goes back.
    let before = json(server.get("/v1/model").await).await;
    put(&second, json!({"percent": 1})).await;
    point(&client, "champion", &second).await;
    let status = operate(&server, "/v1/model/refresh").await;
    assert_eq!(status["current"]["source"], format!("models:/wildlife/{second}"), "{status}");
    assert!(status["candidate"].is_null(), "{status}");
    point(&client, "champion", &first).await;
    let after = operate(&server, "/v1/model/refresh").await;
    assert_eq!((&after["current"], &after["loaded_at"]), (&before["current"], &before["loaded_at"]), "{after}");
}
