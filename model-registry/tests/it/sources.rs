//! What versions may be made of.

use serde_json::{Value, json};

use crate::common::Registry;

struct World {
    registry: Registry,
    run: String,
    model: String,
    artifacts: String,
    model_location: String,
}

/// A run and a logged model that it made.
async fn world() -> World {
    let registry = Registry::new().await;
    registry.model("owl", 0).await;
    let run = registry.must("POST", "runs/create", json!({"experiment_id": "0"})).await;
    let run_id = run["run"]["info"]["run_id"].as_str().unwrap().to_owned();
    let artifacts = run["run"]["info"]["artifact_uri"].as_str().unwrap().to_owned();
    let body = json!({"experiment_id": "0", "name": "net", "source_run_id": run_id});
    let logged = registry.must("POST", "logged-models", body).await;
    let info = &logged["model"]["info"];
    let model = info["model_id"].as_str().unwrap().to_owned();
    let model_location = info["artifact_uri"].as_str().unwrap().to_owned();
    World { registry, run: run_id, model, artifacts, model_location }
}

async fn create(world: &World, source: &str, run_id: Option<&str>, model_id: Option<&str>) -> crate::common::Answer {
    let mut body = json!({"name": "owl", "source": source});
    if let Some(run_id) = run_id {
        body["run_id"] = json!(run_id);
    }
    if let Some(model_id) = model_id {
        body["model_id"] = json!(model_id);
    }
    world.registry.ask("POST", "model-versions/create", body).await
}

async fn download_uri(world: &World, version: &str) -> String {
    let path = format!("model-versions/get-download-uri?name=owl&version={version}");
    world.registry.must("GET", &path, Value::Null).await["artifact_uri"].as_str().unwrap().to_owned()
}

#[tokio::test]
async fn sources_of_a_run_or_a_logged_model_are_resolved() {
    let world = world().await;
    let (run, model) = (world.run.as_str(), world.model.as_str());
    let of_run = format!("runs:/{run}/model");
    let made = create(&world, &of_run, Some(run), None).await;
    assert_eq!(made.body["model_version"]["run_id"], run, "{}", made.body);
    assert_eq!(download_uri(&world, "1").await, of_run);

    let files = format!("{}/model", world.artifacts);
    assert_eq!(create(&world, &files, Some(run), None).await.status, 200);

    let logged = format!("models:/{model}");
    let made = create(&world, &logged, None, Some(model)).await;
    assert_eq!(made.body["model_version"]["source"], logged, "{}", made.body);
    assert_eq!(made.body["model_version"]["run_id"], run, "it is that of the logged model");
    assert_eq!(download_uri(&world, "3").await, world.model_location);
    let tags = world.registry.must("GET", &format!("logged-models/{model}"), Value::Null).await;
    let tags = tags["model"]["info"]["tags"].as_array().cloned().unwrap();
    let listed = tags.iter().find(|tag| tag["key"] == "mlflow.modelVersions").unwrap();
    assert_eq!(listed["value"], "[{\"name\": \"owl\", \"version\": 3}]");

    let copied = create(&world, "models:/owl/3", None, None).await;
    assert_eq!(copied.body["model_version"]["source"], "models:/owl/3", "{}", copied.body);
    assert_eq!(download_uri(&world, "4").await, world.model_location);
    let body = json!({"name": "owl", "alias": "champion", "version": "1"});
    world.registry.must("POST", "registered-models/alias", body).await;
    let copied = create(&world, "models:/owl@champion", None, None).await;
    assert_eq!(copied.body["model_version"]["source"], "models:/owl/1");
    let copied = create(&world, "models:/owl/latest", None, None).await;
    assert_eq!(copied.body["model_version"]["source"], "models:/owl/5");
}

#[tokio::test]
async fn sources_elsewhere_are_refused() {
    let world = world().await;
    let (run, model) = (world.run.as_str(), world.model.as_str());
    let other = "f".repeat(32);
    let (of_run, logged) = (format!("runs:/{run}/model"), format!("models:/{model}"));
    let up = format!("{}/../x", world.artifacts);
    let hidden = format!("{}/%252e%252e/x", world.artifacts);
    let next_to = format!("{}x/model", world.artifacts);
    for (source, run_id, model_id) in [
        ("/etc/passwd", None, None),
        ("/etc/passwd", Some(run), None),
        ("file:///etc/passwd", Some(run), None),
        ("file:///etc/passwd", None, Some(model)),
        ("file://evil.example/share", Some(run), None),
        ("etc/passwd", None, None),
        (of_run.as_str(), None, None),
        (of_run.as_str(), Some(other.as_str()), None),
        (of_run.as_str(), None, Some(model)),
        ("runs://host/x", Some(run), None),
        (up.as_str(), Some(run), None),
        (hidden.as_str(), Some(run), None),
        (next_to.as_str(), Some(run), None),
        (world.artifacts.as_str(), None, None),
        ("s3://bucket/../x", None, None),
        ("s3://bucket/a%2f..%2fx", None, None),
        ("http://host/model", None, None),
        ("mlflow-artifacts://host/1/x", Some(run), None),
        (logged.as_str(), None, None),
        (logged.as_str(), Some(run), None),
        (logged.as_str(), None, Some("m-ffffffffffffffffffffffffffffffff")),
        ("models:/", None, None),
        ("models:/a/b/c", None, None),
        ("models:/owl@", None, None),
    ] {
        let answer = create(&world, source, run_id, model_id).await;
        assert_eq!(answer.refusal().0, 400, "{source} {run_id:?} {model_id:?}: {}", answer.body);
        assert_eq!(answer.refusal().1, "INVALID_PARAMETER_VALUE", "{source}");
    }
    let answer = create(&world, "models:/owl/7", None, None).await;
    assert_eq!(answer.refusal(), (404, "RESOURCE_DOES_NOT_EXIST", "Model Version (name=owl, version=7) not found"));
    let of_other = format!("runs:/{other}/model");
    let answer = create(&world, &of_other, Some(run), None).await;
    let message = format!(
        "Invalid model version source: '{of_other}'. The run_id request parameter must identify the resource that contains \
         the source."
    );
    assert_eq!(answer.refusal().2, message);
    assert_eq!(world.registry.sql("SELECT count(*) FROM model_version").await, 0);
}
