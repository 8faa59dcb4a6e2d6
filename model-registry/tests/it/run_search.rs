//! Searches for runs.

use serde_json::{Value, json};

use crate::common::Registry;
use crate::runs::run;

/// Runs `a` to `e`; each test knows what they have.
async fn filled() -> Registry {
    let registry = Registry::new().await;
    let runs = [
        ("a", json!([{ "key": "loss", "value": 0.5, "timestamp": 1 }]), json!([{ "key": "site", "value": "North" }])),
        ("b", json!([{ "key": "loss", "value": 0.25, "timestamp": 1 }]), json!([{ "key": "site", "value": "north%" }])),
        ("c", json!([{ "key": "loss", "value": "NaN", "timestamp": 1 }]), json!([{ "key": "site", "value": "south" }])),
        ("d", json!([]), json!([])),
        (
            "e",
            json!([{ "key": "loss", "value": 2, "timestamp": 1 }, { "key": "m 1", "value": 7, "timestamp": 1 }]),
            json!([]),
        ),
    ];
    for (at, (name, metrics, tags)) in runs.into_iter().enumerate() {
        let id = run(&registry, json!({ "run_name": name, "start_time": at, "user_id": "ranger" })).await;
        let params = if name < "c" { json!([{ "key": "lr", "value": format!("0.{at}") }]) } else { json!([]) };
        let body = json!({ "run_id": id, "metrics": metrics, "tags": tags, "params": params });
        registry.must("POST", "runs/log-batch", body).await;
        if name == "a" {
            let dataset = json!({ "name": "bursts", "digest": "abc", "source_type": "s3", "source": "{}" });
            let input = json!({ "tags": [{ "key": "mlflow.data.context", "value": "training" }], "dataset": dataset });
            registry.must("POST", "runs/log-inputs", json!({ "run_id": id, "datasets": [input] })).await;
            let update = json!({ "run_id": id, "status": "FINISHED", "end_time": 100 });
            registry.must("POST", "runs/update", update).await;
        }
    }
    registry
}

async fn names(registry: &Registry, body: Value) -> String {
    let mut body = body;
    body["experiment_ids"] = json!(["0"]);
    let found = registry.must("POST", "runs/search", body).await;
    let runs = found["runs"].as_array().cloned().unwrap_or_default();
    runs.iter().map(|run| run["info"]["run_name"].as_str().unwrap()).collect::<Vec<_>>().join("")
}

#[tokio::test]
async fn filters_find_what_mlflow_finds() {
    let registry = filled().await;
    for (filter, wanted) in [
        ("", "edcba"),
        ("metrics.loss > 0.25", "ea"),
        ("metrics.loss >= 0.25", "eba"),
        ("metrics.loss = 0.5", "a"),
        ("metrics.loss != 0.5", "ecb"),
        ("metrics.loss < 1 AND metrics.loss > 0.3", "a"),
        ("metrics.loss <= 0", ""),
        ("metrics.`m 1` = 7", "e"),
        ("metric.loss > -1e3", "eba"),
        ("tags.site = 'North'", "a"),
        ("tags.site != 'North'", "cb"),
        ("tags.site LIKE 'n%'", "b"),
        ("tags.site ILIKE 'N%'", "ba"),
        ("tags.site LIKE '_orth'", "a"),
        ("tags.site LIKE '%th%'", "cba"),
        ("tags.site IS NULL", "ed"),
        ("tags.site IS NOT NULL", "cba"),
        ("params.lr = '0.1'", "b"),
        ("params.lr LIKE '0.%'", "ba"),
        ("params.lr IS NULL", "edc"),
        ("status = 'FINISHED'", "a"),
        ("attributes.status != 'FINISHED'", "edcb"),
        ("run_name = 'c'", "c"),
        ("attributes.`Run name` ILIKE 'C'", "c"),
        ("tags.`mlflow.runName` = 'd'", "d"),
        ("start_time > 2", "ed"),
        ("Created <= 1.5", "ba"),
        ("end_time = 100", "a"),
        ("end_time != 100", ""),
        ("user_id = 'ranger' and metrics.loss > 0", "eba"),
        ("dataset.name = 'bursts'", "a"),
        ("datasets.name != 'other' AND dataset.context IN ('training')", "a"),
        ("dataset.digest LIKE 'x%'", ""),
        ("run_id IN ('x')", ""),
        ("tags.site = 'x'' OR 1=1 --'", ""),
        ("tags.site LIKE '%\\%'", ""),
        ("tags.site LIKE 'nor[t]h%'", ""),
    ] {
        assert_eq!(names(&registry, json!({ "filter": filter })).await, wanted, "{filter}");
    }
    for filter in ["metrics.loss > 'x'", "loss > 1", "metrics.loss > 1 OR metrics.loss < 0", "foo.bar = 'x'"] {
        let body = json!({ "experiment_ids": ["0"], "filter": filter });
        let refused = registry.ask("POST", "runs/search", body).await;
        assert_eq!((refused.refusal().0, refused.refusal().1), (400, "INVALID_PARAMETER_VALUE"), "{filter}");
    }
}

