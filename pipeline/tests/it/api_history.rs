//! The REST API about what was: versions of DAGs, logs of runs, outputs that are kept, removing old runs; and continuous
//! DAGs.

use std::time::Duration;

use axum::body::{Body, to_bytes};
use axum::http::{Request, StatusCode};
use axum::{Extension, Router};
use futures::StreamExt;
use pipeline::clock::Timestamp;
use pipeline::logs::Stream;
use pipeline::{History, JobContext, JobOutput, Logs, LogsOptions, RunId, Runner, RunnerOptions};
use serde_json::{Value, json};
use tokio::sync::watch;
use tower::ServiceExt;

use crate::api::ask;
use crate::common::{dag, job, registry, store};

/// A home whose runs keep logs, and the API of it.
struct Place {
    home: tempfile::TempDir,
    runner: Runner,
    api: Router,
    ending: watch::Sender<bool>,
}

impl Place {
    async fn new() -> Self {
        let home = tempfile::tempdir().unwrap();
        let logs = Logs::new(home.path().join("logs").as_path().into(), LogsOptions::default());
        let say = job("say", |context: JobContext, with: Value| async move {
            context.log.line(Stream::Stdout, with["say"].as_str().unwrap_or_default());
            Ok(JobOutput::new(json!(null)))
        });
        let store = store(home.path()).await;
        let options = RunnerOptions { logs: Some(logs.clone()), ..RunnerOptions::new(home.path()) };
        let runner = Runner::new(store.clone(), registry([say]), options);
        let history = History::new(store.clone(), logs.clone(), home.path());
        let (ending, ended) = watch::channel(false);
        let api = pipeline::api::router_until(store, ended).layer(Extension(logs)).layer(Extension(history));
        Self { home, runner, api, ending }
    }

    async fn get(&self, path: &str) -> (StatusCode, Value) {
        ask(&self.api, "GET", path, "").await
    }

    async fn post(&self, path: &str) -> (StatusCode, Value) {
        ask(&self.api, "POST", path, "").await
    }

    async fn make(&self, yaml: &str) -> RunId {
        let dag = dag(yaml);
        self.runner.store().create_run(&dag, &dag.params(&[]).unwrap(), Timestamp::now()).await.unwrap()
    }

    async fn run(&self, yaml: &str) -> RunId {
        let run = self.make(yaml).await;
        self.runner.drive(run).await.unwrap();
        run
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn versions_of_a_dag_have_pages_and_texts() {
    let place = Place::new().await;
    let texts: Vec<String> =
        (0..3).map(|n| format!("dag: d\ndescription: '{n}'\ntasks: {{a: {{job: give}}}}\n")).collect();
    for (at, text) in texts.iter().enumerate() {
        // Two of them are seen in the same moment.
        let at = Timestamp::from_millis(at.max(1) as i64 * 1000);
        place.runner.store().register(&dag(text), at).await.unwrap();
    }
    let (status, all) = place.get("/api/v1/dags/d/versions").await;
    let versions = all["versions"].as_array().unwrap();
    assert_eq!((status, versions.len(), &all["next"]), (StatusCode::OK, 3, &Value::Null), "{all}");
    assert_eq!((&versions[0]["current"], &versions[0]["runs"]), (&json!(true), &json!(0)));
    let mut paged = Vec::new();
    let mut path = "/api/v1/dags/d/versions?limit=1".to_owned();
    loop {
        let (_, page) = place.get(&path).await;
        paged.extend(page["versions"].as_array().unwrap().iter().cloned());
        let Some(next) = page["next"].as_str() else { break };
        path = format!("/api/v1/dags/d/versions?limit=1&before={next}");
    }
    assert_eq!(&paged, versions);

    let old = &versions[2]["sha256"].as_str().unwrap()[..12].to_ascii_uppercase();
    for (version, text) in [("current", &texts[2]), (old, dag_text(&texts, &versions[2]))] {
        let (status, shown) = place.get(&format!("/api/v1/dags/d/versions/{version}")).await;
        assert_eq!((status, shown["text"].as_str()), (StatusCode::OK, Some(text.as_str())), "{shown}");
    }
    let (_, previous) = place.get("/api/v1/dags/d/versions/previous").await;
    assert_eq!(previous["version"], versions[1]);
    for (path, status, words) in [
        ("/api/v1/dags/none/versions", 404, "no dag named `none`"),
        ("/api/v1/dags/none/versions/current", 404, "no dag named `none`"),
        ("/api/v1/dags/d/versions/xyz", 404, "none begins with `xyz`"),
        ("/api/v1/dags/d/versions?before=x", 400, "is no version of a DAG"),
        ("/api/v1/dags/d/versions?after=x", 400, "after"),
    ] {
        let (got, problem) = place.get(path).await;
        assert!(got.as_u16() == status && problem["detail"].as_str().unwrap().contains(words), "{path}: {problem}");
    }
}

/// The text of a version.
fn dag_text<'a>(texts: &'a [String], version: &Value) -> &'a String {
    let is_it = |text: &&String| version["sha256"] == hex::encode(<sha2::Sha256 as sha2::Digest>::digest(text));
    texts.iter().find(is_it).unwrap()
}

