//! Settings: the file `safari.toml`, then `SAFARI_*` variables, then the command line; the later wins.
//!
//! One table, [`keys()`], names every setting with its default, what is allowed and what it does. Parsing,
//! [`Config::settings`], the names of the variables and [`Config::sample`] all come from that table. Where objects are
//! kept on S3, the usual AWS variables and profiles say how to reach them: see [`crate::object_store::AwsAccess`].

mod keys;
mod sources;
#[cfg(test)]
mod tests;

use std::fmt;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};

pub use keys::Key;

use url::Url;

use crate::database::Address;
use crate::identity::{ExternalOptions, IdentityOptions, Role};
use crate::{Error, Result};

/// The file that is read when no other is named, if it is there.
pub const DEFAULT_FILE: &str = "safari.toml";

/// Every setting, checked. Made by [`Config::load`].
#[derive(Debug, Clone, PartialEq)]
pub struct Config {
    /// `home`: the folder for state, tables, reports and locks.
    pub home: PathBuf,
    /// `model`: the model folder or TorchScript file; `None` means the one that is shipped.
    pub model: Option<PathBuf>,
    /// `detector.*`
    pub detector: DetectorConfig,
    /// `burst.*`
    pub burst: BurstConfig,
    /// `rollup.*`
    pub rollup: RollupConfig,
    /// `run.*`
    pub run: RunConfig,
    /// `lake.*`
    pub lake: LakeConfig,
    /// `state.*`
    pub state: StateConfig,
    /// `server.*`
    pub server: ServerConfig,
    /// `registry.*`
    pub registry: RegistryConfig,
    /// `serve.*`
    pub serve: ServeConfig,
    /// `collections.*`
    pub collections: CollectionsConfig,
    /// `identity.*`
    pub identity: IdentityConfig,
    /// `tls.*`
    pub tls: TlsConfig,
    /// `log.*`
    pub log: LogConfig,
    /// `logs.*`
    pub logs: LogsConfig,
    /// `history.*`
    pub history: HistoryConfig,
    /// The catalogue that is told of runs.
    pub lineage: LineageConfig,
    /// The collector that is given the spans of runs.
    pub traces: TracesConfig,
    settings: Vec<Setting>,
}

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
}

/// Where the tables are.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct LakeConfig {
    /// A folder or `s3://bucket/prefix`; empty means `<home>/lake`. See [`Config::lake_url`].
    pub url: String,
}

/// Where the state of runs is.
#[derive(Clone, Default, PartialEq)]
pub struct StateConfig {
    /// `sqlite:PATH` or `postgres://…`; empty means `<home>/state.db`. See [`Config::state_address`].
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
    /// `sqlite:PATH` or `postgres://…`; empty means `<home>/registry.db`. See [`Config::registry_address`].
    pub database: String,
    /// A folder or `s3://bucket/prefix`; empty means `<home>/artifacts`. See [`Config::artifacts_url`].
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

/// People's collections of species.
#[derive(Clone, Default, PartialEq)]
pub struct CollectionsConfig {
    /// Whether they are kept.
    pub enabled: bool,
    /// `sqlite:PATH` or `postgres://…`; empty means `<home>/collections.db`. See [`Config::collections_address`].
    pub database: String,
    /// A folder or `s3://bucket/prefix`; empty means `<home>/collections`. See [`Config::pictures_url`].
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
    /// `sqlite:PATH` or `postgres://…`; empty means that of the state. See [`Config::identity_address`].
    pub database: String,
    /// `iss` of our access tokens.
    pub issuer: String,
    /// `aud` of our access tokens.
    pub audience: String,
    /// Requests a second of one identity; 0 means no limit.
    pub requests_per_second: u32,
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
    /// A folder or `s3://bucket/prefix`; empty means `<home>/logs`. See [`Config::logs_url`].
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

/// One setting as it stands, for people to read.
#[derive(Debug, Clone, PartialEq)]
pub struct Setting {
    /// The key, such as `detector.threshold`.
    pub key: &'static str,
    /// The value in force. Secrets are shown as `***`.
    pub value: String,
    /// Where the value comes from.
    pub source: Source,
    /// What the setting does.
    pub help: &'static str,
}

/// Where a value comes from, the weakest first.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Source {
    /// Nobody set it.
    Default,
    /// A settings file.
    File {
        /// The file.
        path: PathBuf,
        /// The line of the key, from 1.
        line: usize,
    },
    /// An environment variable, by name.
    Environment(String),
    /// The command line.
    Flag,
}

impl Config {
    /// Reads all settings.
    ///
    /// `file` must exist when given; without it `./safari.toml` is read if it is there. `flags` are pairs of key and
    /// value from the command line. Empty variables count as not set. Relative paths are relative to the current folder.
    ///
    /// # Errors
    /// [`Error::ConfigFile`], [`Error::UnknownSetting`] with the nearest name, [`Error::InvalidSetting`] with what is
    /// allowed; each names the file and line, the variable, or the command line.
    pub fn load(file: Option<&Path>, flags: &[(String, String)]) -> Result<Config> {
        Self::load_from(file, Path::new(DEFAULT_FILE), std::env::vars_os(), flags)
    }

    /// Every setting with its value and source, in the order of the table.
    pub fn settings(&self) -> &[Setting] {
        &self.settings
    }

    /// A settings file that sets nothing: every key with its help, what is allowed and its default, commented out.
    pub fn sample() -> String {
        keys::sample()
    }

    /// The database for the state of runs: `state.url`, or SQLite in `<home>/state.db`.
    pub fn state_address(&self) -> Address {
        match keys::state_address(&self.state.url) {
            Some(address) if !self.state.url.is_empty() => address,
            _ => Address::Sqlite(self.home.join("state.db")),
        }
    }

