//! Experiments.

use serde_json::{Value, json};

use crate::common::Registry;

async fn create(registry: &Registry, name: &str) -> String {
    let made = registry.must("POST", "experiments/create", json!({ "name": name })).await;
    made["experiment_id"].as_str().unwrap().to_owned()
}

#[tokio::test]
async fn an_experiment_is_made_found_and_changed() {
    let registry = Registry::new().await;
    let body = json!({ "name": "burrows", "tags": [{ "key": "site", "value": "north" }, { "key": "site", "value": "south" }] });
    let id = registry.must("POST", "experiments/create", body).await["experiment_id"].as_str().unwrap().to_owned();
    assert_eq!(id, "1", "the experiment Default has 0");
    let found = registry.must("GET", "experiments/get?experiment_id=1", Value::Null).await;
    let experiment = &found["experiment"];
    assert_eq!(experiment["artifact_location"], "mlflow-artifacts:/1");
    assert_eq!(experiment["lifecycle_stage"], "active");
    assert_eq!(experiment["tags"], json!([{ "key": "site", "value": "south" }]));
    assert!(experiment["creation_time"].is_i64());
    let by_name = registry.must("GET", "experiments/get-by-name?experiment_name=burrows", Value::Null).await;
    assert_eq!(by_name, found);

    registry.must("POST", "experiments/update", json!({ "experiment_id": id, "new_name": "dens" })).await;
    let tag = json!({ "experiment_id": id, "key": "season", "value": "dry" });
    registry.must("POST", "experiments/set-experiment-tag", tag).await;
    let gone = json!({ "experiment_id": id, "key": "site" });
    registry.must("POST", "experiments/delete-experiment-tag", gone.clone()).await;
    let found = registry.must("GET", "experiments/get?experiment_id=1", Value::Null).await;
    assert_eq!(found["experiment"]["name"], "dens");
    assert_eq!(found["experiment"]["tags"], json!([{ "key": "season", "value": "dry" }]));
    let refused = registry.ask("POST", "experiments/delete-experiment-tag", gone).await;
    assert_eq!(refused.refusal(), (404, "RESOURCE_DOES_NOT_EXIST", "No tag with name: site in experiment with id 1"));
    let missing = registry.get("experiments/get-by-name?experiment_name=burrows").await;
    assert_eq!(missing.refusal(), (404, "RESOURCE_DOES_NOT_EXIST", "Could not find experiment with name 'burrows'"));
}

#[tokio::test]
async fn what_is_not_allowed_is_refused_in_mlflows_words() {
    let registry = Registry::new().await;
    create(&registry, "burrows").await;
    let again = registry.ask("POST", "experiments/create", json!({ "name": "burrows" })).await;
    assert_eq!(again.refusal(), (400, "RESOURCE_ALREADY_EXISTS", "Experiment(name=burrows) already exists."));
    let nameless = registry.ask("POST", "experiments/create", json!({})).await;
    assert_eq!(
        nameless.refusal(),
        (
            400,
            "INVALID_PARAMETER_VALUE",
            "Missing value for required parameter 'name'. See the API docs for more information about request parameters."
        )
    );
    let long = registry.ask("POST", "experiments/create", json!({ "name": "x".repeat(501) })).await;
    assert_eq!(long.refusal().2, "'name' exceeds the maximum length of 500 characters");
    for location in ["s3://bucket/../other", "runs:/abc/x", "s3://bucket/x#y", "file:///a/%2e%2e/b"] {
        let body = json!({ "name": "placed", "artifact_location": location });
        assert_eq!(registry.ask("POST", "experiments/create", body).await.refusal().0, 400, "{location}");
    }
    let missing = registry.get("experiments/get?experiment_id=77").await;
    assert_eq!(missing.refusal(), (404, "RESOURCE_DOES_NOT_EXIST", "No Experiment with id=77 exists"));
    let words = registry.get("experiments/get?experiment_id=x").await;
    assert_eq!(words.refusal().2, "Invalid experiment ID 'x'. Experiment ID must be a valid integer.");
    let unlimited = registry.ask("POST", "experiments/search", json!({})).await;
    assert_eq!(
        unlimited.refusal().2,
        "Invalid value 0 for parameter 'max_results' supplied. It must be a positive integer"
    );
    let large = registry.ask("POST", "experiments/search", json!({ "max_results": 50_001 })).await;
    assert_eq!(large.refusal().2, "Invalid value 50001 for parameter 'max_results' supplied. It must be at most 50000");
}

