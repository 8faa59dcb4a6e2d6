//! `safari server`, `safari api`, `safari scheduler` and `safari worker`: the roles that run for weeks.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::process::ExitCode;
use std::sync::Arc;
use std::time::Duration;

use axum::Extension;
use clap::Args;
use jobs::Services;
use pipeline::clock::Timestamp;
use pipeline::dag::Resources;
use pipeline::history::Keep;
use pipeline::{
    Alerts, DagFolder, Executor, History, JobRegistry, KubernetesOptions, Logs, Offer, Receiver, Runner, RunnerOptions,
    Scheduler, Store, Streams, Telemetry,
};
use platform::config::Config;
use platform::database::{Database, Engine};
use platform::serve::{Entrance, Server as HttpServer};
use tokio::sync::watch;
use tracing::{error, info, warn};

use crate::args::name_and_value;
use crate::backend::open_store;
use crate::error::{Error, Result};
use crate::history::kept;
use crate::kubernetes;
use crate::registry::{known_secrets, logs, registry, secrets};
use crate::registry_server;
use crate::rollout::tokens;
use crate::signals::Signals;

/// How often the folder of DAG files is looked at.
const LOOK_AT_DAGS: Duration = Duration::from_secs(2);

/// How often continuous DAGs are looked at.
const LOOK_AT_STREAMS: Duration = Duration::from_secs(1);

/// How often a process looks for work that nobody has told it of: what other processes leave to do wakes it.
const WATCHED_POLL: Duration = Duration::from_secs(2);

const SERVER_NOTES: &str = "SIGTERM and Ctrl-C let the tasks under way end and claim no more; a second one stops them, \
and they run again when a worker is back. DAG files that change are read again; runs keep the version they began with.";

#[derive(Debug, Args)]
#[command(after_help = SERVER_NOTES)]
pub(crate) struct ServerArgs {
    /// Folder of DAG files
    #[arg(long, value_name = "DIR", default_value = "dags")]
    dags: PathBuf,
    /// Tasks at the same time [default: run.parallelism]
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u16).range(1..))]
    slots: Option<u16>,
    /// Address of the REST API, /metrics and /healthz; port 0 takes any free one
    #[arg(long, value_name = "ADDRESS:PORT", default_value = "127.0.0.1:8750")]
    listen: SocketAddr,
    /// Address of the registry for clients of MLflow; `off` for none [default: registry.listen]
    #[arg(long, value_name = "ADDRESS:PORT")]
    registry: Option<String>,
    #[command(flatten)]
    offer: OfferArgs,
}

#[derive(Debug, Args)]
pub(crate) struct ApiArgs {
    /// Address of the REST API, /metrics and /healthz; port 0 takes any free one
    #[arg(long, value_name = "ADDRESS:PORT", default_value = "127.0.0.1:8750")]
    listen: SocketAddr,
}

#[derive(Debug, Args)]
pub(crate) struct SchedulerArgs {
    /// Folder of DAG files
    #[arg(long, value_name = "DIR", default_value = "dags")]
    dags: PathBuf,
}

#[derive(Debug, Args)]
#[command(after_help = SERVER_NOTES)]
pub(crate) struct WorkerArgs {
    /// Take tasks of this queue, and of none; may be given several times [default: any queue]
    #[arg(long, value_name = "NAME")]
    queue: Vec<String>,
    /// Tasks at the same time [default: run.parallelism]
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u16).range(1..))]
    slots: Option<u16>,
    /// Address of the REST API, /metrics and /healthz; port 0 takes any free one [default: none]
    #[arg(long, value_name = "ADDRESS:PORT")]
    listen: Option<SocketAddr>,
    #[command(flatten)]
    offer: OfferArgs,
}

/// What tasks find here that ask for it.
#[derive(Debug, Args)]
pub(crate) struct OfferArgs {
    /// A label that tasks may ask for; may be given several times
    #[arg(long, value_name = "NAME=VALUE")]
    label: Vec<String>,
    /// Processor cores that tasks share [default: those of this machine]
    #[arg(long, value_name = "CORES")]
    cpu: Option<u32>,
    /// Memory that tasks share, in MiB [default: that of this machine]
    #[arg(long, value_name = "MIB")]
    memory: Option<u64>,
    /// GPUs that tasks share [default: those of this machine]
    #[arg(long, value_name = "N")]
    gpu: Option<u32>,
}

impl OfferArgs {
    fn offer(&self) -> Result<Offer> {
        let mut offer = Offer::of_this_machine();
        for label in &self.label {
            let (name, value) = name_and_value(label)?;
            offer.labels.insert(name, value);
        }
        let Resources { cpu_millis, memory_bytes, gpus } = &mut offer.resources;
        *cpu_millis = self.cpu.map_or(*cpu_millis, |cores| cores.saturating_mul(1000));
        *memory_bytes = self.memory.map_or(*memory_bytes, |mebibytes| mebibytes.saturating_mul(1 << 20));
        *gpus = self.gpu.unwrap_or(*gpus);
        Ok(offer)
    }
}

