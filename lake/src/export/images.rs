//! Media and their boxes, read side by side in the order of their uris.

use std::collections::VecDeque;

use arrow::array::Array as _;
use arrow::record_batch::RecordBatch;
use chrono::{DateTime, Utc};
use datafusion::prelude::SessionContext;
use futures::StreamExt as _;

use crate::error::Result;
use crate::query::{NEWEST_MEDIA, QueryRows, run};
use crate::read::candidates;
use crate::{Candidate, Lake, columns};

/// Which rows of `media` are exported.
pub(super) struct Selection {
    filter: String,
}

impl Selection {
    pub(super) fn new(model_version: Option<&str>, run_id: Option<&str>) -> Self {
        let quoted = |text: &str| format!("'{}'", text.replace('\'', "''"));
        let mut terms = Vec::new();
        terms.extend(model_version.map(|version| format!("model_version = {}", quoted(version))));
        terms.extend(run_id.map(|run| format!("run_id = {}", quoted(run))));
        let filter = if terms.is_empty() { String::new() } else { format!("where {}", terms.join(" and ")) };
        Self { filter }
    }

    /// A `where` clause, or nothing.
    pub(super) fn filter(&self) -> &str {
        &self.filter
    }

    fn newest(&self) -> String {
        NEWEST_MEDIA.replace("{filter}", &self.filter)
    }
}

/// A row of `media`, as far as the format wants it.
pub(super) struct Medium {
    pub(super) uri: String,
    pub(super) failure: Option<String>,
    pub(super) video: bool,
    pub(super) captured_at: Option<DateTime<Utc>>,
    pub(super) captured_offset_minutes: Option<i32>,
    pub(super) width: Option<i32>,
    pub(super) height: Option<i32>,
    pub(super) frames: Option<i32>,
    pub(super) duration_s: Option<f64>,
    pub(super) frame_rate: Option<f64>,
}

/// A row of `detections`, as far as the format wants it.
pub(super) struct Detected {
    uri: String,
    pub(super) frame: i32,
    pub(super) frame_time_s: f64,
    /// Left, top, width, height as fractions.
    pub(super) bbox: [f32; 4],
    pub(super) category: String,
    pub(super) confidence: f32,
    pub(super) species: Option<String>,
    pub(super) scientific_name: Option<String>,
    pub(super) taxonomy: Option<String>,
    pub(super) species_confidence: Option<f32>,
    pub(super) top5: Vec<Candidate>,
}

/// Media sorted by uri.
pub(super) struct MediumStream {
    rows: QueryRows,
    waiting: VecDeque<Medium>,
}

impl MediumStream {
    pub(super) async fn new(lake: &Lake, session: &SessionContext, selection: &Selection) -> Result<Self> {
        let query = format!(
            "select uri, failure, media_type, captured_at, captured_offset_minutes, width, height, frames, duration_s, \
             frame_rate from ({}) order by uri",
            selection.newest()
        );
        let rows = run(lake, session, &query).await?;
        Ok(Self { rows, waiting: VecDeque::new() })
    }

    pub(super) async fn next(&mut self) -> Result<Option<Medium>> {
        while self.waiting.is_empty() {
            let Some(batch) = self.rows.next().await else {
                return Ok(None);
            };
            read_media(&batch?, &mut self.waiting)?;
        }
        Ok(self.waiting.pop_front())
    }
}

/// Boxes sorted by the uri of their medium, then by frame, then surest first.
pub(super) struct DetectedStream {
    rows: QueryRows,
    waiting: VecDeque<Detected>,
}

