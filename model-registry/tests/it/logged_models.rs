//! Logged models.

use serde_json::{Value, json};

use crate::common::Registry;
use crate::runs::run;

async fn model(registry: &Registry, body: Value) -> String {
    let made = registry.must("POST", "logged-models", body).await;
    made["model"]["info"]["model_id"].as_str().unwrap().to_owned()
}

#[tokio::test]
async fn a_logged_model_lives_from_its_making_to_its_deletion() {
    let registry = Registry::new().await;
    let run = run(&registry, json!({})).await;
    let body = json!({ "experiment_id": "0", "name": "detector", "source_run_id": run, "model_type": "CfC",
        "params": [{ "key": "lr", "value": "0.1" }], "tags": [{ "key": "a", "value": "1" }] });
    let made = registry.must("POST", "logged-models", body).await["model"].clone();
    let id = made["info"]["model_id"].as_str().unwrap();
    assert!(id.starts_with("m-") && id.len() == 34, "{id}");
    assert_eq!(made["info"]["status"], "LOGGED_MODEL_PENDING");
    assert_eq!(made["info"]["artifact_uri"], format!("mlflow-artifacts:/0/models/{id}/artifacts"));
    assert_eq!(made["info"]["tags"], json!([{ "key": "a", "value": "1" }]));
    assert_eq!(made["data"]["params"], json!([{ "key": "lr", "value": "0.1" }]));
    let path = format!("logged-models/{id}");
    assert_eq!(registry.must("GET", &path, Value::Null).await["model"], made);

    let ready = registry.must("PATCH", &path, json!({ "model_id": id, "status": "LOGGED_MODEL_READY" })).await;
    assert_eq!(ready["model"]["info"]["status"], "LOGGED_MODEL_READY");
    let tags = json!({ "tags": [{ "key": "a", "value": "2" }, { "key": "b", "value": "3" }] });
    registry.must("PATCH", &format!("{path}/tags"), tags).await;
    registry.must("DELETE", &format!("{path}/tags/b"), json!({})).await;
    let refused = registry.ask("DELETE", &format!("{path}/tags/b"), json!({})).await;
    assert_eq!(
        refused.refusal(),
        (404, "RESOURCE_DOES_NOT_EXIST", format!("No tag with key 'b' found for model with ID '{id}'.").as_str())
    );
    let params = |value: &str| json!({ "params": [{ "key": "depth", "value": value }] });
    registry.must("POST", &format!("{path}/params"), params("3")).await;
    registry.must("POST", &format!("{path}/params"), params("3")).await;
    assert_eq!(registry.ask("POST", &format!("{path}/params"), params("4")).await.refusal().0, 400);
    let metric = json!({ "run_id": run, "key": "f1", "value": 0.5, "timestamp": 5, "step": 1, "model_id": id,
        "dataset_name": "bursts", "dataset_digest": "abc" });
    registry.must("POST", "runs/log-metric", metric.clone()).await;
    registry.must("POST", "runs/log-metric", metric).await;
    let found = registry.must("GET", &path, Value::Null).await["model"].clone();
    assert_eq!(found["info"]["tags"], json!([{ "key": "a", "value": "2" }]));
    assert_eq!(
        found["data"]["metrics"],
        json!([{ "key": "f1", "value": 0.5, "timestamp": 5, "step": 1, "dataset_name": "bursts",
            "dataset_digest": "abc", "model_id": id, "run_id": run }])
    );
    registry.must("DELETE", &path, json!({})).await;
    let missing = registry.get(&path).await;
    assert_eq!(
        missing.refusal(),
        (404, "RESOURCE_DOES_NOT_EXIST", format!("Logged model with ID '{id}' not found.").as_str())
    );
    registry.must("GET", &format!("{path}?allow_deleted=true"), Value::Null).await;
    assert_eq!(registry.sql("SELECT count(*) FROM logged_model WHERE deleted_at IS NOT NULL").await, 1);
}

