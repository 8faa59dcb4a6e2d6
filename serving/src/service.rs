//! The server: listens, loads the model, answers, and ends when it is told to without losing a request.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use axum::middleware::{from_fn_with_state, map_response};
use axum::routing::{get, post, put};
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use hyper_util::server::conn::auto::Builder;
use hyper_util::server::graceful::GracefulShutdown;
use hyper_util::service::TowerToHyperService;
use platform::config::Config;
use tokio::net::TcpListener;
use tokio::sync::{Mutex, Semaphore, watch};
use tower::ServiceExt;
use tracing::{debug, error, info, warn};
use utoipa::OpenApi;

use crate::app::{App, Inner};
use crate::cache::Answers;
use crate::detections::{self, Deployments, JobServer};
use crate::fetch::Fetcher;
use crate::limits::{self, PERMIT};
use crate::metrics::Metrics;
use crate::models::{self, Loader, Slot};
use crate::openapi::Document;
use crate::options::Options;
use crate::{Error, Result, health, page, problem, stream};

/// Most frames of one burst, as in the batch job.
const MAX_FRAMES: usize = 64;

/// Shadows under way at once.
const SHADOWS: usize = 8;

/// A server that listens.
#[derive(Debug)]
pub struct Service {
    app: App,
    listener: TcpListener,
    address: SocketAddr,
    ending: watch::Sender<bool>,
}

impl Service {
    /// Listens; nothing is loaded yet.
    ///
    /// # Errors
    /// An address that other machines can reach, one that is taken, or options that cannot be.
    pub async fn open(options: Options, config: Config, device: detector::device::Device) -> Result<Self> {
        let address = options.listen;
        if !address.ip().is_loopback() {
            return Err(Error::Setup(format!(
                "{address} can be reached from other machines, and this server knows no users; give a loopback address such as \
                 127.0.0.1:8080 with --listen, and let a gateway that knows users pass requests on"
            )));
        }
        let metrics = Metrics::new()?;
        let limits = options.limits;
        let (ending, ended) = watch::channel(false);
        let jobs = options.pipeline.clone().map(|url| JobServer::new(url, options.pipeline_dag.clone())).transpose()?;
        let engine = options.engine;
        let inner = Inner {
            loader: Loader { device, engine, metrics: metrics.clone() },
            slot: Slot::new(metrics.clone()),
            loading: Mutex::new(()),
            answers: Answers::new(&options.cache, metrics.clone())?,
            deployments: Deployments::new(options.deployments, options.deployment_idle, options.burst_gap, MAX_FRAMES),
            fetcher: Fetcher::new(options.fetch.clone())?,
            jobs,
            metrics,
            bodies: Arc::new(Semaphore::new(limits.all_body_bytes.div_ceil(PERMIT))),
            shadows: Arc::new(Semaphore::new(SHADOWS)),
            fingerprint: fingerprint(&engine),
            ending: ended,
            options,
            config,
        };
        let failed = |error: std::io::Error| Error::Setup(format!("{address} cannot be listened on: {error}"));
        let listener = TcpListener::bind(address).await.map_err(failed)?;
        let address = listener.local_addr().map_err(failed)?;
        Ok(Self { app: App { inner: Arc::new(inner) }, listener, address, ending })
    }

    /// Where it listens.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// What its handlers share.
    pub fn app(&self) -> &App {
        &self.app
    }

    /// Loads the model and answers until `stop` is true. Then `/healthz/ready` says so, no connection is taken any more, and
    /// requests under way get [`crate::options::Limits::drain`] to end.
    ///
    /// # Errors
    /// The first model cannot be loaded.
    pub async fn run(self, mut stop: watch::Receiver<bool>) -> Result<()> {
        let Self { app, listener, address, ending } = self;
        info!(url = %format!("http://{address}"), "listening; the model is being loaded");
        let (closing, closed) = watch::channel(false);
        let answering = tokio::spawn(answer(listener, router(app.clone()), app.clone(), closed));
        let served = async {
            models::refresh(&app, false).await?;
            info!("ready");
            let every = app.inner.options.poll;
            if every > Duration::ZERO && app.inner.options.model.moves() {
                tokio::spawn(models::watch(app.clone(), every, stop.clone()));
            }
            let _ = stop.wait_for(|stop| *stop).await;
            Ok(())
        };
        let served = served.await;
        ending.send_replace(true);
        closing.send_replace(true);
        if let Err(error) = answering.await {
            error!(%error, "the server broke off");
        }
        for served in app.inner.slot.all() {
            served.drain().await;
        }
        served
    }
}