impl DetectedStream {
    pub(super) async fn new(lake: &Lake, session: &SessionContext, selection: &Selection) -> Result<Self> {
        let query = format!(
            "select d.uri, d.frame, d.frame_time_s, d.x, d.y, d.width, d.height, d.category, d.confidence, d.species, \
             d.scientific_name, d.taxonomy, d.species_confidence, d.top5 from detections d join ({}) m \
             on d.uri = m.uri and d.run_id = m.run_id and d.task = m.task \
             order by d.uri, d.frame, d.confidence desc, d.detection_id",
            selection.newest()
        );
        let rows = run(lake, session, &query).await?;
        Ok(Self { rows, waiting: VecDeque::new() })
    }

    /// The boxes of the medium at `uri`; to be called with growing uris.
    pub(super) async fn of(&mut self, uri: &str) -> Result<Vec<Detected>> {
        let mut found = Vec::new();
        loop {
            while let Some(first) = self.waiting.front() {
                if first.uri.as_str() > uri {
                    return Ok(found);
                }
                let first = self.waiting.pop_front();
                found.extend(first.filter(|first| first.uri == uri));
            }
            let Some(batch) = self.rows.next().await else {
                return Ok(found);
            };
            read_boxes(&batch?, &mut self.waiting)?;
        }
    }
}

fn read_media(batch: &RecordBatch, into: &mut VecDeque<Medium>) -> Result<()> {
    let uris = columns::strings(batch, "uri")?;
    let failures = columns::strings(batch, "failure")?;
    let types = columns::strings(batch, "media_type")?;
    let times = columns::times(batch, "captured_at")?;
    let offsets = columns::integers(batch, "captured_offset_minutes")?;
    let widths = columns::integers(batch, "width")?;
    let heights = columns::integers(batch, "height")?;
    let frames = columns::integers(batch, "frames")?;
    let durations = columns::doubles(batch, "duration_s")?;
    let rates = columns::doubles(batch, "frame_rate")?;
    for (row, captured_at) in times.into_iter().enumerate() {
        into.push_back(Medium {
            uri: uris.value(row).to_owned(),
            failure: columns::text(&failures, row),
            video: types.value(row) == crate::MediaType::Video.as_str(),
            captured_at,
            captured_offset_minutes: offsets.is_valid(row).then(|| offsets.value(row)),
            width: widths.is_valid(row).then(|| widths.value(row)),
            height: heights.is_valid(row).then(|| heights.value(row)),
            frames: frames.is_valid(row).then(|| frames.value(row)),
            duration_s: durations.is_valid(row).then(|| durations.value(row)),
            frame_rate: rates.is_valid(row).then(|| rates.value(row)),
        });
    }
    Ok(())
}

fn read_boxes(batch: &RecordBatch, into: &mut VecDeque<Detected>) -> Result<()> {
    let uris = columns::strings(batch, "uri")?;
    let frames = columns::integers(batch, "frame")?;
    let times = columns::doubles(batch, "frame_time_s")?;
    let sides = [
        columns::floats(batch, "x")?,
        columns::floats(batch, "y")?,
        columns::floats(batch, "width")?,
        columns::floats(batch, "height")?,
    ];
    let categories = columns::strings(batch, "category")?;
    let confidences = columns::floats(batch, "confidence")?;
    let species = columns::strings(batch, "species")?;
    let names = columns::strings(batch, "scientific_name")?;
    let taxonomies = columns::strings(batch, "taxonomy")?;
    let surenesses = columns::floats(batch, "species_confidence")?;
    let top5 = candidates(batch)?;
    for (row, top5) in top5.into_iter().enumerate() {
        into.push_back(Detected {
            uri: uris.value(row).to_owned(),
            frame: frames.value(row),
            frame_time_s: times.value(row),
            bbox: [sides[0].value(row), sides[1].value(row), sides[2].value(row), sides[3].value(row)],
            category: categories.value(row).to_owned(),
            confidence: confidences.value(row),
            species: columns::text(&species, row),
            scientific_name: columns::text(&names, row),
            taxonomy: columns::text(&taxonomies, row),
            species_confidence: surenesses.is_valid(row).then(|| surenesses.value(row)),
            top5,
        });
    }
    Ok(())
}
