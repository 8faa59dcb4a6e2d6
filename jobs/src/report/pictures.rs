//! The pictures of a report: chosen so that every kind is seen, read again from the source, and annotated.

use std::collections::{BTreeMap, HashMap};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use base64::Engine as _;
use detector::annotate::{self, Label};
use detector::decode::{Picture, decode};
use detector::exif;
use detector::media::{MediaType, SNIFF_BYTES};
use detector::nms::BoundingBox;
use detector::video::{self, FrameReader};
use futures::StreamExt;
use pipeline::JobContext;
use platform::config::Config;
use platform::object_store::ObjectStore;
use tracing::warn;

use super::frames::{self, Tables};
use super::write_file;
use crate::services::engine_options;
use crate::{Error, Result};

/// Longer side of an annotated picture in the folder, in pixels.
const PICTURE_SIDE: u32 = 1024;

/// Longer side of a thumbnail in the page, in pixels.
const THUMBNAIL_SIDE: u32 = 480;

const PICTURE_QUALITY: i32 = 88;
const THUMBNAIL_QUALITY: i32 = 78;

/// A frame to draw with its boxes.
#[derive(Debug, Clone)]
pub(super) struct Chosen {
    uri: String,
    captured: String,
    deployment: String,
    is_video: bool,
    frame: u32,
    labels: Vec<Label>,
    title: String,
    scientific_name: String,
}

/// An annotated picture, as the page shows it.
#[derive(Debug, Clone, serde::Serialize)]
pub(super) struct Drawn {
    title: String,
    scientific_name: String,
    deployment: String,
    captured: String,
    file: String,
    /// The annotated picture, relative to the page.
    link: String,
    /// The thumbnail as a data URL.
    thumbnail: String,
}

#[derive(Debug, Clone)]
struct Candidate {
    row: usize,
    species: String,
    score: f64,
}

/// At most `limit` frames: the surest of each kind in turn, so that a rare kind is not hidden by a common one.
pub(super) fn choose(tables: &Tables, limit: usize) -> Vec<Chosen> {
    match try_choose(tables, limit) {
        Ok(chosen) => chosen,
        Err(error) => {
            warn!(%error, "the report has no pictures");
            Vec::new()
        }
    }
}

/// Reads, annotates and writes the chosen frames; one that cannot be read any more is left out with a warning.
pub(super) async fn draw(
    store: Arc<dyn ObjectStore>,
    chosen: Vec<Chosen>,
    folder: &Path,
    config: &Config,
    context: &JobContext,
) -> Result<Vec<Drawn>> {
    let total = chosen.len() as u64;
    let root = store.uri("");
    let workers = std::thread::available_parallelism().map_or(1, |cores| cores.get());
    let mut drawings = futures::stream::iter(chosen.into_iter().map(|chosen| {
        let (store, folder, config, root) = (Arc::clone(&store), folder.to_owned(), config.clone(), root.clone());
        async move {
            let key = chosen.uri.strip_prefix(&root).unwrap_or(&chosen.uri).trim_start_matches('/').to_owned();
            let path = match picture_file(store.as_ref(), &key, chosen.is_video).await {
                Ok(read) => read,
                Err(error) => return Err((key, error)),
            };
            let shown = key.clone();
            let drawn = tokio::task::spawn_blocking(move || draw_one(&chosen, &key, path, &folder, &config)).await;
            match drawn {
                Ok(Ok(drawn)) => Ok(drawn),
                Ok(Err(error)) => Err((shown, error)),
                Err(error) => Err((shown, Error::Report(error.to_string()))),
            }
        }
    }))
    // More than one a core: the next files are read while the cores draw, and a slow picture holds up no other.
    .buffered(workers * 2);
    let mut drawn = Vec::new();
    let mut seen = 0;
    while let Some(next) = drawings.next().await {
        if context.cancel.is_cancelled() {
            return Err(Error::Interrupted);
        }
        seen += 1;
        context.progress(seen, total, "drawing boxes");
        match next {
            Ok(picture) => drawn.push(picture),
            Err((_, error @ Error::Write { .. })) => return Err(error),
            Err((key, error)) => warn!(key, %error, "a picture of the report is left out"),
        }
    }
    Ok(drawn)
}