#[tokio::test]
async fn a_deleted_experiment_takes_its_runs_along_and_back() {
    let registry = Registry::new().await;
    let id = create(&registry, "burrows").await;
    let run = registry.must("POST", "runs/create", json!({ "experiment_id": id })).await;
    let run = run["run"]["info"]["run_id"].as_str().unwrap().to_owned();
    registry.must("POST", "experiments/delete", json!({ "experiment_id": id })).await;
    let again = registry.ask("POST", "experiments/delete", json!({ "experiment_id": id })).await;
    assert_eq!(again.refusal().0, 404);
    let refused = registry.ask("POST", "runs/create", json!({ "experiment_id": id })).await;
    assert_eq!(
        refused.refusal(),
        (400, "INVALID_PARAMETER_VALUE", "The experiment 1 must be in the 'active' state. Current state is deleted.")
    );
    let refused = registry.ask("POST", "experiments/update", json!({ "experiment_id": id, "new_name": "x" })).await;
    assert_eq!(refused.refusal().2, "Cannot rename a non-active experiment.");
    let found = registry.must("GET", &format!("runs/get?run_id={run}"), Value::Null).await;
    assert_eq!(found["run"]["info"]["lifecycle_stage"], "deleted");
    assert_eq!(registry.sql("SELECT count(*) FROM run WHERE deleted_at IS NOT NULL").await, 1);
    let taken = registry.ask("POST", "experiments/create", json!({ "name": "burrows" })).await;
    assert_eq!(taken.refusal().1, "RESOURCE_ALREADY_EXISTS");
    registry.must("POST", "experiments/restore", json!({ "experiment_id": id })).await;
    let found = registry.must("GET", &format!("runs/get?run_id={run}"), Value::Null).await;
    assert_eq!(found["run"]["info"]["lifecycle_stage"], "active");
    assert_eq!(registry.sql("SELECT count(*) FROM run WHERE deleted_at IS NOT NULL").await, 0);
}

#[tokio::test]
async fn searches_filter_order_and_page() {
    let registry = Registry::new().await;
    for name in ["alpha", "Beta", "gamma"] {
        let id = create(&registry, name).await;
        let tag = json!({ "experiment_id": id, "key": "site", "value": format!("{name}-site") });
        registry.must("POST", "experiments/set-experiment-tag", tag).await;
    }
    registry.must("POST", "experiments/delete", json!({ "experiment_id": "3" })).await;
    let names = async |body: Value| -> Vec<String> {
        let found = registry.must("POST", "experiments/search", body).await;
        let found = found["experiments"].as_array().cloned().unwrap_or_default();
        found.iter().map(|experiment| experiment["name"].as_str().unwrap().to_owned()).collect()
    };
    let of = |filter: &str| json!({ "max_results": 10, "filter": filter, "order_by": ["name"] });
    assert_eq!(names(of("name LIKE '%a'")).await, ["Beta", "alpha"], "by bytes, without the deleted one");
    assert_eq!(names(of("name ILIKE 'b%'")).await, ["Beta"]);
    assert_eq!(names(of("name LIKE 'b%'")).await, Vec::<String>::new());
    assert_eq!(names(of("tags.site = 'alpha-site'")).await, ["alpha"]);
    assert_eq!(names(of("tags.site != 'alpha-site'")).await, ["Beta"], "Default has no such tag");
    assert_eq!(names(of("tags.site IS NULL")).await, ["Default"]);
    assert_eq!(names(of("experiment_id NOT IN ('0', '1')")).await, ["Beta"]);
    let all = json!({ "max_results": 10, "view_type": "ALL", "order_by": ["experiment_id DESC"] });
    assert_eq!(names(all).await, ["gamma", "Beta", "alpha", "Default"]);
    let deleted = json!({ "max_results": 10, "view_type": 2 });
    assert_eq!(names(deleted).await, ["gamma"]);

    let first = json!({ "max_results": 2, "order_by": ["name"] });
    let found = registry.must("POST", "experiments/search", first.clone()).await;
    assert_eq!(found["next_page_token"], "eyJvZmZzZXQiOiAyfQ==");
    let mut second = first;
    second["page_token"] = found["next_page_token"].clone();
    let found = registry.must("POST", "experiments/search", second.clone()).await;
    assert_eq!(found["experiments"].as_array().unwrap().len(), 1);
    assert!(found.get("next_page_token").is_none());
    second["page_token"] = json!("nonsense");
    assert_eq!(registry.ask("POST", "experiments/search", second).await.refusal().0, 400);
    let found = registry.must("POST", "experiments/search", of("name = 'x\" OR 1=1 --'")).await;
    assert_eq!(found, json!({}));
}
