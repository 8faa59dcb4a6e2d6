//! Registered models.

use serde_json::{Value, json};

use crate::common::Registry;

#[tokio::test]
async fn a_model_is_made_read_changed_renamed_and_deleted() {
    let registry = Registry::new().await;
    let tags = json!([{"key": "site", "value": "north"}, {"key": "site", "value": "south"}, {"key": "a", "value": ""}]);
    let made = registry
        .must("POST", "registered-models/create", json!({"name": "owl", "tags": tags, "description": "hoots"}))
        .await;
    let model = &made["registered_model"];
    assert_eq!(model["tags"], json!([{"key": "site", "value": "south"}, {"key": "a", "value": ""}]));
    assert_eq!((&model["name"], &model["description"]), (&json!("owl"), &json!("hoots")));
    assert_eq!(model["creation_timestamp"], model["last_updated_timestamp"]);
    assert!(
        model["creation_timestamp"].is_i64()
            && model.get("aliases").is_none()
            && model.get("latest_versions").is_none()
    );

    let again = registry.ask("POST", "registered-models/create", json!({"name": "owl"})).await;
    assert_eq!(again.refusal(), (400, "RESOURCE_ALREADY_EXISTS", "Registered Model (name=owl) already exists."));
    let prompt = json!({"name": "owl", "tags": [{"key": "mlflow.prompt.is_prompt", "value": "true"}]});
    let (status, code, message) = {
        let answer = registry.ask("POST", "registered-models/create", prompt).await;
        let (status, code, message) = answer.refusal();
        (status, code.to_owned(), message.to_owned())
    };
    assert_eq!((status, code.as_str()), (400, "RESOURCE_ALREADY_EXISTS"));
    assert!(message.starts_with("Tried to create a prompt with name 'owl'"), "{message}");

    let updated = registry.must("PATCH", "registered-models/update", json!({"name": "owl", "description": ""})).await;
    assert!(updated["registered_model"].get("description").is_none(), "an empty description is left out");
    registry.model("hawk", 1).await;
    let taken = registry.ask("POST", "registered-models/rename", json!({"name": "owl", "new_name": "hawk"})).await;
    assert_eq!(taken.refusal(), (400, "RESOURCE_ALREADY_EXISTS", "Registered Model (name=hawk) already exists."));
    let renamed = registry.must("POST", "registered-models/rename", json!({"name": "hawk", "new_name": "kite"})).await;
    assert_eq!(renamed["registered_model"]["latest_versions"][0]["name"], "kite");
    registry.must("DELETE", "registered-models/delete", json!({"name": "owl"})).await;
    let gone = registry.get("registered-models/get?name=owl").await;
    assert_eq!(gone.refusal(), (404, "RESOURCE_DOES_NOT_EXIST", "Registered Model with name=owl not found"));
    let gone = registry.ask("DELETE", "registered-models/delete", json!({"name": "owl"})).await;
    assert_eq!(gone.status, 404);
}

#[tokio::test]
async fn names_and_fields_are_checked_in_mlflows_words() {
    let registry = Registry::new().await;
    registry.model("owl", 1).await;
    let missing = "Missing value for required parameter 'name'. See the API docs for more information about request \
                   parameters.";
    for (method, path, body, message) in [
        ("POST", "registered-models/create", json!({}), missing),
        ("POST", "registered-models/create", json!({"name": ""}), missing),
        ("GET", "registered-models/get", Value::Null, missing),
        (
            "POST",
            "registered-models/create",
            json!({"name": "a/b"}),
            "Invalid model name 'a/b'. Names cannot contain '/' or ':'.",
        ),
        ("POST", "registered-models/create", json!({"name": " "}), "Missing value for required parameter 'name'."),
        (
            "GET",
            "registered-models/search?max_results=1001",
            Value::Null,
            "Invalid value \"1001\" for parameter 'max_results' supplied:  Hint: Value was of type 'str'. See the API docs \
             for more information about request parameters.",
        ),
        ("GET", "registered-models/search?page_token=x", Value::Null, "Invalid page token, could not base64-decode"),
        (
            "POST",
            "registered-models/alias",
            json!({"name": "owl", "alias": "latest", "version": "1"}),
            "'latest' alias name (case insensitive) is reserved.",
        ),
        (
            "POST",
            "registered-models/alias",
            json!({"name": "owl", "alias": "v1", "version": "1"}),
            "Version alias name 'v1' is reserved.",
        ),
        (
            "POST",
            "registered-models/alias",
            json!({"name": "owl", "alias": "a b", "version": "1"}),
            "Invalid alias name: 'a b'. Names may only contain alphanumerics, underscores (_), and dashes (-).",
        ),
        (
            "POST",
            "registered-models/set-tag",
            json!({"name": "owl", "key": "k", "value": "x".repeat(100_001)}),
            "'value' exceeds the maximum length of 100000 characters",
        ),
        (
            "GET",
            "model-versions/get?name=owl&version=abc",
            Value::Null,
            "Parameter 'version' must be an integer, got 'abc'.",
        ),
    ] {
        let answer = registry.ask(method, path, body).await;
        assert_eq!(answer.refusal(), (400, "INVALID_PARAMETER_VALUE", message), "{method} {path}");
    }
    for name in [".", "..", "a\u{0}b"] {
        let answer = registry.ask("POST", "registered-models/create", json!({ "name": name })).await;
        assert_eq!(answer.refusal().0, 400, "{name:?}");
    }
    assert_eq!(registry.get("registered-models/get?name=a%00b").await.status, 400);
    let quoted = json!({"name": "'; DROP TABLE registered_model; --"});
    registry.must("POST", "registered-models/create", quoted).await;
    assert_eq!(registry.sql("SELECT count(*) FROM registered_model").await, 2);
}

