//! What worker threads do: decode, show to the networks, name. The functions are the batch job's, so that its answers
//! are the same.
//!
//! On a processor one thread does all of a request: more threads than cores would only push the networks' data out of
//! the caches. On a GPU some threads decode, and one shows batches to the networks.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use bytes::Bytes;
use chrono::{DateTime, Utc};
use detector::decode::{DecodeLimits, Picture, decode};
use detector::device::Device;
use detector::exif;
use detector::identify::{BurstFrame, Detection, identify};
use detector::live::LiveBurst;
use detector::look::{LookOptions, look_at_batch};
use detector::media::{MediaType, SNIFF_BYTES};
use detector::model::Model;
use detector::preprocess::{DETECTOR_SIDE, Preprocessor};
use detector::sighting::Sighting;

use crate::batch::{BatchOptions, Batcher, MakeWork, Work};
use crate::{Error, Result};

/// Pictures in a forward on a GPU.
const GPU_BATCH: usize = 16;

/// How pictures are looked at: the batch job's options.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct EngineOptions {
    /// Threads; 0 = one for each core.
    pub threads: usize,
    /// Pictures in a forward; 0 = 1 on a processor, 16 on a GPU.
    pub batch: usize,
    /// Requests that may wait.
    pub queue: usize,
    /// Pixels that the shorter side of a decoded picture keeps.
    pub min_side: u32,
    /// What a file may cost.
    pub limits: DecodeLimits,
    /// What counts as a detection.
    pub look: LookOptions,
    /// Probability that a name must have.
    pub threshold: f32,
}

impl EngineOptions {
    /// Threads on a processor.
    pub fn cpu_threads(&self) -> usize {
        let cores = std::thread::available_parallelism().map_or(1, |cores| cores.get());
        if self.threads == 0 { cores } else { self.threads }
    }
}

impl Default for EngineOptions {
    fn default() -> Self {
        let batch_job = detector::engine::EngineOptions::default();
        Self {
            threads: 0,
            batch: 0,
            queue: 64,
            min_side: batch_job.min_side,
            limits: batch_job.limits,
            look: batch_job.look,
            threshold: 0.7,
        }
    }
}

/// A picture of a request.
#[derive(Debug)]
pub enum Frame {
    /// A file.
    Encoded(Bytes),
    /// Decoded by another thread, or why it could not be.
    Decoded(Box<Result<Prepared>>),
}

/// A decoded photograph.
#[derive(Debug)]
pub struct Prepared {
    picture: Picture,
    input: Vec<u8>,
    captured_at: Option<DateTime<Utc>>,
    took: Duration,
}

/// A request: pictures that are judged together.
#[derive(Debug)]
pub struct Look {
    /// The pictures with their seconds from the first one's time.
    pub frames: Vec<(Frame, f64)>,
    /// The burst that these pictures go on with; then the seconds count from its start.
    pub live: Option<Arc<Mutex<LiveBurst>>>,
    /// When it was asked.
    pub since: Instant,
}

/// What was seen.
#[derive(Debug)]
pub struct Seen {
    /// One for each picture; an error if it cannot be read.
    pub frames: Vec<Result<SeenFrame>>,
    /// What it took.
    pub timing: Timing,
}

/// Where the time went.
#[derive(Debug, Clone, Copy, Default)]
pub struct Timing {
    /// Until a worker took it.
    pub queue: Duration,
    /// To decode.
    pub decode: Duration,
    /// The networks, with the liquid one that judges a burst and the names that come of them.
    pub forward: Duration,
}

/// One picture.
#[derive(Debug, Clone)]
pub struct SeenFrame {
    /// When the file says that it was taken.
    pub captured_at: Option<DateTime<Utc>>,
    /// Width upright.
    pub width: u32,
    /// Height upright.
    pub height: u32,
    /// Named boxes.
    pub detections: Vec<Detection>,
}

/// The queue before the networks.
pub type Forward = Batcher<Look, Seen>;