/// All routes. Health, metrics and the document are for everybody; a permission layer can be put around the rest.
pub fn router(app: App) -> Router {
    let work = Router::new()
        .route("/v1/detections", post(detections::api::detect))
        .route("/v1/detection-jobs", post(detections::jobs::start))
        .route("/v1/detection-jobs/{id}", get(detections::jobs::follow))
        .route("/v1/model", get(models::api::show))
        .route("/v1/model/refresh", post(models::api::look_again))
        .route("/v1/model/rollback", post(models::api::roll_back))
        .route("/v1/model/candidate", put(models::api::set_candidate).delete(models::api::remove_candidate))
        .route("/v1/model/promote", post(models::api::promote))
        .layer(axum::extract::DefaultBodyLimit::disable())
        .layer(from_fn_with_state(app.clone(), limits::bodies));
    Router::new()
        .merge(work)
        .route("/v1/stream", get(stream::open))
        .route("/healthz", get(health::ready))
        .route("/healthz/live", get(health::live))
        .route("/healthz/ready", get(health::ready))
        .route("/healthz/startup", get(health::startup))
        .route("/metrics", get(health::metrics))
        .route("/openapi.json", get(|| async { axum::Json(Document::openapi()) }))
        .route("/", get(page::index))
        .route("/try.js", get(page::script))
        .fallback(problem::no_route)
        .method_not_allowed_fallback(problem::no_method)
        .layer(map_response(page::guarded))
        .layer(from_fn_with_state(app.clone(), limits::access))
        .with_state(app)
}

async fn answer(listener: TcpListener, router: Router, app: App, mut closed: watch::Receiver<bool>) {
    let limits = app.inner.options.limits;
    let places = Arc::new(Semaphore::new(limits.connections));
    let mut builder = Builder::new(TokioExecutor::new());
    builder.http1().timer(TokioTimer::new()).header_read_timeout(limits.header_timeout);
    builder.http2().timer(TokioTimer::new()).keep_alive_interval(Duration::from_secs(30)).max_concurrent_streams(128);
    let graceful = GracefulShutdown::new();
    loop {
        let accepted = tokio::select! {
            accepted = listener.accept() => accepted,
            _ = closed.wait_for(|closed| *closed) => break,
        };
        let (connection, remote) = match accepted {
            Ok(accepted) => accepted,
            Err(error) => {
                warn!(%error, "a connection cannot be taken");
                tokio::time::sleep(Duration::from_millis(50)).await;
                continue;
            }
        };
        // More wait in the system's queue until one ends or its headers are late.
        let Ok(place) = Arc::clone(&places).acquire_owned().await else { break };
        if let Err(error) = connection.set_nodelay(true) {
            debug!(%error, "a connection may be slow");
        }
        let router = router.clone().map_request(move |mut request: axum::http::Request<hyper::body::Incoming>| {
            request.extensions_mut().insert(remote);
            request
        });
        let served = builder.serve_connection_with_upgrades(TokioIo::new(connection), TowerToHyperService::new(router));
        let served = graceful.watch(served.into_owned());
        let connections = app.inner.metrics.connections.clone();
        connections.inc();
        tokio::spawn(async move {
            if let Err(error) = served.await {
                debug!(%error, "a connection broke off");
            }
            connections.dec();
            drop(place);
        });
    }
    drop(listener);
    if tokio::time::timeout(limits.drain, graceful.shutdown()).await.is_err() {
        warn!("requests that were under way are broken off");
    }
}

/// What changes answers besides the model and the picture.
fn fingerprint(engine: &detections::EngineOptions) -> String {
    let text = format!("{:?} {:?} {:?}", engine.min_side, engine.look, engine.threshold);
    hex::encode(&<sha2::Sha256 as sha2::Digest>::digest(text.as_bytes())[..6])
}
