//! Labelled media: what `train` learns from and `evaluate` judges by.
//!
//! Labels come from a list (`labels.csv` in the source, another CSV file, a query to the tables) or from the folders that
//! media lie in. Photographs of one deployment and label that were taken in quick succession are one sequence.

mod label;
mod list;
mod settings;

use std::collections::BTreeMap;
use std::sync::Arc;

use detector::burst::{self, BurstOptions, Taken};
use detector::media::has_media_extension;
use detector::taxonomy::Taxonomy;
use detector::train::photographs::LABELS_FILE;
pub(crate) use detector::train::photographs::{Kind, Split};
use futures::StreamExt;
use lake::{OutputFormat, Table};
use pipeline::JobContext;
use platform::object_store::{self, Location, ObjectMeta, ObjectStore};
use sha2::{Digest, Sha256};

pub(crate) use label::Label;
use list::Line;
pub(crate) use settings::{Labels, SET_KEYS, SetSettings};

use crate::ingest::{deployment, look_up, read_times};
use crate::manifest::Entry;
use crate::services::Services;
use crate::{Error, Result};

/// Names of folders or labels that a message shows at most.
const SHOWN: usize = 5;

/// Rows of a query that are read at most.
const MAX_ROWS: usize = 10_000_000;

/// Media with labels.
#[derive(Debug)]
pub(crate) struct LabelledSet {
    /// Where the media are.
    pub(crate) store: Arc<dyn ObjectStore>,
    /// The source as a URI.
    pub(crate) source: String,
    /// Photographs and videos, those that belong together together.
    pub(crate) sequences: Vec<Sequence>,
    /// Pictures that bursts are made with.
    pub(crate) pictures: Vec<Picture>,
    /// Media without a label.
    pub(crate) left_out: usize,
    /// Version of the table `detections` when the labels were asked of the tables.
    pub(crate) table_version: Option<i64>,
}

/// Media that show one event.
#[derive(Debug, Clone)]
pub(crate) struct Sequence {
    pub(crate) label: Label,
    pub(crate) split: Split,
    /// Whether a list said to which part it belongs.
    pub(crate) split_is_given: bool,
    /// In order of time.
    pub(crate) media: Vec<Entry>,
}

/// A picture that is no medium of a camera: a cut-out, a background or a plant.
#[derive(Debug, Clone)]
pub(crate) struct Picture {
    pub(crate) key: String,
    pub(crate) kind: Kind,
    pub(crate) split: Split,
    pub(crate) label: Option<Label>,
}

impl LabelledSet {
    /// Lists the media, finds their labels, reads capture times and groups sequences.
    pub(crate) async fn read(
        services: &Services,
        settings: &SetSettings,
        taxonomy: &Taxonomy,
        context: &JobContext,
    ) -> Result<Self> {
        let location = Location::parse(&settings.source)?;
        let store = object_store::open(&location).await?;
        let mut table_version = None;
        let lines = match &settings.labels {
            Labels::Folders => None,
            Labels::Unsaid => match store.get(LABELS_FILE).await {
                Ok(bytes) => Some(list::read_csv(&store.uri(LABELS_FILE), &bytes)?),
                Err(platform::Error::NotFound { .. }) => None,
                Err(error) => return Err(error.into()),
            },
            Labels::List(place) => Some(read_list(place, &store).await?),
            Labels::Query(query) => {
                let lake = services.lake().await?;
                table_version = lake.version(Table::Detections).await?.and_then(|version| i64::try_from(version).ok());
                Some(ask(lake, query).await?)
            }
        };
        let found = match lines {
            Some(lines) => listed(&store, &location.to_string(), lines, taxonomy).await?,
            None => in_folders(&store, taxonomy, context).await?,
        };
        if found.media.is_empty() && found.pictures.is_empty() {
            return Err(Error::Labels(format!("no labelled media under {location}")));
        }
        let objects: Vec<ObjectMeta> = found.media.iter().map(|medium| medium.object.clone()).collect();
        let taken = read_times(&store, &objects, context).await?;
        let sequences = sequences(&found.media, &taken, services.config().burst.gap_seconds, settings.test_share);
        let (pictures, left_out) = (found.pictures, found.left_out);
        Ok(Self { store, source: location.to_string(), sequences, pictures, left_out, table_version })
    }

