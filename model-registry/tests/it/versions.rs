//! Model versions.

use serde_json::{Value, json};

use crate::common::Registry;

#[tokio::test]
async fn a_version_has_all_fields_and_its_number_is_never_given_again() {
    let registry = Registry::new().await;
    registry.model("owl", 0).await;
    let body = json!({
        "name": "owl", "source": "s3://bucket/owl", "run_link": "http://x/1", "description": "first",
        "tags": [{"key": "k", "value": "v"}],
    });
    let made = registry.must("POST", "model-versions/create", body).await["model_version"].clone();
    for (field, value) in [
        ("name", json!("owl")),
        ("version", json!("1")),
        ("current_stage", json!("None")),
        ("description", json!("first")),
        ("source", json!("s3://bucket/owl")),
        ("run_id", json!("")),
        ("run_link", json!("http://x/1")),
        ("status", json!("READY")),
        ("tags", json!([{"key": "k", "value": "v"}])),
    ] {
        assert_eq!(made[field], value, "{field}");
    }
    assert!(made.get("user_id").is_none() && made.get("aliases").is_none());
    let read = registry.must("GET", "model-versions/get?name=owl&version=1", Value::Null).await;
    assert_eq!(read["model_version"], made);

    assert_eq!(registry.version("owl", "s3://bucket/b").await["version"], "2");
    for version in ["1", "2"] {
        registry.must("DELETE", "model-versions/delete", json!({"name": "owl", "version": version})).await;
    }
    let gone = registry.get("model-versions/get?name=owl&version=2").await;
    let message = "Model Version (name=owl, version=2) not found";
    assert_eq!(gone.refusal(), (404, "RESOURCE_DOES_NOT_EXIST", message));
    assert_eq!(registry.version("owl", "s3://bucket/c").await["version"], "3");
    let model = registry.must("GET", "registered-models/get?name=owl", Value::Null).await;
    assert_eq!(model["registered_model"]["latest_versions"].as_array().unwrap().len(), 1);

    let none = registry.ask("POST", "model-versions/create", json!({"name": "x", "source": "s3://b/a"})).await;
    assert_eq!(none.refusal(), (404, "RESOURCE_DOES_NOT_EXIST", "Registered Model with name=x not found"));
    assert_eq!(registry.sql("SELECT next_version FROM registered_model").await, 4, "a refusal counts nothing");
}

#[tokio::test]
async fn descriptions_change_and_go() {
    let registry = Registry::new().await;
    registry.model("owl", 1).await;
    let body = json!({"name": "owl", "version": "1", "description": "new"});
    let changed = registry.must("PATCH", "model-versions/update", body).await;
    assert_eq!(changed["model_version"]["description"], "new");
    let changed = registry.must("PATCH", "model-versions/update", json!({"name": "owl", "version": "1"})).await;
    assert!(changed["model_version"].get("description").is_none());
    let none = registry.ask("PATCH", "model-versions/update", json!({"name": "owl", "version": "9"})).await;
    assert_eq!(none.status, 404);
}

#[tokio::test]
async fn stages_archive_those_before() {
    let registry = Registry::new().await;
    registry.model("owl", 4).await;
    let enter = async |version: &str, stage: &str, archive: bool| {
        let body = json!({"name": "owl", "version": version, "stage": stage, "archive_existing_versions": archive});
        registry.ask("POST", "model-versions/transition-stage", body).await
    };
    enter("1", "production", false).await;
    enter("2", "PRODUCTION", false).await;
    let moved = enter("3", "Production", true).await;
    assert_eq!(moved.body["model_version"]["current_stage"], "Production");
    let latest = async |stages: Value| {
        let body = json!({"name": "owl", "stages": stages});
        let answer = registry.must("POST", "registered-models/get-latest-versions", body).await;
        let versions = answer["model_versions"].as_array().cloned().unwrap_or_default();
        let shown = |version: &Value| {
            format!("{} {}", version["version"].as_str().unwrap(), version["current_stage"].as_str().unwrap())
        };
        versions.iter().map(shown).collect::<Vec<_>>()
    };
    assert_eq!(latest(json!(["production"])).await, ["3 Production"]);
    assert_eq!(latest(json!(["Archived", "None"])).await, ["2 Archived", "4 None"]);
    assert_eq!(latest(json!([])).await, ["2 Archived", "3 Production", "4 None"]);
    assert_eq!(latest(json!(["Staging"])).await, Vec::<String>::new());
    let bad = enter("1", "gone", false).await;
    let message = "Invalid Model Version stage: gone. Value must be one of None, Staging, Production, Archived.";
    assert_eq!(bad.refusal(), (400, "INVALID_PARAMETER_VALUE", message));
    let bad = enter("1", "Archived", true).await;
    let message = "Model version transition cannot archive existing model versions because 'Archived' is not an Active \
                   stage. Valid stages are ['Staging', 'Production']";
    assert_eq!(bad.refusal(), (500, "INTERNAL_ERROR", message));
    assert_eq!(enter("9", "Staging", false).await.status, 404);
}

#[tokio::test]
async fn searches_find_versions_in_pages() {
    let registry = Registry::new().await;
    assert_eq!(registry.must("GET", "model-versions/search", Value::Null).await, json!({}));
    registry.model("owl", 5).await;
    registry.model("hawk", 1).await;
    let tag = json!({"name": "owl", "version": "2", "key": "k", "value": "v"});
    registry.must("POST", "model-versions/set-tag", tag).await;
    let numbers = |page: &Value| -> Vec<String> {
        let versions = page["model_versions"].as_array().cloned().unwrap_or_default();
        versions.iter().map(|version| version["version"].as_str().unwrap().to_owned()).collect()
    };
    let by_name = "model-versions/search?filter=name%3D%27owl%27&order_by=version_number%20ASC&max_results=2";
    let (mut all, mut token) = (Vec::new(), String::new());
    loop {
        let page = registry.must("GET", &format!("{by_name}&page_token={token}"), Value::Null).await;
        all.extend(numbers(&page));
        let Some(next) = page["next_page_token"].as_str() else { break };
        token = next.replace('=', "%3D");
    }
    assert_eq!(all, ["1", "2", "3", "4", "5"]);
    let usual = registry.must("GET", "model-versions/search?filter=name%3D%27owl%27", Value::Null).await;
    assert_eq!(usual["model_versions"].as_array().unwrap().len(), 5);
    let tagged = "model-versions/search?filter=tags.k%3D%27v%27%20AND%20name%3D%27owl%27";
    let found = registry.must("GET", tagged, Value::Null).await;
    assert_eq!(numbers(&found), ["2"]);
    assert_eq!(found["model_versions"][0]["tags"], json!([{"key": "k", "value": "v"}]));
    let few = registry.get("model-versions/search?max_results=0").await;
    let message = "Invalid value for max_results. It must be a positive integer, but got 0";
    assert_eq!(few.refusal(), (400, "INVALID_PARAMETER_VALUE", message));
    assert_eq!(registry.get("model-versions/search?max_results=200001").await.status, 400);
}
