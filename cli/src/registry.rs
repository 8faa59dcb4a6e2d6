//! The job kinds of this program, and the secrets that they are given.

use std::path::PathBuf;
use std::sync::Arc;

use jobs::{Masker, Services};
use pipeline::{JobRegistry, Logs, LogsOptions, Secrets};
use platform::config::Config;
use platform::object_store::Location;

use crate::error::Result;

/// All job kinds. Their logs and errors never show a secret that is known when the program starts.
pub(crate) fn registry(services: &Arc<Services>) -> Result<JobRegistry> {
    let masker = Masker::new(Secrets::known(Some(&folder(services.config()))));
    Ok(jobs::registry(services, &masker)?)
}

/// The logs of attempts. They never hold a secret that is known when the program starts.
pub(crate) fn logs(config: &Config) -> Result<Logs> {
    let masking = Arc::new(Masker::new(Secrets::known(Some(&folder(config)))));
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