    /// sha256 over keys, contents and labels. `contents` has the sha256 of the media that count, by key.
    pub(crate) fn digest(&self, contents: &BTreeMap<String, String>) -> String {
        let mut labels: BTreeMap<&str, (&str, Split)> = BTreeMap::new();
        for sequence in &self.sequences {
            for medium in &sequence.media {
                labels.insert(&medium.key, (sequence.label.name(), sequence.split));
            }
        }
        for picture in &self.pictures {
            labels.insert(&picture.key, (picture.label.as_ref().map_or("", Label::name), picture.split));
        }
        let mut hasher = Sha256::new();
        for (key, sha256) in contents {
            let (label, split) = labels.get(key.as_str()).copied().unwrap_or(("", Split::Train));
            hasher.update(format!("{key}\t{sha256}\t{label}\t{split:?}\n"));
        }
        hex::encode(hasher.finalize())
    }
}

struct Medium {
    object: ObjectMeta,
    label: Label,
    split: Option<Split>,
}

#[derive(Default)]
struct Found {
    media: Vec<Medium>,
    pictures: Vec<Picture>,
    left_out: usize,
}

/// A key below the source, or a place of its own.
async fn read_list(place: &str, store: &Arc<dyn ObjectStore>) -> Result<Vec<Line>> {
    if !place.contains("://")
        && !place.starts_with('/')
        && let Ok(bytes) = store.get(place).await
    {
        return list::read_csv(&store.uri(place), &bytes);
    }
    let unusable = || Error::Labels(format!("`labels: {place}` names no file"));
    let (folder, name) = place.rsplit_once('/').unwrap_or((".", place));
    let folder = if folder.is_empty() { "/" } else { folder };
    if name.is_empty() {
        return Err(unusable());
    }
    let bytes = object_store::open(&Location::parse(folder)?).await?.get(name).await?;
    list::read_csv(place, &bytes)
}

async fn ask(lake: &lake::Lake, query: &str) -> Result<Vec<Line>> {
    let limited = format!("SELECT * FROM ({}) AS labels LIMIT {MAX_ROWS}", query.trim().trim_end_matches(';'));
    let rows = lake.sql(&limited).await?;
    let mut csv = Vec::new();
    lake::format::write(rows, OutputFormat::Csv, &mut csv).await?;
    list::read_csv("the query of `labels`", &csv)
}

async fn listed(store: &Arc<dyn ObjectStore>, source: &str, lines: Vec<Line>, taxonomy: &Taxonomy) -> Result<Found> {
    let mut found = Found::default();
    let (mut keys, mut said) = (Vec::new(), Vec::new());
    for line in &lines {
        let (key, kind, split) = (line.key(source)?, line.kind()?, line.split()?);
        let text = line.label.as_deref().filter(|text| !text.is_empty());
        let label = text.map(|text| read_label(text, taxonomy)).transpose()?;
        if kind != Kind::Photo {
            let split = split.unwrap_or(Split::Train);
            found.pictures.push(Picture { key, kind, split, label });
            continue;
        }
        let Some(label) = label else {
            found.left_out += 1;
            continue;
        };
        keys.push(key);
        said.push((label, split));
    }
    let mut objects = look_up(store, keys);
    let mut said = said.into_iter();
    while let (Some(object), Some((label, split))) = (objects.next().await, said.next()) {
        let object = object.map_err(|error| Error::Labels(format!("a listed file cannot be read: {error}")))?;
        found.media.push(Medium { object, label, split });
    }
    Ok(found)
}

/// The label of a medium is the nearest folder above it whose name is one.
async fn in_folders(store: &Arc<dyn ObjectStore>, taxonomy: &Taxonomy, context: &JobContext) -> Result<Found> {
    let mut found = Found::default();
    let mut known: BTreeMap<String, Option<Label>> = BTreeMap::new();
    let mut objects = store.list("");
    while let Some(object) = objects.next().await {
        if context.cancel.is_cancelled() {
            return Err(Error::Interrupted);
        }
        let object = object?;
        if !has_media_extension(&object.key) {
            continue;
        }
        let folders = object.key.rsplit('/').skip(1);
        let mut labels = folders.map(|folder| {
            let read = || Label::read(&folder.replace('_', " "), taxonomy);
            known.entry(folder.to_owned()).or_insert_with(read).clone()
        });
        match labels.find_map(|label| label) {
            Some(label) => found.media.push(Medium { object, label, split: None }),
            None => found.left_out += 1,
        }
    }
    if found.media.is_empty() && found.left_out > 0 {
        let folders: Vec<&str> = known.keys().take(SHOWN).map(String::as_str).collect();
        return Err(Error::Labels(format!(
            "no folder has the name of an animal that the model knows ({}); name folders so, or put a labels.csv with \
             the columns `file` and `label` there",
            folders.join(", ")
        )));
    }
    Ok(found)
}

