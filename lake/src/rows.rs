//! Rows as structs, and how they become record batches.

use std::fmt;
use std::str::FromStr;
use std::sync::Arc;

use arrow::array::{
    ArrayRef, BooleanArray, Date32Array, Float32Array, Float64Array, Int32Array, Int64Array, ListArray, StringArray,
    StructArray, TimestampMicrosecondArray,
};
use arrow::buffer::OffsetBuffer;
use arrow::record_batch::RecordBatch;
use chrono::{DateTime, Utc};

use crate::error::{Result, UnknownWord};
use crate::schema::{candidate_element, candidate_fields, detections_schema, media_schema};

/// What a file shows, in the words of camera-trap people.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Category {
    /// At least one animal.
    Animal,
    /// A person.
    Person,
    /// A vehicle.
    Vehicle,
    /// Nothing; only for media, never for a detection.
    Blank,
}

/// What a file is, found from its first bytes and not from its name.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum MediaType {
    /// A JPEG still.
    Jpeg,
    /// A PNG still.
    Png,
    /// A WebP still.
    Webp,
    /// A TIFF still.
    Tiff,
    /// A video of any container.
    Video,
    /// None of these, or not readable.
    Unknown,
}

/// How exactly a detection is named.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Rank {
    /// A species.
    Species,
    /// A genus.
    Genus,
    /// A family.
    Family,
    /// An order.
    Order,
    /// A class.
    Class,
}

/// One row of `media`: one processing of one file.
#[derive(Debug, Clone, PartialEq)]
pub struct MediaRow {
    /// SHA-256 of the content in hex; of the uri where the content could not be read.
    pub media_id: String,
    /// Where the file is.
    pub uri: String,
    /// SHA-256 of the content in hex; `None` where it could not be read.
    pub sha256: Option<String>,
    /// Size in bytes, as listed.
    pub size_bytes: i64,
    /// ETag or modification time, as listed: another one means that the file has changed.
    pub version: String,
    /// What the file is.
    pub media_type: MediaType,
    /// When it was taken; see `captured_offset_minutes`.
    pub captured_at: Option<DateTime<Utc>>,
    /// Minutes east of UTC that the camera recorded; `None`: it recorded none, and its local time is stored as if UTC.
    pub captured_offset_minutes: Option<i32>,
    /// The camera's clock cannot be right (a year before 2001).
    pub clock_wrong: bool,
    /// The camera at a place for a time.
    pub deployment: String,
    /// Make and model.
    pub camera: Option<String>,
    /// Pixels across, as shown (after orientation); `None` when it could not be decoded.
    pub width: Option<i32>,
    /// Pixels down, as shown.
    pub height: Option<i32>,
    /// Frames that were looked at; 1 for a still.
    pub frames: Option<i32>,
    /// Length in seconds of a video.
    pub duration_s: Option<f64>,
    /// Frames a second of a video.
    pub frame_rate: Option<f64>,
    /// The burst (sequence) that it belongs to.
    pub burst_id: Option<String>,
    /// What it shows; `None` when it could not be processed.
    pub category: Option<Category>,
    /// Why it could not be processed, in words.
    pub failure: Option<String>,
    /// The model that processed it.
    pub model_version: String,
    /// The run that processed it.
    pub run_id: String,
    /// The task instance that processed it.
    pub task: String,
    /// When it was processed; its date is the partition `processed_date`.
    pub processed_at: DateTime<Utc>,
}

/// One row of `detections`: one box.
#[derive(Debug, Clone, PartialEq)]
pub struct DetectionRow {
    /// The same for the same content: `<media_id>/<frame>/<rank>`.
    pub detection_id: String,
    /// The medium's `media_id`.
    pub media_id: String,
    /// The medium's `uri`.
    pub uri: String,
    /// The medium's `deployment`.
    pub deployment: String,
    /// The medium's `captured_at`.
    pub captured_at: Option<DateTime<Utc>>,
    /// Which of the frames that were looked at, from 0; 0 for stills.
    pub frame: i32,
    /// Seconds from the start of the video; 0 for stills.
    pub frame_time_s: f64,
    /// The burst (sequence) that the medium belongs to.
    pub burst_id: Option<String>,
    /// The same number for the same individual within a burst.
    pub track: Option<i32>,
    /// Left edge, a fraction of the picture's width.
    pub x: f32,
    /// Upper edge, a fraction of the picture's height.
    pub y: f32,
    /// Width, a fraction of the picture's width.
    pub width: f32,
    /// Height, a fraction of the picture's height.
    pub height: f32,
    /// What it is; never [`Category::Blank`].
    pub category: Category,
    /// Common name.
    pub species: Option<String>,
    /// Scientific name, of whatever rank.
    pub scientific_name: Option<String>,
    /// The rank of the name.
    pub rank: Option<Rank>,
    /// `Mammalia;Carnivora;Felidae;Panthera;Panthera onca`, as far down as the name goes.
    pub taxonomy: Option<String>,
    /// How sure the box is, 0 to 1.
    pub confidence: f32,
    /// How sure the name is, 0 to 1.
    pub species_confidence: Option<f32>,
    /// The five likeliest names, likeliest first.
    pub top5: Vec<Candidate>,
    /// The model that found it.
    pub model_version: String,
    /// The run that found it.
    pub run_id: String,
    /// The task instance that found it.
    pub task: String,
    /// When it was found; its date is the partition `detected_date`.
    pub detected_at: DateTime<Utc>,
}

