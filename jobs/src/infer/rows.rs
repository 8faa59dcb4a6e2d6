//! Rows of the tables `media` and `detections` from what the engine saw.

use chrono::{DateTime, TimeDelta, Utc};
use detector::engine::{Analysis, FrameSightings};
use detector::identify::Detection;
use detector::media::MediaType;
use detector::nms;
use detector::taxonomy;
use lake::{Candidate, Category, DetectionRow, MediaRow, Rank};
use platform::object_store::ObjectStore;
use sha2::{Digest, Sha256};

use super::Looked;
use crate::ingest::deployment;
use crate::manifest::{Burst, Entry};

/// Smallest side of a box in the tables; Camtrap DP requires sides greater than 0.
const MIN_SIDE: f32 = 1e-4;

/// What all rows of a task instance have in common.
#[derive(Debug)]
pub(super) struct Place {
    pub(super) model_version: String,
    pub(super) run_id: String,
    pub(super) task: String,
    pub(super) processed_at: DateTime<Utc>,
}

/// Rows of a task instance, for its two commits.
#[derive(Debug, Default)]
pub(super) struct Rows {
    pub(super) media: Vec<MediaRow>,
    pub(super) detections: Vec<DetectionRow>,
}

impl Rows {
    /// Adds the rows of one burst; `named` is `[medium][frame][box]`.
    pub(super) fn add(
        &mut self,
        place: &Place,
        store: &dyn ObjectStore,
        burst: &Burst,
        looked: &[Looked],
        named: &[Vec<Vec<Detection>>],
    ) {
        for ((entry, looked), frames) in burst.media.iter().zip(looked).zip(named) {
            let uri = store.uri(&entry.key);
            let media_id = looked.sha256.clone().unwrap_or_else(|| hex::encode(Sha256::digest(uri.as_bytes())));
            let media = media_row(place, burst, entry, looked, frames, &uri, &media_id);
            if let Ok(analysis) = &looked.outcome {
                for (frame, boxes) in analysis.frames.iter().zip(frames) {
                    let found = boxes.iter().enumerate();
                    self.detections
                        .extend(found.map(|(rank, found)| detection_row(place, &media, analysis, frame, rank, found)));
                }
            }
            self.media.push(media);
        }
    }
}

fn media_row(
    place: &Place,
    burst: &Burst,
    entry: &Entry,
    looked: &Looked,
    frames: &[Vec<Detection>],
    uri: &str,
    media_id: &str,
) -> MediaRow {
    let analysis = looked.outcome.as_ref().ok();
    let failure = match &looked.outcome {
        Ok(analysis) => analysis.failure.clone(),
        Err(failure) => Some(failure.clone()),
    };
    let time = analysis.and_then(|analysis| analysis.time);
    MediaRow {
        media_id: media_id.to_owned(),
        uri: uri.to_owned(),
        sha256: looked.sha256.clone(),
        size_bytes: i64::try_from(entry.size).unwrap_or(i64::MAX),
        version: entry.version.clone(),
        media_type: analysis.map_or(lake::MediaType::Unknown, |analysis| media_type(analysis.media_type)),
        captured_at: time.map(|time| time.utc()).or(entry.captured_at),
        captured_offset_minutes: time.and_then(|time| time.offset_minutes),
        clock_wrong: time.is_some_and(|time| time.clock_wrong),
        deployment: deployment(&entry.key),
        camera: analysis.and_then(|analysis| analysis.camera.clone()),
        width: analysis.map(|analysis| analysis.width as i32),
        height: analysis.map(|analysis| analysis.height as i32),
        frames: analysis.map(|analysis| analysis.frames.len() as i32),
        duration_s: analysis.and_then(|analysis| analysis.duration_seconds),
        frame_rate: analysis.and_then(|analysis| analysis.frame_rate),
        burst_id: burst.id.clone(),
        category: analysis.filter(|analysis| analysis.failure.is_none()).map(|_| media_category(frames)),
        failure,
        model_version: place.model_version.clone(),
        run_id: place.run_id.clone(),
        task: place.task.clone(),
        processed_at: place.processed_at,
    }
}

