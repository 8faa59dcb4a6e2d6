//! What is answered, with the names that the tables have.

use chrono::{DateTime, Utc};
use detector::identify::Detection;
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};
use utoipa::ToSchema;

use super::SeenFrame;

/// Smallest side of a box, as in the tables.
const MIN_SIDE: f32 = 1e-4;

/// The model that answered.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize, ToSchema)]
pub struct ModelName {
    /// Its name.
    pub name: String,
    /// Name and content, as in the tables: `wildlife-3f2a9c01d4e8`.
    pub version: String,
    /// Where it was taken from, such as `models:/wildlife/3`; `shipped`, `folder` without a registry.
    pub source: String,
}

/// What an answer cost. Of answers that were kept, or found by an equal request, there is only the total.
#[derive(Debug, Clone, Copy, Default, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct Timings {
    /// Milliseconds until a worker took it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub queue_ms: Option<f64>,
    /// Milliseconds to decode.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub decode_ms: Option<f64>,
    /// Milliseconds of the networks.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub forward_ms: Option<f64>,
    /// Milliseconds from the whole request to the answer.
    pub total_ms: f64,
}

/// The answer to a request.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct Answer {
    /// Who answers.
    pub model: ModelName,
    /// Whether the pictures were judged together, as one event.
    pub burst: bool,
    /// One for each picture, in the request's order.
    pub media: Vec<Detections>,
    /// What it cost.
    pub timings: Timings,
}

/// What one picture shows.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct Detections {
    /// sha256 of the file, in hex.
    pub sha256: String,
    /// The file's name, if the request gave one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub name: Option<String>,
    /// When it was taken, if the request or the file says so.
    #[schema(value_type = Option<String>, format = DateTime)]
    pub captured_at: Option<DateTime<Utc>>,
    /// Width upright, in pixels; 0 if it cannot be read.
    pub width: u32,
    /// Height upright, in pixels; 0 if it cannot be read.
    pub height: u32,
    /// `animal`, `person`, `vehicle` or `blank`; none if it cannot be read.
    pub category: Option<String>,
    /// Boxes by falling confidence.
    pub detections: Vec<Found>,
    /// Why it cannot be read.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub failure: Option<String>,
    /// The model that looked at it.
    pub model: ModelName,
    /// Whether the answer was kept from an equal request.
    #[serde(default)]
    pub cached: bool,
}

/// One box.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct Found {
    /// The same for the same box of the same content by the same model.
    pub id: String,
    /// `animal`, `person` or `vehicle`.
    pub category: String,
    /// How sure it is that something is there, 0 to 1.
    pub confidence: f32,
    /// Left, top, width, height as shares of the picture's sides.
    pub bbox: [f32; 4],
    /// Number of the animal within its burst, from 0; none outside of bursts.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub track: Option<usize>,
    /// English name; none if the evidence carries no more than "an animal".
    pub species: Option<String>,
    /// Scientific name at `rank`.
    pub scientific_name: Option<String>,
    /// `class`, `order`, `family`, `genus` or `species`.
    pub rank: Option<String>,
    /// Names from class down to the answer, separated by semicolons.
    pub taxonomy: Option<String>,
    /// How sure the name is, 0 to 1.
    pub species_confidence: Option<f32>,
    /// The five likeliest taxa.
    pub top5: Vec<Candidate>,
    /// `detection` of a sighting that is made of it; where collections are kept, for boxes with a name.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub token: Option<String>,
}

/// A likely taxon.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct Candidate {
    /// English name.
    pub species: String,
    /// Scientific name.
    pub scientific_name: String,
    /// Probability, 0 to 1.
    pub confidence: f32,
}

impl Detections {
    pub(crate) fn new(sha256: &str, model: &ModelName, frame: &SeenFrame, in_burst: bool) -> Self {
        let best = frame.detections.iter().max_by(|a, b| a.confidence.total_cmp(&b.confidence));
        let found = frame.detections.iter().enumerate();
        Self {
            sha256: sha256.to_owned(),
            name: None,
            captured_at: frame.captured_at,
            width: frame.width,
            height: frame.height,
            category: Some(best.map_or("blank", |best| best.category.name()).to_owned()),
            detections: found.map(|(rank, found)| Found::new(sha256, model, rank, found, in_burst)).collect(),
            failure: None,
            model: model.clone(),
            cached: false,
        }
    }

    pub(crate) fn failed(sha256: &str, model: &ModelName, failure: String) -> Self {
        Self {
            sha256: sha256.to_owned(),
            name: None,
            captured_at: None,
            width: 0,
            height: 0,
            category: None,
            detections: Vec::new(),
            failure: Some(failure),
            model: model.clone(),
            cached: false,
        }
    }
}

impl Found {
    fn new(sha256: &str, model: &ModelName, rank: usize, detection: &Detection, in_burst: bool) -> Self {
        let bounds = &detection.bounds;
        let named = detection.identification.as_ref();
        let top = named.map(|named| named.top.as_slice()).unwrap_or_default();
        Self {
            id: id(sha256, &model.version, rank),
            category: detection.category.name().to_owned(),
            confidence: detection.confidence,
            bbox: [bounds.xmin, bounds.ymin, bounds.width().max(MIN_SIDE), bounds.height().max(MIN_SIDE)],
            track: in_burst.then_some(detection.track),
            species: named.and_then(|named| named.common_name.clone()),
            scientific_name: named.and_then(|named| named.scientific_name.clone()),
            rank: named.and_then(|named| named.rank).map(|rank| rank.name().to_owned()),
            taxonomy: named.map(|named| named.lineage.clone()).filter(|lineage| !lineage.is_empty()),
            species_confidence: named.map(|named| named.confidence),
            top5: top
                .iter()
                .map(|candidate| Candidate {
                    species: candidate.common_name.clone(),
                    scientific_name: candidate.scientific_name.clone(),
                    confidence: candidate.confidence,
                })
                .collect(),
            token: None,
        }
    }
}

fn id(sha256: &str, version: &str, rank: usize) -> String {
    let mut hasher = Sha256::new();
    for part in [sha256, version] {
        hasher.update(part.as_bytes());
        hasher.update([0]);
    }
    format!("{}/{rank}", hex::encode(&hasher.finalize()[..12]))
}
