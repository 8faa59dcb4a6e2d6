//! Runs and what they log.

use serde_json::{Value, json};

use crate::common::Registry;

pub async fn run(registry: &Registry, body: Value) -> String {
    let mut body = body;
    if body.get("experiment_id").is_none() {
        body["experiment_id"] = json!("0");
    }
    let made = registry.must("POST", "runs/create", body).await;
    made["run"]["info"]["run_id"].as_str().unwrap().to_owned()
}

async fn get(registry: &Registry, id: &str) -> Value {
    registry.must("GET", &format!("runs/get?run_id={id}"), Value::Null).await["run"].clone()
}

fn pairs(given: &Value) -> Vec<(String, String)> {
    let text = |pair: &Value, field: &str| pair[field].as_str().unwrap().to_owned();
    let given = given.as_array().cloned().unwrap_or_default();
    given.iter().map(|pair| (text(pair, "key"), text(pair, "value"))).collect()
}

#[tokio::test]
async fn a_run_lives_from_its_start_to_its_end() {
    let registry = Registry::new().await;
    let body = json!({ "experiment_id": "0", "start_time": "1700000000000", "user_id": "ranger", "run_name": "first" });
    let id = run(&registry, body).await;
    let found = get(&registry, &id).await;
    let info = &found["info"];
    assert_eq!(info["run_uuid"], json!(id));
    assert_eq!(info["run_id"], json!(id));
    assert_eq!(info["status"], "RUNNING");
    assert_eq!(info["start_time"], 1_700_000_000_000_i64, "a number, though it came as text");
    assert_eq!(info["artifact_uri"], format!("mlflow-artifacts:/0/{id}/artifacts"));
    assert_eq!(found["inputs"], json!({}));
    assert_eq!(pairs(&found["data"]["tags"]), [("mlflow.runName".into(), "first".into())]);

    let body = json!({ "run_id": id, "status": "FINISHED", "end_time": 1_700_000_001_000_i64, "run_name": "second" });
    let changed = registry.must("POST", "runs/update", body).await;
    assert_eq!(changed["run_info"]["status"], "FINISHED");
    assert_eq!(changed["run_info"]["run_name"], "second");
    let found = get(&registry, &id).await;
    assert_eq!(found["info"]["end_time"], 1_700_000_001_000_i64);
    assert_eq!(pairs(&found["data"]["tags"]), [("mlflow.runName".into(), "second".into())]);
    let tag = json!({ "run_uuid": id, "key": "mlflow.runName", "value": "third" });
    registry.must("POST", "runs/set-tag", tag).await;
    assert_eq!(get(&registry, &id).await["info"]["run_name"], "third");
    let by_number = json!({ "run_id": id, "status": 4 });
    assert_eq!(registry.must("POST", "runs/update", by_number).await["run_info"]["status"], "FAILED");
    let unknown = registry.ask("POST", "runs/update", json!({ "run_id": id, "status": "DONE" })).await;
    assert_eq!(unknown.refusal().0, 400);

    registry.must("POST", "runs/delete", json!({ "run_id": id })).await;
    let refused = registry.ask("POST", "runs/set-tag", json!({ "run_id": id, "key": "a", "value": "b" })).await;
    assert_eq!(
        refused.refusal(),
        (
            400,
            "INVALID_PARAMETER_VALUE",
            format!("The run {id} must be in the 'active' state. Current state is deleted.").as_str()
        )
    );
    registry.must("POST", "runs/restore", json!({ "run_id": id })).await;
    assert_eq!(get(&registry, &id).await["info"]["lifecycle_stage"], "active");
    let missing = registry.get("runs/get?run_id=0123456789abcdef0123456789abcdef").await;
    assert_eq!(
        missing.refusal(),
        (404, "RESOURCE_DOES_NOT_EXIST", "Run with id=0123456789abcdef0123456789abcdef not found")
    );
}

#[tokio::test]
async fn a_run_gets_a_name_when_it_has_none() {
    let registry = Registry::new().await;
    let made = registry.must("POST", "runs/create", json!({ "experiment_id": "0" })).await;
    let name = made["run"]["info"]["run_name"].as_str().unwrap();
    assert_eq!(name.split('-').count(), 3, "{name}");
    assert_eq!(pairs(&made["run"]["data"]["tags"]), [("mlflow.runName".into(), name.to_owned())]);
    let tagged = json!({ "experiment_id": "0", "tags": [{ "key": "mlflow.runName", "value": "by tag" }, { "key": "a", "value": "b" }] });
    let made = registry.must("POST", "runs/create", tagged).await;
    assert_eq!(made["run"]["info"]["run_name"], "by tag");
    let both =
        json!({ "experiment_id": "0", "run_name": "one", "tags": [{ "key": "mlflow.runName", "value": "other" }] });
    let refused = registry.ask("POST", "runs/create", both).await;
    assert!(refused.refusal().2.starts_with("Both 'run_name' argument and 'mlflow.runName' tag are specified"));
}

