//! The tests of `tests/it` that need a state database, on a real PostgreSQL server.
#![allow(clippy::unwrap_used)]

#[path = "../it/again.rs"]
mod again;
#[path = "../it/alerts.rs"]
mod alerts;
#[path = "../it/api.rs"]
mod api;
#[path = "../it/api_history.rs"]
mod api_history;
#[path = "../it/assets.rs"]
mod assets;
#[path = "../it/backfill.rs"]
mod backfill;
#[path = "../it/blocking.rs"]
mod blocking;
#[path = "../it/cache.rs"]
mod cache;
mod commit_order;
#[path = "../it/common.rs"]
mod common;
#[path = "../it/deaths.rs"]
mod deaths;
mod disconnect;
#[path = "../it/events.rs"]
mod events;
#[path = "../it/flow.rs"]
mod flow;
#[path = "../it/history.rs"]
mod history;
#[path = "../it/identity.rs"]
mod identity;
#[path = "../it/kill.rs"]
mod kill;
#[path = "../it/logs.rs"]
mod logs;
#[path = "../it/nested.rs"]
mod nested;
#[path = "../it/offers.rs"]
mod offers;
#[path = "../it/openapi.rs"]
mod openapi;
mod others;
#[path = "../it/process.rs"]
mod process;
#[path = "../it/races.rs"]
mod races;
#[path = "../it/restore.rs"]
mod restore;
#[path = "../it/robust.rs"]
mod robust;
#[path = "../it/runs.rs"]
mod runs;
#[path = "../it/schedules.rs"]
mod schedules;
#[path = "../it/shapes.rs"]
mod shapes;
#[path = "../it/speed.rs"]
mod speed;
#[path = "../it/streams.rs"]
mod streams;
#[path = "../it/telemetry.rs"]
mod telemetry;
#[path = "../it/versions.rs"]
mod versions;

/// Where the state of these tests is.
const ENGINE: platform::database::Engine = platform::database::Engine::Postgres;
