//! Models: where they come from, how they are loaded and checked, and which of them answers.

pub mod api;
mod load;
mod slot;
mod source;
mod watch;

pub use load::{Loader, Served};
pub use slot::{Candidate, CandidateMode, ModelStatus, Refused, Slot};
pub use source::{Fetched, ModelSource};
pub use watch::{refresh, watch};