#[tokio::test]
async fn params_never_change() {
    let registry = Registry::new().await;
    let id = run(&registry, json!({})).await;
    let param = |value: &str| json!({ "run_id": id, "key": "lr", "value": value });
    registry.must("POST", "runs/log-parameter", param("0.1")).await;
    registry.must("POST", "runs/log-parameter", param("0.1")).await;
    let refused = registry.ask("POST", "runs/log-parameter", param("0.2")).await;
    assert_eq!(
        refused.refusal().2,
        format!(
            "Changing param values is not allowed. Param with key='lr' was already logged with value='0.1' for run \
             ID='{id}'. Attempted logging new value '0.2'."
        )
    );
    let batch = json!({ "run_id": id, "params": [{ "key": "depth", "value": "3" }, { "key": "lr", "value": "0.3" }],
        "metrics": [{ "key": "loss", "value": 1, "timestamp": 1 }] });
    let refused = registry.ask("POST", "runs/log-batch", batch).await;
    assert_eq!(
        refused.refusal().2,
        format!(
            "Changing param values is not allowed. Params were already logged='[{{'key': 'lr', 'old_value': '0.1', \
             'new_value': '0.3'}}]' for run ID='{id}'."
        )
    );
    let found = get(&registry, &id).await;
    assert_eq!(pairs(&found["data"]["params"]), [("lr".into(), "0.1".into())], "all of a batch or nothing");
    assert!(found["data"].get("metrics").is_none());
    let twice = json!({ "run_id": id, "params": [{ "key": "a", "value": "1" }, { "key": "a", "value": "1" }] });
    let refused = registry.ask("POST", "runs/log-batch", twice).await;
    assert!(refused.refusal().2.starts_with("Duplicate parameter keys have been submitted: ['a']."));
    let long = json!({ "run_id": id, "key": "long", "value": "v".repeat(6001) });
    registry.must("POST", "runs/log-parameter", long).await;
    let found = get(&registry, &id).await;
    assert_eq!(found["data"]["params"][0]["value"].as_str().unwrap().len(), 6000, "cut as MLflow cuts it");
}

#[tokio::test]
async fn the_latest_value_is_that_of_the_last_step_then_time_then_value() {
    let registry = Registry::new().await;
    let id = run(&registry, json!({})).await;
    let metric = |value: Value, timestamp: i64, step: i64| json!({ "key": "loss", "value": value, "timestamp": timestamp, "step": step });
    let log = async |metrics: Value| {
        registry.must("POST", "runs/log-batch", json!({ "run_id": id, "metrics": metrics })).await;
        get(&registry, &id).await["data"]["metrics"][0].clone()
    };
    assert_eq!(log(json!([metric(json!(1.5), 10, 1), metric(json!(0.5), 10, 2)])).await["value"], 0.5);
    assert_eq!(log(json!([metric(json!(9), 99, 1)])).await["value"], 0.5, "an earlier step");
    assert_eq!(log(json!([metric(json!(0.25), 9, 2)])).await["value"], 0.5, "an earlier time");
    assert_eq!(log(json!([metric(json!(0.25), 10, 2)])).await["value"], 0.5, "a smaller value");
    assert_eq!(log(json!([metric(json!(0.75), 10, 2)])).await["value"], 0.75);
    assert_eq!(log(json!([metric(json!(0.75), 10, 2)])).await["value"], 0.75, "the same again");
    assert_eq!(log(json!([metric(json!("NaN"), 10, 3)])).await["value"], "NaN");
    assert_eq!(log(json!([metric(json!("Infinity"), 10, 4)])).await["value"], f64::MAX);
    assert_eq!(log(json!([metric(json!("-Infinity"), 10, 5)])).await["value"], -f64::MAX);
    let history = registry.must("GET", &format!("metrics/get-history?run_id={id}&metric_key=loss"), Value::Null).await;
    let values: Vec<_> = history["metrics"].as_array().unwrap().iter().map(|m| m["value"].clone()).collect();
    assert_eq!(
        values,
        [
            json!(0.25),
            json!(1.5),
            json!(0.25),
            json!(0.5),
            json!(0.75),
            json!("NaN"),
            json!(f64::MAX),
            json!(-f64::MAX),
            json!(9.0)
        ],
        "by time, step and value, each once"
    );
}

