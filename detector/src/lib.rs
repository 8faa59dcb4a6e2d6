//! From media bytes to detections: decoding, the boxes network, the crop embedder, and the judgement of bursts, on libtorch.
//!
//! [`engine::Engine`] is the way in: it runs decoding and the networks as overlapping stages on threads of its own.
//! [`identify`] turns what it saw in a burst into named detections.

pub mod allocator;
pub mod annotate;
pub mod burst;
pub mod decode;
pub mod device;
pub mod engine;
mod error;
pub mod exif;
pub mod identify;
pub mod liquid;
pub mod live;
pub mod look;
pub mod media;
pub mod model;
pub mod networks;
pub mod nms;
pub mod preprocess;
pub mod process;
pub mod sighting;
pub mod taxonomy;
pub mod track;
pub mod train;
pub mod video;

pub use error::{Error, Result};
