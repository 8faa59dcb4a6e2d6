//! Live detection on a real port, with the shipped model and real parts.
#![allow(clippy::unwrap_used)]

mod bursts;
mod collections;
mod forms;
mod identity;
mod open_inference;
mod openapi;
mod pressure;
mod redis;
mod server;
mod swap;
mod traces;
