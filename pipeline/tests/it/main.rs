//! The pipeline crate from outside: DAG files, runs, crashes, races.
#![allow(clippy::unwrap_used)]

mod common;
mod dag_files;
mod findings;
mod kill;
mod races;
mod robust;
mod runs;
mod shapes;
mod speed;