/// Scheduler and worker in one process.
pub(crate) async fn server(args: ServerArgs, config: Config) -> Result<ExitCode> {
    let entrance = Entrance::of(&config).await?;
    let registry = registry_server::options_of_server(args.registry.as_deref(), &entrance, &config)?;
    let role = Role::open(config, args.slots, Some(args.offer.offer()?)).await?;
    let (stop, stopped) = watch::channel(false);
    let (store, logs) = (role.store.clone(), role.logs.clone());
    let answering = answering(store, role.history(), logs, args.listen, &entrance, stopped.clone()).await?;
    let registry = match &registry {
        Some(options) => Some(registry_server::serving(options, stopped.clone()).await?),
        None => None,
    };
    let executing = role.executing(stopped.clone()).await?;
    let scheduling = role.scheduling(args.dags, stopped)?;
    let worked = role.work(Vec::new()).await;
    stop.send_replace(true);
    let _ = tokio::join!(scheduling, answering, executing);
    if let Some(registry) = registry {
        let _ = registry.await;
    }
    worked
}

/// The API alone.
pub(crate) async fn api(args: ApiArgs, config: Config) -> Result<ExitCode> {
    let mut signals = Signals::new()?;
    let (stop, stopped) = watch::channel(false);
    let (store, logs) = (open_store(&config).await?, logs(&config)?);
    let history = History::new(store.clone(), logs.clone(), &config.home);
    let entrance = Entrance::of(&config).await?;
    let answering = answering(store, history, logs, args.listen, &entrance, stopped).await?;
    signals.next().await;
    stop.send_replace(true);
    let _ = answering.await;
    Ok(ExitCode::SUCCESS)
}

/// The scheduler alone.
pub(crate) async fn scheduler(args: SchedulerArgs, config: Config) -> Result<ExitCode> {
    let role = Role::open(config, None, None).await?;
    let mut signals = Signals::new()?;
    let (stop, stopped) = watch::channel(false);
    let executing = role.executing(stopped.clone()).await?;
    let scheduling = role.scheduling(args.dags, stopped)?;
    signals.next().await;
    stop.send_replace(true);
    let _ = tokio::join!(scheduling, executing);
    Ok(ExitCode::SUCCESS)
}

/// A worker alone.
pub(crate) async fn worker(args: WorkerArgs, config: Config) -> Result<ExitCode> {
    let entrance = Entrance::of(&config).await?;
    let role = Role::open(config, args.slots, Some(args.offer.offer()?)).await?;
    let (stop, stopped) = watch::channel(false);
    let answering = match args.listen {
        Some(address) => {
            let (store, logs) = (role.store.clone(), role.logs.clone());
            Some(answering(store, role.history(), logs, address, &entrance, stopped).await?)
        }
        None => None,
    };
    let worked = role.work(args.queue).await;
    stop.send_replace(true);
    if let Some(answering) = answering {
        let _ = answering.await;
    }
    worked
}

/// What the roles have in common.
struct Role {
    config: Config,
    store: Store,
    registry: JobRegistry,
    options: RunnerOptions,
    logs: Logs,
    keep: Keep,
    receivers: Vec<Receiver>,
    /// Of the executor, where it is on.
    pods: Option<KubernetesOptions>,
}

impl Role {
    async fn open(config: Config, slots: Option<u16>, offer: Option<Offer>) -> Result<Self> {
        let address = config.state_address();
        let database = Database::open(&address).await?;
        let is_sqlite = database.engine() == Engine::Sqlite;
        let store = Store::open(database).await.map_err(|error| Error::from(error).about_state(&address))?;
        if is_sqlite {
            info!(state = %address, "state in SQLite: workers on this host only");
        }
        let pods = match config.kubernetes.executor {
            true if is_sqlite => return Err(Error::PodsNeedPostgres(address)),
            true => Some(kubernetes::options(&config)?),
            false => None,
        };
        let watched = store.clone();
        tokio::spawn(async move { watched.watch_others().await });
        let registry = registry(&Arc::new(Services::new(config.clone())))?;
        let logs = logs(&config)?;
        let usual = RunnerOptions::new(&config.home);
        let options = RunnerOptions {
            logs: Some(logs.clone()),
            poll: WATCHED_POLL,
            parallelism: slots.map_or(config.run.parallelism, usize::from),
            lease: Duration::from_secs(config.run.lease_seconds),
            exclusive: false,
            offer,
            secrets: secrets(&config),
            known_secrets: known_secrets(&config),
            default_executor: kubernetes::default_executor(&config),
            ..usual
        };
        let (keep, receivers) = (kept(&config), receivers(&config));
        Ok(Self { config, store, registry, options, logs, keep, receivers, pods })
    }

