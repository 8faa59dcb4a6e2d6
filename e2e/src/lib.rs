//! Real parts for tests: servers that are started here, on free loopback ports, and end with the test.
//!
//! A missing part is an error that says how to install it, never a test that passes without looking.

pub mod docker;
mod error;
pub mod gateway;
pub mod image_registry;
mod kept;
pub mod kubelet;
pub mod kubernetes;
pub mod load;
pub mod mlflow;
pub mod nats;
mod ports;
pub mod postgres;
pub mod prometheus;
pub mod proxy;
pub mod redis;
pub mod routes;
pub mod seaweedfs;
pub mod shaky_http;
pub mod walk;

pub use error::{Error, Result};
pub use ports::free_port;
