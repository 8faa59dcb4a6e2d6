//! A load generator that keeps a ledger of what it asked for and what was answered.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use chrono::{DateTime, Utc};
use lake::{EvaluationRow, Lake, Transaction};
use reqwest::{Client, Method};
use serde_json::{Value, json};
use tokio::task::JoinHandle;

use crate::house::{House, MODEL, Services};

/// What is written.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Kind {
    /// Steps of a metric, in the registry's database.
    Metric,
    /// Versions of a model: a file in the bucket, then rows in the registry's database.
    Version,
    /// Runs of a DAG, in the database of the state.
    Run,
    /// Rows of a Delta table in the bucket.
    Row,
}

impl Kind {
    pub const EACH: [Self; 4] = [Self::Metric, Self::Version, Self::Run, Self::Row];

    pub fn name(self) -> &'static str {
        match self {
            Self::Metric => "metrics",
            Self::Version => "versions",
            Self::Run => "runs",
            Self::Row => "rows of tables",
        }
    }

    /// Between two of them, so that there is room for backups on a small machine.
    fn pause(self) -> Duration {
        Duration::from_millis(match self {
            Self::Metric => 10,
            Self::Version => 60,
            Self::Run => 120,
            Self::Row => 60,
        })
    }
}

/// Something that was asked for, and perhaps answered.
#[derive(Debug, Clone, Copy)]
pub struct Entry {
    pub number: u64,
    pub asked: DateTime<Utc>,
    pub answered: Option<DateTime<Utc>>,
}

/// Everything that was asked for.
#[derive(Debug, Default)]
pub struct Ledger(Mutex<BTreeMap<Kind, BTreeMap<u64, Entry>>>);

impl Ledger {
    fn ask(&self, kind: Kind, number: u64) {
        let entry = Entry { number, asked: Utc::now(), answered: None };
        self.0.lock().unwrap().entry(kind).or_default().insert(number, entry);
    }

    fn answer(&self, kind: Kind, number: u64) {
        let mut kinds = self.0.lock().unwrap();
        kinds.get_mut(&kind).unwrap().get_mut(&number).unwrap().answered = Some(Utc::now());
    }

    pub fn entries(&self, kind: Kind) -> Vec<Entry> {
        self.0.lock().unwrap().get(&kind).map(|entries| entries.values().copied().collect()).unwrap_or_default()
    }

    /// All that was asked for.
    pub fn all(&self, kind: Kind) -> BTreeSet<u64> {
        self.entries(kind).iter().map(|entry| entry.number).collect()
    }

    /// What was asked for by a moment.
    pub fn asked_by(&self, kind: Kind, moment: DateTime<Utc>) -> BTreeSet<u64> {
        self.entries(kind).iter().filter(|entry| entry.asked <= moment).map(|entry| entry.number).collect()
    }

    /// What was answered by a moment.
    pub fn answered_by(&self, kind: Kind, moment: DateTime<Utc>) -> BTreeSet<u64> {
        let answered = |entry: &&Entry| entry.answered.is_some_and(|answered| answered <= moment);
        self.entries(kind).iter().filter(answered).map(|entry| entry.number).collect()
    }
}

/// A writer of each kind.
pub struct Load {
    ledger: Arc<Ledger>,
    writers: Vec<JoinHandle<()>>,
}

impl Load {
    /// Starts to write, with numbers from `first` on.
    pub async fn start(house: &House, services: &Services, first: u64) -> Self {
        let lake = Lake::open_with(&house.lake(), &house.store.access().unwrap()).await.unwrap();
        let client = client();
        let (registry, server) = (services.registry.clone(), services.server.clone());
        let writer = Arc::new(Writer { client, registry, server, lake, run: house.run() });
        let ledger: Arc<Ledger> = Arc::default();
        let writers = Kind::EACH.map(|kind| {
            let (writer, ledger) = (Arc::clone(&writer), Arc::clone(&ledger));
            tokio::spawn(async move {
                for number in first.. {
                    ledger.ask(kind, number);
                    if let Err(reason) = writer.write(kind, number).await {
                        eprintln!("{kind:?} {number} is not answered: {reason}");
                        return;
                    }
                    ledger.answer(kind, number);
                    tokio::time::sleep(kind.pause()).await;
                }
            })
        });
        Self { ledger, writers: writers.into() }
    }