fn detection_row(
    place: &Place,
    media: &MediaRow,
    analysis: &Analysis,
    frame: &FrameSightings,
    rank: usize,
    detection: &Detection,
) -> DetectionRow {
    let bounds = &detection.bounds;
    let named = detection.identification.as_ref();
    let captured_at = media.captured_at.map(|at| at + TimeDelta::microseconds((frame.seconds * 1e6) as i64));
    DetectionRow {
        detection_id: detection_id(media, frame.number as i32, rank),
        media_id: media.media_id.clone(),
        uri: media.uri.clone(),
        deployment: media.deployment.clone(),
        captured_at,
        frame: frame.number as i32,
        frame_time_s: frame.seconds,
        burst_id: media.burst_id.clone(),
        track: (media.burst_id.is_some() || analysis.media_type.is_video()).then_some(detection.track as i32),
        x: bounds.xmin,
        y: bounds.ymin,
        width: bounds.width().max(MIN_SIDE),
        height: bounds.height().max(MIN_SIDE),
        category: category(detection.category),
        species: named.and_then(|named| named.common_name.clone()),
        scientific_name: named.and_then(|named| named.scientific_name.clone()),
        rank: named.and_then(|named| named.rank).map(taxon_rank),
        taxonomy: named.map(|named| named.lineage.clone()).filter(|lineage| !lineage.is_empty()),
        confidence: detection.confidence,
        species_confidence: named.map(|named| named.confidence),
        top5: named.map(candidates).unwrap_or_default(),
        model_version: place.model_version.clone(),
        run_id: place.run_id.clone(),
        task: place.task.clone(),
        detected_at: place.processed_at,
    }
}

/// The same for the same box of the same content at the same place by the same model: `3f…a2/0/1` is file, frame, box.
pub(super) fn detection_id(media: &MediaRow, frame: i32, rank: usize) -> String {
    let mut hasher = Sha256::new();
    for part in [&media.uri, &media.media_id, &media.model_version] {
        hasher.update(part.as_bytes());
        hasher.update([0]);
    }
    format!("{}/{}/{rank}", hex::encode(&hasher.finalize()[..12]), frame)
}

/// The surest category of a medium, or blank.
fn media_category(frames: &[Vec<Detection>]) -> Category {
    let best = frames.iter().flatten().max_by(|a, b| a.confidence.total_cmp(&b.confidence));
    best.map_or(Category::Blank, |detection| category(detection.category))
}

fn category(category: nms::Category) -> Category {
    match category {
        nms::Category::Animal => Category::Animal,
        nms::Category::Person => Category::Person,
        nms::Category::Vehicle => Category::Vehicle,
    }
}

fn taxon_rank(rank: taxonomy::Rank) -> Rank {
    match rank {
        taxonomy::Rank::Class => Rank::Class,
        taxonomy::Rank::Order => Rank::Order,
        taxonomy::Rank::Family => Rank::Family,
        taxonomy::Rank::Genus => Rank::Genus,
        taxonomy::Rank::Species => Rank::Species,
    }
}

fn media_type(media_type: MediaType) -> lake::MediaType {
    match media_type {
        MediaType::Jpeg => lake::MediaType::Jpeg,
        MediaType::Png => lake::MediaType::Png,
        MediaType::Webp => lake::MediaType::Webp,
        MediaType::Tiff => lake::MediaType::Tiff,
        MediaType::Mp4 | MediaType::Mov | MediaType::Avi => lake::MediaType::Video,
    }
}

fn candidates(named: &taxonomy::Identification) -> Vec<Candidate> {
    named
        .top
        .iter()
        .map(|candidate| Candidate {
            scientific_name: candidate.scientific_name.clone(),
            species: Some(candidate.common_name.clone()),
            confidence: candidate.confidence,
        })
        .collect()
}
