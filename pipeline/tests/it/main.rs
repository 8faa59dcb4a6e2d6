//! The pipeline crate from outside: DAG files, runs, crashes, races. State in SQLite; `tests/postgres` has the same on
//! PostgreSQL.
#![allow(clippy::unwrap_used)]

mod again;
mod alerts;
mod api;
mod api_history;
mod assets;
mod backfill;
mod blocking;
mod busy;
mod cache;
mod common;
mod dag_files;
mod dag_language;
mod dag_schema;
mod deaths;
mod events;
mod findings;
mod flow;
mod full_disk;
mod history;
mod identity;
mod kill;
mod logs;
mod nested;
mod offers;
mod openapi;
mod process;
mod races;
mod restore;
mod robust;
mod runs;
mod schedule_dst;
mod schedule_oracle;
mod schedule_speed;
mod schedule_timetable;
mod schedules;
mod shapes;
mod speed;
mod streams;
mod telemetry;
mod versions;

/// Where the state of these tests is.
const ENGINE: platform::database::Engine = platform::database::Engine::Sqlite;