    /// The database of the registry: `registry.database`, or SQLite in `<home>/registry.db`.
    pub fn registry_address(&self) -> Address {
        match keys::state_address(&self.registry.database) {
            Some(address) if !self.registry.database.is_empty() => address,
            _ => Address::Sqlite(self.home.join("registry.db")),
        }
    }

    /// The database of people's collections: `collections.database`, or SQLite in `<home>/collections.db`.
    pub fn collections_address(&self) -> Address {
        match keys::state_address(&self.collections.database) {
            Some(address) if !self.collections.database.is_empty() => address,
            _ => Address::Sqlite(self.home.join("collections.db")),
        }
    }

    /// The place of photographs of sightings, a folder or `s3://…`: `collections.pictures`, or `<home>/collections`.
    pub fn pictures_url(&self) -> String {
        if self.collections.pictures.is_empty() {
            return self.home.join("collections").to_string_lossy().into_owned();
        }
        self.collections.pictures.clone()
    }

    /// The database of people and tokens: `identity.database`, or that of the state.
    pub fn identity_address(&self) -> Address {
        match keys::state_address(&self.identity.database) {
            Some(address) if !self.identity.database.is_empty() => address,
            _ => self.state_address(),
        }
    }

    /// What identity is to do.
    pub fn identity_options(&self) -> IdentityOptions {
        let identity = &self.identity;
        let external = (!identity.oidc_issuer.is_empty()).then(|| ExternalOptions {
            issuer: identity.oidc_issuer.clone(),
            audience: identity.oidc_audience.clone(),
            roles_claim: identity.oidc_roles_claim.clone(),
            mapping: identity.oidc_roles.clone(),
        });
        IdentityOptions {
            issuer: identity.issuer.clone(),
            audience: identity.audience.clone(),
            requests_per_second: identity.requests_per_second,
            external,
        }
    }

    /// The place of the registry's files, a folder or `s3://…`: `registry.artifacts`, or `<home>/artifacts`.
    pub fn artifacts_url(&self) -> String {
        if self.registry.artifacts.is_empty() {
            return self.home.join("artifacts").to_string_lossy().into_owned();
        }
        self.registry.artifacts.clone()
    }

    /// The place of the tables, a folder or `s3://…`: `lake.url`, or `<home>/lake`.
    pub fn lake_url(&self) -> String {
        if self.lake.url.is_empty() {
            return self.home.join("lake").to_string_lossy().into_owned();
        }
        self.lake.url.clone()
    }

    /// The place of the logs of attempts, a folder or `s3://…`: `logs.url`, or `<home>/logs`.
    pub fn logs_url(&self) -> String {
        if self.logs.url.is_empty() {
            return self.home.join("logs").to_string_lossy().into_owned();
        }
        self.logs.url.clone()
    }

    fn load_from(
        file: Option<&Path>,
        default_file: &Path,
        environment: impl IntoIterator<Item = (std::ffi::OsString, std::ffi::OsString)>,
        flags: &[(String, String)],
    ) -> Result<Config> {
        let mut given = Vec::new();
        if let Some(path) = file.or_else(|| default_file.is_file().then_some(default_file)) {
            given.extend(sources::from_file(path)?);
        }
        given.extend(sources::from_environment(environment)?);
        given.extend(sources::from_flags(flags)?);

        let mut config = Config::empty();
        for key in keys::all() {
            let strongest = given.iter().rev().find(|value| value.key.name == key.name);
            let (text, source) = match strongest {
                Some(value) => (value.text.as_str(), value.source.clone()),
                None => (key.default, Source::Default),
            };
            if (key.set)(&mut config, text).is_none() {
                return Err(Error::InvalidSetting {
                    key: key.name.to_owned(),
                    value: if key.secret { keys::masked(text) } else { text.to_owned() },
                    origin: source.to_string(),
                    allowed: key.allowed.to_owned(),
                });
            }
            let value = if key.secret { keys::masked(text) } else { text.to_owned() };
            config.settings.push(Setting { key: key.name, value, source, help: key.help });
        }
        Ok(config)
    }

    fn empty() -> Config {
        Config {
            home: PathBuf::new(),
            model: None,
            detector: DetectorConfig::default(),
            burst: BurstConfig::default(),
            rollup: RollupConfig::default(),
            run: RunConfig::default(),
            lake: LakeConfig::default(),
            state: StateConfig::default(),
            server: ServerConfig::default(),
            registry: RegistryConfig::default(),
            serve: ServeConfig::default(),
            collections: CollectionsConfig::default(),
            identity: IdentityConfig::default(),
            tls: TlsConfig::default(),
            log: LogConfig::default(),
            logs: LogsConfig::default(),
            history: HistoryConfig::default(),
            lineage: LineageConfig::default(),
            traces: TracesConfig::default(),
            settings: Vec::new(),
        }
    }
}

/// The database that a URL names, `sqlite:PATH` or `postgres://USER:PASSWORD@HOST/DATABASE`; none for other texts.
pub fn database_address(url: &str) -> Option<Address> {
    keys::state_address(url).filter(|_| !url.is_empty())
}

/// Every setting there is, for command-line help and documentation.
pub fn keys() -> impl Iterator<Item = &'static Key> {
    keys::all()
}

impl fmt::Display for Source {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Source::Default => formatter.write_str("the default"),
            Source::File { path, line } => write!(formatter, "{}, line {line}", path.display()),
            Source::Environment(name) => write!(formatter, "the variable {name}"),
            Source::Flag => formatter.write_str("the command line"),
        }
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
