//! Loading: files into memory, threads around them, and checks before anybody is answered.

use std::io::Cursor;
use std::path::Path;
use std::sync::Arc;
use std::time::Instant;

use bytes::Bytes;
use chrono::{DateTime, Utc};
use detector::device::Device;
use detector::model::{self, Model};
use tracing::info;

use super::Fetched;
use crate::batch::{BatchOptions, Batcher, Terms};
use crate::collections::species::Catalogue;
use crate::detections::{
    EngineOptions, Forward, Frame, Look, ModelName, Prepared, Seen, start_decoding, start_forward,
};
use crate::metrics::Metrics;
use crate::{Error, Result};

/// A model that answers.
#[derive(Debug)]
pub struct Served {
    /// Name, version, and where it comes from.
    pub name: ModelName,
    /// Since when it could answer.
    pub loaded_at: DateTime<Utc>,
    /// What it can name.
    pub catalogue: Arc<Catalogue>,
    forward: Forward,
    decoding: Option<Batcher<Bytes, Prepared>>,
}

/// A model whose threads run.
struct Started {
    name: String,
    version: String,
    catalogue: Arc<Catalogue>,
    forward: Forward,
    decoding: Option<Batcher<Bytes, Prepared>>,
}

/// Loads models.
#[derive(Debug, Clone)]
pub struct Loader {
    /// Where the networks run.
    pub device: Device,
    /// How pictures are looked at.
    pub engine: EngineOptions,
    /// Where it is counted.
    pub metrics: Metrics,
}

impl Loader {
    /// Loads the model in a folder, starts its threads, and lets every thread look at made pictures: the first forward of a
    /// thread is slow, and a model that cannot do these is refused.
    ///
    /// # Errors
    /// The files are no detection model, or it fails on made pictures.
    pub async fn load(&self, fetched: &Fetched) -> Result<Arc<Served>> {
        let began = Instant::now();
        let (this, folder) = (self.clone(), fetched.folder.clone());
        let started = tokio::task::spawn_blocking(move || this.start(&folder));
        let started = started.await.map_err(|error| Error::Model(format!("loading broke off: {error}")))??;
        let Started { name, version, catalogue, forward, decoding } = started;
        let name = ModelName { name, version, source: fetched.source.clone() };
        let served = Arc::new(Served { name, loaded_at: Utc::now(), catalogue, forward, decoding });
        self.warm_up(&served).await?;
        let seconds = began.elapsed().as_secs_f32();
        info!(version = %served.name.version, source = %served.name.source, seconds, "a model is loaded and warm");
        Ok(served)
    }

    fn start(&self, folder: &Path) -> Result<Started> {
        let unusable = |error: detector::Error| Error::Setup(error.to_string());
        let name = model::name(folder).map_err(unusable)?;
        let model = Arc::new(Model::load(folder, self.device).map_err(unusable)?);
        let version = model.version().to_string();
        let batch = BatchOptions { metrics: Some(self.metrics.batch(&version)), ..BatchOptions::default() };
        let forward = start_forward(&model, &self.engine, batch)?;
        let decoding = (self.device != Device::Cpu).then(|| start_decoding(&self.engine)).transpose()?;
        let catalogue = Arc::new(Catalogue::new(&model.taxonomy));
        Ok(Started { name, version, catalogue, forward, decoding })
    }

    async fn warm_up(&self, served: &Served) -> Result<()> {
        let picture = made_picture()?;
        let looks = (0..self.engine.cpu_threads().min(self.engine.queue))
            .map(|_| served.look(vec![(picture.clone(), 0.0)], Terms::default(), None));
        for seen in futures::future::try_join_all(looks).await? {
            for frame in seen.frames {
                let sound = |value: f32| (0.0..=1.0).contains(&value);
                if !frame?.detections.iter().all(|found| sound(found.confidence)) {
                    return Err(Error::Setup("the model's confidences lie outside of 0 to 1".to_owned()));
                }
            }
        }
        Ok(())
    }
}

impl Served {
    /// Looks at pictures that are judged together, with their seconds from the first.
    ///
    /// # Errors
    /// What the queue says, and failures of the model. A picture that cannot be read is an error of its frame.
    pub async fn look(
        &self,
        pictures: Vec<(Bytes, f64)>,
        terms: Terms,
        live: Option<Arc<std::sync::Mutex<detector::live::LiveBurst>>>,
    ) -> Result<Seen> {
        let since = Instant::now();
        let mut frames = Vec::with_capacity(pictures.len());
        match &self.decoding {
            None => frames.extend(pictures.into_iter().map(|(bytes, seconds)| (Frame::Encoded(bytes), seconds))),
            Some(decoding) => {
                let decoded = pictures.into_iter().map(|(bytes, seconds)| async move {
                    match decoding.submit(bytes, terms).await {
                        Err(error) if !matches!(error, Error::Media(_)) => Err(error),
                        prepared => Ok((Frame::Decoded(Box::new(prepared)), seconds)),
                    }
                });
                frames = futures::future::try_join_all(decoded).await?;
            }
        }
        self.forward.submit(Look { frames, live, since }, terms).await
    }

    /// Waits until all requests that it has are answered; it takes no more.
    pub async fn drain(&self) {
        if let Some(decoding) = &self.decoding {
            decoding.drain().await;
        }
        self.forward.drain().await;
    }

    /// Requests that wait.
    pub fn waiting(&self) -> usize {
        self.forward.waiting()
    }
}

/// A JPEG with edges and colours.
fn made_picture() -> Result<Bytes> {
    let picture = image::RgbImage::from_fn(640, 480, |x, y| {
        let stripe = if (x / 40 + y / 40).is_multiple_of(2) { 200 } else { 40 };
        image::Rgb([stripe, (x % 256) as u8, (y % 256) as u8])
    });
    let mut bytes = Vec::new();
    picture
        .write_to(&mut Cursor::new(&mut bytes), image::ImageFormat::Jpeg)
        .map_err(|error| Error::Setup(format!("a picture to warm up with: {error}")))?;
    Ok(bytes.into())
}
