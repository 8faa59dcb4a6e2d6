//! What handlers share, and the one way in which a picture is looked at.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Instant;

use async_trait::async_trait;
use bytes::Bytes;
use chrono::{DateTime, Utc};
use platform::config::Config;
use sha2::{Digest, Sha256};
use tokio::sync::{Mutex, Semaphore, watch};

use crate::batch::{Priority, Terms};
use crate::cache::Answers;
use crate::collections::Collections;
use crate::collections::species::Catalogue;
use crate::detections::{Deployments, Detect, Detections, JobServer, ModelName, Seen, SeenFrame, Timing};
use crate::fetch::Fetcher;
use crate::limits::Bodies;
use crate::metrics::Metrics;
use crate::models::{Loader, ModelSource, Served, Slot};
use crate::options::Options;
use crate::traces::Traces;
use crate::{Error, Result};

/// Hashing more than this would keep an async thread for a millisecond.
const HASH_INLINE: usize = 1 << 20;

/// What handlers share. Cheap to clone.
#[derive(Debug, Clone)]
pub struct App {
    pub(crate) inner: Arc<Inner>,
}

#[derive(Debug)]
pub(crate) struct Inner {
    pub(crate) options: Options,
    pub(crate) config: Config,
    pub(crate) loader: Loader,
    pub(crate) slot: Slot,
    /// Held by whoever loads a model.
    pub(crate) loading: Mutex<()>,
    pub(crate) answers: Answers,
    pub(crate) deployments: Deployments,
    pub(crate) fetcher: Fetcher,
    pub(crate) jobs: Option<JobServer>,
    /// What people have seen; none where it is not kept.
    pub(crate) collections: Option<Collections>,
    pub(crate) metrics: Metrics,
    /// For connections: as many permits are out as are open.
    pub(crate) places: Arc<Semaphore>,
    pub(crate) bodies: Bodies,
    pub(crate) traces: Option<Traces>,
    /// Shadows that may be under way.
    pub(crate) shadows: Arc<Semaphore>,
    /// What changes answers besides the model and the picture, for keys of caches.
    pub(crate) fingerprint: String,
    /// Whether all models that were there at the start are loaded and warm.
    pub(crate) started: AtomicBool,
    /// Requests that are being answered.
    pub(crate) under_way: watch::Sender<usize>,
    /// Becomes true when the server is to end.
    pub(crate) ending: watch::Receiver<bool>,
}

/// A request that is being answered, until it is dropped.
pub(crate) struct UnderWay {
    app: App,
}

impl Drop for UnderWay {
    fn drop(&mut self) {
        self.app.inner.under_way.send_modify(|count| *count -= 1);
    }
}

impl App {
    /// Whether requests are answered: the models are loaded, and the server is not about to end.
    pub fn is_ready(&self) -> bool {
        self.inner.started.load(Ordering::Acquire) && !self.is_ending()
    }

    /// Whether the server is about to end.
    pub fn is_ending(&self) -> bool {
        *self.inner.ending.borrow()
    }

    /// Lets a request begin, which the server waits for when it is told to end.
    ///
    /// # Errors
    /// [`Error::Draining`]
    pub(crate) fn admit(&self) -> Result<UnderWay> {
        let under_way = self.begin();
        // In this order: who does not see it end is seen by who ends it.
        if self.is_ending() { Err(Error::Draining) } else { Ok(under_way) }
    }

    /// Counts a request.
    pub(crate) fn begin(&self) -> UnderWay {
        self.inner.under_way.send_modify(|count| *count += 1);
        UnderWay { app: self.clone() }
    }

    /// The model that answers.
    fn pick(&self, key: Option<&str>) -> Result<Arc<Served>> {
        self.check_detects()?;
        self.inner.slot.pick(key)
    }

    fn check_detects(&self) -> Result<()> {
        if let ModelSource::TorchScript(_) = self.inner.options.model {
            return Err(Error::NotConfigured(
                "this server has a plain TorchScript model and no detection model: ask it under /v2".to_owned(),
            ));
        }
        Ok(())
    }

    /// What the model that answers now can name.
    ///
    /// # Errors
    /// [`Error::Loading`]; [`Error::NotConfigured`] if it is no detection model.
    pub(crate) fn catalogue(&self) -> Result<Arc<Catalogue>> {
        self.check_detects()?;
        let served = self.inner.slot.current().ok_or(Error::Loading)?;
        Ok(Arc::clone(&served.catalogue))
    }

