//! The routes of identity behind a socket.

use std::sync::Arc;

use axum::response::IntoResponse;
use platform::database::{Address, Engine};
use platform::identity::store::Store;
use platform::identity::{Guard, Identity, IdentityOptions, Manager, Refusal, Roles, routes};
use platform::sealing::SecretKey;
use platform::serve::{Entrance, Server, TrustedProxies};
use serde_json::{Value, json};
use tempfile::TempDir;
use tokio::sync::{OnceCell, watch};

/// The database server of all tests of this binary.
static POSTGRES: OnceCell<e2e::postgres::Server> = OnceCell::const_new();

pub const PASSWORD: &str = "a password for tests";

/// A server and its tables.
pub struct Served {
    pub identity: Identity,
    pub url: String,
    client: reqwest::Client,
    _stop: watch::Sender<bool>,
    _home: Arc<TempDir>,
}

/// Status, headers and body.
#[derive(Debug)]
pub struct Answer {
    pub status: u16,
    pub headers: reqwest::header::HeaderMap,
    pub body: Value,
}

impl Served {
    pub async fn start(engine: Engine, options: IdentityOptions) -> Self {
        Self::start_behind(engine, options, "").await
    }

    /// Behind gateways in these networks.
    pub async fn start_behind(engine: Engine, options: IdentityOptions, proxies: &str) -> Self {
        let home = Arc::new(tempfile::tempdir().unwrap());
        let address = match engine {
            Engine::Sqlite => Address::Sqlite(home.path().join("state.db")),
            Engine::Postgres => {
                let server = POSTGRES.get_or_init(|| async { e2e::postgres::Server::start().await.unwrap() }).await;
                Address::Postgres(server.database().await.unwrap())
            }
        };
        let store = Store::open(&address).await.unwrap();
        let sealing = SecretKey::from_text("a key for tests, of no worth").unwrap();
        let identity = Identity::new(store, sealing, options).await.unwrap();
        let guard = Guard::Closed(identity.clone());
        let proxies = TrustedProxies::parse(proxies).unwrap();
        let entrance = Entrance { guard: guard.clone(), proxies, ..Entrance::default() };
        let server = Server::bind("127.0.0.1:0".parse().unwrap(), &entrance).await.unwrap();
        let (url, (stop, stopped)) = (server.url(), watch::channel(false));
        let router = routes(&guard).into_router(&guard, Refusal::into_response);
        tokio::spawn(server.run(router, stopped));
        Self { identity, url, client: reqwest::Client::new(), _stop: stop, _home: home }
    }

    pub async fn add(&self, name: &str, roles: Roles) {
        self.identity.add_user(name, PASSWORD, roles, by()).await.unwrap();
    }

    pub async fn post(&self, path: &str, token: Option<&str>, body: Value) -> Answer {
        let mut request = self.client.post(format!("{}{path}", self.url)).body(body.to_string());
        request = request.header("content-type", "application/json");
        answer(token.into_iter().fold(request, reqwest::RequestBuilder::bearer_auth)).await
    }

    pub async fn get(&self, path: &str, token: &str) -> Answer {
        answer(self.client.get(format!("{}{path}", self.url)).bearer_auth(token)).await
    }

    pub async fn log_in(&self, name: &str, password: &str) -> Answer {
        self.post("/auth/login", None, json!({ "name": name, "password": password })).await
    }

    /// A request of the caller's own.
    pub fn request(&self, method: reqwest::Method, path: &str) -> reqwest::RequestBuilder {
        self.client.request(method, format!("{}{path}", self.url))
    }
}

impl Answer {
    /// A text of the body.
    pub fn text(&self, field: &str) -> String {
        self.body[field].as_str().unwrap_or_else(|| panic!("no `{field}` in {self:?}")).to_owned()
    }
}

pub async fn answer(request: reqwest::RequestBuilder) -> Answer {
    let answer = request.send().await.unwrap();
    let (status, headers) = (answer.status().as_u16(), answer.headers().clone());
    let bytes = answer.bytes().await.unwrap();
    Answer { status, headers, body: serde_json::from_slice(&bytes).unwrap_or(Value::Null) }
}

pub fn by() -> Manager<'static> {
    Manager { name: "the tests", address: None }
}
