//! A server that keeps collections, and people who ask it.

use std::path::PathBuf;

use bytes::Bytes;
use e2e::postgres::Server as Postgres;
use platform::database::{Address, Database};
use platform::identity::{Guard, Identity, IdentityOptions, Manager, Role};
use platform::sealing::SecretKey;
use reqwest::{Method, RequestBuilder};
use serde_json::{Value, json};
use tokio::sync::OnceCell;

use crate::server::{Server, form, json as said};

const PASSWORD: &str = "a password for tests";

/// What an operator may write; not what any list says.
pub const STATUSES: &str = "scientific_name,status,source\n\
    Vulpes vulpes,LC,a list for tests\n\
    Panthera tigris,EN,\"a list for tests, second\"\n";

/// One for all tests: none of them writes into another's database.
static POSTGRES: OnceCell<Postgres> = OnceCell::const_new();

/// A server, and two people with a token each.
pub struct Field {
    pub server: Server,
    pub database: Address,
    pub lin: String,
    pub kim: String,
}

/// The same on both databases.
pub async fn on_both(test: impl AsyncFn(&Field)) {
    let folder = tempfile::tempdir().unwrap();
    test(&Field::start(Address::Sqlite(folder.path().join("collections.db"))).await).await;
    test(&Field::start(on_postgres().await).await).await;
}

/// A new database of a server that all tests share.
pub async fn on_postgres() -> Address {
    let server = POSTGRES.get_or_init(async || Postgres::start().await.unwrap()).await;
    Address::Postgres(server.database().await.unwrap())
}

impl Field {
    pub async fn start(address: Address) -> Self {
        serving::collections::migrate(&Database::open(&address).await.unwrap()).await.unwrap();
        let home = tempfile::tempdir().unwrap();
        let statuses = home.path().join("statuses.csv");
        std::fs::write(&statuses, STATUSES).unwrap();
        let people = Address::Sqlite(home.path().join("identity.db"));
        let store = platform::identity::store::Store::open(&people).await.unwrap();
        let sealing = SecretKey::from_text("a key for tests, of no worth").unwrap();
        let options = IdentityOptions { requests_per_second: 0, ..IdentityOptions::default() };
        let identity = Identity::new(store, sealing, options).await.unwrap();
        for name in ["lin", "kim"] {
            let by = Manager { name: "the tests", address: None };
            identity.add_user(name, PASSWORD, Role::Ranger.into(), by).await.unwrap();
        }
        let settings = [("collections.statuses", statuses.to_str().unwrap())];
        let database = address.clone();
        let server = Server::start_in(home, &settings, |options| {
            options.entrance.guard = Guard::Closed(identity);
            options.collections.as_mut().unwrap().database = address;
        })
        .await;
        server.wait_ready().await;
        let (lin, kim) = (log_in(&server, "lin").await, log_in(&server, "kim").await);
        Self { server, database, lin, kim }
    }

    pub fn ask(&self, token: &str, method: Method, path: &str) -> RequestBuilder {
        self.server.client.request(method, self.server.url(path)).bearer_auth(token)
    }

    pub async fn get(&self, token: &str, path: &str) -> Value {
        said(self.ask(token, Method::GET, path).send().await.unwrap()).await
    }

    /// Sends JSON; gives the status and the answer.
    pub async fn send(&self, token: &str, method: Method, path: &str, body: &Value) -> (u16, Value) {
        let request = self.ask(token, method, path).header("content-type", "application/json");
        let answer = request.body(body.to_string()).send().await.unwrap();
        let status = answer.status().as_u16();
        let text = answer.text().await.unwrap();
        (status, serde_json::from_str(&text).unwrap_or(Value::Null))
    }

    pub async fn record(&self, token: &str, body: &Value) -> (u16, Value) {
        self.send(token, Method::POST, "/v1/sightings", body).await
    }

    /// A sighting of the named species, somewhere.
    pub async fn sees(&self, token: &str, species: &str) -> Value {
        let body = json!({ "species": species, "time": "2026-05-01T18:30:00Z", "place": near_the_lake(0.0) });
        let (status, sighting) = self.record(token, &body).await;
        assert_eq!(status, 201, "{sighting}");
        sighting
    }

    /// A sighting with its photograph in a form.
    pub async fn sees_with(&self, token: &str, sighting: &Value, picture: &Bytes) -> (u16, Value) {
        let sighting = sighting.to_string();
        let (kind, body) =
            form(&[("sighting", None, sighting.as_bytes()), ("picture", Some("seen.jpg"), picture.as_ref())]);
        let request = self.ask(token, Method::POST, "/v1/sightings").header("content-type", kind);
        let answer = request.body(body).send().await.unwrap();
        let status = answer.status().as_u16();
        (status, serde_json::from_str(&answer.text().await.unwrap()).unwrap())
    }

    /// Shows or hides a person's sightings; gives the handle.
    pub async fn shows(&self, token: &str, name: &str, visibility: &str) -> String {
        let body = json!({ "name": name, "visibility": visibility });
        let (status, profile) = self.send(token, Method::PUT, "/v1/collection/profile", &body).await;
        assert_eq!((status, &profile["visibility"]), (200, &json!(visibility)), "{profile}");
        profile["id"].as_str().unwrap().to_owned()
    }

    pub async fn sightings(&self, token: &str, query: &str) -> Vec<Value> {
        let page = self.get(token, &format!("/v1/sightings{query}")).await;
        page["sightings"].as_array().unwrap().clone()
    }

    /// How many rows a table has.
    pub async fn rows(&self, table: &str) -> i64 {
        let database = Database::open(&self.database).await.unwrap();
        let sql = sqlx::AssertSqlSafe(format!("SELECT CAST(COUNT(*) AS BIGINT) FROM {table}"));
        let count = sqlx::query_scalar(sql).fetch_one(database.pool()).await.unwrap();
        database.pool().close().await;
        count
    }

    /// Files of photographs.
    pub fn objects(&self) -> Vec<PathBuf> {
        files(&self.server.home.path().join("home/collections"))
    }
}

/// Points a hundred metres and more apart in one cell of the grid.
pub fn near_the_lake(along: f64) -> Value {
    json!({ "latitude": 46.0501 + along, "longitude": 7.3042, "accuracy_m": 5.0 })
}

fn files(folder: &std::path::Path) -> Vec<PathBuf> {
    let Ok(entries) = std::fs::read_dir(folder) else { return Vec::new() };
    let paths = entries.map(|entry| entry.unwrap().path());
    paths.flat_map(|path| if path.is_dir() { files(&path) } else { vec![path] }).collect()
}

async fn log_in(server: &Server, name: &str) -> String {
    let body = json!({ "name": name, "password": PASSWORD }).to_string();
    let login = said(server.post("/auth/login", "application/json", body).send().await.unwrap()).await;
    login["access_token"].as_str().unwrap().to_owned()
}
