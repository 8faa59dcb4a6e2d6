//! The REST API, asked without a socket.

use axum::Router;
use axum::body::{Body, to_bytes};
use axum::http::{Request, StatusCode};
use pipeline::Scheduler;
use pipeline::clock::Timestamp;
use serde_json::{Value, json};
use tower::ServiceExt;

use crate::common::{dag, store};

/// Status and body of an answer; a body that is no JSON as a string.
async fn ask(router: &Router, method: &str, path: &str, body: &str) -> (StatusCode, Value) {
    let request = Request::builder().method(method).uri(path).body(Body::from(body.to_owned())).unwrap();
    let answer = router.clone().oneshot(request).await.unwrap();
    let status = answer.status();
    let bytes = to_bytes(answer.into_body(), 1 << 20).await.unwrap();
    let text = String::from_utf8(bytes.to_vec()).unwrap();
    (status, serde_json::from_str(&text).unwrap_or(Value::String(text)))
}

#[tokio::test]
async fn runs_are_started_listed_shown_and_cancelled() {
    let home = tempfile::tempdir().unwrap();
    let store = store(home.path()).await;
    let counted = dag("dag: counted\nparams:\n  n: {type: integer}\ntasks:\n  a: {job: give}\n");
    store.register(&counted, Timestamp::now()).await.unwrap();
    let api = pipeline::api::router(store.clone());

    let (status, run) = ask(&api, "POST", "/api/v1/dags/counted/runs", "{\"params\": {\"n\": 3}}").await;
    assert_eq!(status, StatusCode::CREATED, "{run}");
    assert_eq!((&run["state"], &run["params"]), (&json!("queued"), &json!({"n": 3})));
    let id = run["id"].as_str().unwrap();
    let (_, shown) = ask(&api, "GET", &format!("/api/v1/runs/{id}"), "").await;
    assert_eq!(shown["tasks"][0]["state"], "waiting", "{shown}");
    Scheduler::new(store.clone(), std::time::Duration::from_secs(1)).pass(Timestamp::now()).await.unwrap();
    let (_, metrics) = ask(&api, "GET", "/metrics", "").await;
    let metrics = metrics.as_str().unwrap();
    assert!(metrics.contains("safari_runs{state=\"running\"} 1"), "{metrics}");
    assert!(metrics.contains("safari_task_instances{state=\"ready\"} 1"), "{metrics}");
    let (status, cancelled) = ask(&api, "POST", &format!("/api/v1/runs/{id}/cancel"), "").await;
    assert_eq!((status, &cancelled["state"]), (StatusCode::OK, &json!("cancelled")));

    for n in 0..4 {
        ask(&api, "POST", "/api/v1/dags/counted/runs", &json!({"params": {"n": n}}).to_string()).await;
    }
    let (_, first) = ask(&api, "GET", "/api/v1/runs?limit=3&dag=counted", "").await;
    let next = first["next"].as_str().unwrap();
    let (_, second) = ask(&api, "GET", &format!("/api/v1/runs?limit=3&before={next}"), "").await;
    assert_eq!((first["runs"].as_array().unwrap().len(), second["runs"].as_array().unwrap().len()), (3, 2));
    assert_eq!(second["next"], Value::Null);
    assert_eq!(second["runs"][1]["id"], id);
    assert_eq!(ask(&api, "GET", "/api/v1/runs?dag=other", "").await.1["runs"], json!([]));

    assert_eq!(ask(&api, "POST", "/api/v1/dags/counted/pause", "").await.0, StatusCode::NO_CONTENT);
    let (_, dags) = ask(&api, "GET", "/api/v1/dags", "").await;
    assert_eq!((&dags["dags"][0]["name"], &dags["dags"][0]["paused"]), (&json!("counted"), &json!(true)));
    assert_eq!(ask(&api, "GET", "/healthz", "").await.0, StatusCode::OK);
}

#[tokio::test]
async fn what_cannot_be_done_is_told_as_a_problem() {
    let home = tempfile::tempdir().unwrap();
    let store = store(home.path()).await;
    let counted = dag("dag: counted\nparams:\n  n: {type: integer}\ntasks:\n  a: {job: give}\n");
    store.register(&counted, Timestamp::now()).await.unwrap();
    let api = pipeline::api::router(store);
    let unknown = "/api/v1/runs/019a0000-0000-7000-8000-000000000000";
    for (method, path, body, status, words) in [
        ("GET", "/api/v1/runs/nonsense", "", 400, "`nonsense` is no run"),
        ("GET", unknown, "", 404, "list the runs to find its id"),
        ("GET", "/api/v1/runs?limit=many", "", 400, "limit"),
        ("GET", "/api/v1/runs?order=up", "", 400, "order"),
        ("POST", "/api/v1/dags/none/runs", "", 404, "no dag named `none`"),
        ("POST", "/api/v1/dags/counted/runs", "", 422, "n"),
        ("POST", "/api/v1/dags/counted/runs", "{\"params\": {\"n\": \"x\"}}", 422, "n"),
        ("POST", "/api/v1/dags/counted/runs", "{\"parms\": {}}", 400, "parms"),
        ("POST", "/api/v1/dags/counted/runs", "{", 400, "the body is not as it should be"),
        ("GET", "/nowhere", "", 404, "openapi.json"),
        ("DELETE", "/api/v1/runs", "", 405, "another method"),
    ] {
        let (got, problem) = ask(&api, method, path, body).await;
        assert_eq!((got.as_u16(), &problem["status"]), (status, &json!(status)), "{method} {path}: {problem}");
        assert!(problem["detail"].as_str().unwrap().contains(words), "{method} {path}: {problem}");
    }
}

#[tokio::test]
async fn the_document_names_every_path() {
    let home = tempfile::tempdir().unwrap();
    let api = pipeline::api::router(store(home.path()).await);
    let (status, document) = ask(&api, "GET", "/api/v1/openapi.json", "").await;
    assert_eq!(status, StatusCode::OK);
    let paths: Vec<&String> = document["paths"].as_object().unwrap().keys().collect();
    assert_eq!(paths.len(), 15, "{paths:?}");
    for (path, item) in document["paths"].as_object().unwrap() {
        let method = if item.get("get").is_some() { "GET" } else { "POST" };
        let (status, _) =
            ask(&api, method, &path.replace("{id}", "x").replace("{name}", "x").replace("{task}", "x"), "").await;
        assert!(status != StatusCode::METHOD_NOT_ALLOWED && status.as_u16() < 500, "{method} {path}: {status}");
    }
}
