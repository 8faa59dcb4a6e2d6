//! Settings: the file `safari.toml`, then `SAFARI_*` variables, then the command line; the later wins.
//!
//! One table, [`keys()`], names every setting with its default, what is allowed and what it does. Parsing,
//! [`Config::settings`], the names of the variables and [`Config::sample`] all come from that table. Where objects are
//! kept on S3, the usual AWS variables and profiles say how to reach them: see [`crate::object_store::AwsAccess`].

mod keys;
mod sections;
mod sources;
#[cfg(test)]
mod tests;

use std::fmt;
use std::path::{Path, PathBuf};

pub use keys::Key;
pub use sections::{
    BackupConfig, BurstConfig, CollectionsConfig, DefaultExecutor, DetectorConfig, Device, HistoryConfig,
    IdentityConfig, KubernetesConfig, LakeConfig, LineageConfig, LogConfig, LogsConfig, RegistryConfig, RolloutConfig,
    RollupConfig, RunConfig, ServeConfig, ServerConfig, StateConfig, TlsConfig, TracesConfig,
};

use crate::database::Address;
use crate::identity::{ExternalOptions, IdentityOptions};
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
    /// `kubernetes.*`
    pub kubernetes: KubernetesConfig,
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
    /// `rollout.*`
    pub rollout: RolloutConfig,
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
    /// `backup.*`
    pub backup: BackupConfig,
    /// The catalogue that is told of runs.
    pub lineage: LineageConfig,
    /// The collector that is given the spans of runs.
    pub traces: TracesConfig,
    settings: Vec<Setting>,
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

    /// The place of backups, a folder or `s3://…`: `backup.url`, or `<home>/backups`.
    pub fn backup_url(&self) -> String {
        if self.backup.url.is_empty() {
            return self.home.join("backups").to_string_lossy().into_owned();
        }
        self.backup.url.clone()
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
            kubernetes: KubernetesConfig::default(),
            lake: LakeConfig::default(),
            state: StateConfig::default(),
            server: ServerConfig::default(),
            registry: RegistryConfig::default(),
            serve: ServeConfig::default(),
            rollout: RolloutConfig::default(),
            collections: CollectionsConfig::default(),
            identity: IdentityConfig::default(),
            tls: TlsConfig::default(),
            log: LogConfig::default(),
            logs: LogsConfig::default(),
            history: HistoryConfig::default(),
            backup: BackupConfig::default(),
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
