//! Our client asks MLflow's own server, and ours: the same steps, the same outcome.

use model_registry::VersionNumber;
use model_registry::client::{Client, Credentials, Metric, NewVersion, Param, Progress, RunStatus};
use model_registry::registered::Tag;
use platform::database::Engine;
use uuid::Uuid;

use crate::servers::{Ours, real};

#[tokio::test(flavor = "multi_thread")]
async fn our_client_on_the_real_server() {
    drive(&real().await.url()).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn our_client_on_our_server() {
    drive(&Ours::start(Engine::Sqlite).await.url).await;
}

/// Everything that jobs do: a run with metrics, a logged model with files, a version of it, aliases, searches, and back.
async fn drive(url: &str) {
    let client = Client::connect(url, Credentials::default()).unwrap();
    let unique = Uuid::new_v4().simple().to_string();
    let tag = |key: &str, value: &str| Tag { key: key.to_owned(), value: value.to_owned() };

    let name = format!("experiment {unique}");
    assert!(client.experiment(&name).await.unwrap().is_none());
    let experiment = client.ensure_experiment(&name).await.unwrap();
    assert_eq!(client.ensure_experiment(&name).await.unwrap(), experiment);
    assert_eq!(client.experiment(&name).await.unwrap().unwrap().experiment_id, experiment);

    let run = client.create_run(&experiment, "first", &[tag("kind", "test ✓")]).await.unwrap();
    let id = run.info.run_id.clone();
    let metric = |key: &str, value: f64, step: i64| Metric { key: key.to_owned(), value, timestamp: 1000 + step, step };
    let mut metrics: Vec<Metric> = (0..1500).map(|step| metric("loss", step as f64, step)).collect();
    metrics.push(metric("nan", f64::NAN, 0));
    let params: Vec<Param> =
        (0..150).map(|number| Param { key: format!("p{number}"), value: number.to_string() }).collect();
    client.log(&id, &metrics, &params, &[tag("more", "1")]).await.unwrap();
    client.end_run(&id, RunStatus::Finished).await.unwrap();
    let found = client.run(&id).await.unwrap().unwrap();
    assert_eq!(found.info.status, RunStatus::Finished);
    assert!(found.info.end_time.is_some());
    assert_eq!(found.data.params.len(), 150);
    let value = |key: &str| found.data.metrics.iter().find(|metric| metric.key == key).unwrap().value;
    assert_eq!(value("loss"), 1499.0);
    assert!(value("nan").is_nan());
    assert!(found.data.tags.contains(&tag("kind", "test ✓")) && found.data.tags.contains(&tag("more", "1")));
    assert!(client.run(&"0".repeat(32)).await.unwrap().is_none());

    let logged = client.create_logged_model(&experiment, "net", Some(&id), &[tag("a", "1")]).await.unwrap();
    assert!(!logged.is_ready());
    let folder = tempfile::tempdir().unwrap();
    let bytes: Vec<u8> = (0..3_000_000u32).map(|number| (number % 251) as u8).collect();
    std::fs::write(folder.path().join("weights"), &bytes).unwrap();
    std::fs::write(folder.path().join("empty"), b"").unwrap();
    let files = client.files(&logged.artifact_uri).await.unwrap();
    assert!(files.is_empty().await.unwrap());
    let sent = [
        (folder.path().join("weights"), "data/weights ✓.bin".to_owned()),
        (folder.path().join("empty"), "empty".to_owned()),
    ];
    files.upload_all(&sent, &Progress::default()).await.unwrap();
    let listed: Vec<(String, u64)> =
        files.list().await.unwrap().into_iter().map(|file| (file.path, file.size)).collect();
    assert_eq!(listed, [("data/weights ✓.bin".to_owned(), 3_000_000), ("empty".to_owned(), 0)]);
    let back = folder.path().join("back");
    files.download_all(&back, &Progress::default()).await.unwrap();
    assert_eq!(std::fs::read(back.join("data/weights ✓.bin")).unwrap(), bytes);
    assert!(std::fs::read(back.join("empty")).unwrap().is_empty());
    assert!(client.finish_logged_model(&logged.model_id).await.unwrap().is_ready());
    assert!(client.logged_model(&logged.model_id).await.unwrap().unwrap().is_ready());
    assert_eq!(client.search_logged_models(&experiment, "name = 'net'", 5).await.unwrap().len(), 1);

    let model = format!("model {unique}");
    assert!(client.model(&model).await.unwrap().is_none());
    client.ensure_model(&model, Some("about"), &[tag("t", "1")]).await.unwrap();
    client.ensure_model(&model, None, &[]).await.unwrap();
    let new = NewVersion {
        name: model.clone(),
        source: format!("models:/{}", logged.model_id),
        run_id: Some(id.clone()),
        model_id: Some(logged.model_id.clone()),
        tags: vec![tag("v", "1")],
        description: Some("first".to_owned()),
    };
    let (one, two) = (VersionNumber(1), VersionNumber(2));
    assert_eq!(client.create_version(&new).await.unwrap().version, one);
    assert_eq!(client.create_version(&new).await.unwrap().version, two);
    assert_eq!(client.version_uri(&model, one).await.unwrap(), logged.artifact_uri);
    client.set_version_tag(&model, one, &tag("v", "2")).await.unwrap();
    assert_eq!(client.version(&model, one).await.unwrap().unwrap().run_id.as_deref(), Some(id.as_str()));
    client.set_alias(&model, "champion", one).await.unwrap();
    client.set_alias(&model, "champion", two).await.unwrap();
    assert_eq!(client.version_by_alias(&model, "champion").await.unwrap().unwrap().version, two);
    client.delete_alias(&model, "champion").await.unwrap();
    assert!(client.version_by_alias(&model, "champion").await.unwrap().is_none());
    let ours = format!("name = '{model}'");
    assert_eq!(client.all_versions(&ours).await.unwrap().len(), 2);
    let page = client.search_versions(&ours, 1, None).await.unwrap();
    let rest = client.search_versions(&ours, 1, page.next.as_deref()).await.unwrap();
    assert_ne!(page.items[0].version, rest.items[0].version);
    assert_eq!(client.all_models(&ours).await.unwrap().len(), 1);
    client.delete_version(&model, two).await.unwrap();
    assert!(client.version(&model, two).await.unwrap().is_none());
    client.delete_model(&model).await.unwrap();
    assert!(client.model(&model).await.unwrap().is_none());
}