    /// Names the detections of an answer, so that sightings can be made of them, where collections are kept.
    pub(crate) fn sign(&self, found: &mut Detections) {
        if let Some(collections) = &self.inner.collections {
            collections.sign(found);
        }
    }

    /// Looks at one photograph by itself, or takes the answer of an equal request.
    pub(crate) async fn single(
        &self,
        bytes: Bytes,
        terms: Terms,
        camera: Option<&str>,
    ) -> Result<(Detections, Option<Timing>)> {
        let served = self.pick(camera)?;
        let since = Instant::now();
        let answer = self.single_by(&served, &bytes, terms).await;
        self.inner.metrics.judged(&served.name.version, &answer, since.elapsed());
        let (found, timing) = answer?;
        self.count(&served, std::slice::from_ref(&found));
        self.shadow(&bytes, &found);
        Ok((found, timing))
    }

    async fn single_by(&self, served: &Served, bytes: &Bytes, terms: Terms) -> Result<(Detections, Option<Timing>)> {
        let found = async {
            if self.inner.answers.keep_any() {
                return self.kept_or_looked_at(served, bytes, terms).await;
            }
            self.looked_at(served, bytes.clone(), terms).await
        };
        // Whoever shares the work of another has a deadline of their own.
        match terms.deadline {
            Some(deadline) => tokio::time::timeout_at(deadline.into(), found).await.unwrap_or(Err(Error::Late)),
            None => found.await,
        }
    }

    async fn kept_or_looked_at(
        &self,
        served: &Served,
        bytes: &Bytes,
        terms: Terms,
    ) -> Result<(Detections, Option<Timing>)> {
        let sha256 = sha256(bytes).await;
        let key = Answers::key(&sha256, &served.name.version, &self.inner.fingerprint);
        let timing = std::sync::Mutex::new(None);
        let found = self.inner.answers.get_or(key, || async {
            let (found, took) = self.look_once(served, &sha256, bytes.clone(), terms).await?;
            if let Ok(mut timing) = timing.lock() {
                *timing = Some(took);
            }
            Ok(found)
        });
        // What was kept may have been found by the same files under another name.
        let found = Detections { model: served.name.clone(), ..found.await? };
        Ok((found, timing.into_inner().unwrap_or_default()))
    }

    /// Where no answers are kept, nobody needs the picture's hash before the networks begin.
    async fn looked_at(&self, served: &Served, bytes: Bytes, terms: Terms) -> Result<(Detections, Option<Timing>)> {
        let looking = self.ask(served, vec![(bytes.clone(), 0.0)], terms, None);
        let (seen, sha256) = tokio::join!(biased; looking, sha256(&bytes));
        let (frame, timing) = only(seen?)?;
        Ok((Detections::new(&sha256, &served.name, &frame, false), Some(timing)))
    }

    /// Looks at pictures that are judged together. Pictures that cannot be read are failures of theirs.
    pub(crate) async fn burst(
        &self,
        pictures: Vec<(Bytes, DateTime<Utc>)>,
        terms: Terms,
    ) -> Result<(Vec<Detections>, Timing, ModelName)> {
        let served = self.pick(None)?;
        let mut order: Vec<usize> = (0..pictures.len()).collect();
        order.sort_by_key(|&index| pictures[index].1);
        let start = order.first().map(|&first| pictures[first].1).unwrap_or_default();
        let frames = order.iter().map(|&index| {
            let (bytes, at) = &pictures[index];
            (bytes.clone(), (*at - start).as_seconds_f64())
        });
        let since = Instant::now();
        let seen = self.ask(&served, frames.collect(), terms, None).await;
        self.inner.metrics.judged(&served.name.version, &seen, since.elapsed());
        let seen = seen?;
        let mut found = Vec::with_capacity(pictures.len());
        for (&index, frame) in order.iter().zip(&seen.frames) {
            let (bytes, at) = &pictures[index];
            let sha256 = sha256(bytes).await;
            let detections = match frame {
                Ok(frame) => Detections::new(&sha256, &served.name, frame, true),
                Err(error) => Detections::failed(&sha256, &served.name, error.public()),
            };
            found.push((index, Detections { captured_at: Some(*at), ..detections }));
        }
        found.sort_by_key(|(index, _)| *index);
        let found: Vec<Detections> = found.into_iter().map(|(_, found)| found).collect();
        self.count(&served, &found);
        Ok((found, seen.timing, served.name.clone()))
    }