/// One entry of `top5`.
#[derive(Debug, Clone, PartialEq)]
pub struct Candidate {
    /// Scientific name.
    pub scientific_name: String,
    /// Common name.
    pub species: Option<String>,
    /// 0 to 1.
    pub confidence: f32,
}

/// Rows of `media` as a record batch of [`crate::schema::media_schema`].
///
/// # Errors
/// [`crate::Error::Arrow`] when they cannot be one batch (more than 2 GiB of text in one column).
pub fn media_batch(rows: &[MediaRow]) -> Result<RecordBatch> {
    let columns: Vec<ArrayRef> = vec![
        texts(rows, |r| Some(&r.media_id)),
        texts(rows, |r| Some(&r.uri)),
        texts(rows, |r| r.sha256.as_deref()),
        Arc::new(Int64Array::from_iter_values(rows.iter().map(|r| r.size_bytes))),
        texts(rows, |r| Some(&r.version)),
        texts(rows, |r| Some(r.media_type.as_str())),
        times(rows, |r| r.captured_at),
        integers(rows, |r| r.captured_offset_minutes),
        Arc::new(BooleanArray::from_iter(rows.iter().map(|r| Some(r.clock_wrong)))),
        texts(rows, |r| Some(&r.deployment)),
        texts(rows, |r| r.camera.as_deref()),
        integers(rows, |r| r.width),
        integers(rows, |r| r.height),
        integers(rows, |r| r.frames),
        doubles(rows, |r| r.duration_s),
        doubles(rows, |r| r.frame_rate),
        texts(rows, |r| r.burst_id.as_deref()),
        texts(rows, |r| r.category.map(Category::as_str)),
        texts(rows, |r| r.failure.as_deref()),
        texts(rows, |r| Some(&r.model_version)),
        texts(rows, |r| Some(&r.run_id)),
        texts(rows, |r| Some(&r.task)),
        times(rows, |r| Some(r.processed_at)),
        dates(rows, |r| r.processed_at),
    ];
    Ok(RecordBatch::try_new(media_schema(), columns)?)
}

/// Rows of `detections` as a record batch of [`crate::schema::detections_schema`].
///
/// # Errors
/// As [`media_batch`].
pub fn detections_batch(rows: &[DetectionRow]) -> Result<RecordBatch> {
    let columns: Vec<ArrayRef> = vec![
        texts(rows, |r| Some(&r.detection_id)),
        texts(rows, |r| Some(&r.media_id)),
        texts(rows, |r| Some(&r.uri)),
        texts(rows, |r| Some(&r.deployment)),
        times(rows, |r| r.captured_at),
        integers(rows, |r| Some(r.frame)),
        doubles(rows, |r| Some(r.frame_time_s)),
        texts(rows, |r| r.burst_id.as_deref()),
        integers(rows, |r| r.track),
        floats(rows, |r| Some(r.x)),
        floats(rows, |r| Some(r.y)),
        floats(rows, |r| Some(r.width)),
        floats(rows, |r| Some(r.height)),
        texts(rows, |r| Some(r.category.as_str())),
        texts(rows, |r| r.species.as_deref()),
        texts(rows, |r| r.scientific_name.as_deref()),
        texts(rows, |r| r.rank.map(Rank::as_str)),
        texts(rows, |r| r.taxonomy.as_deref()),
        floats(rows, |r| Some(r.confidence)),
        floats(rows, |r| r.species_confidence),
        candidates(rows)?,
        texts(rows, |r| Some(&r.model_version)),
        texts(rows, |r| Some(&r.run_id)),
        texts(rows, |r| Some(&r.task)),
        times(rows, |r| Some(r.detected_at)),
        dates(rows, |r| r.detected_at),
    ];
    Ok(RecordBatch::try_new(detections_schema(), columns)?)
}

