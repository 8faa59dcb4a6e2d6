//! Models from the command line: the DAG that retrains is in order, and a registration that is killed leaves one version.
#![allow(clippy::unwrap_used)]

mod common;

use std::collections::BTreeSet;
use std::net::TcpListener;
use std::process::Stdio;
use std::time::Duration;

use common::{Server, root, safari, said};
use detector::model;
use model_registry::client::{Client, Credentials, Progress, Source};
use model_registry::register;
use model_registry::registered::ModelVersion;

const REGISTER: &str = "
dag: registering
tasks:
  register:
    job: register
    with: {name: owl, model: MODEL, tags: {reviewed: 'false'}}
    retries: 20
    retry_delay: 200ms
";

const IN_A_BUCKET: &str = "
dag: bucket
tasks:
  train:
    job: train
    with: {source: 's3://labelled/set', output: 's3://labelled/model', bursts: 1, epochs: 1, folds: 2, test_share: 0.5}
  evaluate:
    job: evaluate
    needs: [train]
    with: {model: '{{ tasks.train.output.model }}', source: 's3://labelled/set', split: all}
";

/// Photographs and the folders that say what they show.
const LABELLED: [(&str, &str); 8] = [
    ("farmyard/cow.jpg", "domestic_cattle/north"),
    ("farmyard/pig.jpg", "sus scrofa/north"),
    ("farmyard/dog.jpg", "Canis familiaris"),
    ("farmyard/cat.jpg", "domestic cat"),
    ("prairie/horse.jpg", "domestic horse"),
    ("forest-trail/jaguar.jpg", "2026/jaguar/site-7"),
    ("river-bank/crocodile.jpg", "crocodile"),
    ("savanna-waterhole/blank.jpg", "blank"),
];

#[tokio::test(flavor = "multi_thread")]
async fn folders_of_a_bucket_have_labels_and_a_bucket_takes_the_model() {
    let server = e2e::seaweedfs::Server::start().await.unwrap();
    let bucket = server.bucket("labelled").await.unwrap();
    for (photo, folder) in LABELLED {
        let name = photo.rsplit('/').next().unwrap();
        let bytes = std::fs::read(root().join("data-samples").join(photo)).unwrap();
        bucket.put(&format!("set/{folder}/{name}"), bytes.into()).await.unwrap();
    }
    let folder = tempfile::tempdir().unwrap();
    let dag = folder.path().join("bucket.yaml");
    std::fs::write(&dag, IN_A_BUCKET).unwrap();
    let output = safari(folder.path()).arg("run").arg(&dag).envs(server.variables()).output().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let query =
        "select dataset, split, count, training_digest is not null as traced from evaluation where label is null";
    let rows = said(folder.path(), &["sql", query, "--format", "csv"]);
    assert_eq!(rows.lines().nth(1), Some("s3://labelled/set,all,8,true"), "{rows}");
    let labels =
        said(folder.path(), &["sql", "select label from evaluation where label is not null", "--format", "csv"]);
    for label in ["Panthera onca", "Sus scrofa", "Crocodylus", "blank"] {
        assert!(labels.lines().any(|line| line == label), "{label}: {labels}");
    }
    let fetched = folder.path().join("fetched");
    std::fs::create_dir(&fetched).unwrap();
    for file in ["MLmodel", "lineage.json", "input_example.json", "liquid.safetensors", "README.md"] {
        bucket.download(&format!("model/{file}"), &fetched.join(file)).await.unwrap();
    }
    let lineage = std::fs::read_to_string(fetched.join("lineage.json")).unwrap();
    assert!(lineage.contains("\"dag\": \"bucket\"") && lineage.contains("s3://labelled/set"), "{lineage}");
    assert!(model::input_example(&fetched).unwrap().is_some_and(|example| example.starts_with(&[0xff, 0xd8])));
}

