//! Rows to test with.

use std::path::PathBuf;

use arrow::array::{AsArray as _, RecordBatch};
use arrow::datatypes::Int64Type;
use chrono::{DateTime, Utc};
use futures::TryStreamExt as _;
use lake::{Candidate, Category, DetectionRow, Lake, MediaRow, MediaType, Rank};

pub const MODEL: &str = "wildlife-1";

/// The folder of the whole repository.
pub fn repository() -> PathBuf {
    PathBuf::from(env!("WORKSPACE_ROOT"))
}

pub fn at(text: &str) -> DateTime<Utc> {
    text.parse().unwrap()
}

/// A photograph that was processed without trouble.
pub fn medium(uri: &str, run: &str) -> MediaRow {
    MediaRow {
        media_id: format!("id-of-{uri}"),
        uri: uri.to_owned(),
        sha256: Some(format!("id-of-{uri}")),
        size_bytes: 1234,
        version: "etag-1".to_owned(),
        media_type: MediaType::Jpeg,
        captured_at: Some(at("2024-05-31T22:10:30.25Z")),
        captured_offset_minutes: Some(120),
        clock_wrong: false,
        deployment: "ridge".to_owned(),
        camera: Some("Browning BTC-8E".to_owned()),
        width: Some(1920),
        height: Some(1080),
        frames: Some(1),
        duration_s: None,
        frame_rate: None,
        burst_id: Some("ridge/1".to_owned()),
        category: Some(Category::Animal),
        failure: None,
        model_version: MODEL.to_owned(),
        run_id: run.to_owned(),
        task: "infer/0".to_owned(),
        processed_at: at("2024-06-01T08:00:00Z"),
    }
}

/// A jaguar on [`medium`].
pub fn jaguar(uri: &str, run: &str) -> DetectionRow {
    DetectionRow {
        detection_id: format!("id-of-{uri}/0/0"),
        media_id: format!("id-of-{uri}"),
        uri: uri.to_owned(),
        deployment: "ridge".to_owned(),
        captured_at: Some(at("2024-05-31T22:10:30.25Z")),
        frame: 0,
        frame_time_s: 0.0,
        burst_id: Some("ridge/1".to_owned()),
        track: Some(1),
        x: 0.25,
        y: 0.5,
        width: 0.125,
        height: 0.0625,
        category: Category::Animal,
        species: Some("jaguar".to_owned()),
        scientific_name: Some("Panthera onca".to_owned()),
        rank: Some(Rank::Species),
        taxonomy: Some("Mammalia;Carnivora;Felidae;Panthera;Panthera onca".to_owned()),
        confidence: 0.75,
        species_confidence: Some(0.5),
        top5: vec![
            candidate("Panthera onca", Some("jaguar"), 0.5),
            candidate("Panthera pardus", Some("leopard"), 0.25),
            candidate("Felidae", None, 0.125),
        ],
        model_version: MODEL.to_owned(),
        run_id: run.to_owned(),
        task: "infer/0".to_owned(),
        detected_at: at("2024-06-01T08:00:00Z"),
    }
}

pub fn candidate(scientific_name: &str, species: Option<&str>, confidence: f32) -> Candidate {
    Candidate { scientific_name: scientific_name.to_owned(), species: species.map(str::to_owned), confidence }
}

/// `count` photographs, numbered from `from`.
pub fn many(from: usize, count: usize, run: &str) -> Vec<MediaRow> {
    (from..from + count).map(|number| medium(&format!("s3://b/p/{number:07}.jpg"), run)).collect()
}

pub async fn open(folder: &std::path::Path) -> Lake {
    Lake::open(folder.to_str().unwrap()).await.unwrap()
}

pub async fn batches(lake: &Lake, query: &str) -> Vec<RecordBatch> {
    lake.sql(query).await.unwrap().try_collect().await.unwrap()
}

/// The one whole number that a query answers.
pub async fn number(lake: &Lake, query: &str) -> i64 {
    let batches = batches(lake, query).await;
    batches[0].column(0).as_primitive::<Int64Type>().value(0)
}
