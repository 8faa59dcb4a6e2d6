//! The job `ingest`: finds the media of a source that are new to the model, groups them into bursts, and cuts shards.

mod known;

use std::sync::Arc;

use async_trait::async_trait;
use detector::burst::{self, BurstOptions, Taken};
use detector::exif;
use detector::media::{EXTENSIONS, has_media_extension};
use futures::StreamExt;
use futures::stream::BoxStream;
use lake::KnownMedia;
use pipeline::{Job, JobContext, JobError, JobOutput};
use platform::object_store::{self, Location, ObjectMeta, ObjectStore};
use serde::Deserialize;
use serde_json::{Value, json};
use tracing::warn;

use crate::manifest::{Burst, Copied, Entry, Shard};
use crate::services::Services;
use crate::{Error, Result};

use known::Sorted;

/// Bytes from the start of a photograph in which its EXIF block lies.
const EXIF_BYTES: u64 = 65_536;

/// Photographs whose EXIF block is read at once.
const READ_AHEAD: usize = 32;

/// The job kind `ingest`. Output: `{"shards": [0, 1, …], "media": n, "unchanged": n, "source": "…"}`.
#[derive(Debug)]
pub struct IngestJob {
    services: Arc<Services>,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct With {
    /// Folder or `s3://bucket/prefix`.
    source: String,
    /// Take media that this model has seen, too.
    #[serde(default)]
    force: bool,
    /// Keys below the source; only these are looked at, and the source is not listed.
    #[serde(default)]
    only: Option<Vec<String>>,
    /// Media in a shard; 0 = as configured.
    #[serde(default)]
    shard_size: usize,
}

impl IngestJob {
    /// The job with the services of this process.
    pub fn new(services: Arc<Services>) -> Self {
        Self { services }
    }

    async fn ingest(&self, context: &JobContext, with: With) -> Result<JobOutput> {
        let config = self.services.config();
        let location = Location::parse(&with.source)?;
        let store = object_store::open(&location).await?;
        let known = match with.force {
            true => KnownMedia::new(),
            false => self.services.lake().await?.known_media(self.services.model_version().await?.as_str()).await?,
        };
        let objects = match &with.only {
            Some(keys) => look_up(&store, keys.clone()),
            None => store.list(""),
        };
        let listed = sift(objects, store.as_ref(), &known, context).await?;
        let Sorted { media, copies, unchanged } = known::sort_out(&store, listed.media, &known, context).await?;
        let unchanged = listed.unchanged + unchanged;
        if media.is_empty() && copies.is_empty() && unchanged == 0 && with.only.is_none() {
            let endings = EXTENSIONS.join(", ");
            return Err(Error::NoMedia { source_uri: location.to_string(), others: listed.others, endings });
        }
        let total = (media.len() + copies.len()) as u64;
        let taken = read_times(&store, &media, context).await?;
        let options = BurstOptions { gap_seconds: config.burst.gap_seconds, ..BurstOptions::default() };
        let groups = burst::group(&taken, &options);
        let shard_size = if with.shard_size == 0 { config.run.shard_size } else { with.shard_size };
        let copied = copies.len();
        let shards = cut(&with.source, &media, &taken, groups, copies, shard_size.max(1));
        for (index, shard) in shards.iter().enumerate() {
            shard.write(&Shard::path(&context.work_dir, index as u64))?;
        }
        let known_content = if copied > 0 { format!(" ({copied} known under another name)") } else { String::new() };
        let summary = format!("{total} media to look at{known_content}, {unchanged} unchanged");
        let indices: Vec<usize> = (0..shards.len()).collect();
        let value = json!({ "shards": indices, "media": total, "copies": copied, "unchanged": unchanged, "source": location.to_string() });
        Ok(JobOutput { value, failures: 0, summary })
    }
}

#[async_trait]
impl Job for IngestJob {
    fn kind(&self) -> &'static str {
        "ingest"
    }

    fn check(&self, with: &Value) -> std::result::Result<(), String> {
        crate::services::check_with(with, &["source", "force", "shard_size", "only"], &["source"])
    }

    async fn run(&self, context: JobContext, with: Value) -> std::result::Result<JobOutput, JobError> {
        let with = serde_json::from_value(with).map_err(|error| JobError::permanent(format!("ingest: {error}")))?;
        Ok(self.ingest(&context, with).await?)
    }
}

#[derive(Debug, Default)]
struct Listed {
    media: Vec<ObjectMeta>,
    unchanged: u64,
    others: u64,
}

/// The objects of these keys; one that is gone is an error about this object.
pub(crate) fn look_up(
    store: &Arc<dyn ObjectStore>,
    keys: Vec<String>,
) -> BoxStream<'static, platform::Result<ObjectMeta>> {
    let store = Arc::clone(store);
    let look = move |key: String| {
        let store = Arc::clone(&store);
        async move { store.head(&key).await }
    };
    futures::stream::iter(keys).map(look).buffered(READ_AHEAD).boxed()
}