    fn history(&self) -> History {
        History::new(self.store.clone(), self.logs.clone(), &self.options.home)
    }

    /// Reads the DAG files and keeps scheduling until `stopped`.
    fn scheduling(&self, dags: PathBuf, stopped: watch::Receiver<bool>) -> Result<tokio::task::JoinHandle<()>> {
        if !dags.is_dir() {
            return Err(Error::NoDagFolder(dags));
        }
        let (store, registry) = (self.store.clone(), self.registry.clone());
        let scheduler = Scheduler::new(store.clone(), self.options.poll);
        info!(dags = %dags.display(), "scheduling");
        let alerts = Alerts::new(store.clone(), registry.clone(), &self.options);
        let streams = Streams::new(store.clone(), LOOK_AT_STREAMS);
        let history = self.history();
        let keep = self.keep;
        let config = self.config.clone();
        let telemetry = Telemetry::new(store.clone(), registry.clone(), &self.options, self.receivers.clone());
        Ok(tokio::spawn(async move {
            tokio::join!(
                scheduler.serve(stopped.clone()),
                alerts.serve(stopped.clone()),
                streams.serve(stopped.clone()),
                history.serve(keep, stopped.clone()),
                telemetry.serve(stopped.clone()),
                rollout::drive_all(&config, tokens(&config), stopped.clone()),
                follow(DagFolder::new(dags), store, registry, stopped)
            );
        }))
    }

    /// Runs tasks in pods until `stopped`, where that is on.
    async fn executing(&self, mut stopped: watch::Receiver<bool>) -> Result<tokio::task::JoinHandle<()>> {
        let Some(options) = &self.pods else {
            return Ok(tokio::spawn(async move { drop(stopped.wait_for(|stopped| *stopped).await) }));
        };
        // Two providers of TLS are linked, so that neither is the default by itself; another part may have chosen one.
        let _ = rustls::crypto::ring::default_provider().install_default();
        let executor = Executor::open(self.store.clone(), options.clone()).await?;
        info!(namespace = executor.namespace(), parallelism = options.parallelism, "running tasks in pods");
        Ok(tokio::spawn(async move { executor.serve(stopped).await }))
    }

    /// Works until it is told to end.
    async fn work(&self, queues: Vec<String>) -> Result<ExitCode> {
        let runner = Arc::new(Runner::new(self.store.clone(), self.registry.clone(), self.options.clone()));
        let mut signals = Signals::new()?;
        let told = Arc::clone(&runner);
        let listening = tokio::spawn(async move {
            signals.next().await;
            info!("no more tasks are claimed; a second signal stops those under way");
            told.drain();
            signals.next().await;
            told.interrupt();
        });
        info!(slots = self.options.parallelism, "working");
        let worked = runner.serve(queues).await;
        listening.abort();
        worked?;
        Ok(ExitCode::SUCCESS)
    }
}

/// Who is told of runs.
fn receivers(config: &Config) -> Vec<Receiver> {
    let given = |text: &String| (!text.is_empty()).then(|| text.clone());
    let lineage = given(&config.lineage.url).map(|url| Receiver::OpenLineage {
        url,
        namespace: config.lineage.namespace.clone(),
        api_key: given(&config.lineage.api_key),
    });
    let traces = given(&config.traces.url)
        .map(|url| Receiver::Traces { url, authorization: given(&config.traces.authorization) });
    lineage.into_iter().chain(traces).collect()
}

/// Answers HTTP requests until `stopped`.
async fn answering(
    store: Store,
    history: History,
    place: Logs,
    address: SocketAddr,
    entrance: &Entrance,
    stopped: watch::Receiver<bool>,
) -> Result<tokio::task::JoinHandle<()>> {
    let server = HttpServer::bind(address, entrance).await?;
    info!(url = %server.url(), "answering");
    let router = pipeline::api::router_behind(store, stopped.clone(), &entrance.guard);
    let router = router.layer(Extension(place)).layer(Extension(history));
    Ok(tokio::spawn(server.run(router, stopped)))
}

/// Reads DAG files whenever they change.
async fn follow(mut folder: DagFolder, store: Store, registry: JobRegistry, mut stopped: watch::Receiver<bool>) {
    while !*stopped.borrow() {
        match folder.load(&store, &registry, Timestamp::now()).await {
            Ok(loaded) => {
                loaded.registered.iter().for_each(|dag| info!(dag, "dag read"));
                loaded.removed.iter().for_each(|dag| warn!(dag, "the dag's file is gone; its schedule rests"));
                loaded.mistakes.iter().for_each(|mistake| error!("{mistake}"));
            }
            Err(error) => error!(%error, "the folder of dags cannot be read"),
        }
        tokio::select! {
            () = tokio::time::sleep(LOOK_AT_DAGS) => {}
            _ = stopped.changed() => {}
        }
    }
}
