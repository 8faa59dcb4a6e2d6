//! What is backed up: databases, files, Delta tables.

pub(crate) mod delta;
pub(crate) mod files;
pub(crate) mod postgres;
pub(crate) mod previous;
pub(crate) mod sqlite;
