//! The engine: decoding and the networks as overlapping stages on threads of their own.
//!
//! A caller awaits [`Engine::analyse`] for as many media at once as it wants in memory; queues between the stages are
//! short, so that memory does not grow with the number of media. libtorch never runs on the caller's threads.

use std::path::PathBuf;
use std::sync::Arc;
use std::thread::{self, JoinHandle};

use async_channel::{Receiver, Sender, bounded, unbounded};
use tracing::error;

use crate::decode::{DecodeLimits, Picture, decode};
use crate::device::Device;
use crate::exif::{self, CaptureTime};
use crate::look::{LookOptions, look_at_batch};
use crate::media::{MediaType, SNIFF_BYTES};
use crate::model::Model;
use crate::preprocess::{DETECTOR_SIDE, Preprocessor};
use crate::sighting::Sighting;
use crate::video::{self, FrameReader, VideoOptions};
use crate::{Error, Result};

/// How the engine works.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct EngineOptions {
    /// Threads that run networks on the processor; 0 = one for each core. A GPU is fed by one.
    pub threads: usize,
    /// Pictures in a forward; 0 = 1 on the processor, where more does not help, and 16 on a GPU.
    pub batch: usize,
    /// Pixels that the shorter side of a decoded picture keeps, so that crops stay sharp.
    pub min_side: u32,
    /// What a file may cost.
    pub limits: DecodeLimits,
    /// Which frames of videos are looked at.
    pub video: VideoOptions,
    /// What counts as a detection.
    pub look: LookOptions,
}

impl Default for EngineOptions {
    fn default() -> Self {
        Self {
            threads: 0,
            batch: 0,
            min_side: 600,
            limits: DecodeLimits::default(),
            video: VideoOptions::default(),
            look: LookOptions::default(),
        }
    }
}

/// Content of one media file.
#[derive(Debug)]
pub enum MediaContent {
    /// All bytes.
    Bytes(Vec<u8>),
    /// A file on disk, for videos; it is only read.
    File(PathBuf),
}

/// What the networks saw in one frame.
#[derive(Debug, Clone, PartialEq)]
pub struct FrameSightings {
    /// Number of the frame in the recording; 0 for photographs.
    pub number: u32,
    /// Seconds from the start of the recording; 0 for photographs.
    pub seconds: f64,
    /// Boxes by falling score.
    pub sightings: Vec<Sighting>,
}

/// All that was read from one media file.
#[derive(Debug, Clone, PartialEq)]
pub struct Analysis {
    /// Format by content.
    pub media_type: MediaType,
    /// When it was taken, if the file says so.
    pub time: Option<CaptureTime>,
    /// The camera, if the file says so.
    pub camera: Option<String>,
    /// Width upright, in pixels.
    pub width: u32,
    /// Height upright, in pixels.
    pub height: u32,
    /// Frames a second of a video.
    pub frame_rate: Option<f64>,
    /// Length of a video in seconds.
    pub duration_seconds: Option<f64>,
    /// Frames in order of time; one for photographs.
    pub frames: Vec<FrameSightings>,
    /// Damage after the frames above: a video that breaks off.
    pub failure: Option<String>,
}

/// A cheap-to-clone handle to the stages. They end when the last handle is gone.
#[derive(Debug, Clone)]
pub struct Engine {
    inner: Arc<Inner>,
}

