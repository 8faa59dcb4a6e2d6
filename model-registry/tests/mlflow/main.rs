//! The unmodified `mlflow` client and MLflow's own server beside ours: the same checks pass on both, the same requests get
//! the same answers, and our client speaks to both.
//!
//! `LONG_TESTS=1` asks all requests of the differ and some thousand filters instead of some hundred, and runs the
//! client's checks against the real server too.
#![allow(clippy::unwrap_used)]

mod client;
mod compare;
mod conformance;
mod findings;
mod hostile;
mod identity;
mod servers;

/// Whether the long tests are wanted.
fn long() -> bool {
    std::env::var_os("LONG_TESTS").is_some_and(|value| value != "0")
}