#[tokio::test]
async fn metrics_that_cannot_be_are_refused() {
    let registry = Registry::new().await;
    let id = run(&registry, json!({})).await;
    let refused = async |metric: Value| {
        let mut body = metric;
        body["run_id"] = json!(id);
        let answer = registry.ask("POST", "runs/log-metric", body).await;
        assert_eq!(answer.status, 400, "{}", answer.body);
        answer.refusal().2.to_owned()
    };
    refused(json!({ "key": "a", "value": "x", "timestamp": 1 })).await;
    assert!(
        refused(json!({ "key": "a", "timestamp": 1 }))
            .await
            .starts_with("Missing value for required parameter 'value'.")
    );
    assert!(
        refused(json!({ "key": "a", "value": 1 }))
            .await
            .starts_with("Missing value for required parameter 'timestamp'.")
    );
    assert!(
        refused(json!({ "value": 1, "timestamp": 1 })).await.starts_with("Missing value for required parameter 'key'.")
    );
    assert!(
        refused(json!({ "key": "a//b", "value": 1, "timestamp": 1 }))
            .await
            .contains("This name would resolve to 'a/b'")
    );
    assert!(refused(json!({ "key": "a", "value": 1, "timestamp": -1 })).await.contains("nonnegative long"));
    refused(json!({ "key": "a", "value": 1, "timestamp": 1, "step": 1.5 })).await;
    refused(json!({ "key": "a", "value": 1, "timestamp": 1e30 })).await;
    assert_eq!(
        refused(json!({ "key": "k".repeat(251), "value": 1, "timestamp": 1 })).await,
        "'Metric name' exceeds the maximum length of 250 characters"
    );
    let step_as_text = json!({ "run_id": id, "key": "a", "value": 1, "timestamp": "7", "step": "3" });
    registry.must("POST", "runs/log-metric", step_as_text).await;
    let metric = get(&registry, &id).await["data"]["metrics"][0].clone();
    assert_eq!((metric["timestamp"].as_i64(), metric["step"].as_i64()), (Some(7), Some(3)));
}

#[tokio::test]
async fn a_batch_has_limits() {
    let registry = Registry::new().await;
    let id = run(&registry, json!({})).await;
    let metrics = |count: usize| -> Value {
        (0..count).map(|at| json!({ "key": format!("m{at}"), "value": at, "timestamp": 1 })).collect()
    };
    let pairs =
        |count: usize| -> Value { (0..count).map(|at| json!({ "key": format!("p{at}"), "value": "v" })).collect() };
    let refused = async |body: Value| registry.ask("POST", "runs/log-batch", body).await.refusal().2.to_owned();
    assert_eq!(
        refused(json!({ "run_id": id, "metrics": metrics(1001) })).await,
        "A batch logging request can contain at most 1000 metrics. Got 1001 metrics. Please split up metrics across \
         multiple requests and try again."
    );
    assert!(refused(json!({ "run_id": id, "params": pairs(101) })).await.contains("at most 100 params. Got 101"));
    assert!(refused(json!({ "run_id": id, "tags": pairs(101) })).await.contains("at most 100 tags. Got 101"));
    let all = json!({ "run_id": id, "metrics": metrics(999), "params": pairs(1), "tags": pairs(1) });
    assert!(refused(all).await.contains("at most 1000 metrics, params, and tags. Got 1001"));
    assert!(
        refused(json!({ "run_id": id, "metrics": [{ "key": "a", "value": 1 }] }))
            .await
            .starts_with("Missing value for required parameter 'metrics[0].timestamp'.")
    );
    assert!(refused(json!({ "run_id": id, "tags": [{ "value": "x" }] })).await.contains("'tags[0].key'"));
    assert!(refused(json!({ "run_id": "a/b", "tags": [] })).await.contains("for parameter 'run_id' supplied."));
    let full = json!({ "run_id": id, "metrics": metrics(800), "params": pairs(100), "tags": pairs(100) });
    registry.must("POST", "runs/log-batch", full.clone()).await;
    registry.must("POST", "runs/log-batch", full).await;
    let found = get(&registry, &id).await;
    assert_eq!(found["data"]["metrics"].as_array().unwrap().len(), 800);
    assert_eq!(found["data"]["params"].as_array().unwrap().len(), 100);
    assert_eq!(found["data"]["tags"].as_array().unwrap().len(), 101);
    assert_eq!(registry.sql("SELECT count(*) FROM metric").await, 800, "the same again is no second value");
}