#[tokio::test]
async fn tags_are_set_replaced_and_removed() {
    let registry = Registry::new().await;
    registry.model("owl", 1).await;
    for (path, version) in [("registered-models", Value::Null), ("model-versions", json!("1"))] {
        for value in ["a", "b"] {
            let body = json!({"name": "owl", "version": version, "key": "k", "value": value});
            registry.must("POST", &format!("{path}/set-tag"), body).await;
        }
        let body = json!({"name": "owl", "version": version, "key": "empty"});
        registry.must("POST", &format!("{path}/set-tag"), body).await;
    }
    let both = json!([{"key": "empty", "value": ""}, {"key": "k", "value": "b"}]);
    let model = registry.must("GET", "registered-models/get?name=owl", Value::Null).await;
    assert_eq!(model["registered_model"]["tags"], both);
    assert_eq!(model["registered_model"]["latest_versions"][0]["tags"], both);
    for (path, version) in [("registered-models", Value::Null), ("model-versions", json!("1"))] {
        for _ in 0..2 {
            let body = json!({"name": "owl", "version": version, "key": "k"});
            registry.must("DELETE", &format!("{path}/delete-tag"), body).await;
        }
    }
    let version = registry.must("GET", "model-versions/get?name=owl&version=1", Value::Null).await;
    assert_eq!(version["model_version"]["tags"], json!([{"key": "empty", "value": ""}]));
    let missing = registry.ask("POST", "registered-models/set-tag", json!({"name": "x", "key": "k"})).await;
    assert_eq!(missing.status, 404);
}

#[tokio::test]
async fn searches_give_pages_with_all_that_belongs_to_a_model() {
    let registry = Registry::new().await;
    assert_eq!(registry.must("GET", "registered-models/search", Value::Null).await, json!({}));
    for name in ["a", "b", "c", "d", "e"] {
        registry.model(name, 2).await;
    }
    let prompt = json!({"name": "p", "tags": [{"key": "mlflow.prompt.is_prompt", "value": "true"}]});
    registry.must("POST", "registered-models/create", prompt).await;
    let alias = json!({"name": "b", "alias": "champion", "version": "1"});
    registry.must("POST", "registered-models/alias", alias).await;
    registry.must("POST", "registered-models/set-tag", json!({"name": "c", "key": "k", "value": "v"})).await;
    let names = |page: &Value| -> Vec<String> {
        let models = page["registered_models"].as_array().cloned().unwrap_or_default();
        models.iter().map(|model| model["name"].as_str().unwrap().to_owned()).collect()
    };
    let (mut all, mut token) = (Vec::new(), String::new());
    loop {
        let path = format!("registered-models/search?max_results=2&page_token={token}");
        let page = registry.must("GET", &path, Value::Null).await;
        all.extend(names(&page));
        let Some(next) = page["next_page_token"].as_str() else { break };
        token = next.replace('=', "%3D");
    }
    assert_eq!(all, ["a", "b", "c", "d", "e"], "prompts are left out, and no page is empty");
    let no_prompts = "registered-models/search?filter=name%20LIKE%20%27%25%27%20AND%20tag.%60mlflow.prompt.is_prompt%60%20!%3D\
                      %20%27true%27&order_by=name%20DESC";
    let page = registry.must("GET", no_prompts, Value::Null).await;
    assert_eq!(names(&page), ["e", "d", "c", "b", "a"]);
    assert_eq!(page["registered_models"][3]["aliases"], json!([{"alias": "champion", "version": "1"}]));
    assert_eq!(page["registered_models"][3]["latest_versions"][0]["version"], "2");
    let prompts = "registered-models/search?filter=tag.%60mlflow.prompt.is_prompt%60%20%3D%20%27true%27";
    assert_eq!(names(&registry.must("GET", prompts, Value::Null).await), ["p"]);
    let tagged = "registered-models/search?filter=tags.k%20%3D%20%27v%27";
    assert_eq!(names(&registry.must("GET", tagged, Value::Null).await), ["c"]);
    let bad = registry.get("registered-models/search?filter=stage%20%3D%20%27x%27").await;
    assert_eq!(bad.refusal().1, "INVALID_PARAMETER_VALUE");
}

#[tokio::test]
async fn pages_of_other_sites_may_look_and_change_nothing() {
    let registry = Registry::new().await;
    let foreign = [("sec-fetch-site", "cross-site")];
    let create = "/api/2.0/mlflow/registered-models/create";
    let refused = registry.ask_as(&foreign, "POST", create, json!({"name": "owl"})).await;
    assert_eq!((refused.refusal().0, refused.refusal().1), (403, "PERMISSION_DENIED"));
    let own = [("sec-fetch-site", "same-origin")];
    assert_eq!(registry.ask_as(&own, "POST", create, json!({"name": "owl"})).await.status, 200);
    let look = "/ajax-api/2.0/mlflow/registered-models/get?name=owl";
    assert_eq!(registry.ask_as(&foreign, "GET", look, Value::Null).await.status, 200);
}