/// Starts the threads that show pictures to `model`. It blocks until they are there.
pub fn start_forward(model: &Arc<Model>, options: &EngineOptions, batch: BatchOptions) -> Result<Forward> {
    let on_cpu = model.networks.device() == Device::Cpu;
    let threads = if on_cpu { options.cpu_threads() } else { 1 };
    let pictures = match options.batch {
        0 if on_cpu => 1,
        0 => GPU_BATCH,
        pictures => pictures,
    };
    let workers = (0..threads).map(|_| {
        let (model, options) = (Arc::clone(model), *options);
        let make: MakeWork<Look, Seen> = Box::new(move || {
            if on_cpu {
                tch::set_num_threads(1);
            }
            Ok(Box::new(Looker { model, options, pictures, preprocessor: Preprocessor::new(), _memory: Memory }))
        });
        make
    });
    Batcher::start("forward", BatchOptions { max_batch: pictures, queue: options.queue, ..batch }, workers.collect())
}

/// Starts the threads that decode for a GPU.
pub fn start_decoding(options: &EngineOptions) -> Result<Batcher<Bytes, Prepared>> {
    let workers = (0..options.cpu_threads()).map(|_| {
        let options = *options;
        let make: MakeWork<Bytes, Prepared> =
            Box::new(move || Ok(Box::new(Decoder { options, preprocessor: Preprocessor::new() })));
        make
    });
    let batch = BatchOptions { max_batch: 1, queue: options.queue, metrics: None };
    Batcher::start("decode", batch, workers.collect())
}

struct Decoder {
    options: EngineOptions,
    preprocessor: Preprocessor,
}

impl Work<Bytes, Prepared> for Decoder {
    fn run(&mut self, batch: Vec<Bytes>) -> Vec<Result<Prepared>> {
        batch.iter().map(|bytes| prepare(bytes, &mut self.preprocessor, &self.options)).collect()
    }
}

struct Looker {
    model: Arc<Model>,
    options: EngineOptions,
    pictures: usize,
    preprocessor: Preprocessor,
    /// Goes last, after the model.
    _memory: Memory,
}

/// That of a model, which is given back to the system when its threads end: else a server keeps the pieces of all models that
/// it has ever had.
struct Memory;

impl Drop for Memory {
    fn drop(&mut self) {
        detector::allocator::release();
    }
}

/// A request with its pictures decoded.
struct Opened {
    frames: Vec<(Result<Prepared>, f64)>,
    live: Option<Arc<Mutex<LiveBurst>>>,
    timing: Timing,
}

impl Work<Look, Seen> for Looker {
    fn run(&mut self, batch: Vec<Look>) -> Vec<Result<Seen>> {
        let mut opened: Vec<Opened> = batch.into_iter().map(|look| self.open(look)).collect();
        let begun = Instant::now();
        let looked = self.look(&mut opened);
        let took = begun.elapsed();
        match looked {
            Ok(sightings) => {
                let mut sightings = sightings.into_iter();
                opened
                    .into_iter()
                    .map(|request| {
                        let begun = Instant::now();
                        let readable = request.frames.iter().filter(|(prepared, _)| prepared.is_ok()).count();
                        let own: Vec<Vec<Sighting>> = sightings.by_ref().take(readable).collect();
                        let mut seen = self.name(request, own)?;
                        seen.timing.forward = took + begun.elapsed();
                        Ok(seen)
                    })
                    .collect()
            }
            Err(error) => opened.iter().map(|_| Err(Error::from(&error))).collect(),
        }
    }
}

impl Looker {
    fn open(&mut self, look: Look) -> Opened {
        let queue = look.since.elapsed();
        let frames: Vec<(Result<Prepared>, f64)> = look
            .frames
            .into_iter()
            .map(|(frame, seconds)| match frame {
                Frame::Encoded(bytes) => (prepare(&bytes, &mut self.preprocessor, &self.options), seconds),
                Frame::Decoded(prepared) => (*prepared, seconds),
            })
            .collect();
        let decode =
            frames.iter().filter_map(|(prepared, _)| prepared.as_ref().ok()).map(|prepared| prepared.took).sum();
        Opened { frames, live: look.live, timing: Timing { queue, decode, forward: Duration::ZERO } }
    }