fn try_choose(tables: &Tables, limit: usize) -> Result<Vec<Chosen>> {
    let rows = Rows::new(tables)?;
    let mut by_frame: HashMap<(String, u32), Vec<usize>> = HashMap::new();
    let mut by_species: BTreeMap<String, Vec<Candidate>> = BTreeMap::new();
    for row in 0..rows.uri.len() {
        by_frame.entry((rows.uri[row].clone(), rows.frame[row])).or_default().push(row);
        let candidate = Candidate { row, species: rows.species[row].clone(), score: rows.score(row) };
        by_species.entry(candidate.species.clone()).or_default().push(candidate);
    }
    let mut queues: Vec<std::vec::IntoIter<Candidate>> = by_species
        .into_values()
        .map(|mut candidates| {
            candidates.sort_by(|a, b| b.score.total_cmp(&a.score).then(a.row.cmp(&b.row)));
            candidates.into_iter()
        })
        .collect();
    let mut chosen: Vec<Chosen> = Vec::new();
    let mut taken: Vec<(String, u32)> = Vec::new();
    let mut progress = true;
    while chosen.len() < limit && progress {
        progress = false;
        for queue in &mut queues {
            let next = queue.find(|candidate| {
                let frame = (rows.uri[candidate.row].clone(), rows.frame[candidate.row]);
                !taken.contains(&frame)
            });
            let Some(candidate) = next else { continue };
            if chosen.len() == limit {
                break;
            }
            progress = true;
            let frame = (rows.uri[candidate.row].clone(), rows.frame[candidate.row]);
            let boxes = by_frame.get(&frame).map(Vec::as_slice).unwrap_or_default();
            chosen.push(rows.chosen(candidate.row, boxes));
            taken.push(frame);
        }
    }
    Ok(chosen)
}

/// Columns of the detections, by row.
struct Rows {
    uri: Vec<String>,
    deployment: Vec<String>,
    category: Vec<String>,
    species: Vec<String>,
    scientific_name: Vec<String>,
    media_type: Vec<String>,
    captured: Vec<String>,
    frame: Vec<u32>,
    confidence: Vec<f64>,
    species_confidence: Vec<Option<f64>>,
    bounds: Vec<BoundingBox>,
}

impl Rows {
    fn new(tables: &Tables) -> Result<Self> {
        let table = &tables.detections;
        let texts = |name: &str| frames::texts(table, name);
        let numbers = |name: &str| frames::numbers(table, name);
        let sides = (numbers("x")?, numbers("y")?, numbers("width")?, numbers("height")?);
        let side = |column: &[Option<f64>], row: usize| column[row].unwrap_or_default() as f32;
        let bounds = (0..table.height()).map(|row| {
            let (x, y) = (side(&sides.0, row), side(&sides.1, row));
            BoundingBox { ymin: y, xmin: x, ymax: y + side(&sides.3, row), xmax: x + side(&sides.2, row) }
        });
        Ok(Self {
            uri: texts("uri")?,
            deployment: texts("deployment")?,
            category: texts("category")?,
            species: texts("species")?,
            scientific_name: texts("scientific_name")?,
            media_type: texts("media_type")?,
            captured: texts("captured")?,
            frame: numbers("frame")?.into_iter().map(|frame| frame.unwrap_or_default() as u32).collect(),
            confidence: numbers("confidence")?.into_iter().map(Option::unwrap_or_default).collect(),
            species_confidence: numbers("species_confidence")?,
            bounds: bounds.collect(),
        })
    }

    fn score(&self, row: usize) -> f64 {
        self.confidence[row] * self.species_confidence[row].unwrap_or(1.0)
    }

    fn name(&self, row: usize) -> &str {
        match self.species[row].as_str() {
            "" => &self.category[row],
            species => species,
        }
    }

