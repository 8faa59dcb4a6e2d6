//! The REST API, asked without a socket.

use axum::Router;
use axum::body::{Body, to_bytes};
use axum::http::{Request, StatusCode};
use pipeline::Scheduler;
use pipeline::clock::Timestamp;
use serde_json::{Value, json};
use tower::ServiceExt;

use crate::common::{dag, run_in, runner, store};

/// Status and body of an answer; a body that is no JSON as a string.
pub async fn ask(router: &Router, method: &str, path: &str, body: &str) -> (StatusCode, Value) {
    let request = Request::builder().method(method).uri(path).header("Content-Type", "application/json; charset=utf-8");
    let request = request.body(Body::from(body.to_owned())).unwrap();
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
    for (filter, count) in [
        ("dag=other", 0),
        ("dag=counted", 5),
        ("state=cancelled", 1),
        ("state=queued&dag=counted", 4),
        ("state=failed", 0),
        ("cause=manual&state=cancelled", 1),
        ("cause=schedule", 0),
    ] {
        let (_, listed) = ask(&api, "GET", &format!("/api/v1/runs?{filter}"), "").await;
        assert_eq!(listed["runs"].as_array().unwrap().len(), count, "{filter}: {listed}");
    }

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
        ("GET", "/api/v1/runs?limit=0", "", 400, "from 1 to 1000"),
        ("GET", "/api/v1/runs?limit=1001", "", 400, "from 1 to 1000"),
        ("GET", "/api/v1/runs?order=up", "", 400, "order"),
        ("GET", "/api/v1/runs?state=lost", "", 400, "succeeded_with_failures"),
        ("GET", "/api/v1/runs?dag=a%00b", "", 400, "NUL"),
        ("GET", "/api/v1/runs/%FF", "", 400, ""),
        ("GET", "/api/v1/dags/none", "", 404, "no dag named `none`"),
        ("GET", "/api/v1/dags/a%00b", "", 400, "NUL"),
        ("GET", "/api/v1/backfills/019a0000-0000-7000-8000-000000000000", "", 404, "list the backfills"),
        ("POST", "/api/v1/asset-updates", "{\"asset\": \"two words\"}", 422, "cannot name an asset"),
        ("POST", "/api/v1/asset-updates", "", 400, "asset"),
        ("POST", "/api/v1/dags/counted/runs", "null", 422, "n"),
        ("POST", "/api/v1/dags/counted/backfills", "{\"from\": \"x\", \"to\": \"y\"}", 400, "`x` is no moment"),
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
    assert_eq!(paths.len(), 28, "{paths:?}");
    // Events never end.
    for (path, item) in document["paths"].as_object().unwrap() {
        if path.ends_with("/events") {
            continue;
        }
        let method = if item.get("get").is_some() { "GET" } else { "POST" };
        let named =
            ["{id}", "{name}", "{task}", "{version}"].iter().fold(path.clone(), |path, part| path.replace(part, "x"));
        let (status, _) = ask(&api, method, &named, "").await;
        assert!(status != StatusCode::METHOD_NOT_ALLOWED && status.as_u16() < 500, "{method} {path}: {status}");
    }
}

#[tokio::test]
async fn items_come_in_by_a_webhook_once_and_not_without_bound() {
    let home = tempfile::tempdir().unwrap();
    let store = store(home.path()).await;
    let live = dag("dag: live\ncontinuous: {webhook: new, max_batch: 1}\ntasks: {a: {job: give}}");
    store.register(&live, Timestamp::now()).await.unwrap();
    let api = pipeline::api::router(store.clone());
    let record = json!({"eventName": "ObjectCreated:Put", "s3": {
        "bucket": {"name": "traps"}, "object": {"key": "a.jpg", "size": 7, "sequencer": "1"}}});
    let body = json!({"Records": [record]}).to_string();
    for accepted in [1, 0] {
        let (status, answer) = ask(&api, "POST", "/api/v1/webhooks/new", &body).await;
        assert_eq!((status, answer), (StatusCode::ACCEPTED, json!({"accepted": accepted})));
    }
    let (status, told) = ask(&api, "POST", "/api/v1/webhooks/old", &body).await;
    assert_eq!(status, StatusCode::NOT_FOUND, "{told}");
    assert_eq!(ask(&api, "POST", "/api/v1/webhooks/new", "").await.0, StatusCode::BAD_REQUEST);
    let (_, streams) = ask(&api, "GET", "/api/v1/streams", "").await;
    assert_eq!((&streams["streams"][0]["dag"], &streams["streams"][0]["waiting"]), (&json!("live"), &json!(1)));
    let (_, metrics) = ask(&api, "GET", "/metrics", "").await;
    let metrics = metrics.as_str().unwrap();
    assert!(metrics.contains("safari_stream_waiting_items{dag=\"live\"} 1"), "{metrics}");

    let many: Vec<Value> = (0..10_000).map(|n| json!({"id": n})).collect();
    ask(&api, "POST", "/api/v1/webhooks/new", &Value::from(many).to_string()).await;
    let request = Request::builder().method("POST").uri("/api/v1/webhooks/new").body(Body::from("[1]")).unwrap();
    let answer = api.clone().oneshot(request).await.unwrap();
    assert_eq!(answer.status(), StatusCode::TOO_MANY_REQUESTS);
    assert_eq!(answer.headers()["retry-after"], "5");
}

