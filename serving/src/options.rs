//! What a server needs to know.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

use platform::config::Config;
use platform::identity::Secret;
use platform::serve::Entrance;
use url::Url;

use crate::cache::CacheOptions;
use crate::collections::CollectionsOptions;
use crate::detections::EngineOptions;
use crate::fetch::FetchOptions;
use crate::models::ModelSource;
use crate::{Error, Result};

/// All options of a server.
#[derive(Debug, Clone)]
pub struct Options {
    /// Port 0 takes any free one. One that other machines can reach needs a guard at the entrance.
    pub listen: SocketAddr,
    /// Who is let in, and certificates; everybody and none, unless somebody says otherwise.
    pub entrance: Entrance,
    /// What is served.
    pub model: ModelSource,
    /// How often an alias is looked at; zero never does.
    pub poll: Duration,
    /// Further TorchScript models for the Open Inference Protocol, by name.
    pub models: Vec<(String, PathBuf)>,
    /// A folder of TorchScript models that are loaded when somebody asks for them.
    pub repository: Option<PathBuf>,
    /// How pictures are looked at.
    pub engine: EngineOptions,
    /// Which answers are kept.
    pub cache: CacheOptions,
    /// Which URLs are fetched.
    pub fetch: FetchOptions,
    /// The Safari API that runs DAGs, for videos and large sets.
    pub pipeline: Option<Url>,
    /// The DAG that [`Options::pipeline`] is to run.
    pub pipeline_dag: String,
    /// Who this server is there; none where nobody asks.
    pub pipeline_token: Option<Secret>,
    /// Where people's collections are kept; none keeps none.
    pub collections: Option<CollectionsOptions>,
    /// Bounds.
    pub limits: Limits,
    /// Cameras whose bursts are kept.
    pub deployments: u64,
    /// How long a camera that sends nothing is kept.
    pub deployment_idle: Duration,
    /// Seconds between two pictures of a burst.
    pub burst_gap: f64,
}

/// What requests may take.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Limits {
    /// Bytes of a body.
    pub body_bytes: usize,
    /// Bytes of all bodies in memory.
    pub all_body_bytes: usize,
    /// Pictures in a request.
    pub pictures: usize,
    /// Open connections.
    pub connections: usize,
    /// Until the headers have come.
    pub header_timeout: Duration,
    /// Until the body has come.
    pub body_timeout: Duration,
    /// Longest deadline of a request, and that of those that name none.
    pub request_timeout: Duration,
    /// How long requests under way may take when the server is told to end.
    pub drain: Duration,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            body_bytes: 32 << 20,
            all_body_bytes: 512 << 20,
            pictures: 64,
            connections: 1024,
            header_timeout: Duration::from_secs(10),
            body_timeout: Duration::from_secs(30),
            request_timeout: Duration::from_secs(60),
            drain: Duration::from_secs(30),
        }
    }
}

impl Options {
    /// The defaults, for a model.
    pub fn new(listen: SocketAddr, model: ModelSource) -> Self {
        let limits = Limits::default();
        Self {
            listen,
            entrance: Entrance::default(),
            model,
            poll: Duration::from_secs(30),
            models: Vec::new(),
            repository: None,
            engine: EngineOptions::default(),
            cache: CacheOptions {
                bytes: 64 << 20,
                redis: None,
                redis_keep: Duration::from_secs(24 * 3600),
                redis_timeout: Duration::from_millis(50),
            },
            fetch: FetchOptions {
                max_bytes: limits.body_bytes as u64,
                timeout: Duration::from_secs(20),
                ..FetchOptions::default()
            },
            pipeline: None,
            pipeline_dag: "detect".to_owned(),
            pipeline_token: None,
            collections: None,
            limits,
            deployments: 10_000,
            deployment_idle: Duration::from_secs(600),
            burst_gap: 60.0,
        }
    }

    /// The options of the settings, with an open entrance: see [`Entrance::of`].
    ///
    /// # Errors
    /// `model` names no model; `serve.pipeline` is no URL; `collections.pictures` is no place.
    pub fn of(config: &Config) -> Result<Self> {
        let serve = &config.serve;
        let listen = serve.listen.ok_or_else(|| Error::Setup("serve.listen is not set".to_owned()))?;
        let usual = Self::new(listen, ModelSource::of(config)?);
        let pipeline = Some(&serve.pipeline).filter(|url| !url.is_empty());
        let pipeline = pipeline.map(|url| Url::parse(url)).transpose();
        let mut engine = usual.engine;
        engine.threads = config.detector.threads;
        engine.batch = config.detector.batch;
        engine.queue = serve.queue;
        engine.limits.max_pixels = config.detector.max_pixels;
        engine.limits.max_bytes = config.detector.max_bytes;
        engine.look.nms.threshold = config.detector.threshold;
        engine.threshold = config.rollup.threshold;
        Ok(Self {
            poll: Duration::from_secs(serve.poll_seconds),
            models: serve.models.clone(),
            repository: serve.repository.clone(),
            engine,
            cache: CacheOptions {
                bytes: serve.cache_bytes,
                redis: Some(serve.redis.clone()).filter(|url| !url.is_empty()),
                redis_keep: Duration::from_secs(serve.redis_keep_seconds),
                ..usual.cache
            },
            fetch: FetchOptions {
                allow: serve.fetch_allow.clone(),
                anywhere: serve.fetch_anywhere,
                max_bytes: serve.max_body_bytes as u64,
                ..usual.fetch
            },
            pipeline: pipeline.map_err(|error| Error::Setup(format!("serve.pipeline: {error}")))?,
            pipeline_dag: serve.pipeline_dag.clone(),
            // The program knows where tokens are.
            pipeline_token: None,
            collections: CollectionsOptions::of(config)?,
            limits: Limits {
                body_bytes: serve.max_body_bytes,
                all_body_bytes: serve.body_memory_bytes,
                pictures: serve.max_pictures,
                connections: serve.max_connections,
                request_timeout: Duration::from_secs(serve.timeout_seconds),
                drain: Duration::from_secs(serve.drain_seconds),
                ..usual.limits
            },
            deployments: serve.deployments,
            burst_gap: config.burst.gap_seconds,
            ..usual
        })
    }
}
