//! The job `infer`: one shard of media through the engine and into the tables.

mod copies;
mod rows;

use std::sync::Arc;

use async_trait::async_trait;
use chrono::Utc;
use detector::engine::{Analysis, Engine};
use detector::identify::{BurstFrame, Detection, identify};
use futures::StreamExt;
use lake::Transaction;
use pipeline::{Job, JobContext, JobError, JobOutput};
use platform::object_store::{self, Location, ObjectStore};
use serde::Deserialize;
use serde_json::{Value, json};

use crate::manifest::{Burst, Entry, Shard};
use crate::media::{self, ReadFailure};
use crate::services::{READ_AHEAD, Services};
use crate::{Error, Result};

use rows::{Place, Rows};

/// The job kind `infer`, mapped over the shards of `ingest`.
///
/// Output: `{"media": n, "detections": n, "failures": n}`. Rows are appended in one commit a table, named after the
/// task instance, so that no attempt adds a row twice; detections come first, so that a medium in `media` has all its
/// boxes.
#[derive(Debug)]
pub struct InferJob {
    services: Arc<Services>,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct With {
    /// Number of the shard.
    shard: u64,
}

/// What was read of one medium, or why it could not be.
#[derive(Debug)]
pub(crate) struct Looked {
    /// sha256 of the content; none if it could not be read.
    pub(crate) sha256: Option<String>,
    /// The engine's findings, or the failure in words.
    pub(crate) outcome: std::result::Result<Analysis, String>,
}

impl InferJob {
    /// The job with the services of this process.
    pub fn new(services: Arc<Services>) -> Self {
        Self { services }
    }

    async fn infer(&self, context: &JobContext, with: With) -> Result<JobOutput> {
        let shard = Shard::read(&Shard::path(&context.work_dir, with.shard))?;
        let store = object_store::open(&Location::parse(&shard.source)?).await?;
        let total = shard.len() as u64;
        context.progress(0, total, "");
        let place = Place {
            model_version: self.services.model_version().await?.to_string(),
            run_id: context.run_id.to_string(),
            task: context.task.clone(),
            processed_at: Utc::now(),
        };
        let mut rows = Rows::default();
        if !shard.bursts.is_empty() {
            self.look_at_bursts(context, &shard, &store, &place, &mut rows).await?;
        }
        let lake = self.services.lake().await?;
        if !shard.copies.is_empty() {
            copies::add(&place, store.as_ref(), lake, &shard.copies, &mut rows).await?;
            context.progress(rows.media.len() as u64, total, "");
        }
        let transaction = Transaction::new(context.idempotency_key.clone(), 1);
        lake.append_detections(&rows.detections, &transaction).await?;
        lake.append_media(&rows.media, &transaction).await?;
        detector::allocator::release();
        let failures = rows.media.iter().filter(|row| row.failure.is_some()).count() as u64;
        let (media, detections) = (rows.media.len(), rows.detections.len());
        Ok(JobOutput {
            value: json!({ "media": media, "detections": detections, "failures": failures }),
            failures,
            summary: format!("{media} media, {detections} detections, {failures} failures"),
        })
    }

    /// Reads and looks at all media of the shard's bursts, ahead of naming what each burst shows.
    async fn look_at_bursts(
        &self,
        context: &JobContext,
        shard: &Shard,
        store: &Arc<dyn ObjectStore>,
        place: &Place,
        rows: &mut Rows,
    ) -> Result<()> {
        let config = self.services.config();
        let engine = self.services.engine().await?.clone();
        let entries: Vec<Entry> = shard.bursts.iter().flat_map(|burst| burst.media.clone()).collect();
        let max_bytes = config.detector.max_bytes;
        let reading = self.services.reading().await?;
        let mut looks = futures::stream::iter(entries.into_iter().map(|entry| {
            let (store, engine, reading) = (Arc::clone(store), engine.clone(), Arc::clone(reading));
            async move {
                let _permit = reading.acquire_owned().await.map_err(|_| Error::Interrupted)?;
                look(store.as_ref(), &engine, &entry, max_bytes).await
            }
        }))
        .buffered(engine.useful_concurrency() + READ_AHEAD);
        for burst in &shard.bursts {
            let mut looked = Vec::with_capacity(burst.media.len());
            while looked.len() < burst.media.len() {
                let next = tokio::select! {
                    next = looks.next() => next,
                    () = context.cancel.cancelled() => return Err(Error::Interrupted),
                };
                let Some(next) = next else { break };
                looked.push(next?);
            }
            let named = name(&engine, burst, &looked, config.rollup.threshold)?;
            rows.add(place, store.as_ref(), burst, &looked, &named);
            context.progress(rows.media.len() as u64, shard.len() as u64, "");
        }
        Ok(())
    }
}

#[async_trait]
impl Job for InferJob {
    fn kind(&self) -> &'static str {
        "infer"
    }

    fn check(&self, with: &Value) -> std::result::Result<(), String> {
        crate::services::check_with(with, &["shard"], &["shard"])
    }

    async fn run(&self, context: JobContext, with: Value) -> std::result::Result<JobOutput, JobError> {
        let with = serde_json::from_value(with).map_err(|error| JobError::permanent(format!("infer: {error}")))?;
        Ok(self.infer(&context, with).await?)
    }
}

/// Reads one medium and shows it to the networks; what is wrong with the medium itself becomes its failure.
pub(crate) async fn look(store: &dyn ObjectStore, engine: &Engine, entry: &Entry, max_bytes: u64) -> Result<Looked> {
    let read = match media::read(store, &entry.key, entry.size, max_bytes).await {
        Ok(read) => read,
        Err(ReadFailure::Media(failure)) => return Ok(Looked { sha256: None, outcome: Err(failure) }),
        Err(ReadFailure::Source(error)) => return Err(error),
    };
    let sha256 = Some(read.sha256.clone());
    match engine.analyse(read.content).await {
        Ok(analysis) => Ok(Looked { sha256, outcome: Ok(analysis) }),
        Err(error) if error.is_media_failure() => Ok(Looked { sha256, outcome: Err(error.to_string()) }),
        Err(error) => Err(error.into()),
    }
}

/// Named detections of every frame of every medium of a burst: `[medium][frame][box]`.
pub(crate) fn name(
    engine: &Engine,
    burst: &Burst,
    looked: &[Looked],
    threshold: f32,
) -> Result<Vec<Vec<Vec<Detection>>>> {
    let start = burst.media.first().and_then(|entry| entry.captured_at);
    let mut frames = Vec::new();
    for (entry, looked) in burst.media.iter().zip(looked) {
        let Ok(analysis) = &looked.outcome else { continue };
        let offset = match (entry.captured_at, start) {
            (Some(at), Some(start)) => (at - start).as_seconds_f64(),
            _ => 0.0,
        };
        frames.extend(
            analysis
                .frames
                .iter()
                .map(|frame| BurstFrame { sightings: &frame.sightings, seconds: offset + frame.seconds }),
        );
    }
    let mut named = identify(engine.model(), &frames, threshold)?.into_iter();
    let media = looked.iter().map(|looked| match &looked.outcome {
        Ok(analysis) => named.by_ref().take(analysis.frames.len()).collect(),
        Err(_) => Vec::new(),
    });
    Ok(media.collect())
}