#[tokio::test]
async fn lists_have_pages() {
    let home = tempfile::tempdir().unwrap();
    let store = store(home.path()).await;
    for name in ["a", "b", "c"] {
        let yaml = format!("dag: {name}\nschedule: '@hourly'\ntasks:\n  x: {{job: give}}\n");
        store.register(&dag(&yaml), Timestamp::now()).await.unwrap();
    }
    store.pause("b", true).await.unwrap();
    let api = pipeline::api::router(store);
    for _ in 0..3 {
        let day = "{\"from\": \"2026-03-01T00:00:00Z\", \"to\": \"2026-03-02T00:00:00+01:00\", \"rerun\": \"all\"}";
        let (status, made) = ask(&api, "POST", "/api/v1/dags/a/backfills", day).await;
        assert_eq!((status, &made["rerun"]), (StatusCode::CREATED, &json!("all")), "{made}");
        assert_eq!(made["to"], "2026-03-01T23:00:00.000Z");
        let (status, told) = ask(&api, "POST", "/api/v1/asset-updates", "{\"asset\": \"s3://b/x\"}").await;
        assert_eq!((status, &told["asset"]), (StatusCode::CREATED, &json!("s3://b/x")), "{told}");
    }
    for (path, list, token, key) in [
        ("/api/v1/dags?", "dags", "after", "name"),
        ("/api/v1/backfills?dag=a&state=running&", "backfills", "before", "id"),
        ("/api/v1/asset-updates?asset=s3://b/x&", "updates", "before", "id"),
    ] {
        let (_, whole) = ask(&api, "GET", path, "").await;
        assert_eq!((whole[list].as_array().unwrap().len(), &whole["next"]), (3, &Value::Null), "{path}");
        let (_, first) = ask(&api, "GET", &format!("{path}limit=2"), "").await;
        assert_eq!(first["next"], first[list][1][key], "{path}: {first}");
        let next = first["next"].as_str().unwrap();
        let (_, second) = ask(&api, "GET", &format!("{path}limit=2&{token}={next}"), "").await;
        assert_eq!((second[list].as_array().unwrap().len(), &second["next"]), (1, &Value::Null), "{path}");
        assert_eq!(second[list][0], whole[list][2], "{path}");
    }
    let empty = ["/api/v1/backfills?dag=b", "/api/v1/backfills?state=ended", "/api/v1/asset-updates?asset=other"];
    for path in empty {
        let (_, listed) = ask(&api, "GET", path, "").await;
        assert!(listed.as_object().unwrap().values().any(|list| *list == json!([])), "{path}: {listed}");
    }
    let (_, resting) = ask(&api, "GET", "/api/v1/dags?paused=true", "").await;
    assert_eq!((resting["dags"].as_array().unwrap().len(), &resting["dags"][0]["name"]), (1, &json!("b")));
    let (_, backfills) = ask(&api, "GET", "/api/v1/backfills", "").await;
    let id = backfills["backfills"][0]["id"].as_str().unwrap();
    assert_eq!(ask(&api, "GET", &format!("/api/v1/backfills/{id}"), "").await.1["id"], id);
    let (_, cancelled) = ask(&api, "POST", &format!("/api/v1/backfills/{id}/cancel"), "").await;
    assert_eq!(cancelled["state"], "cancelled");
}

