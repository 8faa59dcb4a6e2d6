//! Who may ask the registry, and for what.

use axum::http::Method;
use e2e::walk::{Walk, has};
use model_registry::api::{router_behind, routes};

use crate::common::Registry;

#[tokio::test]
async fn every_route_lets_in_whom_the_table_says() {
    let registry = Registry::new().await;
    let walk = Walk::new(&registry.address).await;
    let router = router_behind(registry.app.clone(), &walk.guard());
    let routes = routes(&walk.guard());
    assert!(has(&routes, &Method::DELETE, "/api/2.0/mlflow/registered-models/delete"));
    assert!(has(&routes, &Method::POST, "/ajax-api/2.0/mlflow/runs/create") && routes.len() > 120, "{}", routes.len());
    let differences = walk.compare(&router, &routes).await;
    assert!(differences.is_empty(), "{} differences:\n{}", differences.len(), differences.join("\n"));
}