    /// Sightings of all pictures that can be read, in order.
    fn look(&mut self, opened: &mut [Opened]) -> detector::Result<Vec<Vec<Sighting>>> {
        let mut readable: Vec<&mut Prepared> = opened
            .iter_mut()
            .flat_map(|request| &mut request.frames)
            .filter_map(|(prepared, _)| prepared.as_mut().ok())
            .collect();
        let mut all = Vec::with_capacity(readable.len());
        for chunk in readable.chunks_mut(self.pictures) {
            let inputs: Vec<Vec<u8>> = chunk.iter_mut().map(|prepared| std::mem::take(&mut prepared.input)).collect();
            let pictures: Vec<&Picture> = chunk.iter().map(|prepared| &prepared.picture).collect();
            let Model { networks, taxonomy, .. } = self.model.as_ref();
            let options = &self.options.look;
            all.extend(look_at_batch(networks, taxonomy, &mut self.preprocessor, &pictures, &inputs, options)?);
        }
        Ok(all)
    }

    fn name(&self, request: Opened, sightings: Vec<Vec<Sighting>>) -> Result<Seen> {
        let threshold = self.options.threshold;
        let seconds = request.frames.iter().filter(|(prepared, _)| prepared.is_ok()).map(|(_, seconds)| *seconds);
        let named = match &request.live {
            Some(live) => {
                // A burst whose thread panicked is gone on with: what it lacks is one frame.
                let mut live = live.lock().unwrap_or_else(PoisonError::into_inner);
                let frames = sightings.iter().zip(seconds);
                frames.map(|(own, seconds)| live.push(&self.model, own, seconds, threshold)).collect()
            }
            None => {
                let frames: Vec<BurstFrame<'_>> = sightings
                    .iter()
                    .zip(seconds)
                    .map(|(own, seconds)| BurstFrame { sightings: own, seconds })
                    .collect();
                identify(&self.model, &frames, threshold)
            }
        };
        let mut named = named.map_err(|error| Error::from(&error))?.into_iter();
        let frames = request.frames.into_iter().map(|(prepared, _)| {
            prepared.map(|prepared| SeenFrame {
                captured_at: prepared.captured_at,
                width: prepared.picture.source_width,
                height: prepared.picture.source_height,
                detections: named.next().unwrap_or_default(),
            })
        });
        Ok(Seen { frames: frames.collect(), timing: request.timing })
    }
}

/// Decodes one photograph, as [`detector::engine`] does.
fn prepare(bytes: &[u8], preprocessor: &mut Preprocessor, options: &EngineOptions) -> Result<Prepared> {
    let begun = Instant::now();
    let media_type = photograph(bytes)?;
    let info = exif::read(bytes);
    let picture = decode(bytes, media_type, info.orientation, options.min_side, &options.limits)
        .map_err(|error| Error::from(&error))?;
    let input = preprocessor.whole(&picture, DETECTOR_SIDE);
    Ok(Prepared { picture, input, captured_at: info.time.map(|time| time.utc()), took: begun.elapsed() })
}

/// The format of a photograph.
///
/// # Errors
/// It is a video, or nothing that is known.
pub(crate) fn photograph(bytes: &[u8]) -> Result<MediaType> {
    let media_type = MediaType::sniff(&bytes[..bytes.len().min(SNIFF_BYTES)]).map_err(|error| Error::from(&error))?;
    if media_type.is_video() {
        let reason =
            format!("a {media_type} video; videos are looked at by a run: POST /v1/detection-jobs with their place");
        return Err(Error::Media(reason));
    }
    Ok(media_type)
}

impl From<&detector::Error> for Error {
    fn from(error: &detector::Error) -> Self {
        if error.is_media_failure() { Self::Media(error.to_string()) } else { Self::Model(error.to_string()) }
    }
}
