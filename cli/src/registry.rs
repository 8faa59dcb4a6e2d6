//! The job kinds of this program, and the secrets that they are given.

use std::path::PathBuf;
use std::sync::{Arc, OnceLock};

use jobs::Services;
use pipeline::{JobRegistry, KnownSecrets, Logs, LogsOptions, Secrets};
use platform::config::Config;
use platform::object_store::Location;

use crate::error::Result;

/// All job kinds. Their logs and errors never show a secret that is known when the program starts, nor one that they are
/// given.
pub(crate) fn registry(services: &Arc<Services>) -> Result<JobRegistry> {
    Ok(jobs::registry(services, &known_secrets(services.config()).masker())?)
}

/// The secrets that this process knows: those that are there when it starts, and those that tasks are given later.
pub(crate) fn known_secrets(config: &Config) -> KnownSecrets {
    static KNOWN: OnceLock<KnownSecrets> = OnceLock::new();
    KNOWN.get_or_init(|| KnownSecrets::new(Secrets::known(Some(&folder(config))))).clone()
}

/// The logs of attempts. They never hold a secret that this process knows.
pub(crate) fn logs(config: &Config) -> Result<Logs> {
    let masking = Arc::new(known_secrets(config));
    let place = Location::parse(&config.logs_url())?;
    Ok(Logs::new(place, LogsOptions { max_bytes: config.logs.max_bytes, masking }))
}

/// Secrets from `SAFARI_SECRET_*` variables and from files in `<home>/secrets`.
pub(crate) fn secrets(config: &Config) -> Secrets {
    Secrets::from_environment(Some(folder(config)))
}

fn folder(config: &Config) -> PathBuf {
    config.home.join("secrets")
}
