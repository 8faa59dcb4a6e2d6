//! The same requests to MLflow's own server and to ours: valid, odd and hostile ones, and random filters on random rows.

use e2e::mlflow::program;
use platform::database::Engine;

use crate::long;
use crate::servers::{Ours, python, real};

#[tokio::test(flavor = "multi_thread")]
async fn answers_are_the_real_servers_on_sqlite() {
    compare(Engine::Sqlite).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn answers_are_the_real_servers_on_postgres() {
    compare(Engine::Postgres).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn filters_find_what_the_real_server_finds_on_sqlite() {
    filter(Engine::Sqlite).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn filters_find_what_the_real_server_finds_on_postgres() {
    filter(Engine::Postgres).await;
}

async fn compare(engine: Engine) {
    // Some minutes on each database.
    if !long() {
        return;
    }
    // A server that nobody else asks: both begin empty and hear the same.
    let (ours, real) = (Ours::start(engine).await, e2e::mlflow::Server::start().await.unwrap());
    let said = python(&program("python").unwrap(), &["wire.py", &real.url(), &ours.url]).await;
    let last = said.lines().last().unwrap();
    assert!(last.contains("requests, 0 differences"), "{said}");
}

async fn filter(engine: Engine) {
    let (ours, real) = (Ours::start(engine).await, real().await.url());
    // The long run asks something new every time; the short one, on which landing a change depends, always the same.
    let asked: &[&str] = if long() { &["--count", "3000"] } else { &["--count", "150", "--seed", "2828767561"] };
    let args = [&["filters.py", &real, &ours.url], asked].concat();
    let said = python(&program("python").unwrap(), &args).await;
    let last = said.lines().last().unwrap();
    assert!(last.ends_with(", 0 differences"), "{said}");
}
