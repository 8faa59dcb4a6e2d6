//! Who may ask the API, and for what.

use axum::http::Method;
use e2e::walk::{Walk, has};
use platform::database::Address;
use platform::identity::Guard;
use tokio::sync::watch;

use crate::common::{address, store};

#[tokio::test]
async fn every_route_lets_in_whom_the_table_says() {
    let home = tempfile::tempdir().unwrap();
    let store = store(home.path()).await;
    let address: Address = address(home.path()).await;
    let walk = Walk::new(&address).await;
    let (_stop, stopped) = watch::channel(false);
    let router = pipeline::api::router_behind(store, stopped, &walk.guard());
    let routes = pipeline::api::routes(&walk.guard());
    assert!(has(&routes, &Method::POST, "/api/v1/history/clean") && has(&routes, &Method::POST, "/auth/login"));
    let differences = walk.compare(&router, &routes).await;
    assert!(differences.is_empty(), "{} differences:\n{}", differences.len(), differences.join("\n"));
    let open = pipeline::api::routes(&Guard::Open);
    assert!(!has(&open, &Method::POST, "/auth/login"), "where identity is off nobody logs in");
}
