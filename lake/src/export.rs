//! Exchange formats of the field.

mod categories;
mod images;
mod megadetector;

pub use megadetector::{Exported, MegadetectorOptions, megadetector};
