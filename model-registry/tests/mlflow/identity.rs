//! MLflow's own client where one must say who one is: by a token, and by name and password.

use e2e::mlflow::program;
use platform::database::{Address, Engine};
use platform::identity::store::{NewToken, Store};
use platform::identity::{Guard, Identity, IdentityOptions, Manager, Role};
use platform::sealing::SecretKey;
use platform::serve::Entrance;

use crate::servers::{Ours, python};

const PASSWORD: &str = "a password for tests";

#[tokio::test(flavor = "multi_thread")]
async fn a_client_says_who_it_is_on_sqlite() {
    says_who_it_is(Engine::Sqlite).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_client_says_who_it_is_on_postgres() {
    says_who_it_is(Engine::Postgres).await;
}

async fn says_who_it_is(engine: Engine) {
    let home = tempfile::tempdir().unwrap();
    let store = Store::open(&Address::Sqlite(home.path().join("identity.db"))).await.unwrap();
    let sealing = SecretKey::from_text("a key for tests, of no worth").unwrap();
    let identity = Identity::new(store, sealing, IdentityOptions::default()).await.unwrap();
    let by = Manager { name: "the tests", address: None };
    identity.add_user("ada", PASSWORD, Role::Engineer.into(), by).await.unwrap();
    identity.add_user("grace", PASSWORD, Role::Viewer.into(), by).await.unwrap();
    let expires_at = chrono::Utc::now().timestamp_millis() + 3_600_000;
    let new = NewToken { name: "nightly", user: None, roles: Role::Scientist.into(), expires_at };
    let (_, token) = identity.create_token(&new, by).await.unwrap();
    let entrance = Entrance { guard: Guard::Closed(identity), ..Entrance::default() };
    let ours = Ours::behind(engine, entrance).await;
    let said = python(&program("python").unwrap(), &["identity.py", &ours.url, token.expose(), PASSWORD]).await;
    assert_eq!(said.lines().last(), Some("all as it should be"), "{said}");
}