impl Engine {
    /// Starts the stages for `model`.
    pub fn start(model: Arc<Model>, options: EngineOptions) -> Result<Self> {
        let on_cpu = model.networks.device() == Device::Cpu;
        let cores = thread::available_parallelism().map_or(1, |cores| cores.get());
        let threads = if options.threads == 0 { cores } else { options.threads };
        let (forward_threads, decode_threads) = if on_cpu { (threads, threads.div_ceil(2)) } else { (1, threads) };
        let batch = match options.batch {
            0 if on_cpu => 1,
            0 => 16,
            batch => batch,
        };
        let (decode_sender, decode_queue) = bounded(decode_threads);
        let (forward_sender, forward_queue) = bounded(forward_threads * batch + 1);
        let mut workers = Vec::new();
        for index in 0..decode_threads {
            let (queue, forward) = (decode_queue.clone(), forward_sender.clone());
            workers.push(spawn(format!("decode-{index}"), move || decode_stage(&queue, &forward, &options))?);
        }
        for index in 0..forward_threads {
            let (queue, model) = (forward_queue.clone(), Arc::clone(&model));
            workers.push(spawn(format!("forward-{index}"), move || {
                if on_cpu {
                    // One picture a thread keeps every core at work without the threads of one forward waiting for
                    // each other.
                    model.networks.use_threads(1);
                }
                forward_stage(&queue, &model, batch, &options);
            })?);
        }
        let pictures_in_flight = decode_threads + forward_threads * batch * 2 + 2;
        let photographs = on_cpu.then_some(forward_sender);
        let inner = Inner { model, decode: decode_sender, photographs, pictures_in_flight, workers, options };
        Ok(Self { inner: Arc::new(inner) })
    }

    /// The model that it runs.
    pub fn model(&self) -> &Arc<Model> {
        &self.inner.model
    }

    /// The options that it was started with.
    pub fn options(&self) -> &EngineOptions {
        &self.inner.options
    }

    /// Calls of [`Engine::analyse`] that keep all stages busy; more only take memory.
    pub fn useful_concurrency(&self) -> usize {
        self.inner.pictures_in_flight
    }

    /// Decodes one media file and shows it to the networks. Dropping the future abandons the work.
    pub async fn analyse(&self, content: MediaContent) -> Result<Analysis> {
        let (reply, events) = unbounded();
        let request = DecodeRequest { content, reply };
        match &self.inner.photographs {
            Some(photographs) if request.is_photograph_in_memory() => {
                photographs.send(ForwardWork::Photograph(request)).await.map_err(|_| Error::Stopped)?;
            }
            _ => self.inner.decode.send(request).await.map_err(|_| Error::Stopped)?,
        }
        let mut analysis = None;
        let mut frames = Vec::new();
        let mut expected = None;
        while let Ok(event) = events.recv().await {
            match event {
                Event::Opened(opened) => analysis = Some(*opened),
                Event::Frame(frame) => frames.push(frame),
                Event::Decoded(count) => expected = Some(count),
                Event::BrokeOff(reason) => {
                    if let Some(analysis) = analysis.as_mut() {
                        analysis.failure = Some(reason);
                    }
                }
                Event::Failed(error) => return Err(error),
            }
        }
        // A frame that is missing was lost with a thread that panicked; to call its picture blank would be wrong.
        if expected != Some(frames.len()) {
            return Err(Error::Stopped);
        }
        let mut analysis = analysis.ok_or(Error::Stopped)?;
        frames.sort_by(|a, b| a.seconds.total_cmp(&b.seconds));
        analysis.frames = frames;
        Ok(analysis)
    }
}

#[derive(Debug)]
struct Inner {
    model: Arc<Model>,
    decode: Sender<DecodeRequest>,
    /// The forward threads' queue, on a CPU.
    photographs: Option<Sender<ForwardWork>>,
    pictures_in_flight: usize,
    workers: Vec<JoinHandle<()>>,
    options: EngineOptions,
}

impl Drop for Inner {
    fn drop(&mut self) {
        // Closing the first queue ends the decoders, whose end (with ours) closes the second.
        self.decode.close();
        self.photographs = None;
        for worker in self.workers.drain(..) {
            if worker.join().is_err() {
                error!("a thread of the detection engine panicked");
            }
        }
    }
}

#[derive(Debug)]
struct DecodeRequest {
    content: MediaContent,
    reply: Sender<Event>,
}

impl DecodeRequest {
    fn is_photograph_in_memory(&self) -> bool {
        let MediaContent::Bytes(bytes) = &self.content else { return false };
        MediaType::sniff(&bytes[..bytes.len().min(SNIFF_BYTES)]).is_ok_and(|media_type| !media_type.is_video())
    }
}

