//! The lake through its public face, on a folder.
#![allow(clippy::unwrap_used)]

mod append;
mod crash;
mod evaluation;
mod export;
mod formats;
mod kept;
mod others;
mod roundtrip;
mod sample;
mod sql;
