//! The checks of `tests/python/conformance`, which pass on MLflow's own server, on ours: the newest client and one a year
//! older, on both databases.

use e2e::mlflow::{old_python, program};
use platform::database::Engine;

use crate::long;
use crate::servers::{Ours, python, real};

#[tokio::test(flavor = "multi_thread")]
async fn the_newest_client_on_sqlite() {
    let ours = Ours::start(Engine::Sqlite).await;
    passes(&python(&program("python").unwrap(), &["-m", "conformance", &ours.url]).await, "3.17.2");
}

#[tokio::test(flavor = "multi_thread")]
async fn the_newest_client_on_postgres() {
    let ours = Ours::start(Engine::Postgres).await;
    passes(&python(&program("python").unwrap(), &["-m", "conformance", &ours.url]).await, "3.17.2");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_client_a_year_older_on_sqlite() {
    let ours = Ours::start(Engine::Sqlite).await;
    passes(&python(&old_python().unwrap(), &["-m", "conformance", &ours.url]).await, "3.6.0");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_client_a_year_older_on_postgres() {
    let ours = Ours::start(Engine::Postgres).await;
    passes(&python(&old_python().unwrap(), &["-m", "conformance", &ours.url]).await, "3.6.0");
}

/// That the checks themselves are right is shown by the real server.
#[tokio::test(flavor = "multi_thread")]
async fn both_clients_on_the_real_server() {
    if !long() {
        return;
    }
    let url = real().await.url();
    passes(&python(&program("python").unwrap(), &["-m", "conformance", &url]).await, "3.17.2");
    passes(&python(&old_python().unwrap(), &["-m", "conformance", &url]).await, "3.6.0");
}

fn passes(said: &str, version: &str) {
    let last = said.lines().last().unwrap();
    assert_eq!(last, format!("mlflow {version}: 33 of 33 checks passed; failed: none"), "{said}");
}