    /// Looks at the next picture of a camera.
    pub(crate) async fn live(
        &self,
        camera: &str,
        bytes: Bytes,
        at: Option<DateTime<Utc>>,
        terms: Terms,
    ) -> Result<(Detections, Timing)> {
        let served = self.pick(Some(camera))?;
        let sha256 = sha256(&bytes).await;
        let said = at.or_else(|| detector::exif::read(&bytes).time.map(|time| time.utc()));
        let at = said.unwrap_or_else(Utc::now);
        let (burst, seconds) = self.inner.deployments.place(camera, &served.name.version, at).await;
        let since = Instant::now();
        let seen = self.ask(&served, vec![(bytes, seconds)], terms, Some(burst)).await;
        let answer = seen.and_then(only);
        self.inner.metrics.judged(&served.name.version, &answer, since.elapsed());
        let (frame, timing) = answer?;
        let found = Detections { captured_at: Some(at), ..Detections::new(&sha256, &served.name, &frame, true) };
        self.count(&served, std::slice::from_ref(&found));
        Ok((found, timing))
    }

    /// Counts pictures that a model has answered, and their scores.
    fn count(&self, served: &Served, found: &[Detections]) {
        let (metrics, version) = (&self.inner.metrics, served.name.version.as_str());
        metrics.pictures.with_label_values(&[version]).inc_by(found.len() as u64);
        for one in found.iter().filter(|one| one.failure.is_none()) {
            let surest = one.detections.first();
            let of_box = surest.map_or(0.0, |surest| surest.confidence);
            let of_name = surest.and_then(|surest| surest.species_confidence).unwrap_or(0.0);
            metrics.scores.with_label_values(&[version, "box"]).observe(of_box.into());
            metrics.scores.with_label_values(&[version, "name"]).observe(of_name.into());
        }
    }

    async fn look_once(
        &self,
        served: &Served,
        sha256: &str,
        bytes: Bytes,
        terms: Terms,
    ) -> Result<(Detections, Timing)> {
        let (frame, timing) = only(self.ask(served, vec![(bytes, 0.0)], terms, None).await?)?;
        Ok((Detections::new(sha256, &served.name, &frame, false), timing))
    }

    async fn ask(
        &self,
        served: &Served,
        pictures: Vec<(Bytes, f64)>,
        terms: Terms,
        live: Option<Arc<std::sync::Mutex<detector::live::LiveBurst>>>,
    ) -> Result<Seen> {
        let seen = served.look(pictures, terms, live).await;
        if matches!(seen, Err(Error::Model(_))) {
            self.inner.metrics.failures.with_label_values(&[&served.name.version]).inc();
        }
        seen
    }

    /// Lets the candidate look besides, and counts whether it says the same. Nobody waits for it.
    fn shadow(&self, bytes: &Bytes, given: &Detections) {
        let Some(candidate) = self.inner.slot.shadow() else { return };
        let Ok(permit) = Arc::clone(&self.inner.shadows).try_acquire_owned() else { return };
        let (this, bytes, given) = (self.clone(), bytes.clone(), given.clone());
        tokio::spawn(async move {
            let _permit = permit;
            let deadline = Some(Instant::now() + this.inner.options.limits.request_timeout);
            let terms = Terms { deadline, priority: Priority::Low };
            let outcome = match this.look_once(&candidate, &given.sha256, bytes, terms).await {
                Ok((found, _)) if names(&found) == names(&given) => "same",
                Ok(_) => "different",
                Err(_) => "failed",
            };
            this.inner.metrics.shadow.with_label_values(&[&candidate.name.version, outcome]).inc();
        });
    }
}

#[async_trait]
impl Detect for App {
    fn model(&self) -> Option<ModelName> {
        self.inner.slot.current().map(|served| served.name.clone())
    }

    async fn detect(&self, image: Bytes, terms: Terms) -> Result<Detections> {
        self.single(image, terms, None).await.map(|(found, _)| found)
    }
}

/// The one picture that was asked about.
fn only(seen: Seen) -> Result<(SeenFrame, Timing)> {
    let frame = seen.frames.into_iter().next().ok_or_else(|| Error::Model("no answer".to_owned()))??;
    Ok((frame, seen.timing))
}

/// What two models must agree in: the categories and names of all boxes.
fn names(found: &Detections) -> Vec<(&str, Option<&str>)> {
    found.detections.iter().map(|found| (found.category.as_str(), found.scientific_name.as_deref())).collect()
}

async fn sha256(bytes: &Bytes) -> String {
    if bytes.len() <= HASH_INLINE {
        return hex::encode(Sha256::digest(bytes));
    }
    let bytes = bytes.clone();
    tokio::task::spawn_blocking(move || hex::encode(Sha256::digest(&bytes))).await.unwrap_or_default()
}
