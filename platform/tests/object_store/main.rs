//! Every kind of object store passes the same suite; then what is particular to each.

#![allow(clippy::unwrap_used)]

mod environment;
mod failures;
mod fake;
mod local;
mod s3;
mod suite;
