//! A model from labelled media to an alias: `dags/retrain.yaml` on the demo's media, against the registry's own tables.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Arc;
use std::time::Duration;

use jobs::register::RegisterJob;
use jobs::{Masker, Services};
use model_registry::VersionNumber;
use model_registry::client::Client;
use model_registry::promotion::Outcome;
use model_registry::registered::{ModelVersion, Tag};
use pipeline::{Dag, Job, JobOutput, RunOutcome, RunState, Runner, RunnerOptions, Store};
use platform::config::Config;
use serde_json::{Value, json};
use tempfile::TempDir;

use crate::common::context;

/// Enough to see that it works, and no more.
const QUICK: [(&str, &str); 3] = [("bursts", "1"), ("epochs", "2"), ("folds", "2")];

/// A home with its services.
struct House {
    home: TempDir,
    services: Arc<Services>,
}

impl House {
    fn new() -> Self {
        let home = tempfile::tempdir().unwrap();
        let flags = [("home".to_owned(), home.path().display().to_string())];
        let services = Arc::new(Services::new(Config::load(None, &flags).unwrap()));
        Self { home, services }
    }

    async fn registry(&self) -> &Client {
        self.services.registry().await.unwrap()
    }

    /// Runs `dags/retrain.yaml` to its end.
    async fn retrain(&self, params: &[(&str, &str)]) -> RunOutcome {
        let dag = Dag::load(&root().join("dags/retrain.yaml")).unwrap();
        let source = root().join("data-samples").display().to_string();
        let mut given: Vec<(String, String)> = vec![("source".to_owned(), source)];
        given.extend(QUICK.iter().chain(params).map(|(name, value)| ((*name).to_owned(), (*value).to_owned())));
        let params = dag.params(&given).unwrap();
        let registry = jobs::registry(&self.services, &Masker::default()).unwrap();
        registry.check(&dag, Some(&params)).unwrap();
        let state = platform::database::open_sqlite(&self.home.path().join("state.db")).await.unwrap();
        let store = Store::open(state).await.unwrap();
        let runner = Runner::new(store, registry, RunnerOptions::new(self.home.path()));
        let start = runner.start_or_resume(&dag, &params).await.unwrap();
        runner.drive(start.run_id()).await.unwrap()
    }

    /// The rows of a query to the tables.
    async fn rows(&self, query: &str) -> Vec<Value> {
        let rows = self.services.lake().await.unwrap().sql(query).await.unwrap();
        let mut lines = Vec::new();
        lake::format::write(rows, lake::OutputFormat::Json, &mut lines).await.unwrap();
        serde_json::Deserializer::from_slice(&lines).into_iter::<Value>().map(Result::unwrap).collect()
    }

    async fn versions(&self, name: &str) -> Vec<ModelVersion> {
        self.registry().await.all_versions(&format!("name = '{name}'")).await.unwrap()
    }

