//! Detections of photographs and bursts: what is asked, what does the work, and what is answered.

mod answer;
pub mod api;
mod deployments;
mod engine;
mod form;
pub(crate) mod jobs;
mod picture;
mod terms;

use async_trait::async_trait;
use bytes::Bytes;

pub use answer::{Answer, Candidate, Detections, Found, ModelName, Timings};
pub use deployments::{Deployments, LiveCamera};
pub(crate) use engine::photograph;
pub use engine::{
    EngineOptions, Forward, Frame, Look, Prepared, Seen, SeenFrame, Timing, start_decoding, start_forward,
};
pub use form::{Asked, AskedFrame};
pub use jobs::JobServer;
pub use terms::terms_of;

use crate::Result;
use crate::batch::Terms;

/// Finds what a photograph shows, by whichever model serves now.
#[async_trait]
pub trait Detect: Send + Sync + 'static {
    /// The model's name and version; none while it is being loaded.
    fn model(&self) -> Option<ModelName>;

    /// Looks at one encoded photograph.
    ///
    /// # Errors
    /// [`crate::Error::Media`] if it cannot be read; what the queue says; [`crate::Error::Loading`].
    async fn detect(&self, image: Bytes, terms: Terms) -> Result<Detections>;
}