#[tokio::test]
async fn continuous_dags_have_pages() {
    let place = Place::new().await;
    for name in ["a", "b", "c"] {
        let yaml = format!("dag: {name}\ncontinuous: {{webhook: new}}\ntasks: {{a: {{job: give}}}}");
        place.runner.store().register(&dag(&yaml), Timestamp::now()).await.unwrap();
    }
    let (_, first) = place.get("/api/v1/streams?limit=2").await;
    assert_eq!((&first["streams"][1]["dag"], &first["next"]), (&json!("b"), &json!("b")), "{first}");
    let (_, second) = place.get("/api/v1/streams?limit=2&after=b").await;
    assert_eq!((&second["streams"][0]["dag"], &second["next"]), (&json!("c"), &Value::Null), "{second}");
    assert_eq!(second["streams"].as_array().unwrap().len(), 1);
    assert_eq!(place.get("/api/v1/streams?dag=b").await.0, StatusCode::BAD_REQUEST);
}

#[tokio::test(flavor = "multi_thread")]
async fn outputs_are_forgotten_all_or_of_one_dag() {
    let place = Place::new().await;
    for name in ["one", "two"] {
        let yaml = format!("dag: {name}\ntasks: {{a: {{job: give, cache: {{key: {name}}}, with: {{value: 1}}}}}}");
        place.run(&yaml).await;
    }
    let forgotten = async |path: &str| place.post(path).await.1["outputs"].as_u64().unwrap();
    assert_eq!(forgotten("/api/v1/cache/clear?dag=none").await, 0);
    assert_eq!(forgotten("/api/v1/cache/clear?dag=one").await, 1);
    assert_eq!(forgotten("/api/v1/cache/clear").await, 1);
    assert_eq!(forgotten("/api/v1/cache/clear").await, 0);
    assert_eq!(place.post("/api/v1/cache/clear?dags=one").await.0, StatusCode::BAD_REQUEST);
    assert_eq!(place.get("/api/v1/cache/clear").await.0, StatusCode::METHOD_NOT_ALLOWED);
}

#[tokio::test(flavor = "multi_thread")]
async fn old_runs_are_removed_some_at_a_time_and_none_that_has_not_ended() {
    let place = Place::new().await;
    let mut runs = Vec::new();
    for _ in 0..5 {
        runs.push(place.run("dag: d\ntasks: {a: {job: say, with: {say: x}}}").await);
    }
    let waits = place.make("dag: waits\ntasks: {a: {job: give}}").await;
    let now = Timestamp::now().plus(Duration::from_secs(1));
    let preview = format!("/api/v1/history/removable?ended_before={now}");
    let expected = json!({"runs": 5, "task_instances": 5, "attempts": 5});
    assert_eq!(place.get(&preview).await, (StatusCode::OK, expected));
    assert_eq!(place.get(&preview).await.1["runs"], 5, "a look removes nothing");

    let long_ago = "/api/v1/history/clean?ended_before=2020-01-01T00:00:00Z";
    let nothing = json!({"runs": 0, "task_instances": 0, "attempts": 0, "dag_versions": 0, "more": false});
    assert_eq!(place.post(long_ago).await, (StatusCode::OK, nothing.clone()));
    let mut counts = Vec::new();
    loop {
        let (status, removed) = place.post(&format!("/api/v1/history/clean?ended_before={now}&limit=2")).await;
        assert_eq!(status, StatusCode::OK, "{removed}");
        counts.push((removed["runs"].as_u64().unwrap(), removed["attempts"].as_u64().unwrap()));
        if removed["more"] == false {
            break;
        }
    }
    assert_eq!(counts, [(2, 2), (2, 2), (1, 1), (0, 0)]);
    assert_eq!(place.post(&format!("/api/v1/history/clean?ended_before={now}")).await.1, nothing, "again");
    for run in runs {
        assert_eq!(place.get(&format!("/api/v1/runs/{run}")).await.0, StatusCode::NOT_FOUND);
        for folder in [format!("logs/d/{run}"), format!("runs/{run}")] {
            assert!(!place.home.path().join(&folder).exists(), "{folder}");
        }
    }
    assert_eq!(place.get(&format!("/api/v1/runs/{waits}")).await.0, StatusCode::OK);

    for (path, status, words) in [
        ("clean", 400, "ended_before"),
        ("clean?ended_before=yesterday", 400, "`yesterday` is no moment"),
        ("clean?ended_before=2020-01-01T00:00:00Z&limit=0", 400, "from 1 to 1000"),
        ("clean?ended_before=9999-01-01T00:00:00Z", 422, "yet to come"),
    ] {
        let (got, problem) = place.post(&format!("/api/v1/history/{path}")).await;
        assert!(got.as_u16() == status && problem["detail"].as_str().unwrap().contains(words), "{path}: {problem}");
    }
    // A server that does not know where logs and work folders are would leave them behind.
    let bare = pipeline::api::router(place.runner.store().clone());
    assert_eq!(ask(&bare, "POST", long_ago, "").await.0, StatusCode::NOT_FOUND);
}