#[tokio::test]
async fn dags_show_their_parameters_and_runs_their_attempts() {
    let home = tempfile::tempdir().unwrap();
    let runner = runner(home.path(), []).await;
    let yaml = "dag: tried\ndescription: of trying\nparams:\n  n: {type: integer, default: 3, description: how many}\n\
                tasks:\n  each: {job: give, map: '{{ range(params.n) | list }}', with: {value: '{{ item }}'}}\n  \
                last: {job: fail, needs: [each], retries: 1, retry_delay: 1ms, with: {message: no}}\n";
    let outcome = run_in(&runner, yaml).await;
    let api = pipeline::api::router(runner.store().clone());

    let (_, shown) = ask(&api, "GET", "/api/v1/dags/tried", "").await;
    assert_eq!(shown["description"], "of trying");
    assert_eq!(shown["params"], json!([{"name": "n", "type": "integer", "description": "how many", "default": 3}]),);
    assert_eq!(shown["tasks"][0], json!({"task": "each", "job": "give", "mapped": true, "needs": []}));
    assert_eq!(shown["tasks"][1]["needs"], json!(["each"]));

    let path = format!("/api/v1/runs/{}/tasks", outcome.run_id);
    let (_, last) = ask(&api, "GET", &format!("{path}/last"), "").await;
    let instance = &last["instances"][0];
    assert_eq!((&instance["map_index"], &instance["state"]), (&Value::Null, &json!("failed")), "{last}");
    let attempt = &instance["attempts"][0];
    assert_eq!((&attempt["number"], &attempt["state"], &attempt["error"]), (&json!(1), &json!("failed"), &json!("no")));
    assert!(attempt["finished_at"].is_string() && attempt["pid"] == std::process::id(), "{attempt}");
    let (_, first) = ask(&api, "GET", &format!("{path}/each?limit=2"), "").await;
    assert_eq!((&first["instances"][1]["map_index"], &first["next"]), (&json!(1), &json!(1)), "{first}");
    assert_eq!(first["instances"][1]["attempts"].as_array().unwrap().len(), 1);
    let (_, second) = ask(&api, "GET", &format!("{path}/each?limit=2&after=1"), "").await;
    let items = second["instances"].as_array().unwrap();
    assert_eq!((items.len(), &items[0]["map_index"], &second["next"]), (1, &json!(2), &Value::Null), "{second}");
    let (status, problem) = ask(&api, "GET", &format!("{path}/none"), "").await;
    assert_eq!(status, StatusCode::NOT_FOUND);
    assert!(problem["detail"].as_str().unwrap().contains("its tasks: each, last"), "{problem}");
}

#[tokio::test]
async fn a_body_must_say_that_it_is_json_and_a_wrong_method_is_told_the_right_ones() {
    let home = tempfile::tempdir().unwrap();
    let api = pipeline::api::router(store(home.path()).await);
    let send = async |method: &str, path: &str, kind: &str, body: &'static str| {
        let request = Request::builder().method(method).uri(path).header("Content-Type", kind);
        api.clone().oneshot(request.body(Body::from(body)).unwrap()).await.unwrap()
    };
    let form = send("POST", "/api/v1/asset-updates", "text/plain", "{\"asset\": \"x\"}").await;
    assert_eq!(form.status(), StatusCode::UNSUPPORTED_MEDIA_TYPE);
    assert_eq!(form.headers()["content-type"], "application/problem+json");
    let foreign = Request::builder().method("POST").uri("/api/v1/dags/x/pause").header("Sec-Fetch-Site", "cross-site");
    let foreign = api.clone().oneshot(foreign.body(Body::empty()).unwrap()).await.unwrap();
    assert_eq!(foreign.status(), StatusCode::FORBIDDEN, "a page of another site");
    let wrong = send("DELETE", "/api/v1/runs", "text/plain", "").await;
    assert_eq!(wrong.status(), StatusCode::METHOD_NOT_ALLOWED);
    assert!(wrong.headers()["allow"].to_str().unwrap().contains("GET"), "{:?}", wrong.headers());
    let large = Box::leak(format!("{{\"asset\": \"{}\"}}", "x".repeat(4 << 20)).into_boxed_str());
    let refused = send("POST", "/api/v1/asset-updates", "application/json", large).await;
    assert_eq!(refused.status(), StatusCode::PAYLOAD_TOO_LARGE);
    assert_eq!(refused.headers()["content-type"], "application/problem+json");
}

#[tokio::test(flavor = "multi_thread")]
async fn metrics_tell_how_long_tasks_waited_and_took_and_how_they_ended() {
    let home = tempfile::tempdir().unwrap();
    let runner = runner(home.path(), []).await;
    let measured = dag(
        "dag: measured\ntasks:\n  a: {job: sleep, with: {ms: 120}}\n  b: {job: fail, needs: [a], retries: 0}\n  c: {job: give, needs: [b]}\n",
    );
    let run = runner.store().create_run(&measured, &measured.params(&[]).unwrap(), Timestamp::now()).await.unwrap();
    runner.drive(run).await.unwrap();
    let (_, metrics) = ask(&pipeline::api::router(runner.store().clone()), "GET", "/metrics", "").await;
    let metrics = metrics.as_str().unwrap();
    for line in [
        "safari_attempts_total{dag=\"measured\",outcome=\"succeeded\",task=\"a\"} 1",
        "safari_attempts_total{dag=\"measured\",outcome=\"failed\",task=\"b\"} 1",
        "safari_attempt_duration_seconds_bucket{dag=\"measured\",task=\"a\",le=\"0.1\"} 0",
        "safari_attempt_duration_seconds_bucket{dag=\"measured\",task=\"a\",le=\"60\"} 1",
        "safari_scheduling_delay_seconds_count{dag=\"measured\"} 2",
        "safari_scheduling_delay_seconds_bucket{dag=\"measured\",le=\"5\"} 2",
        "safari_runs_ended_total{dag=\"measured\",state=\"failed\"} 1",
        "safari_run_duration_seconds_count{dag=\"measured\"} 1",
    ] {
        assert!(metrics.contains(line), "{line} is not in\n{metrics}");
    }
}