#[tokio::test]
async fn tags_change_and_go() {
    let registry = Registry::new().await;
    let id = run(&registry, json!({ "run_name": "x" })).await;
    let tags = json!([{ "key": "a", "value": "1" }, { "key": "a", "value": "2" }, { "key": "b", "value": "3" }]);
    registry.must("POST", "runs/log-batch", json!({ "run_id": id, "tags": tags })).await;
    registry.must("POST", "runs/delete-tag", json!({ "run_id": id, "key": "b" })).await;
    let found = pairs(&get(&registry, &id).await["data"]["tags"]);
    assert_eq!(found, [("a".into(), "2".into()), ("mlflow.runName".into(), "x".into())]);
    let refused = registry.ask("POST", "runs/delete-tag", json!({ "run_id": id, "key": "b" })).await;
    assert_eq!(
        refused.refusal(),
        (404, "RESOURCE_DOES_NOT_EXIST", format!("No tag with name: b in run with id {id}").as_str())
    );
    let refused = registry.ask("POST", "runs/set-tag", json!({ "run_id": id, "key": "../x", "value": "" })).await;
    assert!(
        refused.refusal().2.starts_with("Invalid value \"../x\" for parameter 'key' supplied: Names may be treated")
    );
}

#[tokio::test]
async fn datasets_and_models_that_a_run_read_and_made() {
    let registry = Registry::new().await;
    let id = run(&registry, json!({})).await;
    let dataset =
        json!({ "name": "bursts", "digest": "abc", "source_type": "s3", "source": "{}", "profile": "{\"n\": 1}" });
    let input = json!({ "tags": [{ "key": "mlflow.data.context", "value": "training" }], "dataset": dataset });
    let bare = json!({ "dataset": { "name": "other", "digest": "d", "source_type": "s3", "source": "{}" } });
    let body = json!({ "run_id": id, "datasets": [input, bare], "models": [{ "model_id": "m-1" }] });
    registry.must("POST", "runs/log-inputs", body.clone()).await;
    registry.must("POST", "runs/log-inputs", body).await;
    let outputs = json!({ "run_id": id, "models": [{ "model_id": "m-2", "step": 7 }] });
    registry.must("POST", "runs/outputs", outputs).await;
    let found = get(&registry, &id).await;
    let mut inputs = found["inputs"]["dataset_inputs"].as_array().unwrap().clone();
    inputs.sort_by_key(|input| input["dataset"]["name"].as_str().unwrap().to_owned());
    assert_eq!(inputs[0], input);
    assert_eq!(inputs[1], bare);
    assert_eq!(found["inputs"]["model_inputs"], json!([{ "model_id": "m-1" }]));
    assert_eq!(found["outputs"]["model_outputs"], json!([{ "model_id": "m-2", "step": 7 }]));
    let listed = registry.must("POST", "experiments/search-datasets", json!({ "experiment_ids": ["0"] })).await;
    assert_eq!(
        listed["dataset_summaries"],
        json!([
            { "experiment_id": "0", "name": "bursts", "digest": "abc", "context": "training" },
            { "experiment_id": "0", "name": "other", "digest": "d" }
        ])
    );
    let long = json!({ "run_id": id, "datasets": [{ "dataset": { "name": "n", "digest": "d".repeat(37) } }] });
    let refused = registry.ask("POST", "runs/log-inputs", long).await;
    assert_eq!(refused.refusal().2, "'digest' exceeds the maximum length of 36 characters");
    let refused = registry.ask("POST", "experiments/search-datasets", json!({})).await;
    assert_eq!(refused.refusal().2, "SearchDatasets request must specify at least one experiment_id.");
}

