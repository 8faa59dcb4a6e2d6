//! Rows of files whose content the model has seen under another name: what was found then is found again, unasked.

use lake::{DetectionRow, Lake, MediaRow};
use platform::object_store::ObjectStore;

use super::rows::{Place, Rows, detection_id};
use crate::ingest::deployment;
use crate::manifest::Copied;
use crate::{Error, Result};

/// Adds a row for each copy, and its boxes, from the newest rows of the file it is a copy of.
pub(super) async fn add(
    place: &Place,
    store: &dyn ObjectStore,
    lake: &Lake,
    copies: &[Copied],
    rows: &mut Rows,
) -> Result<()> {
    let originals: Vec<String> = copies.iter().map(|copy| copy.of.clone()).collect();
    let processed = lake.processed(&place.model_version, &originals).await?;
    for copy in copies {
        let original =
            processed.get(&copy.of).ok_or_else(|| Error::LostOriginal { uri: store.uri(&copy.entry.key) })?;
        let media = MediaRow {
            uri: store.uri(&copy.entry.key),
            version: copy.entry.version.clone(),
            deployment: deployment(&copy.entry.key),
            run_id: place.run_id.clone(),
            task: place.task.clone(),
            processed_at: place.processed_at,
            ..original.media.clone()
        };
        let (mut frame, mut rank) = (-1, 0);
        for detection in &original.detections {
            rank = if detection.frame == frame { rank + 1 } else { 0 };
            frame = detection.frame;
            rows.detections.push(DetectionRow {
                detection_id: detection_id(&media, frame, rank),
                uri: media.uri.clone(),
                deployment: media.deployment.clone(),
                run_id: place.run_id.clone(),
                task: place.task.clone(),
                detected_at: place.processed_at,
                ..detection.clone()
            });
        }
        rows.media.push(media);
    }
    Ok(())
}
