//! Where a model comes from.

use std::path::{Path, PathBuf};
use std::str::FromStr;

use detector::model;
use model_registry::client::{Client, Source};
use model_registry::folder;
use platform::config::Config;
use tracing::info;

use crate::{Error, Result};

/// What is to be served.
#[derive(Debug, Clone, PartialEq)]
pub enum ModelSource {
    /// The model that comes with the program.
    Shipped,
    /// A model folder.
    Folder(PathBuf),
    /// A TorchScript file, or a folder with one and its `signature.yaml`, without the parts of a detection model: it is
    /// served over the Open Inference Protocol only.
    TorchScript(PathBuf),
    /// A version in the registry.
    Registry(Source),
}

/// A model's files on this machine.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Fetched {
    /// The folder.
    pub folder: PathBuf,
    /// What names it, such as `models:/wildlife/3`, `folder` or `shipped`.
    pub source: String,
}

impl FromStr for ModelSource {
    type Err = Error;

    /// `models:/NAME@ALIAS`, `models:/NAME/VERSION`, `shipped`, or a path.
    fn from_str(text: &str) -> Result<Self> {
        if text.starts_with("models:") || text.starts_with("runs:") {
            let source = text.parse().map_err(|error| Error::Setup(format!("{error}")))?;
            return Ok(Self::Registry(source));
        }
        if text == "shipped" {
            return Ok(Self::Shipped);
        }
        Ok(Self::of_path(Path::new(text)))
    }
}

impl ModelSource {
    /// The model of the settings: `model` (or `MODEL_PATH`), else the shipped one.
    ///
    /// # Errors
    /// `model` names no model.
    pub fn of(config: &Config) -> Result<Self> {
        match &config.model {
            Some(path) => path.to_string_lossy().parse(),
            None => Ok(Self::Shipped),
        }
    }

    fn of_path(path: &Path) -> Self {
        let is_file = path.extension().is_some_and(|extension| extension == "pt");
        // A folder of a plain model names its tensors.
        if is_file || path.join("signature.yaml").is_file() {
            Self::TorchScript(path.to_owned())
        } else {
            Self::Folder(path.to_owned())
        }
    }

    /// Whether what it names can change.
    pub fn moves(&self) -> bool {
        matches!(self, Self::Registry(Source::Alias(..) | Source::Latest(_)))
    }

    /// What it names now, such as `models:/wildlife/3`.
    ///
    /// # Errors
    /// The registry does not answer, or there is no such version.
    pub async fn names(&self, config: &Config) -> Result<String> {
        match self {
            Self::Shipped => Ok("shipped".to_owned()),
            Self::Folder(_) | Self::TorchScript(_) => Ok("folder".to_owned()),
            Self::Registry(source @ (Source::Logged(_) | Source::Run(..))) => Ok(source.to_string()),
            Self::Registry(source) => {
                let client = Client::open(config).await.map_err(registry)?;
                let version = client.find_version(source).await.map_err(registry)?;
                Ok(Source::Version(version.name, version.version).to_string())
            }
        }
    }

    /// Brings the files here, unless they are, and checks their checksums.
    ///
    /// # Errors
    /// The registry does not answer, there is no such version, or a file is not what it was.
    pub async fn fetch(&self, config: &Config) -> Result<Fetched> {
        match self {
            Self::Shipped => checked(model::locate(None).map_err(unusable)?, "shipped").await,
            Self::Folder(folder) => checked(folder.clone(), "folder").await,
            Self::TorchScript(file) => Err(Error::NotConfigured(format!(
                "{} is one TorchScript file, which has no names of species: it is served under /v2 only",
                file.file_name().unwrap_or_default().to_string_lossy()
            ))),
            Self::Registry(_) => self.download(config).await,
        }
    }

    async fn download(&self, config: &Config) -> Result<Fetched> {
        let source = self.names(config).await?;
        let wanted: Source = source.parse().map_err(registry)?;
        let folder = config.home.join("models").join(folder_name(&source));
        let verified = |folder: PathBuf| tokio::task::spawn_blocking(move || folder::verify(&folder));
        if folder.is_dir() && matches!(verified(folder.clone()).await, Ok(Ok(true))) {
            return Ok(Fetched { folder, source });
        }
        let client = Client::open(config).await.map_err(registry)?;
        let (uri, _) = client.find_files(&wanted).await.map_err(registry)?;
        let files = client.files(&uri).await.map_err(registry)?;
        let parent = config.home.join("models");
        let io = |error: std::io::Error| Error::Setup(format!("{}: {error}", parent.display()));
        tokio::fs::create_dir_all(&parent).await.map_err(io)?;
        let temporary = platform_temporary(&parent).map_err(io)?;
        files.download_all(&temporary.0, &Default::default()).await.map_err(registry)?;
        let fetched = checked(temporary.0.clone(), &source).await?;
        // What was there has failed its check or is incomplete.
        let _ = tokio::fs::remove_dir_all(&folder).await;
        tokio::fs::rename(&fetched.folder, &folder).await.map_err(io)?;
        info!(%source, folder = %folder.display(), "a model was downloaded");
        Ok(Fetched { folder, source })
    }
}

/// A folder that is removed unless it was moved away.
struct Temporary(PathBuf);

impl Drop for Temporary {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.0);
    }
}

fn platform_temporary(parent: &Path) -> std::io::Result<Temporary> {
    let folder = parent.join(format!(".{}", uuid::Uuid::new_v4()));
    std::fs::create_dir(&folder)?;
    Ok(Temporary(folder))
}

async fn checked(folder: PathBuf, source: &str) -> Result<Fetched> {
    let path = folder.clone();
    let verified = tokio::task::spawn_blocking(move || folder::verify(&path)).await;
    match verified {
        // Folders without checksums are the owner's affair.
        Ok(Ok(_)) => Ok(Fetched { folder, source: source.to_owned() }),
        Ok(Err(error)) => Err(Error::Setup(error.to_string())),
        Err(error) => Err(Error::Setup(error.to_string())),
    }
}

/// `models:/wildlife/3` as the name of a folder.
fn folder_name(source: &str) -> String {
    let usable = |c: char| if c.is_ascii_alphanumeric() || matches!(c, '-' | '_' | '.') { c } else { '_' };
    let readable: String = source.trim_start_matches("models:/").chars().map(usable).take(80).collect();
    // Two names may differ in what was replaced only.
    let digest = <sha2::Sha256 as sha2::Digest>::digest(source.as_bytes());
    format!("{readable}-{}", hex::encode(&digest[..4]))
}

fn registry(error: model_registry::Error) -> Error {
    Error::Upstream(format!("the registry: {error}"))
}

fn unusable(error: detector::Error) -> Error {
    Error::Setup(error.to_string())
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn sources_are_told_apart() {
        let source = |text: &str| text.parse::<ModelSource>().unwrap();
        assert!(matches!(source("models:/wildlife@champion"), ModelSource::Registry(Source::Alias(..))));
        assert!(source("models:/wildlife@champion").moves());
        assert!(!source("models:/wildlife/3").moves());
        assert!(matches!(source("/models/net.pt"), ModelSource::TorchScript(_)));
        assert!(matches!(source("/models/wildlife"), ModelSource::Folder(_)));
        assert!("models:/".parse::<ModelSource>().is_err());
    }
}
