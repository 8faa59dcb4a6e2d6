//! What is there after a restoration, row by row.

use std::collections::{BTreeMap, BTreeSet};

use lake::{Lake, OutputFormat};
use reqwest::{Client, Method};
use serde_json::Value;

use crate::house::{House, MODEL, Services};
use crate::load::{Kind, ask, client, content, run_of, text, value_of};

/// Numbers of what is there; each has the content that was written with its number, and is there once.
#[derive(Debug)]
pub struct Found {
    pub numbers: BTreeMap<Kind, BTreeSet<u64>>,
    /// Versions whose file is there, whole.
    pub whole: BTreeSet<u64>,
}

impl Found {
    /// Asks the servers, and reads the table.
    pub async fn look(house: &House, services: &Services) -> Self {
        let client = client();
        let (versions, whole) = versions(&client, services).await;
        let numbers = [
            (Kind::Metric, metrics(&client, services, &house.run()).await),
            (Kind::Version, versions),
            (Kind::Run, runs(&client, services).await),
            (Kind::Row, rows(house).await),
        ];
        Self { numbers: numbers.into(), whole }
    }
}

async fn metrics(client: &Client, services: &Services, run: &str) -> BTreeSet<u64> {
    let path = format!("metrics/get-history?run_id={run}&metric_key=load");
    let history = mlflow(client, services, &path).await;
    let mut numbers = BTreeSet::new();
    for metric in history["metrics"].as_array().into_iter().flatten() {
        let number = whole_number(&metric["step"]);
        assert_eq!(metric["value"].as_f64(), Some(value_of(number)), "{metric}");
        assert!(numbers.insert(number), "step {number} is there twice");
    }
    numbers
}

/// All versions, and those whose file is there.
async fn versions(client: &Client, services: &Services) -> (BTreeSet<u64>, BTreeSet<u64>) {
    let path = format!("model-versions/search?max_results=10000&filter=name%3D%27{MODEL}%27");
    let answer = mlflow(client, services, &path).await;
    let (mut numbers, mut whole) = (BTreeSet::new(), BTreeSet::new());
    for version in answer["model_versions"].as_array().into_iter().flatten() {
        let number = whole_number(&version["description"]);
        assert!(numbers.insert(number), "version {number} is there twice");
        let id = text(&version["source"]).trim_start_matches("models:/").to_owned();
        let model = mlflow(client, services, &format!("logged-models/{id}")).await;
        let info = &model["model"]["info"];
        assert_eq!(info["name"], format!("net{number}"), "{version}");
        let place = text(&info["artifact_uri"]).trim_start_matches("mlflow-artifacts:/").to_owned();
        let url = format!("{}/api/2.0/mlflow-artifacts/artifacts/{place}/weights.bin", services.registry);
        let file = client.get(url).send().await.unwrap();
        if file.status().is_success() {
            assert!(file.bytes().await.unwrap() == content(number), "version {number} has another file");
            whole.insert(number);
        }
    }
    (numbers, whole)
}

async fn runs(client: &Client, services: &Services) -> BTreeSet<u64> {
    let (mut numbers, mut before) = (BTreeSet::new(), String::new());
    loop {
        let url = format!("{}/api/v1/runs?limit=1000&dag=mark{before}", services.server);
        let page = ask(client, Method::GET, url, Value::Null).await.unwrap();
        for run in page["runs"].as_array().unwrap() {
            let number = whole_number(&run["params"]["n"]);
            assert!(numbers.insert(number), "run {number} is there twice");
        }
        match page["next"].as_str() {
            Some(next) => before = format!("&before={next}"),
            None => return numbers,
        }
    }
}

async fn rows(house: &House) -> BTreeSet<u64> {
    let lake = Lake::open_with(&house.lake(), &house.store.access().unwrap()).await.unwrap();
    let answer = lake.sql("select evaluation_id, run_id from evaluation").await.unwrap();
    let mut csv = Vec::new();
    lake::format::write(answer, OutputFormat::Csv, &mut csv).await.unwrap();
    let mut numbers = BTreeSet::new();
    for line in String::from_utf8(csv).unwrap().lines().skip(1) {
        let (number, run) = line.trim().split_once(',').unwrap();
        let number: u64 = number.parse().unwrap();
        assert_eq!(run, run_of(number), "{line}");
        assert!(numbers.insert(number), "row {number} is there twice");
    }
    numbers
}

async fn mlflow(client: &Client, services: &Services, path: &str) -> Value {
    ask(client, Method::GET, format!("{}/api/2.0/mlflow/{path}", services.registry), Value::Null).await.unwrap()
}

/// A number, or a text that is one.
fn whole_number(value: &Value) -> u64 {
    let number = value.as_u64().or_else(|| value.as_str()?.parse().ok());
    number.unwrap_or_else(|| panic!("{value} is no number"))
}
