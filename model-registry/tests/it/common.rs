//! A registry without a socket, and what is asked of it.

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use axum::body::Body;
use axum::http::{Request, StatusCode};
use model_registry::api::{App, router};
use model_registry::artifacts::Artifacts;
use model_registry::store::Store;
use model_registry::webhooks::{Deliverer, SecretKey, WebhookOptions, Webhooks};
use platform::database::{Address, Engine};
use platform::object_store::Location;
use serde_json::{Value, json};
use tempfile::TempDir;
use tokio::sync::OnceCell;
use tower::ServiceExt;

/// The server of all tests of this binary.
static SERVER: OnceCell<e2e::postgres::Server> = OnceCell::const_new();

/// A registry with tables and files of its own.
pub struct Registry {
    pub app: App,
    pub address: Address,
    pub home: TempDir,
    router: Router,
}

/// An answer.
#[derive(Clone, Debug)]
pub struct Answer {
    pub status: StatusCode,
    pub body: Value,
}

impl Registry {
    pub async fn new() -> Self {
        Self::with(receivers_here()).await
    }

    pub async fn with(options: WebhookOptions) -> Self {
        let home = tempfile::tempdir().unwrap();
        let address = address(home.path()).await;
        let store = Store::open(&address, "mlflow-artifacts:").await.unwrap();
        let files = Location::from(home.path().join("artifacts").as_path());
        let artifacts = Arc::new(Artifacts::open(&files).await.unwrap());
        let key = SecretKey::from_text("a key for tests, of no worth").unwrap();
        let app = App { store, artifacts, webhooks: Webhooks::new(options, key).unwrap() };
        Self { router: router(app.clone()), app, address, home }
    }

    /// What tells others of changes.
    pub fn deliverer(&self) -> Deliverer {
        Deliverer::new(self.app.store.clone(), self.app.webhooks.clone())
    }

    /// Asks as somebody.
    pub async fn ask_as(&self, who: &[(&str, &str)], method: &str, path: &str, body: Value) -> Answer {
        let mut request = Request::builder()
            .method(method)
            .uri(path)
            .header("content-type", "application/json")
            .header("host", "registry");
        for (name, value) in who {
            request = request.header(*name, *value);
        }
        let body = if body.is_null() { Body::empty() } else { Body::from(body.to_string()) };
        let answer = self.router.clone().oneshot(request.body(body).unwrap()).await.unwrap();
        let status = answer.status();
        let bytes = axum::body::to_bytes(answer.into_body(), usize::MAX).await.unwrap();
        Answer { status, body: serde_json::from_slice(&bytes).unwrap_or(Value::Null) }
    }

    /// Asks MLflow's API.
    pub async fn ask(&self, method: &str, path: &str, body: Value) -> Answer {
        self.ask_as(&[], method, &format!("/api/2.0/mlflow/{path}"), body).await
    }

    pub async fn get(&self, path: &str) -> Answer {
        self.ask("GET", path, Value::Null).await
    }

    /// Asks for what must succeed.
    pub async fn must(&self, method: &str, path: &str, body: Value) -> Value {
        let answer = self.ask(method, path, body).await;
        assert_eq!(answer.status, StatusCode::OK, "{method} {path}: {}", answer.body);
        answer.body
    }

    /// Makes a model with versions whose files lie in a bucket elsewhere.
    pub async fn model(&self, name: &str, versions: u32) {
        self.must("POST", "registered-models/create", json!({ "name": name })).await;
        for version in 1..=versions {
            self.version(name, &format!("s3://bucket/{name}/{version}")).await;
        }
    }

    pub async fn version(&self, name: &str, source: &str) -> Value {
        let body = json!({ "name": name, "source": source });
        self.must("POST", "model-versions/create", body).await["model_version"].clone()
    }

    /// What an alias names, as text.
    pub async fn alias(&self, name: &str, alias: &str) -> Option<String> {
        let model = self.must("GET", &format!("registered-models/get?name={name}"), Value::Null).await;
        let aliases = model["registered_model"]["aliases"].as_array().cloned().unwrap_or_default();
        let found = aliases.into_iter().find(|found| found["alias"] == alias);
        found.map(|found| found["version"].as_str().unwrap().to_owned())
    }

    /// Asks the tables themselves.
    pub async fn sql(&self, sql: &'static str) -> i64 {
        let database = platform::database::Database::open(&self.address).await.unwrap();
        let found: i64 = sqlx::query_scalar(sql).fetch_one(database.pool()).await.unwrap();
        database.pool().close().await;
        found
    }

    /// Changes the tables themselves, such as to let time pass.
    pub async fn change(&self, sql: &'static str) {
        let database = platform::database::Database::open(&self.address).await.unwrap();
        sqlx::query(sql).execute(database.pool()).await.unwrap();
        database.pool().close().await;
    }
}

impl Answer {
    /// Status, code and message of a refusal.
    pub fn refusal(&self) -> (u16, &str, &str) {
        let text = |field: &str| self.body[field].as_str().unwrap_or_default();
        (self.status.as_u16(), text("error_code"), text("message"))
    }
}

/// Receivers may be on loopback; they are asked again at once.
pub fn receivers_here() -> WebhookOptions {
    WebhookOptions {
        allow_http: true,
        allow_private: true,
        timeout: Duration::from_secs(5),
        first_wait: Duration::from_millis(1),
        longest_wait: Duration::from_millis(4),
        ..WebhookOptions::default()
    }
}

async fn address(home: &Path) -> Address {
    match crate::ENGINE {
        Engine::Sqlite => Address::Sqlite(home.join("registry.db")),
        Engine::Postgres => {
            let server = SERVER.get_or_init(|| async { e2e::postgres::Server::start().await.unwrap() }).await;
            Address::Postgres(server.database().await.unwrap())
        }
    }
}