    fn chosen(&self, row: usize, boxes: &[usize]) -> Chosen {
        let labels = boxes.iter().map(|&row| {
            let sure = self.species_confidence[row].unwrap_or(self.confidence[row]);
            let colour = match self.category[row].as_str() {
                "person" => annotate::category_colour(detector::nms::Category::Person),
                "vehicle" => annotate::category_colour(detector::nms::Category::Vehicle),
                _ => annotate::category_colour(detector::nms::Category::Animal),
            };
            Label { bounds: self.bounds[row], text: format!("{} {:.0} %", self.name(row), sure * 100.0), colour }
        });
        Chosen {
            uri: self.uri[row].clone(),
            captured: self.captured[row].chars().take(19).collect::<String>().replace('T', " "),
            deployment: self.deployment[row].clone(),
            is_video: self.media_type[row] == "video",
            frame: self.frame[row],
            labels: labels.collect(),
            title: self.name(row).to_owned(),
            scientific_name: self.scientific_name[row].clone(),
        }
    }
}

/// A medium's bytes, or a video's file with the guard that keeps it.
enum PictureFile {
    Bytes(bytes::Bytes),
    Video(PathBuf, #[expect(dead_code, reason = "the file lives as long as its guard")] Option<tempfile::TempPath>),
}

async fn picture_file(store: &dyn ObjectStore, key: &str, is_video: bool) -> Result<PictureFile> {
    if !is_video {
        return Ok(PictureFile::Bytes(store.get(key).await?));
    }
    if let Some(path) = store.local_path(key) {
        return Ok(PictureFile::Video(path, None));
    }
    let temporary = tempfile::Builder::new().prefix("safari-video-").tempfile();
    let temporary = temporary.map_err(Error::write(std::env::temp_dir()))?.into_temp_path();
    store.download(key, &temporary).await?;
    Ok(PictureFile::Video(temporary.to_path_buf(), Some(temporary)))
}

fn draw_one(chosen: &Chosen, key: &str, file: PictureFile, folder: &Path, config: &Config) -> Result<Drawn> {
    let mut picture = annotate::thumbnail(&frame_picture(chosen, &file, config)?, PICTURE_SIDE);
    annotate::draw(&mut picture, &chosen.labels);
    let name = match chosen.is_video {
        true => format!("{key}.frame-{}.jpg", chosen.frame),
        false => format!("{}.jpg", key.rsplit_once('.').map_or(key, |(stem, _)| stem)),
    };
    write_file(&folder.join(&name), &annotate::to_jpeg(&picture, PICTURE_QUALITY)?)?;
    let small = annotate::to_jpeg(&annotate::thumbnail(&picture, THUMBNAIL_SIDE), THUMBNAIL_QUALITY)?;
    Ok(Drawn {
        title: chosen.title.clone(),
        scientific_name: chosen.scientific_name.clone(),
        deployment: chosen.deployment.clone(),
        captured: chosen.captured.clone(),
        file: key.rsplit('/').next().unwrap_or(key).to_owned(),
        link: format!("pictures/{name}"),
        thumbnail: format!("data:image/jpeg;base64,{}", base64::engine::general_purpose::STANDARD.encode(small)),
    })
}

fn frame_picture(chosen: &Chosen, file: &PictureFile, config: &Config) -> Result<Picture> {
    let options = engine_options(config);
    match file {
        PictureFile::Bytes(bytes) => {
            let media_type = MediaType::sniff(&bytes[..bytes.len().min(SNIFF_BYTES)])?;
            let orientation = exif::read(bytes).orientation;
            Ok(decode(bytes, media_type, orientation, PICTURE_SIDE / 2, &options.limits)?)
        }
        PictureFile::Video(path, _) => {
            let info = video::probe(path, &options.limits)?;
            let mut reader = FrameReader::open(path, &info, options.min_side, &options.video)?;
            while let Some(frame) = reader.next_frame()? {
                if frame.number == chosen.frame {
                    return Ok(frame.picture);
                }
            }
            Err(Error::Report(format!("the video has no frame {} any more", chosen.frame)))
        }
    }
}
