//! What the rest of the server tells of detections and photographs.

use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;

use super::person::PersonId;

/// A name that the model gives.
#[derive(Clone, Debug, PartialEq)]
pub struct Guess {
    /// The scientific name.
    pub scientific_name: String,
    /// The English name, where the model says one: it tells two taxa of one scientific name apart.
    pub common_name: Option<String>,
    /// Probability of the name, 0 to 1.
    pub confidence: f64,
    /// Name and content of the model, such as `wildlife-3f2a9c01d4e8`.
    pub model: String,
}

/// A detection that was answered lately.
#[derive(Clone, Debug, PartialEq)]
pub struct Detected {
    /// What it is; none if the model saw no more than an animal.
    pub guess: Option<Guess>,
    /// The photograph, where it is still there.
    pub picture: Option<Bytes>,
}

/// Recent answers of the detector by the ids of their detections.
#[async_trait]
pub trait Detections: Send + Sync + 'static {
    /// The detection of this id that was answered to this person; none if it is too old, was never there, or is another's.
    async fn find(&self, person: &PersonId, id: &str) -> Option<Detected>;
}

/// Why a photograph was not looked at.
#[derive(Debug, thiserror::Error)]
pub enum DetectError {
    /// It is no photograph, or a broken one.
    #[error("{0}")]
    Picture(String),
    /// There is too much to do, or the model is being loaded.
    #[error("the detector is busy")]
    Busy {
        /// When to ask again.
        retry_after: Duration,
    },
    /// The detector's own fault.
    #[error("{0}")]
    Failed(String),
}

/// The detector.
#[async_trait]
pub trait Detect: Send + Sync + 'static {
    /// What the surest animal of a photograph is; none if there is no animal, or no more can be said of it.
    ///
    /// # Errors
    /// Why it was not looked at.
    async fn detect(&self, picture: Bytes) -> Result<Option<Guess>, DetectError>;
}
