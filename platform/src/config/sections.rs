//! The sections of the settings, checked and typed.

use std::fmt;
use std::net::SocketAddr;
use std::path::PathBuf;

use url::Url;

use super::keys;
use crate::identity::Role;
use crate::serve::TrustedProxies;

/// How photographs and video become boxes.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct DetectorConfig {
    /// Boxes below this confidence are dropped, 0 to 1.
    pub threshold: f32,
    /// CPU threads of the networks; 0 means all cores.
    pub threads: usize,
    /// Pictures in one forward pass; 0 means 1 on a CPU and 16 on a GPU.
    pub batch: usize,
    /// Where the networks run.
    pub device: Device,
    /// The folder of `libtorch_cuda.so`; `None` means the system's library path.
    pub cuda_dir: Option<PathBuf>,
    /// The share of a GPU's memory that this process may take, above 0, at most 1.
    pub gpu_memory_fraction: f64,
    /// Pictures with more pixels than this are refused.
    pub max_pixels: u64,
    /// Files with more bytes than this are refused.
    pub max_bytes: u64,
    /// Frames a second that are looked at in a video.
    pub video_fps: f64,
    /// At most so many frames of one video are looked at.
    pub video_max_frames: u32,
}

/// Where the networks run.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum Device {
    /// A CUDA GPU where one can be used, else the CPU.
    #[default]
    Auto,
    /// The CPU, even where there is a GPU.
    Cpu,
    /// A CUDA GPU, or an error where there is none.
    Cuda,
}

/// How frames are grouped into bursts.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct BurstConfig {
    /// Frames of one deployment that are at most this many seconds apart are one burst.
    pub gap_seconds: f64,
}

/// How a score that is split among relatives is given to their common taxon.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct RollupConfig {
    /// The summed score that a taxon needs to be named, 0 to 1.
    pub threshold: f32,
}

/// How a run is cut into tasks.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct RunConfig {
    /// Media files in one task.
    pub shard_size: usize,
    /// Tasks of one run at the same time.
    pub parallelism: usize,
    /// Seconds without a heartbeat after which the tasks of a process are given to others.
    pub lease_seconds: u64,
    /// Where tasks run that do not say it.
    pub executor: DefaultExecutor,
}

/// Where tasks run that do not say it.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum DefaultExecutor {
    /// In workers.
    #[default]
    Worker,
    /// Each attempt in a pod of its own.
    Kubernetes,
}

/// Attempts in pods of their own.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct KubernetesConfig {
    /// Whether schedulers run tasks in pods.
    pub executor: bool,
    /// Namespace of the Jobs; empty means that of the pod or the kubeconfig.
    pub namespace: String,
    /// How the API server is reached; `None` means as a pod of the cluster, or as kubectl does.
    pub kubeconfig: Option<PathBuf>,
    /// Most attempts that are in pods, or wait for one, at once.
    pub parallelism: usize,
    /// A file with what pods are made of.
    pub pod_template: Option<PathBuf>,
    /// Image of the container; empty means that of the pod template.
    pub image: String,
    /// Service account of the pods; empty means that of the pod template.
    pub service_account: String,
    /// A secret whose keys are variables of the pods; empty means none.
    pub secret: String,
    /// A ConfigMap that owns the Jobs; empty means none.
    pub owner: String,
    /// Seconds after which an attempt fails whose pod has not begun.
    pub pending_seconds: u64,
    /// Seconds that Jobs are kept after their end.
    pub keep_seconds: u64,
}

/// Where the tables are.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct LakeConfig {
    /// A folder or `s3://bucket/prefix`; empty means `<home>/lake`. See [`Config::lake_url`](super::Config::lake_url).
    pub url: String,
}

/// Where the state of runs is.
#[derive(Clone, Default, PartialEq)]
pub struct StateConfig {
    /// `sqlite:PATH` or `postgres://…`; empty means `<home>/state.db`. See [`Config::state_address`](super::Config::state_address).
    pub url: String,
}

/// Without the password that the URL may hold.
impl fmt::Debug for StateConfig {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("StateConfig").field("url", &keys::masked(&self.url)).finish()
    }
}

/// Who is asked about runs.
#[derive(Clone, Default, PartialEq)]
pub struct ServerConfig {
    /// `http://…` or `https://…`; empty means that the state database is asked.
    pub url: String,
}

/// Without the password that the URL may hold.
impl fmt::Debug for ServerConfig {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ServerConfig").field("url", &keys::masked(&self.url)).finish()
    }
}

