//! What the jobs of one process share.

use std::sync::Arc;
use std::time::Instant;

use detector::device::{self, DeviceChoice};
use detector::engine::{Engine, EngineOptions};
use detector::model::{self, Model, ModelVersion};
use lake::Lake;
use model_registry::client::Client;
use platform::config::{Config, Device};
use tokio::sync::{OnceCell, Semaphore};
use tracing::info;

use crate::Result;

/// Media that are read ahead of the engine.
pub(crate) const READ_AHEAD: usize = 4;

/// The configuration, the lake, the engine and the registry; the last three are opened when first needed.
#[derive(Debug)]
pub struct Services {
    config: Config,
    lake: OnceCell<Lake>,
    engine: OnceCell<Engine>,
    version: OnceCell<ModelVersion>,
    reading: OnceCell<Arc<Semaphore>>,
    registry: OnceCell<Client>,
}

impl Services {
    /// Services for a configuration; opens nothing yet.
    pub fn new(config: Config) -> Self {
        Self {
            config,
            lake: OnceCell::new(),
            engine: OnceCell::new(),
            version: OnceCell::new(),
            reading: OnceCell::new(),
            registry: OnceCell::new(),
        }
    }

    /// The configuration.
    pub fn config(&self) -> &Config {
        &self.config
    }

    /// The tables.
    pub async fn lake(&self) -> Result<&Lake> {
        Ok(self.lake.get_or_try_init(|| async { Lake::open(&self.config.lake_url()).await }).await?)
    }

    /// The model registry: the server of `registry.url`, or the registry's database and files of the configuration.
    pub async fn registry(&self) -> Result<&Client> {
        Ok(self.registry.get_or_try_init(|| async { Client::open(&self.config).await }).await?)
    }

    /// The engine with the configured model; loading takes about half a second, once.
    pub async fn engine(&self) -> Result<&Engine> {
        self.engine
            .get_or_try_init(|| async {
                let config = self.config.clone();
                let load = tokio::task::spawn_blocking(move || start_engine(&config));
                Ok(load.await.map_err(|_| detector::Error::Stopped)??)
            })
            .await
    }

    /// Permits to read a medium for the engine: as many as keep it busy and a few ahead, however many shards are under way.
    pub(crate) async fn reading(&self) -> Result<&Arc<Semaphore>> {
        let permits = self.engine().await?.useful_concurrency() + READ_AHEAD;
        Ok(self.reading.get_or_init(|| async { Arc::new(Semaphore::new(permits)) }).await)
    }

    /// Name and content of the configured model, without loading it.
    pub async fn model_version(&self) -> Result<&ModelVersion> {
        self.version
            .get_or_try_init(|| async {
                let configured = self.config.model.clone();
                let read = tokio::task::spawn_blocking(move || model::version(&model::locate(configured.as_deref())?));
                Ok(read.await.map_err(|_| detector::Error::Stopped)??)
            })
            .await
    }
}

/// Options of the engine as the configuration has them.
pub fn engine_options(config: &Config) -> EngineOptions {
    let mut options =
        EngineOptions { threads: config.detector.threads, batch: config.detector.batch, ..EngineOptions::default() };
    options.limits.max_pixels = config.detector.max_pixels;
    options.limits.max_bytes = config.detector.max_bytes;
    options.video.frames_per_second = config.detector.video_fps;
    options.video.max_frames = config.detector.video_max_frames;
    options.look.nms.threshold = config.detector.threshold;
    options
}

/// The configured device.
pub fn configured_device(config: &Config) -> detector::Result<detector::device::Device> {
    let choice = match config.detector.device {
        Device::Auto => DeviceChoice::Auto,
        Device::Cpu => DeviceChoice::Cpu,
        Device::Cuda => DeviceChoice::Cuda,
    };
    device::choose(choice, config.detector.cuda_dir.as_deref())
}

fn start_engine(config: &Config) -> detector::Result<Engine> {
    let began = Instant::now();
    let folder = model::locate(config.model.as_deref())?;
    let model = Model::load(&folder, configured_device(config)?)?;
    info!(model = %model.version(), folder = %folder.display(), seconds = began.elapsed().as_secs_f32(), "model loaded");
    Engine::start(Arc::new(model), engine_options(config))
}

/// Checks the keys of a task's `with`: all known, all required ones there. Values may be templates still.
pub(crate) fn check_with(
    with: &serde_json::Value,
    known: &[&str],
    required: &[&str],
) -> std::result::Result<(), String> {
    let empty = serde_json::Map::new();
    let given = match with {
        serde_json::Value::Object(given) => given,
        serde_json::Value::Null => &empty,
        _ => return Err("`with` must be a mapping".to_owned()),
    };
    if let Some(key) = given.keys().find(|key| !known.contains(&key.as_str())) {
        let near = platform::names::did_you_mean(key, known.iter().copied());
        return Err(format!("unknown key `{key}` in `with`{near}"));
    }
    match required.iter().find(|key| !given.contains_key(**key)) {
        Some(key) => Err(format!("`with` lacks the key `{key}`")),
        None => Ok(()),
    }
}
