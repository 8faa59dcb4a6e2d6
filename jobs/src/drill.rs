//! Whether the newest backup can be relied on: it is restored, asked, and one of its models is run.

use std::sync::Arc;

use ::backup::drill::{Drill, Scratch, begin};
use ::backup::{PartName, Places, Progress, Repository, What};
use detector::model;
use platform::config::Config;
use platform::database::Address;
use serde::Serialize;

use crate::models;
use crate::promote::show;
use crate::services::Services;
use crate::{Error, Result};

/// Versions that are looked at for one that can be run, the newest first.
const LOOKED_AT: usize = 10;

/// What a drill found.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Report {
    /// What was restored and what its tables answer.
    #[serde(flatten)]
    pub restored: Drill,
    /// Whether a model of the restored registry works.
    pub inference: Inference,
}

/// Whether a model was run.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case", tag = "result")]
pub enum Inference {
    /// It was shown its input example and gave numbers.
    Ran {
        /// As `models:/name/version`.
        model: String,
    },
    /// None was run.
    LeftOut {
        /// Why.
        reason: String,
    },
}

/// Restores the newest verified backup of `what` into a folder of the home that is removed afterwards, compares rows, files
/// and checksums, asks its tables, and shows the newest of Safari's
/// models that has an input example that example.
///
/// # Errors
/// Whatever shows that the backup cannot be relied on.
pub async fn drill(services: &Arc<Services>, what: What, progress: &Progress) -> Result<Report> {
    let config = services.config();
    let (repository, places) = (Repository::of(config).await?, Places::of(config)?);
    std::fs::create_dir_all(&config.home).map_err(Error::write(&config.home))?;
    let folder = tempfile::Builder::new()
        .prefix(".safari-tmp-drill-")
        .tempdir_in(&config.home)
        .map_err(Error::write(&config.home))?;
    let scratch = begin(&repository, &places, what, &folder.path().join("home"), progress).await?;
    let looked = look(config, &places, &scratch).await;
    scratch.remove().await;
    looked
}

async fn look(config: &Config, places: &Places, scratch: &Scratch) -> Result<Report> {
    Ok(Report { restored: scratch.look().await?, inference: infer(config, places, scratch).await? })
}

async fn infer(config: &Config, places: &Places, scratch: &Scratch) -> Result<Inference> {
    let left_out = |reason: &str| Ok(Inference::LeftOut { reason: reason.to_owned() });
    if !cfg!(feature = "torch") {
        return left_out("this program has no networks");
    }
    if !scratch.has(PartName::Artifacts) {
        return left_out("the backup has no models");
    }
    // Where databases share an address, the part that has it is named after the first of them.
    let part = places.databases.iter().find(|(_, address)| *address == config.registry_address());
    let Some(database) = part.and_then(|(part, _)| scratch.places.database(*part)) else {
        return left_out("the backup has no registry");
    };
    let services = Arc::new(Services::new(of_scratch(config, scratch, database)));
    let client = services.registry().await?;
    let mut versions = client.all_versions("").await?;
    versions.sort_by_key(|version| std::cmp::Reverse(version.creation_timestamp));
    for version in versions.iter().take(LOOKED_AT) {
        let reference = format!("models:/{}/{}", version.name, version.version);
        let fetched = models::fetch(&services, Some(&reference)).await?;
        // Others may keep models of their own kind in the registry.
        let is_ours = model::version(&fetched.folder).is_ok();
        let example = model::input_example(&fetched.folder).ok().flatten();
        if let Some(example) = example.filter(|_| is_ours) {
            show(&services, &reference, &fetched.folder, example).await?;
            return Ok(Inference::Ran { model: reference });
        }
    }
    left_out("none of the newest registered models is one of Safari's with an input example")
}

/// The settings with the restored registry in the place of the real one.
fn of_scratch(config: &Config, scratch: &Scratch, database: &Address) -> Config {
    let mut config = config.clone();
    config.home = scratch.places.home.clone();
    config.registry.url = String::new();
    config.registry.database = match database {
        Address::Sqlite(path) => format!("sqlite:{}", path.display()),
        Address::Postgres(url) => url.clone(),
    };
    config.registry.artifacts = scratch.places.artifacts.to_string();
    config
}