    /// One attempt at registering the shipped model.
    async fn register(&self, key: &str) -> Result<JobOutput, pipeline::JobError> {
        let (_stop, mut attempt) = context(self.home.path());
        attempt.idempotency_key = key.to_owned();
        RegisterJob::new(Arc::clone(&self.services)).run(attempt, json!({"name": "owl", "model": shipped()})).await
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn the_first_model_is_the_champion_and_a_worse_one_is_refused_with_its_numbers() {
    let house = House::new();
    let outcome = house.retrain(&[]).await;
    assert_eq!(outcome.state, RunState::Succeeded, "{outcome:?}");
    let champion = house.registry().await.version_by_alias("wildlife", "champion").await.unwrap().unwrap();
    assert_eq!(champion.version, VersionNumber(1));
    let run = outcome.run_id.to_string();
    assert_eq!(tag(&champion.tags, "safari.dag_run"), Some(run.as_str()));
    assert_eq!(tag(&champion.tags, "safari.training_digest").map(str::len), Some(64));
    let rows = house.rows("select * from evaluation where label is null").await;
    assert_eq!(rows.len(), 1, "{rows:?}");
    let first = rows[0]["macro_f1"].as_f64().unwrap();
    assert_eq!(rows[0]["run_id"], json!(run));
    assert_eq!(rows[0]["role"], "challenger");
    assert_eq!(rows[0]["model_version"].as_str(), tag(&champion.tags, "safari.model_version"));
    assert_eq!(rows[0]["training_digest"].as_str(), tag(&champion.tags, "safari.training_digest"));
    let labels = house.rows("select avg(f1) as f1, sum(support) as n from evaluation where label is not null").await;
    assert!((labels[0]["f1"].as_f64().unwrap() - first).abs() < 1e-9, "{labels:?}");
    assert_eq!(labels[0]["n"], rows[0]["count"]);
    assert!(first > 0.3, "the shipped networks know most of these animals: {first}");

    let worse = worse_model();
    let outcome = house.retrain(&[("base", &worse.path().display().to_string())]).await;
    assert_eq!(outcome.state, RunState::Failed, "{outcome:?}");
    let rows = house
        .rows("select role, macro_f1, version from evaluation where label is null order by evaluated_at, role")
        .await;
    assert_eq!(rows.len(), 3, "{rows:?}");
    let of = |role: &str| rows[1..].iter().find(|row| row["role"] == role).unwrap();
    let (found, against) =
        (of("challenger")["macro_f1"].as_f64().unwrap(), of("champion")["macro_f1"].as_f64().unwrap());
    assert!((against - first).abs() < 1e-9 && found < first, "{rows:?}");
    assert_eq!((&of("champion")["version"], &of("challenger")["version"]), (&json!(1), &Value::Null));
    let error = outcome.first_error.unwrap();
    let after = |word: &str| -> f64 {
        let rest = error.split_once("gate `macro F1`").and_then(|(_, rest)| rest.split_once(word)).unwrap().1;
        rest.split([',', ';', ' ']).find(|part| !part.is_empty()).unwrap().parse().unwrap()
    };
    assert!((after("found") - found).abs() < 1e-9 && (after("wanted") - (against - 0.01)).abs() < 1e-9, "{error}");

    let client = house.registry().await;
    assert_eq!(client.version_by_alias("wildlife", "champion").await.unwrap().unwrap().version, VersionNumber(1));
    let audit = client.promotions("wildlife", Some("champion"), 10).await.unwrap();
    let outcomes: Vec<(Outcome, Option<VersionNumber>)> = audit.iter().map(|row| (row.outcome, row.to)).collect();
    let wanted = [(Outcome::Refused, Some(VersionNumber(2))), (Outcome::Moved, Some(VersionNumber(1)))];
    assert_eq!(outcomes, wanted, "{audit:?}");
    assert!(
        audit[0].actor == "safari/retrain" && audit[0].gates.iter().any(|gate| gate.name == "it runs" && gate.passed)
    );
    the_mlflow_client_reads_the_model(&house.home.path().join("runs").join(run).join("models/train"));
}

#[tokio::test(flavor = "multi_thread")]
async fn attempts_at_registering_make_one_version_wherever_they_are_cut_off() {
    let house = House::new();
    // Each attempt is cut off later than the one before, until one comes through.
    let mut patience = Duration::from_millis(5);
    let done = loop {
        match tokio::time::timeout(patience, house.register("run-1/register")).await {
            Ok(done) => break done.unwrap(),
            Err(_) => patience = patience * 5 / 4,
        }
    };
    assert_eq!(done.value["version"], 1);
    assert_eq!(house.register("run-1/register").await.unwrap().value, done.value);
    assert_eq!(house.versions("owl").await.len(), 1);
    assert_eq!(house.register("run-2/register").await.unwrap().value["version"], 2);

    let (one, other) = tokio::join!(house.register("run-3/register"), house.register("run-3/register"));
    let versions = house.versions("owl").await;
    let key = |version: &&ModelVersion| tag(&version.tags, "safari.idempotency_key") == Some("run-3/register");
    assert_eq!(versions.iter().filter(key).count(), 1, "{one:?} {other:?}");

    let client = house.registry().await;
    let fetched = tempfile::tempdir().unwrap();
    let uri = client.version_uri("owl", VersionNumber(1)).await.unwrap();
    client.files(&uri).await.unwrap().download_all(fetched.path(), &Default::default()).await.unwrap();
    assert_eq!(detector::model::digest(fetched.path()).unwrap(), detector::model::digest(&shipped()).unwrap());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_promotion_needs_what_its_gates_ask_for() {
    let house = House::new();
    house.register("run-1/register").await.unwrap();
    let promote = async |gates: Value| {
        let (_stop, attempt) = context(house.home.path());
        let with = json!({"name": "owl", "version": 1, "gates": gates, "reason": "a test"});
        jobs::promote::PromoteJob::new(Arc::clone(&house.services)).run(attempt, with).await
    };
    for (gates, part) in [
        (json!([{"name": "it runs", "smoke": true}]), "no input example"),
        (json!([{"name": "reviewed", "tags": {"reviewed": "true"}}]), "reviewed"),
        (json!([{"name": "people", "approvals": {"scientist": 1}}]), "approvals of scientist"),
        (json!([{"name": "many", "sql": "select found from (values (1), (2)) as t (found)"}]), "2 rows"),
        (
            json!([{"name": "rows", "sql": "select count(*) as found, 1 as wanted from evaluation where version = {{ challenger }}"}]),
            "found 0, wanted 1",
        ),
        (json!([{"name": "typo", "sql": "select macro from evaluation"}]), "macro_f1"),
        (json!([{"name": "change", "sql": "drop table evaluation"}]), "only reading statements"),
    ] {
        let error = promote(gates.clone()).await.unwrap_err();
        assert!(error.message.contains(part) && error.retry == pipeline::Retry::No, "{gates}: {error:?}");
    }
    assert!(house.registry().await.version_by_alias("owl", "champion").await.unwrap().is_none());
    let done = promote(json!([{"name": "verdict", "sql": "select true as passed"}])).await.unwrap();
    assert_eq!((&done.value["moved"], &done.value["from"]), (&json!(true), &Value::Null));
    let again = promote(json!([{"name": "verdict", "sql": "select false as passed"}])).await.unwrap();
    assert_eq!(again.value["moved"], json!(false), "the alias names it already");
}

#[tokio::test(flavor = "multi_thread")]
async fn labels_that_cannot_be_used_are_told() {
    let house = House::new();
    let set = tempfile::tempdir().unwrap();
    std::fs::create_dir(set.path().join("jagaur")).unwrap();
    std::fs::copy(root().join("data-samples/forest-trail/jaguar.jpg"), set.path().join("jagaur/1.jpg")).unwrap();
    let train = async |with: Value| {
        let (_stop, attempt) = context(house.home.path());
        jobs::train::TrainJob::new(Arc::clone(&house.services)).run(attempt, with).await.unwrap_err().message
    };
    let source = set.path().display().to_string();
    let said = train(json!({"source": source})).await;
    assert!(said.contains("jagaur") && said.contains("labels.csv"), "{said}");
    for (list, part) in [
        ("file,label\njagaur/1.jpg,jagaur\n", "did you mean `jaguar`?"),
        ("file,label\njagaur/2.jpg,jaguar\n", "jagaur/2.jpg"),
        ("file,label\n../1.jpg,jaguar\n", "does not lie under"),
        ("file,label,split\njagaur/1.jpg,jaguar,test\n", "`train`"),
        ("name,label\njagaur/1.jpg,jaguar\n", "`file`"),
    ] {
        std::fs::write(set.path().join("labels.csv"), list).unwrap();
        let said = train(json!({"source": source})).await;
        assert!(said.contains(part), "{list}: {said}");
    }
    let said =
        train(json!({"source": source, "labels": {"query": "select uri, species as label from observation"}})).await;
    assert!(said.contains("did you mean 'observations'?"), "{said}");
}

/// MLflow's client finds the input example, the lineage and the signature.
fn the_mlflow_client_reads_the_model(folder: &Path) {
    let python = root().join(".venv/bin/python");
    assert!(python.exists(), "the MLflow client is missing; run scripts/setup --test");
    let script = "
import json, sys
from mlflow.models import Model
model = Model.load(sys.argv[1])
example = model.load_input_example(sys.argv[1])
print(json.dumps({
    'columns': list(example.columns),
    'begins': list(example['media'][0][:3]),
    'input': model.signature.inputs.to_dict()[0]['name'],
}))";
    let output = Command::new(python).args(["-c", script]).arg(folder).output().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let read: Value = serde_json::from_slice(&output.stdout).unwrap();
    let lineage: Value = serde_json::from_slice(&std::fs::read(folder.join("lineage.json")).unwrap()).unwrap();
    assert_eq!(lineage["dag"], "retrain");
    assert_eq!((&read["columns"], &read["input"]), (&json!(["media"]), &json!("media")));
    assert_eq!(read["begins"], json!([0xff, 0xd8, 0xff]), "a JPEG file");
}

/// The shipped networks with settings that make a giraffe of everything.
fn worse_model() -> TempDir {
    let folder = tempfile::tempdir().unwrap();
    for entry in std::fs::read_dir(shipped()).unwrap() {
        let path = entry.unwrap().path();
        std::fs::copy(&path, folder.path().join(path.file_name().unwrap())).unwrap();
    }
    let settings = folder.path().join("settings.json");
    let mut read: Value = serde_json::from_slice(&std::fs::read(&settings).unwrap()).unwrap();
    read["fusion"]["unknown_probability"] = json!(50.0);
    std::fs::write(&settings, read.to_string()).unwrap();
    folder
}

fn tag<'a>(tags: &'a [Tag], key: &str) -> Option<&'a str> {
    tags.iter().find(|tag| tag.key == key).map(|tag| tag.value.as_str())
}

fn shipped() -> PathBuf {
    root().join("detector/model/wildlife")
}

fn root() -> PathBuf {
    Path::new(env!("WORKSPACE_ROOT")).canonicalize().unwrap()
}