/// The media that are new to the model among the objects of a source.
async fn sift(
    mut objects: BoxStream<'static, platform::Result<ObjectMeta>>,
    store: &dyn ObjectStore,
    known: &KnownMedia,
    context: &JobContext,
) -> Result<Listed> {
    let mut listed = Listed::default();
    while let Some(object) = objects.next().await {
        if context.cancel.is_cancelled() {
            return Err(Error::Interrupted);
        }
        let object = match object {
            Ok(object) => object,
            Err(error) if error.is_about_one_object() => {
                warn!(%error, "left out of the run");
                continue;
            }
            Err(error) => return Err(error.into()),
        };
        if !has_media_extension(&object.key) {
            listed.others += 1;
            continue;
        }
        let unchanged = known
            .get(&store.uri(&object.key))
            .is_some_and(|known| known.size_bytes as u64 == object.size && known.version == object.version);
        if unchanged {
            listed.unchanged += 1;
        } else {
            listed.media.push(object);
            context.progress(0, 0, &format!("{} media found", listed.media.len()));
        }
    }
    Ok(listed)
}

/// When and where each photograph was taken; one that cannot be read has no time here and fails later, in its shard.
pub(crate) async fn read_times(
    store: &Arc<dyn ObjectStore>,
    media: &[ObjectMeta],
    context: &JobContext,
) -> Result<Vec<Taken>> {
    let total = media.len() as u64;
    let keys: Vec<String> = media.iter().map(|object| object.key.clone()).collect();
    let mut times = futures::stream::iter(keys.into_iter().map(|key| {
        let store = Arc::clone(store);
        async move {
            let at = match store.get_range(&key, 0..EXIF_BYTES).await {
                Ok(head) => exif::read(&head).time.map(|time| time.utc()),
                Err(error) if error.is_about_one_object() => None,
                Err(error) => return Err(Error::Store(error)),
            };
            Ok(Taken { deployment: deployment(&key), at })
        }
    }))
    .buffered(READ_AHEAD);
    let mut taken = Vec::with_capacity(media.len());
    while let Some(next) = times.next().await {
        if context.cancel.is_cancelled() {
            return Err(Error::Interrupted);
        }
        taken.push(next?);
        context.progress(taken.len() as u64, total, "reading capture times");
    }
    Ok(taken)
}

/// The folder that holds a photograph is the camera's place.
pub(crate) fn deployment(key: &str) -> String {
    key.rsplit_once('/').map_or("", |(folder, _)| folder).to_owned()
}

/// Whole bursts into shards of about `size` media, then the copies into shards of their own.
fn cut(
    source: &str,
    media: &[ObjectMeta],
    taken: &[Taken],
    groups: Vec<Vec<usize>>,
    copies: Vec<Copied>,
    size: usize,
) -> Vec<Shard> {
    let shard = |bursts, copies| Shard { source: source.to_owned(), bursts, copies };
    let mut shards: Vec<Shard> = Vec::new();
    for group in groups {
        let id = group.first().and_then(|&first| {
            let at = taken[first].at?;
            let place = if taken[first].deployment.is_empty() { "." } else { &taken[first].deployment };
            Some(format!("{place}@{}", at.format("%Y%m%dT%H%M%S%.3fZ")))
        });
        let entries = group.iter().map(|&index| Entry {
            key: media[index].key.clone(),
            size: media[index].size,
            version: media[index].version.clone(),
            captured_at: taken[index].at,
        });
        let burst = Burst { id, media: entries.collect() };
        match shards.last_mut() {
            Some(shard) if shard.len() + burst.media.len() <= size => shard.bursts.push(burst),
            _ => shards.push(shard(vec![burst], Vec::new())),
        }
    }
    shards.extend(copies.chunks(size).map(|part| shard(Vec::new(), part.to_vec())));
    shards
}

#[cfg(test)]
mod tests {
    use super::*;

    fn object(key: &str) -> ObjectMeta {
        ObjectMeta { key: key.to_owned(), size: 1, version: "1".to_owned(), modified: chrono::Utc::now() }
    }

    #[test]
    fn shards_hold_whole_bursts() {
        let media: Vec<_> = (0..7).map(|i| object(&format!("site/{i}.jpg"))).collect();
        let taken: Vec<_> = media.iter().map(|m| Taken { deployment: deployment(&m.key), at: None }).collect();
        let groups = vec![vec![0, 1, 2], vec![3, 4], vec![5], vec![6]];
        let sizes: Vec<_> = cut("s", &media, &taken, groups, Vec::new(), 4).iter().map(Shard::len).collect();
        assert_eq!(sizes, [3, 4]);
    }

    #[test]
    fn the_folder_is_the_deployment() {
        assert_eq!(deployment("river/north/IMG_1.JPG"), "river/north");
        assert_eq!(deployment("IMG_1.JPG"), "");
    }
}
