//! A quick look at files on disk, without tables and state: `safari detect`.

use std::path::Path;
use std::sync::Arc;

use chrono::{DateTime, Utc};
use detector::annotate::{self, Label};
use detector::burst::{self, BurstOptions, Taken};
use detector::decode::decode;
use detector::exif;
use detector::identify::Detection;
use detector::media::{MediaType, SNIFF_BYTES, has_media_extension};
use futures::StreamExt;
use platform::object_store::{self, Location};
use serde::Serialize;

use crate::infer::{self, Looked};
use crate::ingest::deployment;
use crate::manifest::{Burst, Entry};
use crate::services::{Services, engine_options};
use crate::{Error, Result};

const QUALITY: i32 = 90;

/// What was seen in one file.
#[derive(Debug, Clone, Serialize)]
pub struct QuickLook {
    /// The file as a path.
    pub file: String,
    /// Key of the file under the path that was asked for.
    #[serde(skip)]
    pub key: String,
    /// True for videos.
    #[serde(skip)]
    pub is_video: bool,
    /// Why it could not be read.
    pub failure: Option<String>,
    /// When it was taken, if it says so.
    pub captured_at: Option<DateTime<Utc>>,
    /// Boxes, frame by frame.
    pub detections: Vec<QuickDetection>,
    #[serde(skip)]
    labels: Vec<Label>,
}

/// One box.
#[derive(Debug, Clone, Serialize)]
pub struct QuickDetection {
    /// Number of the frame in a video; 0 for photographs.
    pub frame: u32,
    /// animal, person or vehicle.
    pub category: String,
    /// How sure the box is, 0 to 1.
    pub confidence: f32,
    /// Left, top, width, height as shares of the picture.
    pub bbox: [f32; 4],
    /// English name.
    pub species: Option<String>,
    /// Scientific name.
    pub scientific_name: Option<String>,
    /// Level of the name.
    pub rank: Option<String>,
    /// How sure the name is, 0 to 1.
    pub species_confidence: Option<f32>,
}

/// Looks at a file or at all media in a folder, bursts together, in order of name.
pub async fn look_at_path(services: &Arc<Services>, path: &Path) -> Result<Vec<QuickLook>> {
    let (folder, only) = match path.is_dir() {
        true => (path, None),
        false => (path.parent().unwrap_or(Path::new(".")), path.file_name().map(|name| name.to_string_lossy())),
    };
    let folder = if folder.as_os_str().is_empty() { Path::new(".") } else { folder };
    let store = object_store::open(&Location::parse(&folder.to_string_lossy())?).await?;
    let mut entries = Vec::new();
    let mut objects = match &only {
        Some(name) => futures::stream::iter([store.head(name).await]).boxed(),
        None => store.list(""),
    };
    while let Some(object) = objects.next().await {
        let object = object?;
        if only.is_some() || has_media_extension(&object.key) {
            let head = store.get_range(&object.key, 0..65_536).await.unwrap_or_default();
            let captured_at = exif::read(&head).time.map(|time| time.utc());
            entries.push(Entry { key: object.key, size: object.size, version: object.version, captured_at });
        }
    }
    let taken: Vec<Taken> =
        entries.iter().map(|entry| Taken { deployment: deployment(&entry.key), at: entry.captured_at }).collect();
    let options = BurstOptions { gap_seconds: services.config().burst.gap_seconds, ..BurstOptions::default() };
    let engine = services.engine().await?.clone();
    let mut looks = Vec::new();
    for group in burst::group(&taken, &options) {
        let burst = Burst { id: None, media: group.into_iter().map(|index| entries[index].clone()).collect() };
        let max_bytes = services.config().detector.max_bytes;
        let looked = futures::stream::iter(burst.media.clone())
            .map(|entry| {
                let (store, engine) = (Arc::clone(&store), engine.clone());
                async move { infer::look(store.as_ref(), &engine, &entry, max_bytes).await }
            })
            .buffered(engine.useful_concurrency());
        let looked: Vec<Looked> = looked.collect::<Vec<_>>().await.into_iter().collect::<Result<_>>()?;
        let named = infer::name(&engine, &burst, &looked, services.config().rollup.threshold)?;
        for ((entry, looked), frames) in burst.media.iter().zip(&looked).zip(&named) {
            looks.push(quick_look(folder, entry, looked, frames));
        }
    }
    looks.sort_by(|a, b| a.key.cmp(&b.key));
    Ok(looks)
}

/// Writes a copy of the photograph with boxes and names into `folder`, under the same name.
pub fn annotate(services: &Services, asked: &Path, look: &QuickLook, folder: &Path) -> Result<()> {
    let source = if asked.is_dir() { asked.join(&look.key) } else { asked.to_owned() };
    let bytes = std::fs::read(&source).map_err(detector::Error::io(&source))?;
    let media_type = MediaType::sniff(&bytes[..bytes.len().min(SNIFF_BYTES)])?;
    let limits = engine_options(services.config()).limits;
    let mut picture = decode(&bytes, media_type, exif::read(&bytes).orientation, u32::MAX, &limits)?;
    annotate::draw(&mut picture, &look.labels);
    let target = folder.join(Path::new(&look.key).with_extension("jpg"));
    if let Some(parent) = target.parent() {
        std::fs::create_dir_all(parent).map_err(Error::write(parent))?;
    }
    std::fs::write(&target, annotate::to_jpeg(&picture, QUALITY)?).map_err(Error::write(&target))
}

fn quick_look(folder: &Path, entry: &Entry, looked: &Looked, frames: &[Vec<Detection>]) -> QuickLook {
    let analysis = looked.outcome.as_ref().ok();
    let failure = match &looked.outcome {
        Ok(analysis) => analysis.failure.clone(),
        Err(failure) => Some(failure.clone()),
    };
    let mut detections = Vec::new();
    if let Some(analysis) = analysis {
        for (frame, boxes) in analysis.frames.iter().zip(frames) {
            detections.extend(boxes.iter().map(|found| quick_detection(frame.number, found)));
        }
    }
    QuickLook {
        file: folder.join(&entry.key).display().to_string(),
        key: entry.key.clone(),
        is_video: analysis.is_some_and(|analysis| analysis.media_type.is_video()),
        failure,
        captured_at: entry.captured_at,
        detections,
        labels: frames.iter().flatten().map(Label::of).collect(),
    }
}

fn quick_detection(frame: u32, found: &Detection) -> QuickDetection {
    let named = found.identification.as_ref();
    let bounds = &found.bounds;
    QuickDetection {
        frame,
        category: found.category.name().to_owned(),
        confidence: found.confidence,
        bbox: [bounds.xmin, bounds.ymin, bounds.width(), bounds.height()],
        species: named.and_then(|named| named.common_name.clone()),
        scientific_name: named.and_then(|named| named.scientific_name.clone()),
        rank: named.and_then(|named| named.rank).map(|rank| rank.name().to_owned()),
        species_confidence: named.map(|named| named.confidence),
    }
}