#[tokio::test]
async fn orders_put_what_is_no_number_and_what_is_missing_last() {
    let registry = filled().await;
    for (order, wanted) in [
        (json!(["metrics.loss"]), "baecd"),
        (json!(["metrics.loss DESC"]), "eabcd"),
        (json!(["metrics.`loss` ASC", "start_time"]), "baecd"),
        (json!(["tags.site"]), "abced"),
        (json!(["tag.site DESC"]), "cbaed"),
        (json!(["params.lr desc"]), "baedc"),
        (json!(["end_time"]), "aedcb"),
        (json!(["status DESC", "start_time ASC"]), "bcdea"),
        (json!(["run_name DESC"]), "edcba"),
        (json!(["Created"]), "abcde"),
    ] {
        assert_eq!(names(&registry, json!({ "order_by": order })).await, wanted, "{order}");
    }
    for order in ["loss", "metrics.loss DOWN", "metrics.loss desc desc", "dataset.name"] {
        let body = json!({ "experiment_ids": ["0"], "order_by": [order] });
        assert_eq!(registry.ask("POST", "runs/search", body).await.refusal().0, 400, "{order}");
    }
}

#[tokio::test]
async fn pages_follow_one_another_and_bring_what_runs_logged() {
    let registry = filled().await;
    let mut body = json!({ "experiment_ids": ["0"], "max_results": 2, "order_by": ["metrics.loss DESC"] });
    let mut seen = String::new();
    loop {
        let found = registry.must("POST", "runs/search", body.clone()).await;
        for run in found["runs"].as_array().unwrap() {
            let name = run["info"]["run_name"].as_str().unwrap();
            seen.push_str(name);
            assert!(
                run["data"]["tags"].as_array().unwrap().contains(&json!({ "key": "mlflow.runName", "value": name }))
            );
            if name == "a" {
                assert_eq!(run["data"]["metrics"][0]["value"], 0.5);
                assert_eq!(run["data"]["params"], json!([{ "key": "lr", "value": "0.0" }]));
                assert_eq!(run["inputs"]["dataset_inputs"][0]["dataset"]["name"], "bursts");
            }
        }
        let Some(token) = found.get("next_page_token") else { break };
        body["page_token"] = token.clone();
    }
    assert_eq!(seen, "eabcd");
    let found = registry.must("POST", "runs/search", json!({ "experiment_ids": ["77"] })).await;
    assert_eq!(found, json!({}));
    assert_eq!(registry.must("POST", "runs/search", json!({})).await, json!({}));
    let large = registry.ask("POST", "runs/search", json!({ "max_results": 50_001 })).await;
    assert_eq!(
        large.refusal().2,
        "Invalid value 50001 for parameter 'max_results' supplied:  Hint: Value was of type 'int'. See the API docs for \
         more information about request parameters."
    );
}

#[tokio::test]
async fn views_and_many_experiments() {
    let registry = filled().await;
    let other = registry.must("POST", "experiments/create", json!({ "name": "other" })).await["experiment_id"].clone();
    let id = run(&registry, json!({ "experiment_id": other, "run_name": "f", "start_time": 9 })).await;
    let both = json!({ "experiment_ids": ["0", other], "filter": "attributes.run_name IS NOT NULL" });
    assert_eq!(registry.ask("POST", "runs/search", both).await.refusal().0, 400, "only tags and params");
    let found = registry.must("POST", "runs/search", json!({ "experiment_ids": ["0", other] })).await;
    assert_eq!(found["runs"].as_array().unwrap().len(), 6);
    assert_eq!(found["runs"][0]["info"]["run_id"], json!(id));
    registry.must("POST", "runs/delete", json!({ "run_id": id })).await;
    for (view, count) in [(json!("ACTIVE_ONLY"), 5), (json!("DELETED_ONLY"), 1), (json!("ALL"), 6), (json!(3), 6)] {
        let body = json!({ "experiment_ids": ["0", other], "run_view_type": view });
        let found = registry.must("POST", "runs/search", body).await;
        assert_eq!(found["runs"].as_array().unwrap().len(), count, "{view}");
    }
}

#[tokio::test]
async fn long_values_are_told_apart_behind_what_the_index_holds() {
    let registry = Registry::new().await;
    let value = |end: &str| format!("{}{end}", "é".repeat(100));
    for (name, end) in [("a", "1"), ("b", "2"), ("c", "")] {
        let tags = json!([{ "key": "long", "value": value(end) }]);
        run(&registry, json!({ "run_name": name, "tags": tags })).await;
    }
    for (name, end) in [("a", "1"), ("b", "2"), ("c", ""), ("", "3")] {
        let filter = format!("tags.long = '{}'", value(end));
        assert_eq!(names(&registry, json!({ "filter": filter })).await, name);
    }
}