impl Category {
    /// As it is written in the tables.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Animal => "animal",
            Self::Person => "person",
            Self::Vehicle => "vehicle",
            Self::Blank => "blank",
        }
    }
}

impl MediaType {
    /// As it is written in the tables.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Jpeg => "jpeg",
            Self::Png => "png",
            Self::Webp => "webp",
            Self::Tiff => "tiff",
            Self::Video => "video",
            Self::Unknown => "unknown",
        }
    }
}

impl Rank {
    /// As it is written in the tables.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Species => "species",
            Self::Genus => "genus",
            Self::Family => "family",
            Self::Order => "order",
            Self::Class => "class",
        }
    }
}

impl FromStr for Category {
    type Err = UnknownWord;

    fn from_str(word: &str) -> std::result::Result<Self, UnknownWord> {
        let all = [Self::Animal, Self::Person, Self::Vehicle, Self::Blank];
        let found = all.into_iter().find(|value| value.as_str() == word);
        found.ok_or_else(|| UnknownWord { word: word.to_owned(), known: "animal, person, vehicle, blank" })
    }
}

impl FromStr for MediaType {
    type Err = UnknownWord;

    fn from_str(word: &str) -> std::result::Result<Self, UnknownWord> {
        let all = [Self::Jpeg, Self::Png, Self::Webp, Self::Tiff, Self::Video, Self::Unknown];
        let found = all.into_iter().find(|value| value.as_str() == word);
        found.ok_or_else(|| UnknownWord { word: word.to_owned(), known: "jpeg, png, webp, tiff, video, unknown" })
    }
}

impl FromStr for Rank {
    type Err = UnknownWord;

    fn from_str(word: &str) -> std::result::Result<Self, UnknownWord> {
        let all = [Self::Species, Self::Genus, Self::Family, Self::Order, Self::Class];
        let found = all.into_iter().find(|value| value.as_str() == word);
        found.ok_or_else(|| UnknownWord { word: word.to_owned(), known: "species, genus, family, order, class" })
    }
}

impl fmt::Display for Category {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

impl fmt::Display for MediaType {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

impl fmt::Display for Rank {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

pub(crate) fn texts<'a, R>(rows: &'a [R], value: impl Fn(&'a R) -> Option<&'a str>) -> ArrayRef {
    Arc::new(StringArray::from_iter(rows.iter().map(value)))
}

fn integers<R>(rows: &[R], value: impl Fn(&R) -> Option<i32>) -> ArrayRef {
    Arc::new(Int32Array::from_iter(rows.iter().map(value)))
}

fn floats<R>(rows: &[R], value: impl Fn(&R) -> Option<f32>) -> ArrayRef {
    Arc::new(Float32Array::from_iter(rows.iter().map(value)))
}

pub(crate) fn doubles<R>(rows: &[R], value: impl Fn(&R) -> Option<f64>) -> ArrayRef {
    Arc::new(Float64Array::from_iter(rows.iter().map(value)))
}

pub(crate) fn times<R>(rows: &[R], value: impl Fn(&R) -> Option<DateTime<Utc>>) -> ArrayRef {
    let micros = rows.iter().map(|row| value(row).map(|time| time.timestamp_micros()));
    Arc::new(TimestampMicrosecondArray::from_iter(micros).with_timezone("UTC"))
}

/// Days since 1970-01-01, UTC.
pub(crate) fn dates<R>(rows: &[R], value: impl Fn(&R) -> DateTime<Utc>) -> ArrayRef {
    const SECONDS_A_DAY: i64 = 86_400;
    let days = rows.iter().map(|row| value(row).timestamp().div_euclid(SECONDS_A_DAY) as i32);
    Arc::new(Date32Array::from_iter_values(days))
}

fn candidates(rows: &[DetectionRow]) -> Result<ArrayRef> {
    let flat: Vec<&Candidate> = rows.iter().flat_map(|row| &row.top5).collect();
    let fields: Vec<ArrayRef> = vec![
        Arc::new(StringArray::from_iter_values(flat.iter().map(|c| &c.scientific_name))),
        Arc::new(StringArray::from_iter(flat.iter().map(|c| c.species.as_deref()))),
        Arc::new(Float32Array::from_iter_values(flat.iter().map(|c| c.confidence))),
    ];
    let entries = StructArray::try_new(candidate_fields(), fields, None)?;
    let offsets = OffsetBuffer::from_lengths(rows.iter().map(|row| row.top5.len()));
    Ok(Arc::new(ListArray::try_new(candidate_element(), offsets, Arc::new(entries), None)?))
}