#[tokio::test]
async fn histories_come_in_pages_in_bulk_and_as_samples() {
    let registry = Registry::new().await;
    let (one, two) = (run(&registry, json!({})).await, run(&registry, json!({})).await);
    for (id, count) in [(&one, 100), (&two, 3)] {
        let metrics: Value =
            (0..count).map(|at| json!({ "key": "m", "value": at, "timestamp": at, "step": at })).collect();
        registry.must("POST", "runs/log-batch", json!({ "run_id": id, "metrics": metrics })).await;
    }
    let steps = |answer: &Value| -> Vec<i64> {
        let metrics = answer["metrics"].as_array().cloned().unwrap_or_default();
        metrics.iter().map(|metric| metric["step"].as_i64().unwrap()).collect()
    };
    let path = format!("metrics/get-history?run_id={one}&metric_key=m&max_results=60");
    let page = registry.must("GET", &path, Value::Null).await;
    assert_eq!(steps(&page), (0..60).collect::<Vec<_>>());
    let token = page["next_page_token"].as_str().unwrap();
    let page = registry.must("GET", &format!("{path}&page_token={token}"), Value::Null).await;
    assert_eq!(steps(&page), (60..100).collect::<Vec<_>>());
    assert!(page.get("next_page_token").is_none());
    let path = format!("metrics/get-history?run_id={one}&metric_key=none");
    assert_eq!(registry.must("GET", &path, Value::Null).await, json!({}));
    assert_eq!(registry.get(&format!("{path}&max_results=0")).await.refusal().0, 400);

    let path = format!("metrics/get-history-bulk?run_id={one}&run_id={two}&metric_key=m&max_results=102");
    let bulk = registry.must("GET", &path, Value::Null).await;
    assert_eq!(bulk["metrics"].as_array().unwrap().len(), 102);
    let mut runs: Vec<_> =
        bulk["metrics"].as_array().unwrap().iter().map(|metric| metric["run_id"].to_string()).collect();
    runs.dedup();
    assert_eq!(runs.len(), 2);
    assert!(runs.is_sorted());

    let path = format!("metrics/get-history-bulk-interval?run_ids={one}&run_ids={two}&metric_key=m&max_results=4");
    let sampled = registry.must("GET", &path, Value::Null).await;
    assert_eq!(steps(&sampled), [0, 25, 50, 99, 0, 1, 2], "the first of each part, and the last value");
    let some = registry.must("GET", &format!("{path}&start_step=10&end_step=12"), Value::Null).await;
    assert_eq!(steps(&some), [10, 11, 12]);
    assert_eq!(registry.get(&format!("{path}&start_step=10")).await.refusal().0, 400);
    assert_eq!(registry.get(&format!("{path}&start_step=10&end_step=9")).await.refusal().0, 400);
}

#[tokio::test]
async fn models_of_old_clients_are_kept_in_a_tag() {
    let registry = Registry::new().await;
    let id = run(&registry, json!({})).await;
    let model = json!({ "artifact_path": "model", "run_id": id, "utc_time_created": "2026-01-01", "signature": {},
        "flavors": { "python_function": { "config": {}, "loader_module": "x" } } });
    for _ in 0..2 {
        registry.must("POST", "runs/log-model", json!({ "run_id": id, "model_json": model.to_string() })).await;
    }
    let tags = pairs(&get(&registry, &id).await["data"]["tags"]);
    let (_, history) = tags.iter().find(|(key, _)| key == "mlflow.log-model.history").unwrap();
    let history: Value = serde_json::from_str(history).unwrap();
    assert_eq!(history.as_array().unwrap().len(), 2);
    assert_eq!(history[1]["flavors"], json!({ "python_function": { "loader_module": "x" } }));
    assert!(history[0].get("signature").is_none());
    let refused = registry.ask("POST", "runs/log-model", json!({ "run_id": id, "model_json": "{}" })).await;
    assert!(refused.refusal().2.starts_with("Model json is missing mandatory fields: {"));
}

#[tokio::test]
async fn many_clients_log_into_one_run_at_once() {
    let registry = Registry::new().await;
    let id = run(&registry, json!({})).await;
    let logs = (0..16_i64).map(|client| {
        let metrics: Value = (0..100)
            .map(|at| json!({ "key": format!("m{}", at % 10), "value": client, "timestamp": at, "step": client * 10 + at / 10 }))
            .collect();
        let params = json!([{ "key": "shared", "value": "same" }, { "key": format!("own{client}"), "value": "x" }]);
        let body = json!({ "run_id": id, "metrics": metrics, "params": params });
        registry.must("POST", "runs/log-batch", body)
    });
    futures::future::join_all(logs).await;
    let found = get(&registry, &id).await;
    assert_eq!(found["data"]["params"].as_array().unwrap().len(), 17);
    for metric in found["data"]["metrics"].as_array().unwrap() {
        assert_eq!((metric["step"].as_i64(), metric["value"].as_f64()), (Some(159), Some(15.0)), "{metric}");
    }
    assert_eq!(registry.sql("SELECT count(*) FROM metric").await, 1600);
}
