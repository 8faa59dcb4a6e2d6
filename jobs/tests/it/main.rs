//! The jobs from outside: real programs, real servers on loopback, real folders.
#![allow(clippy::unwrap_used)]

mod command;
mod common;
mod http;
mod retrain;
mod runs;
mod server;
mod sql;
mod stopping;
mod wait;
