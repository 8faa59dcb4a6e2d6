//! The registry from outside: its API, promotion, webhooks, garbage collection. Tables in SQLite; `tests/postgres` has the
//! same on PostgreSQL.
#![allow(clippy::unwrap_used)]

mod aliases;
mod artifacts;
mod client;
mod collect;
mod common;
mod experiments;
mod identity;
mod logged_models;
mod models;
mod package;
mod promotions;
mod races;
mod run_search;
mod runs;
mod sources;
mod versions;
mod webhooks;

/// Where the tables of these tests are.
const ENGINE: platform::database::Engine = platform::database::Engine::Sqlite;
