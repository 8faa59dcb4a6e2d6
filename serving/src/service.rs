//! The server: listens, loads the model, answers, and ends when it is told to without losing a request.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use axum::Router;
use platform::config::Config;
use platform::serve::Server;
use tokio::sync::{Mutex, Semaphore, watch};
use tracing::{error, info, warn};

use crate::app::{App, Inner};
use crate::cache::Answers;
use crate::collections::Collections;
use crate::detections::{self, Deployments, JobServer};
use crate::fetch::Fetcher;
use crate::limits::Bodies;
use crate::metrics::Metrics;
use crate::models::{self, Loader, ModelSource, Slot};
use crate::options::Options;
use crate::traces::Traces;
use crate::v2::Models;
use crate::{Error, Result, open_inference, routes};

/// Most frames of one burst, as in the batch job.
const MAX_FRAMES: usize = 64;

/// How long the last answers may take to be sent when all requests are answered.
const SENDING: Duration = Duration::from_secs(5);

/// Shadows under way at once.
const SHADOWS: usize = 8;

/// A server that listens.
#[derive(Debug)]
pub struct Service {
    app: App,
    models: Arc<Models>,
    server: Server,
    ending: watch::Sender<bool>,
}

impl Service {
    /// Listens; nothing is loaded yet.
    ///
    /// # Errors
    /// An address that other machines can reach, one that is taken, options that cannot be, or collections that cannot be
    /// opened.
    pub async fn open(options: Options, config: Config, device: detector::device::Device) -> Result<Self> {
        let address = options.listen;
        let places = Arc::new(Semaphore::new(options.limits.connections));
        let server = Server::bind(address, &options.entrance).await.map_err(|error| Error::Setup(error.to_string()))?;
        let server = server.with_head_timeout(options.limits.header_timeout).with_drain(SENDING);
        let server = server.with_places(Arc::clone(&places));
        let metrics = Metrics::new()?;
        let limits = options.limits;
        let (ending, ended) = watch::channel(false);
        let jobs = |url| JobServer::new(url, options.pipeline_dag.clone(), options.pipeline_token.clone());
        let jobs = options.pipeline.clone().map(jobs).transpose()?;
        let collections = match &options.collections {
            Some(collections) => Some(Collections::open(collections).await?),
            None => None,
        };
        let engine = options.engine;
        let inner = Inner {
            loader: Loader { device, engine, metrics: metrics.clone() },
            slot: Slot::new(metrics.clone()),
            loading: Mutex::new(()),
            answers: Answers::new(&options.cache, metrics.clone())?,
            deployments: Deployments::new(options.deployments, options.deployment_idle, options.burst_gap, MAX_FRAMES),
            fetcher: Fetcher::new(options.fetch.clone())?,
            jobs,
            collections,
            metrics,
            places,
            bodies: Bodies::new(limits.all_body_bytes),
            traces: Traces::start(&config.traces)?,
            shadows: Arc::new(Semaphore::new(SHADOWS)),
            fingerprint: fingerprint(&engine),
            started: AtomicBool::new(false),
            under_way: watch::channel(0).0,
            ending: ended,
            options,
            config,
        };
        let app = App { inner: Arc::new(inner) };
        let models = Arc::new(open_inference::models(&app)?);
        Ok(Self { app, models, server, ending })
    }

    /// Where it listens.
    pub fn address(&self) -> SocketAddr {
        self.server.address()
    }

    /// What its handlers share.
    pub fn app(&self) -> &App {
        &self.app
    }

    /// What it answers, without its socket.
    pub fn router(&self) -> Router {
        routes::router(self.app.clone(), &self.models, &self.app.inner.options.entrance.guard)
    }

    /// Loads the models and answers until `stop` is true. Then `/healthz/ready` says so, new requests are answered with 503,
    /// and requests under way get [`crate::options::Limits::drain`] to end.
    ///
    /// # Errors
    /// A model cannot be loaded.
    pub async fn run(self, mut stop: watch::Receiver<bool>) -> Result<()> {
        let Self { app, models, server, ending } = self;
        let drain = app.inner.options.limits.drain;
        info!(url = %server.url(), "listening; models are being loaded");
        let (closing, closed) = watch::channel(false);
        let router = routes::router(app.clone(), &models, &app.inner.options.entrance.guard);
        let answering = tokio::spawn(server.run(router, closed));
        if let Some(collections) = &app.inner.collections {
            tokio::spawn(collections.clone().tidy(stop.clone()));
        }
        let loaded = tokio::select! {
            loaded = load(&app, &models) => loaded,
            _ = stop.wait_for(|stop| *stop) => Ok(()),
        };
        if loaded.is_ok() && !*stop.borrow() {
            app.inner.started.store(true, Ordering::Release);
            info!("ready");
            let every = app.inner.options.poll;
            if every > Duration::ZERO && app.inner.options.model.moves() {
                tokio::spawn(models::watch(app.clone(), every, stop.clone()));
            }
            let _ = stop.wait_for(|stop| *stop).await;
        }
        ending.send_replace(true);
        let mut under_way = app.inner.under_way.subscribe();
        if tokio::time::timeout(drain, under_way.wait_for(|count| *count == 0)).await.is_err() {
            warn!(requests = *app.inner.under_way.borrow(), "requests that are under way are broken off");
        }
        closing.send_replace(true);
        if let Err(error) = answering.await {
            error!(%error, "the server broke off");
        }
        if let Some(traces) = &app.inner.traces {
            traces.flush().await;
        }
        loaded
    }
}

async fn load(app: &App, models: &Models) -> Result<()> {
    if !matches!(app.inner.options.model, ModelSource::TorchScript(_)) {
        models::refresh(app, false).await?;
    }
    models.load_all().await
}

/// What changes answers besides the model and the picture.
fn fingerprint(engine: &detections::EngineOptions) -> String {
    let text = format!("{:?} {:?} {:?}", engine.min_side, engine.look, engine.threshold);
    hex::encode(&<sha2::Sha256 as sha2::Digest>::digest(text.as_bytes())[..6])
}
