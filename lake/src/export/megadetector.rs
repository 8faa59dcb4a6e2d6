//! MegaDetector batch output, format 1.6: what Timelapse, EcoAssist and the tools of MegaDetector read.

use std::io::Write;

use chrono::{DateTime, Duration, Utc};
use datafusion::prelude::SessionContext;
use futures::StreamExt as _;
use serde::Serialize;
use serde_json::{Map, Value, json};

use super::categories::{Classifications, detection_categories, detection_category};
use super::images::{Detected, DetectedStream, Medium, MediumStream, Selection};
use crate::error::{Error, Result};
use crate::query::{NEWEST_MEDIA, run};
use crate::{Lake, columns};

const FORMAT_VERSION: &str = "1.6";
/// Names that readers of the format take for videos, for which they insist on the video's fields.
const VIDEO_EXTENSIONS: [&str; 7] = ["mp4", "avi", "mpeg", "mpg", "mov", "mkv", "flv"];

/// What to export, and how.
#[derive(Debug, Clone)]
pub struct MegadetectorOptions {
    /// `file` is written relative to this uri or folder; files elsewhere keep their full uri.
    pub relative_to: Option<String>,
    /// Only what this model processed.
    pub model_version: Option<String>,
    /// Only what this run processed.
    pub run_id: Option<String>,
    /// Boxes at least this sure are worth a look (`detector_metadata`).
    pub typical_threshold: f32,
    /// Below this, boxes are mostly noise (`detector_metadata`).
    pub conservative_threshold: f32,
}

impl Default for MegadetectorOptions {
    fn default() -> Self {
        Self {
            relative_to: None,
            model_version: None,
            run_id: None,
            typical_threshold: 0.3,
            conservative_threshold: 0.1,
        }
    }
}

/// What was exported.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Exported {
    /// Files, those that failed included.
    pub images: u64,
    /// Boxes.
    pub detections: u64,
    /// Files that could not be processed.
    pub failures: u64,
}

/// Writes one JSON document: the newest processing of each file, sorted by uri, one image a line.
///
/// Rows are read and written as a stream. `classification_categories` come last, because their names are only known
/// then. The frame numbers of a video are those of the source, found from each frame's time and the frame rate.
///
/// # Errors
/// [`Error::Output`] when `out` cannot be written; otherwise as [`Lake::session`].
pub async fn megadetector(
    lake: &Lake,
    options: &MegadetectorOptions,
    out: &mut (dyn Write + Send),
) -> Result<Exported> {
    let session = lake.session().await?;
    let selection = Selection::new(options.model_version.as_deref(), options.run_id.as_deref());
    let info = info(lake, &session, &selection, options).await?;
    let mut media = MediumStream::new(lake, &session, &selection).await?;
    let mut boxes = DetectedStream::new(lake, &session, &selection).await?;
    let mut classifications = Classifications::default();
    let mut exported = Exported::default();

    let write = |out: &mut (dyn Write + Send), text: &str| out.write_all(text.as_bytes()).map_err(Error::Output);
    let head = json_object(&json!({ "info": info, "detection_categories": detection_categories() }))?;
    write(out, head.strip_suffix('}').unwrap_or(&head))?;
    write(out, ",\"images\":[")?;
    let mut separator = "\n";
    while let Some(medium) = media.next().await? {
        let found = boxes.of(&medium.uri).await?;
        let image = image(&medium, &found, options, &mut classifications);
        exported.images += 1;
        exported.failures += u64::from(medium.failure.is_some());
        exported.detections += image.detections.as_ref().map_or(0, |found| found.len() as u64);
        write(out, separator)?;
        write(out, &json_object(&image)?)?;
        separator = ",\n";
    }
    let tail = json_object(&json!({
        "classification_categories": classifications.names(),
        "classification_category_descriptions": classifications.descriptions(),
    }))?;
    write(out, "\n],")?;
    write(out, tail.strip_prefix('{').unwrap_or(&tail))?;
    write(out, "\n")?;
    out.flush().map_err(Error::Output)?;
    Ok(exported)
}

/// One entry of `images`; fields that do not apply are left out.
#[derive(Serialize)]
struct Image {
    file: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    failure: Option<String>,
    detections: Option<Vec<Detection>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    width: Option<i32>,
    #[serde(skip_serializing_if = "Option::is_none")]
    height: Option<i32>,
    #[serde(skip_serializing_if = "Option::is_none")]
    datetime: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    frame_rate: Option<f64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    frames_processed: Option<Vec<i64>>,
}

#[derive(Serialize)]
struct Detection {
    category: &'static str,
    conf: f64,
    bbox: [f64; 4],
    #[serde(skip_serializing_if = "Vec::is_empty")]
    classifications: Vec<(String, f64)>,
    #[serde(skip_serializing_if = "Option::is_none")]
    frame_number: Option<i64>,
}

