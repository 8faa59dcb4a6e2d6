//! What is known of files that were processed before, so that unchanged ones can be skipped.

use std::collections::HashMap;
use std::collections::hash_map::Entry;

use chrono::{DateTime, Utc};
use datafusion::prelude::{col, lit};
use futures::StreamExt as _;

use crate::error::Result;
use crate::query::{sql_error, stream};
use crate::read::{detection_rows, media_rows};
use crate::rows::{DetectionRow, MediaRow};
use crate::{Lake, Table, columns};

/// Files by uri.
pub type KnownMedia = HashMap<String, KnownMedium>;

/// The newest processing of one file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct KnownMedium {
    /// Size in bytes when it was processed.
    pub size_bytes: i64,
    /// ETag or modification time when it was processed.
    pub version: String,
    /// SHA-256 of its content in hex (of its uri, if it could not be read).
    pub media_id: String,
    /// It could not be processed.
    pub failed: bool,
    /// When it was processed.
    pub processed_at: DateTime<Utc>,
}

/// The newest processing of one file, with what was found in it.
#[derive(Debug, Clone, PartialEq)]
pub struct Processed {
    /// Its row of `media`.
    pub media: MediaRow,
    /// Its boxes.
    pub detections: Vec<DetectionRow>,
}

/// See [`Lake::processed`].
pub(crate) async fn processed(lake: &Lake, model_version: &str, uris: &[String]) -> Result<HashMap<String, Processed>> {
    let session = lake.session().await?;
    let list: Vec<_> = uris.iter().map(|uri| lit(uri.as_str())).collect();
    let wanted = col("model_version").eq(lit(model_version)).and(col("uri").in_list(list, false));
    let mut found: HashMap<String, Processed> = HashMap::new();
    let frame = session.table(Table::Media.name()).await.and_then(|table| table.filter(wanted.clone()));
    let mut batches = stream(lake, frame.map_err(|error| sql_error(lake.location(), error))?).await?;
    while let Some(batch) = batches.next().await {
        for media in media_rows(&batch?)? {
            if found.get(&media.uri).is_none_or(|other| other.media.processed_at < media.processed_at) {
                found.insert(media.uri.clone(), Processed { media, detections: Vec::new() });
            }
        }
    }
    let frame = session.table(Table::Detections.name()).await.and_then(|table| table.filter(wanted));
    let mut batches = stream(lake, frame.map_err(|error| sql_error(lake.location(), error))?).await?;
    while let Some(batch) = batches.next().await {
        for detection in detection_rows(&batch?)? {
            if let Some(processed) = found.get_mut(&detection.uri)
                && processed.media.run_id == detection.run_id
                && processed.media.task == detection.task
            {
                processed.detections.push(detection);
            }
        }
    }
    for processed in found.values_mut() {
        processed.detections.sort_by(|a, b| (a.frame, &a.detection_id).cmp(&(b.frame, &b.detection_id)));
    }
    Ok(found)
}

/// See [`Lake::known_media`].
pub(crate) async fn known_media(lake: &Lake, model_version: &str) -> Result<KnownMedia> {
    let session = lake.session().await?;
    let wanted = ["uri", "size_bytes", "version", "media_id", "failed", "processed_at"].map(col);
    let frame = async {
        let media = session.table(Table::Media.name()).await?.filter(col("model_version").eq(lit(model_version)))?;
        media.with_column("failed", col("failure").is_not_null())?.select(wanted)
    };
    let frame = frame.await.map_err(|error| sql_error(lake.location(), error))?;
    let mut rows = stream(lake, frame).await?;

    let mut known = KnownMedia::new();
    while let Some(batch) = rows.next().await {
        let batch = batch?;
        let uris = columns::strings(&batch, "uri")?;
        let sizes = columns::longs(&batch, "size_bytes")?;
        let versions = columns::strings(&batch, "version")?;
        let ids = columns::strings(&batch, "media_id")?;
        let failed = columns::booleans(&batch, "failed")?;
        let times = columns::times(&batch, "processed_at")?;
        known.reserve(batch.num_rows());
        for (row, time) in times.into_iter().enumerate() {
            let medium = KnownMedium {
                size_bytes: sizes.value(row),
                version: versions.value(row).to_owned(),
                media_id: ids.value(row).to_owned(),
                failed: failed.value(row),
                processed_at: time.unwrap_or_default(),
            };
            match known.entry(uris.value(row).to_owned()) {
                Entry::Vacant(entry) => {
                    entry.insert(medium);
                }
                Entry::Occupied(mut entry) if entry.get().processed_at < medium.processed_at => {
                    entry.insert(medium);
                }
                Entry::Occupied(_) => {}
            }
        }
    }
    Ok(known)
}