#[tokio::test]
async fn what_is_not_allowed_is_refused() {
    let registry = Registry::new().await;
    let refused = async |body: Value| registry.ask("POST", "logged-models", body).await.refusal().2.to_owned();
    assert!(refused(json!({ "name": "x" })).await.starts_with("Missing value for required parameter 'experiment_id'."));
    assert!(refused(json!({ "experiment_id": "0", "name": "a/b" })).await.starts_with("Invalid model name ('a/b')"));
    assert_eq!(refused(json!({ "experiment_id": "9" })).await, "No Experiment with id=9 exists");
    let unnamed = model(&registry, json!({ "experiment_id": "0" })).await;
    let found = registry.must("GET", &format!("logged-models/{unnamed}"), Value::Null).await;
    assert_eq!(found["model"]["info"]["name"].as_str().unwrap().split('-').count(), 3);
    let unfinished = registry.ask("PATCH", &format!("logged-models/{unnamed}"), json!({ "status": "DONE" })).await;
    assert_eq!(unfinished.refusal().0, 400);
}

#[tokio::test]
async fn searches_filter_by_metrics_on_datasets_and_page() {
    let registry = Registry::new().await;
    let run = run(&registry, json!({})).await;
    for (name, value, dataset) in [("a", 0.5, "north"), ("b", 0.75, "south"), ("c", 0.25, "north")] {
        let body = json!({ "experiment_id": "0", "name": name, "source_run_id": run,
            "params": [{ "key": "lr", "value": name }], "tags": [{ "key": "site", "value": dataset }] });
        let id = model(&registry, body).await;
        let metric = json!({ "run_id": run, "key": "f1", "value": value, "timestamp": 5, "model_id": id,
            "dataset_name": dataset, "dataset_digest": "d" });
        registry.must("POST", "runs/log-metric", metric).await;
    }
    model(&registry, json!({ "experiment_id": "0", "name": "d" })).await;
    let by_name = json!([{ "field_name": "name" }]);
    let names = async |body: Value| -> String {
        let mut body = body;
        body["experiment_ids"] = json!(["0"]);
        if body.get("order_by").is_none() {
            body["order_by"] = by_name.clone();
        }
        let found = registry.must("POST", "logged-models/search", body).await;
        let models = found["models"].as_array().cloned().unwrap_or_default();
        models.iter().map(|model| model["info"]["name"].as_str().unwrap()).collect::<Vec<_>>().join("")
    };
    for (filter, wanted) in [
        ("", "abcd"),
        ("name = 'b'", "b"),
        ("metrics.f1 >= 0.5", "ab"),
        ("params.lr != 'a'", "bc"),
        ("tags.site = 'north'", "ac"),
        ("attributes.name IN ('a', 'd')", "ad"),
        ("status = 'PENDING' AND creation_timestamp > 0", "abcd"),
        ("model_type LIKE 'x%'", ""),
    ] {
        assert_eq!(names(json!({ "filter": filter })).await, wanted, "{filter}");
    }
    let north = json!([{ "dataset_name": "north" }]);
    assert_eq!(names(json!({ "datasets": north })).await, "ac");
    assert_eq!(names(json!({ "datasets": north, "filter": "metrics.f1 > 0.3" })).await, "a");
    assert_eq!(names(json!({ "datasets": [{ "dataset_name": "north", "dataset_digest": "x" }] })).await, "");
    let by_metric = |ascending: bool| json!({ "order_by": [{ "field_name": "metrics.f1", "ascending": ascending }, { "field_name": "name" }] });
    assert_eq!(names(by_metric(true)).await, "cabd");
    assert_eq!(names(by_metric(false)).await, "bacd");
    let on_north = json!({ "order_by": [{ "field_name": "metrics.f1", "ascending": false, "dataset_name": "north" }, { "field_name": "name" }] });
    assert_eq!(names(on_north).await, "acbd");

    let mut body = json!({ "experiment_ids": ["0"], "max_results": 3, "order_by": by_name });
    let found = registry.must("POST", "logged-models/search", body.clone()).await;
    assert_eq!(found["models"].as_array().unwrap().len(), 3);
    body["page_token"] = found["next_page_token"].clone();
    let found = registry.must("POST", "logged-models/search", body.clone()).await;
    assert_eq!(found["models"].as_array().unwrap().len(), 1);
    body["filter"] = json!("name = 'a'");
    assert_eq!(registry.ask("POST", "logged-models/search", body).await.refusal().0, 400, "another search's token");
    for body in [json!({}), json!({ "experiment_ids": ["0"], "order_by": [{ "field_name": "params.lr" }] })] {
        assert_eq!(registry.ask("POST", "logged-models/search", body).await.refusal().0, 400);
    }
}