#[derive(Debug)]
enum Event {
    Opened(Box<Analysis>),
    Frame(FrameSightings),
    /// All frames were passed on; so many.
    Decoded(usize),
    BrokeOff(String),
    Failed(Error),
}

/// What a forward thread is given.
#[derive(Debug)]
enum ForwardWork {
    /// A decoded frame.
    Frame(ForwardTask),
    /// A photograph that it decodes itself: on a CPU a thread more than cores would only push the networks' data out of
    /// the caches, and the other threads' forwards overlap with the decoding all the same.
    Photograph(DecodeRequest),
}

#[derive(Debug)]
struct ForwardTask {
    picture: Picture,
    input: Vec<u8>,
    number: u32,
    seconds: f64,
    reply: Sender<Event>,
}

fn spawn(name: String, work: impl FnOnce() + Send + 'static) -> Result<JoinHandle<()>> {
    thread::Builder::new().name(name).spawn(work).map_err(Error::io("a thread of the detection engine"))
}

fn decode_stage(queue: &Receiver<DecodeRequest>, forward: &Sender<ForwardWork>, options: &EngineOptions) {
    let mut preprocessor = Preprocessor::new();
    while let Ok(request) = queue.recv_blocking() {
        // Nobody waits for an abandoned request.
        if request.reply.is_closed() {
            continue;
        }
        if let Err(error) = decode_one(&request, forward, &mut preprocessor, options) {
            send(&request.reply, Event::Failed(error));
        }
    }
}

fn decode_one(
    request: &DecodeRequest,
    forward: &Sender<ForwardWork>,
    preprocessor: &mut Preprocessor,
    options: &EngineOptions,
) -> Result<()> {
    match &request.content {
        MediaContent::Bytes(bytes) => {
            let media_type = MediaType::sniff(&bytes[..bytes.len().min(SNIFF_BYTES)])?;
            if !media_type.is_video() {
                let task = decode_photograph(bytes, media_type, request, preprocessor, options)?;
                pass_on(task, forward);
                return Ok(());
            }
            let suffix = format!(".{media_type}");
            let file = tempfile::Builder::new().prefix("safari-").suffix(&suffix).tempfile();
            let file = file.map_err(Error::io(std::env::temp_dir()))?;
            std::fs::write(file.path(), bytes).map_err(Error::io(file.path()))?;
            decode_video(file.path(), media_type, request, forward, preprocessor, options)
        }
        MediaContent::File(path) => {
            let mut head = Vec::new();
            let file = std::fs::File::open(path).map_err(Error::io(path))?;
            std::io::Read::read_to_end(&mut std::io::Read::take(file, SNIFF_BYTES as u64), &mut head)
                .map_err(Error::io(path))?;
            let media_type = MediaType::sniff(&head)?;
            if media_type.is_video() {
                return decode_video(path, media_type, request, forward, preprocessor, options);
            }
            let bytes = std::fs::read(path).map_err(Error::io(path))?;
            let task = decode_photograph(&bytes, media_type, request, preprocessor, options)?;
            pass_on(task, forward);
            Ok(())
        }
    }
}

/// Decodes a photograph and tells what it is; its only frame is returned.
fn decode_photograph(
    bytes: &[u8],
    media_type: MediaType,
    request: &DecodeRequest,
    preprocessor: &mut Preprocessor,
    options: &EngineOptions,
) -> Result<ForwardTask> {
    let info = exif::read(bytes);
    let picture = decode(bytes, media_type, info.orientation, options.min_side, &options.limits)?;
    let opened = Analysis {
        media_type,
        time: info.time,
        camera: info.camera,
        width: picture.source_width,
        height: picture.source_height,
        frame_rate: None,
        duration_seconds: None,
        frames: Vec::new(),
        failure: None,
    };
    send(&request.reply, Event::Opened(Box::new(opened)));
    send(&request.reply, Event::Decoded(1));
    Ok(prepared(picture, 0, 0.0, request, preprocessor))
}

