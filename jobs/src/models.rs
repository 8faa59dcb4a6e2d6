//! Where models are: a folder, a bucket, a registry.

use std::path::{Path, PathBuf};

use futures::StreamExt;
use model_registry::client::{Progress, Source};
use model_registry::register;
use platform::object_store::{self, Location};
use tempfile::TempDir;

use crate::services::Services;
use crate::{Error, Result};

/// The file of a model folder that is written last: with it the folder is whole.
const DESCRIPTION: &str = "MLmodel";

/// A model folder on this machine. One that was fetched is removed when this is dropped.
#[derive(Debug)]
pub(crate) struct FetchedModel {
    pub(crate) folder: PathBuf,
    /// Name and version in the registry, of a model that came from there.
    pub(crate) registered: Option<(String, i64)>,
    _fetched: Option<TempDir>,
}

impl FetchedModel {
    fn local(folder: PathBuf) -> Self {
        Self { folder, registered: None, _fetched: None }
    }
}

/// Fetches the model that `reference` names: a folder, `s3://bucket/prefix`, `models:/…` or `runs:/…`; nothing for the
/// configured model.
pub(crate) async fn fetch(services: &Services, reference: Option<&str>) -> Result<FetchedModel> {
    let Some(reference) = reference.filter(|reference| !reference.is_empty()) else {
        let configured = services.config().model.clone();
        return Ok(FetchedModel::local(detector::model::locate(configured.as_deref())?));
    };
    if is_of_registry(reference) {
        return of_registry(services, &reference.parse::<Source>()?).await;
    }
    let location = Location::parse(reference)?;
    if let Location::Local(folder) = &location {
        if !folder.is_dir() {
            return Err(unusable(reference, "there is no such folder; name a model folder"));
        }
        return Ok(FetchedModel::local(folder.clone()));
    }
    download(reference, &location).await
}

/// As [`fetch`]; nothing for an alias or version of a registry that is not there.
pub(crate) async fn fetch_if_there(services: &Services, reference: &str) -> Result<Option<FetchedModel>> {
    if is_of_registry(reference) {
        let client = services.registry().await?;
        let found = match reference.parse::<Source>()? {
            Source::Alias(name, alias) => client.version_by_alias(&name, &alias).await?.is_some(),
            Source::Version(name, version) => client.version(&name, version).await?.is_some(),
            Source::Latest(_) | Source::Logged(_) | Source::Run(..) => true,
        };
        if !found {
            return Ok(None);
        }
    }
    fetch(services, Some(reference)).await.map(Some)
}

/// Copies the model folder `folder` to the folder or bucket `target`, its description last.
pub(crate) async fn publish(folder: &Path, target: &Location) -> Result<()> {
    let store = object_store::open(target).await?;
    let mut files: Vec<(String, PathBuf)> = Vec::new();
    for entry in std::fs::read_dir(folder).map_err(Error::write(folder))? {
        let path = entry.map_err(Error::write(folder))?.path();
        let name = path.file_name().map(|name| name.to_string_lossy().into_owned());
        files.extend(name.filter(|_| path.is_file()).map(|name| (name, path)));
    }
    files.sort_by_key(|(name, _)| (name == DESCRIPTION, name.clone()));
    for (name, path) in files {
        store.put_file(&name, &path).await?;
    }
    Ok(())
}

fn is_of_registry(reference: &str) -> bool {
    reference.starts_with("models:") || reference.starts_with("runs:")
}

async fn of_registry(services: &Services, source: &Source) -> Result<FetchedModel> {
    let client = services.registry().await?;
    // An alias may be moved meanwhile: what is fetched is the version that it names now.
    let (source, registered) = match source {
        Source::Logged(_) | Source::Run(..) => (source.clone(), None),
        Source::Version(..) | Source::Alias(..) | Source::Latest(_) => {
            let version = client.find_version(source).await?;
            (Source::Version(version.name.clone(), version.version), Some((version.name, version.version.0)))
        }
    };
    let fetched = temporary()?;
    let folder = fetched.path().join("model");
    // The checksums of its files are looked at, too.
    register::fetch(client, &source, &folder, &Progress::default()).await?;
    Ok(FetchedModel { folder, registered, _fetched: Some(fetched) })
}

fn temporary() -> Result<TempDir> {
    let folder = tempfile::Builder::new().prefix("safari-model-").tempdir();
    folder.map_err(Error::write(std::env::temp_dir()))
}

async fn download(reference: &str, location: &Location) -> Result<FetchedModel> {
    let store = object_store::open(location).await?;
    let fetched = temporary()?;
    let mut objects = store.list("");
    let mut count = 0;
    while let Some(object) = objects.next().await {
        let object = object?;
        let file = fetched.path().join(&object.key);
        if let Some(parent) = file.parent() {
            std::fs::create_dir_all(parent).map_err(Error::write(parent))?;
        }
        store.download(&object.key, &file).await?;
        count += 1;
    }
    if count == 0 {
        return Err(unusable(reference, "nothing is there; name a model folder"));
    }
    Ok(FetchedModel { folder: fetched.path().to_owned(), registered: None, _fetched: Some(fetched) })
}

fn unusable(model: &str, reason: &str) -> Error {
    Error::Model { model: model.to_owned(), reason: reason.to_owned() }
}
