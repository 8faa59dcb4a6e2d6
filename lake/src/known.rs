//! What is known of files that were processed before, so that unchanged ones can be skipped.

use std::collections::HashMap;
use std::collections::hash_map::Entry;

use chrono::{DateTime, Utc};
use datafusion::prelude::{col, lit};
use futures::StreamExt as _;

use crate::error::Result;
use crate::query::{sql_error, stream};
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