fn image(medium: &Medium, found: &[Detected], options: &MegadetectorOptions, names: &mut Classifications) -> Image {
    let file = relative(&medium.uri, options.relative_to.as_deref());
    let video = medium.video || has_video_name(&file);
    let failed = medium.failure.is_some();
    let rate = medium.frame_rate.filter(|rate| *rate > 0.0);
    let detection = |found: &Detected| {
        // A detection is never blank, so every one has a category of the format.
        let category = detection_category(&found.category)?;
        Some(Detection {
            category,
            conf: rounded(found.confidence, 3),
            bbox: found.bbox.map(|side| rounded(side, 4)),
            classifications: names.of(found),
            frame_number: video.then(|| frame_number(found.frame, found.frame_time_s, rate)),
        })
    };
    let detections = if failed { None } else { Some(found.iter().filter_map(detection).collect()) };
    // A negative rate is how the format says that a video could not be opened.
    let unknown_rate = if failed { -1.0 } else { 0.0 };
    Image {
        file,
        failure: medium.failure.clone(),
        detections,
        width: medium.width,
        height: medium.height,
        datetime: medium.captured_at.map(|time| local_time(time, medium.captured_offset_minutes)),
        frame_rate: video.then(|| rate.unwrap_or(unknown_rate)),
        frames_processed: video.then(|| frames_processed(medium, found, rate)),
    }
}

/// The frames of the source that were looked at. The table holds how many there were and the times of those with a box;
/// the rest follow from the even spacing at which videos are sampled.
fn frames_processed(medium: &Medium, found: &[Detected], rate: Option<f64>) -> Vec<i64> {
    if medium.failure.is_some() {
        return Vec::new();
    }
    let count = medium.frames.unwrap_or(0).max(0);
    let from_box = found.iter().find(|found| found.frame > 0).map(|found| found.frame_time_s / f64::from(found.frame));
    let from_length = medium.duration_s.filter(|_| count > 0).map(|length| length / f64::from(count));
    let spacing = from_box.or(from_length).unwrap_or(0.0);
    let evenly = (0..count).map(|frame| frame_number(frame, f64::from(frame) * spacing, rate));
    let seen = found.iter().map(|found| frame_number(found.frame, found.frame_time_s, rate));
    let mut frames: Vec<i64> = evenly.chain(seen).collect();
    frames.sort_unstable();
    frames.dedup();
    frames
}

fn frame_number(frame: i32, time_s: f64, rate: Option<f64>) -> i64 {
    match rate {
        Some(rate) if time_s > 0.0 => (time_s * rate).round() as i64,
        _ => i64::from(frame),
    }
}

/// `info` of the document; the models and times of what is exported.
async fn info(
    lake: &Lake,
    session: &SessionContext,
    selection: &Selection,
    options: &MegadetectorOptions,
) -> Result<Value> {
    let newest = NEWEST_MEDIA.replace("{filter}", selection.filter());
    let query = format!(
        "select model_version, max(processed_at) as processed_at from ({newest}) group by model_version order by model_version"
    );
    let mut rows = run(lake, session, &query).await?;
    let mut models: Vec<String> = Vec::new();
    let mut completed: Option<DateTime<Utc>> = None;
    while let Some(batch) = rows.next().await {
        let batch = batch?;
        models.extend(columns::strings(&batch, "model_version")?.iter().flatten().map(str::to_owned));
        completed = completed.max(columns::times(&batch, "processed_at")?.into_iter().flatten().max());
    }
    let mut info = Map::new();
    info.insert("format_version".to_owned(), FORMAT_VERSION.into());
    info.insert("detector".to_owned(), models.join(", ").into());
    info.insert("classifier".to_owned(), models.join(", ").into());
    if let Some(time) = completed {
        let time = time.format("%Y-%m-%d %H:%M:%S").to_string();
        info.insert("detection_completion_time".to_owned(), time.as_str().into());
        info.insert("classification_completion_time".to_owned(), time.into());
    }
    let metadata = json!({
        "megadetector_version": "not megadetector",
        "typical_detection_threshold": rounded(options.typical_threshold, 4),
        "conservative_detection_threshold": rounded(options.conservative_threshold, 4),
    });
    info.insert("detector_metadata".to_owned(), metadata);
    Ok(Value::Object(info))
}

/// As EXIF writes it, in the camera's local time.
fn local_time(time: DateTime<Utc>, offset_minutes: Option<i32>) -> String {
    let local = time + Duration::minutes(i64::from(offset_minutes.unwrap_or(0)));
    local.format("%Y:%m:%d %H:%M:%S").to_string()
}

fn relative(uri: &str, root: Option<&str>) -> String {
    let plain = |text: &str| text.strip_prefix("file://").unwrap_or(text).to_owned();
    let Some(root) = root else {
        return uri.to_owned();
    };
    let (full, root) = (plain(uri), plain(root));
    match full.strip_prefix(root.trim_end_matches('/')).and_then(|rest| rest.strip_prefix('/')) {
        Some(rest) if !rest.is_empty() => rest.to_owned(),
        _ => uri.to_owned(),
    }
}

fn has_video_name(file: &str) -> bool {
    let extension = file.rsplit_once('.').map(|(_, extension)| extension.to_ascii_lowercase());
    extension.is_some_and(|extension| VIDEO_EXTENSIONS.contains(&extension.as_str()))
}

pub(super) fn rounded(value: f32, digits: i32) -> f64 {
    let scale = 10f64.powi(digits);
    (f64::from(value) * scale).round() / scale
}

fn json_object(value: &impl Serialize) -> Result<String> {
    serde_json::to_string(value).map_err(|error| Error::Output(error.into()))
}