/// The tracking and registry server, and who asks it.
#[derive(Clone, Default, PartialEq)]
pub struct RegistryConfig {
    /// `http://…` or `https://…`; empty means that the registry's database is asked.
    pub url: String,
    /// Where the server answers; `None` means that `safari server` has none.
    pub listen: Option<SocketAddr>,
    /// `sqlite:PATH` or `postgres://…`; empty means `<home>/registry.db`. See [`Config::registry_address`](super::Config::registry_address).
    pub database: String,
    /// A folder or `s3://bucket/prefix`; empty means `<home>/artifacts`. See [`Config::artifacts_url`](super::Config::artifacts_url).
    pub artifacts: String,
    /// What was deleted so many days ago may be removed.
    pub grace_days: u32,
    /// Whether receivers of webhooks may have internal addresses, and no TLS.
    pub webhooks_anywhere: bool,
}

/// Without the passwords that the URLs may hold.
impl fmt::Debug for RegistryConfig {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("RegistryConfig")
            .field("url", &keys::masked(&self.url))
            .field("listen", &self.listen)
            .field("database", &keys::masked(&self.database))
            .field("artifacts", &self.artifacts)
            .field("grace_days", &self.grace_days)
            .field("webhooks_anywhere", &self.webhooks_anywhere)
            .finish()
    }
}

/// The server of live detections.
#[derive(Clone, Default, PartialEq)]
pub struct ServeConfig {
    /// Where it answers; a loaded configuration always names an address.
    pub listen: Option<SocketAddr>,
    /// Seconds between two looks at what an alias names; 0 never looks.
    pub poll_seconds: u64,
    /// Further TorchScript models by name.
    pub models: Vec<(String, PathBuf)>,
    /// A folder of TorchScript models that are loaded when somebody asks for them.
    pub repository: Option<PathBuf>,
    /// Requests that may wait.
    pub queue: usize,
    /// The longest that a request may take.
    pub timeout_seconds: u64,
    /// How long requests under way may take at the end.
    pub drain_seconds: u64,
    /// Bytes of a body.
    pub max_body_bytes: usize,
    /// Bytes of all bodies in memory.
    pub body_memory_bytes: usize,
    /// Pictures in one request.
    pub max_pictures: usize,
    /// Connections at the same time.
    pub max_connections: usize,
    /// Memory for answers that are kept; 0 keeps none.
    pub cache_bytes: u64,
    /// `redis://…`; empty means none.
    pub redis: String,
    /// How long Redis keeps an answer.
    pub redis_keep_seconds: u64,
    /// Cameras whose bursts are remembered.
    pub deployments: u64,
    /// Places, each with a slash at its end, that pictures may be fetched from.
    pub fetch_allow: Vec<Url>,
    /// Whether they may have internal addresses, and no TLS.
    pub fetch_anywhere: bool,
    /// `http://…` or `https://…` of the server that runs DAGs; empty means none.
    pub pipeline: String,
    /// The DAG that it is asked to run.
    pub pipeline_dag: String,
}

/// Without the passwords that the URLs may hold.
impl fmt::Debug for ServeConfig {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ServeConfig")
            .field("listen", &self.listen)
            .field("redis", &keys::masked(&self.redis))
            .field("pipeline", &keys::masked(&self.pipeline))
            .finish_non_exhaustive()
    }
}

/// Rollouts of model versions.
#[derive(Clone, Default, PartialEq)]
pub struct RolloutConfig {
    /// The Prometheus server that has counted answers; empty means that replicas are asked themselves.
    pub prometheus: String,
    /// The header `Authorization` for it; may be empty.
    pub prometheus_authorization: String,
}

/// The header is a secret.
impl fmt::Debug for RolloutConfig {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("RolloutConfig").field("prometheus", &self.prometheus).finish_non_exhaustive()
    }
}

/// People's collections of species.
#[derive(Clone, Default, PartialEq)]
pub struct CollectionsConfig {
    /// Whether they are kept.
    pub enabled: bool,
    /// `sqlite:PATH` or `postgres://…`; empty means `<home>/collections.db`. See [`Config::collections_address`](super::Config::collections_address).
    pub database: String,
    /// A folder or `s3://bucket/prefix`; empty means `<home>/collections`. See [`Config::pictures_url`](super::Config::pictures_url).
    pub pictures: String,
    /// A table of conservation statuses.
    pub statuses: Option<PathBuf>,
}

/// Without the password that the URL may hold.
impl fmt::Debug for CollectionsConfig {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("CollectionsConfig")
            .field("enabled", &self.enabled)
            .field("database", &keys::masked(&self.database))
            .field("pictures", &self.pictures)
            .field("statuses", &self.statuses)
            .finish()
    }
}

