//! Rollouts with a registry, on SQLite and PostgreSQL, and replicas that answer as `safari serve` does but count what a test
//! says. `cli/tests/rollout.rs` has real ones.
#![allow(clippy::unwrap_used)]

mod cluster;
mod drive;
mod kubernetes;
mod prometheus;
mod replica;
mod store;
mod world;
