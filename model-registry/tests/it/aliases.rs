//! Aliases by MLflow's own calls.

use serde_json::{Value, json};

use crate::common::Registry;

#[tokio::test]
async fn an_alias_names_one_version_and_goes_with_it() {
    let registry = Registry::new().await;
    registry.model("owl", 3).await;
    let by_alias = "registered-models/alias?name=owl&alias=champion";
    let none = registry.get(by_alias).await;
    let message = "Registered model alias champion not found.";
    assert_eq!(none.refusal(), (400, "INVALID_PARAMETER_VALUE", message));
    for version in ["1", "2"] {
        let body = json!({"name": "owl", "alias": "champion", "version": version});
        registry.must("POST", "registered-models/alias", body).await;
    }
    let body = json!({"name": "owl", "alias": "second", "version": "2"});
    registry.must("POST", "registered-models/alias", body).await;
    let named = registry.must("GET", by_alias, Value::Null).await;
    assert_eq!(named["model_version"]["version"], "2");
    assert_eq!(named["model_version"]["aliases"], json!(["champion", "second"]));
    let latest = registry.must("GET", "registered-models/alias?name=owl&alias=Latest", Value::Null).await;
    assert_eq!(latest["model_version"]["version"], "3");

    registry.must("DELETE", "model-versions/delete", json!({"name": "owl", "version": "2"})).await;
    assert_eq!(registry.alias("owl", "champion").await, None);
    let body = json!({"name": "owl", "alias": "champion", "version": "2"});
    assert_eq!(registry.ask("POST", "registered-models/alias", body).await.status, 404);
    for _ in 0..2 {
        registry.must("DELETE", "registered-models/alias", json!({"name": "owl", "alias": "champion"})).await;
    }
    let unknown = registry.get("registered-models/alias?name=x&alias=champion").await;
    assert_eq!(unknown.refusal(), (404, "RESOURCE_DOES_NOT_EXIST", "Registered Model with name=x not found"));
    registry.model("empty", 0).await;
    let none = registry.get("registered-models/alias?name=empty&alias=latest").await;
    assert_eq!(none.refusal(), (404, "RESOURCE_DOES_NOT_EXIST", "Latest version not found for model empty."));
}

#[tokio::test]
async fn every_change_of_an_alias_is_in_the_audit() {
    let registry = Registry::new().await;
    registry.model("owl", 2).await;
    let ada = [("safari-actor", "ada")];
    let path = "/api/2.0/mlflow/registered-models/alias";
    for version in ["1", "2"] {
        let body = json!({"name": "owl", "alias": "champion", "version": version});
        registry.ask_as(&ada, "POST", path, body).await;
    }
    registry.ask_as(&ada, "DELETE", path, json!({"name": "owl", "alias": "champion"})).await;
    let body = json!({"name": "owl", "alias": "champion", "version": "1"});
    registry.ask_as(&[], "POST", path, body).await;
    registry.must("DELETE", "model-versions/delete", json!({"name": "owl", "version": "1"})).await;
    registry.must("POST", "registered-models/rename", json!({"name": "owl", "new_name": "kite"})).await;
    let history = registry.ask_as(&[], "GET", "/api/v1/models/kite/history?alias=champion", Value::Null).await;
    let shown = |row: &Value| {
        let text = |field: &str| row[field].as_str().unwrap_or("-").to_owned();
        format!("{} {}>{} {}", text("kind"), text("from"), text("to"), text("actor"))
    };
    let rows: Vec<String> = history.body["promotions"].as_array().unwrap().iter().map(shown).collect();
    assert_eq!(
        rows,
        ["delete 1>- unknown", "set ->1 unknown", "delete 2>- ada", "set 1>2 ada", "set ->1 ada"],
        "the newest first"
    );
    registry.must("DELETE", "registered-models/delete", json!({"name": "kite"})).await;
    let history = registry.ask_as(&[], "GET", "/api/v1/models/kite/history?limit=2", Value::Null).await;
    assert_eq!(history.body["promotions"].as_array().unwrap().len(), 2, "the audit outlives the model");
    let before = history.body["next_before"].as_i64().unwrap();
    let path = format!("/api/v1/models/kite/history?before={before}");
    let older = registry.ask_as(&[], "GET", &path, Value::Null).await;
    assert_eq!(older.body["promotions"].as_array().unwrap().len(), 3);
    let never = registry.ask_as(&[], "GET", "/api/v1/models/never/history", Value::Null).await;
    assert_eq!(never.status, 404);
}
