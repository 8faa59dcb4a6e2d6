//! The registry from outside: its API, promotion, webhooks, garbage collection. Tables in SQLite; `tests/postgres` has the
//! same on PostgreSQL.
#![allow(clippy::unwrap_used)]

mod aliases;
mod collect;
mod common;
mod models;
mod promotions;
mod races;
mod sources;
mod versions;
mod webhooks;

/// Where the tables of these tests are.
const ENGINE: platform::database::Engine = platform::database::Engine::Sqlite;
