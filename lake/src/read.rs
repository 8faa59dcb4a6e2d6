//! Record batches back as rows.

use arrow::array::{Array, AsArray};
use arrow::compute::cast;
use arrow::datatypes::{DataType, Float32Type};
use arrow::error::ArrowError;
use arrow::record_batch::RecordBatch;

use crate::columns;
use crate::error::Result;
use crate::rows::{Candidate, DetectionRow, MediaRow};

/// The rows of a batch with all columns of `media`.
///
/// # Errors
/// For a batch of another shape, or with a word that no version of safari writes.
pub fn media_rows(batch: &RecordBatch) -> Result<Vec<MediaRow>> {
    let texts = |name| columns::strings(batch, name);
    let integers = |name| columns::integers(batch, name);
    let doubles = |name| columns::doubles(batch, name);
    let (ids, uris, hashes) = (texts("media_id")?, texts("uri")?, texts("sha256")?);
    let (sizes, versions, types) = (columns::longs(batch, "size_bytes")?, texts("version")?, texts("media_type")?);
    let (captured, offsets) = (columns::times(batch, "captured_at")?, integers("captured_offset_minutes")?);
    let (wrong, deployments) = (columns::booleans(batch, "clock_wrong")?, texts("deployment")?);
    let (cameras, widths, heights) = (texts("camera")?, integers("width")?, integers("height")?);
    let (frames, durations, rates) = (integers("frames")?, doubles("duration_s")?, doubles("frame_rate")?);
    let (bursts, categories, failures) = (texts("burst_id")?, texts("category")?, texts("failure")?);
    let (models, runs, tasks) = (texts("model_version")?, texts("run_id")?, texts("task")?);
    let processed = columns::times(batch, "processed_at")?;
    (0..batch.num_rows())
        .map(|row| {
            Ok(MediaRow {
                media_id: ids.value(row).to_owned(),
                uri: uris.value(row).to_owned(),
                sha256: columns::text(&hashes, row),
                size_bytes: sizes.value(row),
                version: versions.value(row).to_owned(),
                media_type: types.value(row).parse()?,
                captured_at: captured[row],
                captured_offset_minutes: offsets.is_valid(row).then(|| offsets.value(row)),
                clock_wrong: wrong.value(row),
                deployment: deployments.value(row).to_owned(),
                camera: columns::text(&cameras, row),
                width: widths.is_valid(row).then(|| widths.value(row)),
                height: heights.is_valid(row).then(|| heights.value(row)),
                frames: frames.is_valid(row).then(|| frames.value(row)),
                duration_s: durations.is_valid(row).then(|| durations.value(row)),
                frame_rate: rates.is_valid(row).then(|| rates.value(row)),
                burst_id: columns::text(&bursts, row),
                category: columns::text(&categories, row).map(|word| word.parse()).transpose()?,
                failure: columns::text(&failures, row),
                model_version: models.value(row).to_owned(),
                run_id: runs.value(row).to_owned(),
                task: tasks.value(row).to_owned(),
                processed_at: processed[row].unwrap_or_default(),
            })
        })
        .collect()
}

/// The rows of a batch with all columns of `detections`.
///
/// # Errors
/// As [`media_rows`].
pub fn detection_rows(batch: &RecordBatch) -> Result<Vec<DetectionRow>> {
    let texts = |name| columns::strings(batch, name);
    let floats = |name| columns::floats(batch, name);
    let (ids, media, uris) = (texts("detection_id")?, texts("media_id")?, texts("uri")?);
    let (deployments, captured) = (texts("deployment")?, columns::times(batch, "captured_at")?);
    let (frames, frame_times) = (columns::integers(batch, "frame")?, columns::doubles(batch, "frame_time_s")?);
    let (bursts, tracks) = (texts("burst_id")?, columns::integers(batch, "track")?);
    let (xs, ys, widths, heights) = (floats("x")?, floats("y")?, floats("width")?, floats("height")?);
    let (categories, species, names) = (texts("category")?, texts("species")?, texts("scientific_name")?);
    let (ranks, taxonomies) = (texts("rank")?, texts("taxonomy")?);
    let (confidences, surenesses) = (floats("confidence")?, floats("species_confidence")?);
    let (models, runs, tasks) = (texts("model_version")?, texts("run_id")?, texts("task")?);
    let detected = columns::times(batch, "detected_at")?;
    let mut top5 = candidates(batch)?.into_iter();
    (0..batch.num_rows())
        .map(|row| {
            Ok(DetectionRow {
                detection_id: ids.value(row).to_owned(),
                media_id: media.value(row).to_owned(),
                uri: uris.value(row).to_owned(),
                deployment: deployments.value(row).to_owned(),
                captured_at: captured[row],
                frame: frames.value(row),
                frame_time_s: frame_times.value(row),
                burst_id: columns::text(&bursts, row),
                track: tracks.is_valid(row).then(|| tracks.value(row)),
                x: xs.value(row),
                y: ys.value(row),
                width: widths.value(row),
                height: heights.value(row),
                category: categories.value(row).parse()?,
                species: columns::text(&species, row),
                scientific_name: columns::text(&names, row),
                rank: columns::text(&ranks, row).map(|word| word.parse()).transpose()?,
                taxonomy: columns::text(&taxonomies, row),
                confidence: confidences.value(row),
                species_confidence: surenesses.is_valid(row).then(|| surenesses.value(row)),
                top5: top5.next().unwrap_or_default(),
                model_version: models.value(row).to_owned(),
                run_id: runs.value(row).to_owned(),
                task: tasks.value(row).to_owned(),
                detected_at: detected[row].unwrap_or_default(),
            })
        })
        .collect()
}

/// `top5` of every row of a batch that has the column.
pub(crate) fn candidates(batch: &RecordBatch) -> Result<Vec<Vec<Candidate>>> {
    let missing = || ArrowError::SchemaError("the result has no column top5".to_owned());
    let lists = batch.column_by_name("top5").ok_or_else(missing)?.as_list::<i32>();
    let entries = lists.values().as_struct();
    let field = |name: &str, data_type: &DataType| {
        let column = entries.column_by_name(name).ok_or_else(missing)?;
        cast(column, data_type)
    };
    let (names, species) = (field("scientific_name", &DataType::Utf8)?, field("species", &DataType::Utf8)?);
    let confidences = field("confidence", &DataType::Float32)?;
    let (names, species) = (names.as_string::<i32>(), species.as_string::<i32>());
    let confidences = confidences.as_primitive::<Float32Type>();
    let candidate = |index: usize| Candidate {
        scientific_name: names.value(index).to_owned(),
        species: columns::text(species, index),
        confidence: confidences.value(index),
    };
    let offsets = lists.value_offsets();
    let ranges = offsets.windows(2).map(|ends| ends[0] as usize..ends[1] as usize);
    Ok(ranges.map(|range| range.map(candidate).collect()).collect())
}