/// People and tokens.
#[derive(Clone, Default, PartialEq)]
pub struct IdentityConfig {
    /// Whether servers ask who asks.
    pub enabled: bool,
    /// `sqlite:PATH` or `postgres://…`; empty means that of the state. See [`Config::identity_address`](super::Config::identity_address).
    pub database: String,
    /// `iss` of our access tokens.
    pub issuer: String,
    /// `aud` of our access tokens.
    pub audience: String,
    /// Requests a second of one identity; 0 means no limit.
    pub requests_per_second: u32,
    /// Whose `X-Forwarded-For` says who asks.
    pub trusted_proxies: TrustedProxies,
    /// `https://…`; empty means none.
    pub oidc_issuer: String,
    /// What `aud` of its tokens must name.
    pub oidc_audience: String,
    /// Where its tokens name roles.
    pub oidc_roles_claim: String,
    /// Its words for our roles; empty means that they are ours.
    pub oidc_roles: Vec<(String, Role)>,
}

/// Without the password that the URL may hold.
impl fmt::Debug for IdentityConfig {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("IdentityConfig")
            .field("enabled", &self.enabled)
            .field("database", &keys::masked(&self.database))
            .field("oidc_issuer", &self.oidc_issuer)
            .finish_non_exhaustive()
    }
}

/// Certificates of servers.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct TlsConfig {
    /// The file of the certificate chain; none for no TLS.
    pub cert: Option<PathBuf>,
    /// The file of its private key.
    pub key: Option<PathBuf>,
}

/// What is logged.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct LogConfig {
    /// As [`crate::telemetry::init`] takes it.
    pub level: String,
}

/// The logs of attempts.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct LogsConfig {
    /// A folder or `s3://bucket/prefix`; empty means `<home>/logs`. See [`Config::logs_url`](super::Config::logs_url).
    pub url: String,
    /// What an attempt writes beyond so many bytes is not kept.
    pub max_bytes: u64,
    /// Logs of runs that ended so many days ago are removed; 0 keeps them as long as their runs.
    pub keep_days: u32,
}

/// Runs that have ended.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct HistoryConfig {
    /// Runs that ended so many days ago are removed; 0 keeps all.
    pub keep_days: u32,
}

/// Backups: where they are, who can read them, how long they are kept.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct BackupConfig {
    /// A folder or `s3://bucket/prefix`; empty means `<home>/backups`. See [`Config::backup_url`](super::Config::backup_url).
    pub url: String,
    /// Public keys of age, `age1…`; none means that backups are not encrypted.
    pub recipients: Vec<String>,
    /// The file of age's secret keys, with which encrypted backups are read.
    pub identity_file: Option<PathBuf>,
    /// Every backup is kept for so many days.
    pub keep_days: u32,
    /// The newest of each week is kept for so many weeks.
    pub keep_weeks: u32,
    /// The newest of each month is kept for so many months.
    pub keep_months: u32,
    /// So many of the newest are kept however old they are.
    pub keep_last: u32,
    /// Seconds without a sign of life after which a backup under way counts as dead.
    pub lease_seconds: u64,
    /// The data folder of the PostgreSQL server on this machine, for `safari backup cluster`.
    pub postgres_data: Option<PathBuf>,
    /// The folder of that server's socket.
    pub postgres_socket: PathBuf,
}

/// The catalogue that is told of runs.
#[derive(Clone, Default, PartialEq)]
pub struct LineageConfig {
    /// `http://…` or `https://…`; empty means none.
    pub url: String,
    /// Of jobs, and of assets that are no URLs.
    pub namespace: String,
    /// Sent as a bearer token; empty means none.
    pub api_key: String,
}

/// Without the key, and the password that the URL may hold.
impl fmt::Debug for LineageConfig {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let url = keys::masked(&self.url);
        f.debug_struct("LineageConfig").field("url", &url).field("namespace", &self.namespace).finish_non_exhaustive()
    }
}

/// The collector that is given the spans of runs.
#[derive(Clone, Default, PartialEq)]
pub struct TracesConfig {
    /// `http://…` or `https://…`; empty means none.
    pub url: String,
    /// Sent as the header `Authorization`; empty means none.
    pub authorization: String,
}

/// Without the header, and the password that the URL may hold.
impl fmt::Debug for TracesConfig {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("TracesConfig").field("url", &keys::masked(&self.url)).finish_non_exhaustive()
    }
}

impl fmt::Display for Device {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(match self {
            Device::Auto => "auto",
            Device::Cpu => "cpu",
            Device::Cuda => "cuda",
        })
    }
}