fn decode_video(
    path: &std::path::Path,
    media_type: MediaType,
    request: &DecodeRequest,
    forward: &Sender<ForwardWork>,
    preprocessor: &mut Preprocessor,
    options: &EngineOptions,
) -> Result<()> {
    let info = video::probe(path, &options.limits)?;
    let mut reader = FrameReader::open(path, &info, options.min_side, &options.video)?;
    // The first frame decides whether there is a video at all.
    let mut next = reader.next_frame()?;
    let opened = Analysis {
        media_type,
        time: info.time,
        camera: None,
        width: info.width,
        height: info.height,
        frame_rate: info.frame_rate,
        duration_seconds: info.duration_seconds,
        frames: Vec::new(),
        failure: None,
    };
    send(&request.reply, Event::Opened(Box::new(opened)));
    let mut count = 0;
    while let Some(frame) = next {
        if request.reply.is_closed() {
            return Ok(());
        }
        count += 1;
        pass_on(prepared(frame.picture, frame.number, frame.seconds, request, preprocessor), forward);
        next = match reader.next_frame() {
            Ok(next) => next,
            Err(error) => {
                send(&request.reply, Event::BrokeOff(error.to_string()));
                None
            }
        };
    }
    send(&request.reply, Event::Decoded(count));
    Ok(())
}

fn prepared(
    picture: Picture,
    number: u32,
    seconds: f64,
    request: &DecodeRequest,
    preprocessor: &mut Preprocessor,
) -> ForwardTask {
    let input = preprocessor.whole(&picture, DETECTOR_SIDE);
    ForwardTask { picture, input, number, seconds, reply: request.reply.clone() }
}

fn pass_on(task: ForwardTask, forward: &Sender<ForwardWork>) {
    let reply = task.reply.clone();
    if forward.send_blocking(ForwardWork::Frame(task)).is_err() {
        send(&reply, Event::Failed(Error::Stopped));
    }
}

fn forward_stage(queue: &Receiver<ForwardWork>, model: &Model, batch: usize, options: &EngineOptions) {
    let mut preprocessor = Preprocessor::new();
    while let Ok(first) = queue.recv_blocking() {
        let mut tasks: Vec<ForwardTask> = ready(first, &mut preprocessor, options).into_iter().collect();
        while tasks.len() < batch
            && let Ok(work) = queue.try_recv()
        {
            tasks.extend(ready(work, &mut preprocessor, options));
        }
        tasks.retain(|task| !task.reply.is_closed());
        if tasks.is_empty() {
            continue;
        }
        let inputs: Vec<Vec<u8>> = tasks.iter_mut().map(|task| std::mem::take(&mut task.input)).collect();
        let pictures: Vec<&Picture> = tasks.iter().map(|task| &task.picture).collect();
        match look_at_batch(&model.networks, &model.taxonomy, &mut preprocessor, &pictures, &inputs, &options.look) {
            Ok(found) => {
                for (task, sightings) in tasks.iter().zip(found) {
                    let frame = FrameSightings { number: task.number, seconds: task.seconds, sightings };
                    send(&task.reply, Event::Frame(frame));
                }
            }
            Err(error) => {
                let text = error.to_string();
                for task in &tasks {
                    send(&task.reply, Event::Failed(Error::Torch(text.clone())));
                }
            }
        }
    }
}

/// The frame to show to the networks; none if a photograph cannot be decoded or nobody waits for it.
fn ready(work: ForwardWork, preprocessor: &mut Preprocessor, options: &EngineOptions) -> Option<ForwardTask> {
    let request = match work {
        ForwardWork::Frame(task) => return Some(task),
        ForwardWork::Photograph(request) if request.reply.is_closed() => return None,
        ForwardWork::Photograph(request) => request,
    };
    let MediaContent::Bytes(bytes) = &request.content else { return None };
    let decoded = MediaType::sniff(&bytes[..bytes.len().min(SNIFF_BYTES)])
        .and_then(|media_type| decode_photograph(bytes, media_type, &request, preprocessor, options));
    match decoded {
        Ok(task) => Some(task),
        Err(error) => {
            send(&request.reply, Event::Failed(error));
            None
        }
    }
}

fn send(reply: &Sender<Event>, event: Event) {
    // Nobody listens if the caller has left.
    let _ = reply.try_send(event);
}