const SAYS: &str = "dag: d\ntasks:\n  a: {job: say, with: {say: one}}\n  b: {job: say, needs: [a], map: [x, y], with: {say: '{{ item }}'}}\n";

/// The lines of an answer, and whether it came to its end.
async fn lines(api: &Router, path: &str) -> (Vec<Value>, bool) {
    let answer = api.clone().oneshot(Request::get(path).body(Body::empty()).unwrap()).await.unwrap();
    assert_eq!(answer.status(), StatusCode::OK, "{path}");
    assert_eq!(answer.headers()["content-type"], "application/x-ndjson");
    let (mut body, mut bytes, mut whole) = (answer.into_body().into_data_stream(), Vec::new(), true);
    while let Some(piece) = body.next().await {
        match piece {
            Ok(piece) => bytes.extend_from_slice(&piece),
            Err(_) => whole = false,
        }
    }
    let text = String::from_utf8(bytes).unwrap();
    let lines = text.lines().filter(|line| !line.is_empty());
    (lines.map(|line| serde_json::from_str(line).unwrap()).collect(), whole)
}

#[tokio::test(flavor = "multi_thread")]
async fn the_log_of_a_run_is_read_whole_by_task_by_item_and_by_attempt() {
    let place = Place::new().await;
    let run = place.run(SAYS).await;
    let path = format!("/api/v1/runs/{run}/logs");
    let (all, whole) = lines(&place.api, &path).await;
    let said = |line: &&Value| line["stream"] == "stdout";
    let facts: Vec<Value> = all
        .iter()
        .filter(said)
        .map(|line| json!([line["task"], line["map_index"], line["attempt"], line["message"]]))
        .collect();
    assert_eq!(facts[0], json!(["a", null, 1, "one"]));
    assert!(whole && facts.contains(&json!(["b", 1, 1, "y"])) && all.len() == 9, "{all:?}");
    assert_eq!(lines(&place.api, &format!("{path}?follow=true")).await.0, all, "the run has ended");
    assert_eq!(lines(&place.api, &format!("{path}?task=b")).await.0.len(), 6);
    let (item, _) = lines(&place.api, &format!("{path}?task=b&map_index=1&attempt=1&follow=true")).await;
    assert_eq!((item.len(), &item[1]["message"]), (3, &json!("y")));
    for (query, status, words) in [
        ("task=z", 404, "has no task `z`"),
        ("task=a&attempt=7", 404, "no such attempt yet"),
        ("map_index=1", 422, "give it as `task`"),
        ("attempt=1", 422, "give it as `task`"),
        ("task=b&map_index=-1", 400, "map_index"),
        ("tasks=b", 400, "tasks"),
    ] {
        let (got, problem) = place.get(&format!("{path}?{query}")).await;
        assert!(got.as_u16() == status && problem["detail"].as_str().unwrap().contains(words), "{query}: {problem}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn who_follows_a_run_gets_all_and_is_cut_off_when_the_server_ends() {
    let place = Place::new().await;
    let run = place.make(SAYS).await;
    let path = format!("/api/v1/runs/{run}/logs?follow=true");
    let (api, followed) = (place.api.clone(), path.clone());
    let following = tokio::spawn(async move { lines(&api, &followed).await });
    place.runner.drive(run).await.unwrap();
    let patience = Duration::from_secs(60);
    let (all, whole) = tokio::time::timeout(patience, following).await.unwrap().unwrap();
    assert!(whole && all.len() == 9, "{all:?}");

    let waits = place.make(SAYS).await;
    let mut open = Vec::new();
    for path in
        [format!("/api/v1/runs/{waits}/logs?follow=true"), format!("/api/v1/runs/{waits}/tasks/a/logs?follow=true")]
    {
        let api = place.api.clone();
        open.push(tokio::spawn(async move { lines(&api, &path).await }));
    }
    place.ending.send_replace(true);
    for one in open {
        let (none, whole) = tokio::time::timeout(patience, one).await.unwrap().unwrap();
        assert!(none.is_empty() && !whole, "nobody takes it for the end of the log: {none:?}");
    }
    let answer = place.api.clone().oneshot(Request::get(&path).body(Body::empty()).unwrap()).await.unwrap();
    to_bytes(answer.into_body(), 1 << 20).await.unwrap_err();
}