    /// Lets it write for this time at least, and until each kind was answered since.
    pub async fn goes_on(&self, time: Duration) {
        let (began, since) = (Instant::now(), Utc::now());
        loop {
            assert!(self.writers.iter().all(|writer| !writer.is_finished()), "a writer has ended");
            let fresh =
                |kind| self.ledger.entries(kind).iter().any(|entry| entry.asked > since && entry.answered.is_some());
            if began.elapsed() >= time && Kind::EACH.into_iter().all(fresh) {
                return;
            }
            assert!(began.elapsed() < Duration::from_secs(60), "nothing is answered");
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    }

    /// Stops in the middle of whatever is being written.
    pub fn end(self) -> Ledger {
        for writer in &self.writers {
            writer.abort();
        }
        // Writers that are being stopped may hold it still.
        let kinds = self.ledger.0.lock().unwrap().clone();
        Ledger(Mutex::new(kinds))
    }
}

struct Writer {
    client: Client,
    registry: String,
    server: String,
    lake: Lake,
    run: String,
}

impl Writer {
    async fn write(&self, kind: Kind, number: u64) -> Result<(), String> {
        match kind {
            Kind::Metric => {
                let metric = json!({"run_id": self.run, "key": "load", "value": value_of(number), "timestamp": 1, "step": number});
                self.mlflow(Method::POST, "runs/log-metric", metric).await.map(drop)
            }
            Kind::Version => self.register(number).await,
            Kind::Run => {
                let url = format!("{}/api/v1/dags/mark/runs", self.server);
                ask(&self.client, Method::POST, url, json!({"params": {"n": number}})).await.map(drop)
            }
            Kind::Row => {
                let transaction = Transaction::new(format!("append-{number}"), 1);
                let appended = self.lake.append_evaluation(&[row(number)], &transaction).await;
                appended.map(drop).map_err(|error| error.to_string())
            }
        }
    }

    /// A logged model, its file, and a version of it.
    async fn register(&self, number: u64) -> Result<(), String> {
        let model = json!({"experiment_id": "0", "name": format!("net{number}")});
        let made = self.mlflow(Method::POST, "logged-models", model).await?;
        let info = &made["model"]["info"];
        let (id, place) = (text(&info["model_id"]), text(&info["artifact_uri"]));
        let place = place.trim_start_matches("mlflow-artifacts:/");
        let target = format!("{}/api/2.0/mlflow-artifacts/artifacts/{place}/weights.bin", self.registry);
        let sent = self.client.put(target).body(content(number)).send().await.map_err(|error| error.to_string())?;
        if !sent.status().is_success() {
            return Err(format!("the file: {}", sent.status()));
        }
        let ready = json!({"model_id": id, "status": "LOGGED_MODEL_READY"});
        self.mlflow(Method::PATCH, &format!("logged-models/{id}"), ready).await?;
        let source = format!("models:/{id}");
        let version = json!({"name": MODEL, "source": source, "model_id": id, "description": number.to_string()});
        self.mlflow(Method::POST, "model-versions/create", version).await.map(drop)
    }

    async fn mlflow(&self, method: Method, path: &str, body: Value) -> Result<Value, String> {
        ask(&self.client, method, format!("{}/api/2.0/mlflow/{path}", self.registry), body).await
    }
}

/// One that does not wait for ever for a server that is gone.
pub fn client() -> Client {
    Client::builder().timeout(Duration::from_secs(30)).build().unwrap()
}

/// The answer's JSON.
pub async fn ask(client: &Client, method: Method, url: String, body: Value) -> Result<Value, String> {
    let mut request = client.request(method, &url);
    if !body.is_null() {
        request = request.header("content-type", "application/json").body(body.to_string());
    }
    let answer = request.send().await.map_err(|error| error.to_string())?;
    let status = answer.status();
    let said = answer.text().await.map_err(|error| error.to_string())?;
    if !status.is_success() {
        return Err(format!("{url}: {status}: {said}"));
    }
    serde_json::from_str(&said).map_err(|error| format!("{url}: {error}: {said}"))
}

/// A text of an answer.
pub fn text(value: &Value) -> String {
    value.as_str().unwrap_or_else(|| panic!("{value} is no text")).to_owned()
}

/// The value of a metric's step.
pub fn value_of(number: u64) -> f64 {
    number as f64 / 2.0
}

/// The bytes of a version's file, which do not get smaller.
pub fn content(number: u64) -> Vec<u8> {
    let mut state = number.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1;
    let next = || {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        state as u8
    };
    std::iter::repeat_with(next).take(30_000).collect()
}

fn row(number: u64) -> EvaluationRow {
    EvaluationRow {
        evaluation_id: number.to_string(),
        model: MODEL.to_owned(),
        version: Some(1),
        model_version: format!("{MODEL}-1"),
        model_digest: "1".to_owned(),
        role: None,
        dataset: "/labelled".to_owned(),
        dataset_digest: "1".to_owned(),
        split: "test".to_owned(),
        label: None,
        species: None,
        count: 1,
        accuracy: Some(1.0),
        macro_f1: Some(1.0),
        coverage: 1.0,
        precision: None,
        recall: None,
        f1: None,
        support: 1,
        training_digest: None,
        training_table_version: None,
        run_id: run_of(number),
        task: "evaluate".to_owned(),
        evaluated_at: Utc::now(),
    }
}

/// What a row says beside its number.
pub fn run_of(number: u64) -> String {
    format!("run-{}", number * 7)
}
