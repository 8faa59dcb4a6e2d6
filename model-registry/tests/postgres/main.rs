//! The tests of `tests/it` that need tables, on a real PostgreSQL server.
#![allow(clippy::unwrap_used)]

#[path = "../it/aliases.rs"]
mod aliases;
#[path = "../it/artifacts.rs"]
mod artifacts;
#[path = "../it/client.rs"]
mod client;
#[path = "../it/collect.rs"]
mod collect;
#[path = "../it/common.rs"]
mod common;
#[path = "../it/experiments.rs"]
mod experiments;
#[path = "../it/identity.rs"]
mod identity;
#[path = "../it/logged_models.rs"]
mod logged_models;
#[path = "../it/models.rs"]
mod models;
#[path = "../it/promotions.rs"]
mod promotions;
#[path = "../it/races.rs"]
mod races;
#[path = "../it/run_search.rs"]
mod run_search;
#[path = "../it/runs.rs"]
mod runs;
#[path = "../it/sources.rs"]
mod sources;
#[path = "../it/versions.rs"]
mod versions;
#[path = "../it/webhooks.rs"]
mod webhooks;

/// Where the tables of these tests are.
const ENGINE: platform::database::Engine = platform::database::Engine::Postgres;