fn read_label(text: &str, taxonomy: &Taxonomy) -> Result<Label> {
    Label::read(text, taxonomy).ok_or_else(|| {
        let near = platform::names::did_you_mean(text, taxonomy.names());
        Error::Labels(format!(
            "the model knows no `{text}`{near}; of another animal give the names from class down with semicolons"
        ))
    })
}

fn sequences(media: &[Medium], taken: &[Taken], gap_seconds: f64, test_share: f64) -> Vec<Sequence> {
    // Only what a person has called the same belongs together.
    let apart: Vec<Taken> = media
        .iter()
        .zip(taken)
        .map(|(medium, taken)| {
            let place = deployment(&medium.object.key);
            Taken { deployment: format!("{place}\n{}\n{:?}", medium.label.name(), medium.split), at: taken.at }
        })
        .collect();
    let groups = burst::group(&apart, &BurstOptions { gap_seconds, ..BurstOptions::default() });
    let sequence = |group: Vec<usize>| {
        let first = group.first().map(|&index| &media[index])?;
        let entries = group.iter().map(|&index| Entry {
            key: media[index].object.key.clone(),
            size: media[index].object.size,
            version: media[index].object.version.clone(),
            captured_at: taken[index].at,
        });
        Some(Sequence {
            label: first.label.clone(),
            split: first.split.unwrap_or_else(|| drawn(&first.object.key, test_share)),
            split_is_given: first.split.is_some(),
            media: entries.collect(),
        })
    };
    groups.into_iter().filter_map(sequence).collect()
}

/// The part of a sequence that no list puts anywhere: drawn by the name of its first medium, so that it stays the same
/// when others come.
fn drawn(key: &str, test_share: f64) -> Split {
    let digest = Sha256::digest(key);
    let number = digest.iter().take(4).fold(0_u32, |number, &byte| number << 8 | u32::from(byte));
    if f64::from(number) / (f64::from(u32::MAX) + 1.0) < test_share { Split::Test } else { Split::Train }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn medium(key: &str, label: Label, second: i64) -> (Medium, Taken) {
        let at = chrono::DateTime::from_timestamp(1_700_000_000 + second, 0);
        let object =
            ObjectMeta { key: key.to_owned(), size: 1, version: "1".to_owned(), modified: at.unwrap_or_default() };
        (Medium { object, label, split: None }, Taken { deployment: deployment(key), at })
    }

    #[test]
    fn a_sequence_has_one_label() {
        let cat = Label::Animal(vec!["Mammalia".to_owned()]);
        let all = [
            medium("a/1.jpg", cat.clone(), 0),
            medium("a/2.jpg", cat.clone(), 5),
            medium("a/3.jpg", Label::Blank, 9),
            medium("a/4.jpg", cat.clone(), 500),
            medium("b/5.jpg", cat, 6),
        ];
        let (media, taken): (Vec<_>, Vec<_>) = all.into_iter().unzip();
        let mut sizes: Vec<usize> = sequences(&media, &taken, 60.0, 0.0).iter().map(|s| s.media.len()).collect();
        sizes.sort_unstable();
        assert_eq!(sizes, [1, 1, 1, 2]);
    }

    #[test]
    fn the_share_of_the_test_split_is_about_what_was_asked() {
        let test = (0..2000).filter(|n| drawn(&format!("site/{n}.jpg"), 0.2) == Split::Test).count();
        assert!((350..450).contains(&test), "{test}");
        assert_eq!(drawn("a", 0.0), Split::Train);
        assert_eq!(drawn("a", 1.0), Split::Test);
    }
}
