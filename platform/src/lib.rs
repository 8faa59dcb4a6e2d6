//! What every other crate stands on: settings, the object store (a folder or S3), databases, telemetry, identity, the
//! loop that serves HTTP, and the errors of all of these.
//!
//! Nothing here knows what a photograph, a task or a table is. Messages of [`Error`] are written for the operator: they
//! say what failed, where, and what to do next.

pub mod config;
pub mod database;
pub mod error;
pub mod identity;
pub mod names;
pub mod object_store;
pub mod public_address;
pub mod sealing;
pub mod serve;
pub mod telemetry;

pub use error::{Error, Result};
