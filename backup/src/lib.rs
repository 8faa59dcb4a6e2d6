//! Backups of databases, models and tables, and their restoration.
//!
//! A [`Repository`] is a folder or a prefix in a bucket. [`create()`] cuts everything into pieces that are named after their
//! content, compresses and, when keys are given, encrypts them with age, stores those that are not there yet, reads them
//! back, and writes a manifest last: a backup exists if and only if its manifest does. [`verify()`] reads a backup again,
//! [`restore::restore()`] puts it beside what it replaces and exchanges them at the end, [`prune()`] removes what a policy does not keep.
//!
//! Memory does not grow with the size of files: pieces have 4 MiB, and eight are at work at once.

mod age;
pub mod cluster;
mod create;
pub mod drill;
mod error;
mod id;
mod lock;
mod manifest;
mod places;
mod progress;
mod prune;
mod repository;
pub mod restore;
pub mod retention;
mod seal;
mod source;
mod verify;
mod write;

pub use create::{Created, create};
pub use error::{Error, Result};
pub use id::BackupId;
pub use manifest::{FORMAT, Manifest, Page, Part, PartKind, PartName, Verified, What};
pub use places::Places;
pub use progress::{Progress, Step};
pub use prune::{Pruned, prune};
pub use repository::{Listed, Repository};
pub use seal::Keys;
pub use verify::verify;