#[test]
fn the_dag_that_retrains_is_in_order() {
    let folder = tempfile::tempdir().unwrap();
    said(folder.path(), &["dag", "check", "dags/retrain.yaml"]);
    let drawn = said(folder.path(), &["dag", "show", "dags/retrain.yaml"]);
    for task in ["train", "evaluate", "register", "promote"] {
        assert!(drawn.contains(task), "{drawn}");
    }
    let broken = folder.path().join("retrain.yaml");
    let text = std::fs::read_to_string(root().join("dags/retrain.yaml")).unwrap();
    std::fs::write(&broken, text.replace("smoke: true", "smok: true").replace("epochs: \"{{", "epoch: \"{{")).unwrap();
    let output = safari(folder.path()).args(["dag", "check"]).arg(&broken).output().unwrap();
    let told = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(!output.status.success() && told.contains("`epochs`") && told.contains("smok"), "{told}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_run_that_is_killed_at_any_moment_registers_one_version() {
    let folder = tempfile::tempdir().unwrap();
    let dag = folder.path().join("registering.yaml");
    let shipped = root().join("detector/model/wildlife");
    std::fs::write(&dag, REGISTER.replace("MODEL", &shipped.display().to_string())).unwrap();
    let url = format!("http://{}", free_address());
    let mut server = safari(folder.path());
    server.args(["registry", "--listen", url.trim_start_matches("http://")]);
    let _server = Server::start(server);
    let client = Client::connect(&url, Credentials::default()).unwrap();
    let mut kills = 0;
    // Each is killed later than the one before, until one comes through.
    let mut wait = Duration::from_millis(250);
    loop {
        let mut run = safari(folder.path());
        run.arg("run").arg(&dag).arg("--set").arg(format!("registry.url={url}"));
        let words = folder.path().join("words");
        let stderr = std::fs::File::create(&words).unwrap();
        let mut run = run.stdout(Stdio::null()).stderr(stderr).spawn().unwrap();
        std::thread::sleep(wait);
        if let Some(status) = run.try_wait().unwrap() {
            if status.success() {
                break;
            }
            // What kills its process five times in a row is given up; the next run is another one.
            let words = std::fs::read_to_string(&words).unwrap();
            assert!(words.contains("the process died 5 times in a row"), "{words}");
            continue;
        }
        // SIGKILL.
        run.kill().unwrap();
        run.wait().unwrap();
        kills += 1;
        assert!(kills < 200, "no registration comes through");
        for version in versions(&client).await {
            check(&client, &version).await;
        }
        wait += Duration::from_millis(60);
    }
    assert!(kills > 0, "nothing was killed");
    // A process that is killed when its run has ended, but not yet itself, is followed by another run, with a version of
    // its own: how many there are is a matter of chance. No run has two.
    let versions = versions(&client).await;
    let runs: BTreeSet<&str> = versions.iter().map(key).collect();
    assert_eq!(runs.len(), versions.len(), "{versions:?}");
    assert!(!versions.is_empty());
    for version in &versions {
        check(&client, version).await;
    }
}

/// What the version's run and task are called.
fn key(version: &ModelVersion) -> &str {
    &version.tags.iter().find(|tag| tag.key == register::IDEMPOTENCY_TAG).unwrap().value
}

/// The versions that there are; none while the server is not up.
async fn versions(client: &Client) -> Vec<ModelVersion> {
    client.all_versions("name = 'owl'").await.unwrap_or_default()
}

/// A version has all its files, and they are what they were.
async fn check(client: &Client, version: &ModelVersion) {
    let fetched = tempfile::tempdir().unwrap();
    let (target, source) = (fetched.path().join("model"), Source::Version(version.name.clone(), version.version));
    assert!(register::fetch(client, &source, &target, &Progress::default()).await.unwrap(), "it has checksums");
    let shipped = root().join("detector/model/wildlife");
    assert_eq!(model::digest(&target).unwrap(), model::digest(&shipped).unwrap());
}

/// An address of this machine that nobody listens on.
fn free_address() -> std::net::SocketAddr {
    TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap()
}
