//! A model folder: the two networks, the vocabulary and the settings.

use std::fs;
use std::io::Read;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};
use tch::Device;

use crate::liquid::BurstModel;
use crate::networks::Networks;
use crate::taxonomy::{FusionOptions, Taxonomy};
use crate::{Error, Result};

/// The file with what our code needs to run the model.
pub const SETTINGS_FILE: &str = "settings.json";

/// `settings.json` of a model folder.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ModelSettings {
    /// The model's name.
    pub name: String,
    /// File of the boxes network.
    pub detector: String,
    /// File of the crop embedder.
    pub embedder: String,
    /// How the networks' opinions are joined.
    #[serde(default)]
    pub fusion: FusionOptions,
}

/// The name and content of a model: `wildlife-3f2a9c01d4e8`, the digits from the sha256 of its files.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct ModelVersion(String);

impl ModelVersion {
    /// The version as text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl std::fmt::Display for ModelVersion {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&self.0)
    }
}

/// A loaded model.
#[derive(Debug)]
pub struct Model {
    /// The boxes network and the embedder.
    pub networks: Networks,
    /// The vocabulary.
    pub taxonomy: Taxonomy,
    /// The judge of bursts.
    pub liquid: BurstModel,
    version: ModelVersion,
}

impl Model {
    /// Loads the model folder `folder` onto `device`.
    pub fn load(folder: &Path, device: Device) -> Result<Self> {
        let settings = read_settings(folder)?;
        let version = version(folder)?;
        let taxonomy = Taxonomy::load(folder, settings.fusion)?;
        let networks = Networks::load(&folder.join(&settings.detector), &folder.join(&settings.embedder), device)?;
        Ok(Self { networks, taxonomy, liquid: BurstModel, version })
    }

    /// Name and content of the model.
    pub fn version(&self) -> &ModelVersion {
        &self.version
    }
}

/// The name and content of the model in `folder`, without loading it.
pub fn version(folder: &Path) -> Result<ModelVersion> {
    let settings = read_settings(folder)?;
    let mut hasher = Sha256::new();
    for file in [SETTINGS_FILE, "labels.csv", "coco_groups.csv", &settings.detector, &settings.embedder] {
        hash_file(&folder.join(file), &mut hasher)?;
    }
    let digits = hex::encode(&hasher.finalize()[..6]);
    Ok(ModelVersion(format!("{}-{digits}", settings.name)))
}

/// The model folder to use: the configured one, else the one shipped with the program.
///
/// The shipped one is looked for beside the program (`../share/safari/model/wildlife`) and in the source tree.
pub fn locate(configured: Option<&Path>) -> Result<PathBuf> {
    if let Some(folder) = configured {
        return Ok(folder.to_owned());
    }
    let beside = std::env::current_exe()
        .ok()
        .and_then(|program| Some(program.parent()?.parent()?.join("share/safari/model/wildlife")));
    let source = Path::new(env!("CARGO_MANIFEST_DIR")).join("model/wildlife");
    beside.into_iter().chain([source.clone()]).find(|folder| folder.join(SETTINGS_FILE).exists()).ok_or_else(|| {
        Error::ModelFolder {
            path: source,
            reason: "the shipped model is not there; name a model folder with --model or SAFARI_MODEL".to_owned(),
        }
    })
}

fn read_settings(folder: &Path) -> Result<ModelSettings> {
    let broken = |reason: String| Error::ModelFolder { path: folder.to_owned(), reason };
    if !folder.is_dir() {
        return Err(broken("there is no such folder; set --model to a model folder".to_owned()));
    }
    let path = folder.join(SETTINGS_FILE);
    let text = fs::read_to_string(&path).map_err(|error| broken(format!("{SETTINGS_FILE} cannot be read: {error}")))?;
    let settings: ModelSettings =
        serde_json::from_str(&text).map_err(|error| broken(format!("{SETTINGS_FILE}: {error}")))?;
    for file in [&settings.detector, &settings.embedder] {
        if Path::new(file).components().any(|part| !matches!(part, std::path::Component::Normal(_))) {
            return Err(broken(format!("{SETTINGS_FILE} names {file}, which lies outside the folder")));
        }
    }
    Ok(settings)
}

fn hash_file(path: &Path, hasher: &mut Sha256) -> Result<()> {
    let broken = |error: std::io::Error| Error::ModelFolder { path: path.to_owned(), reason: error.to_string() };
    let mut file = fs::File::open(path).map_err(broken)?;
    let mut buffer = vec![0; 1 << 20];
    loop {
        let read = file.read(&mut buffer).map_err(broken)?;
        if read == 0 {
            return Ok(());
        }
        hasher.update(&buffer[..read]);
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn a_missing_folder_says_what_to_do() {
        let error = version(Path::new("/no/such/model")).unwrap_err().to_string();
        assert!(error.contains("/no/such/model") && error.contains("--model"), "{error}");
    }

    #[test]
    fn settings_may_not_point_outside_the_folder() {
        let folder = tempfile::tempdir().unwrap();
        let text = r#"{"name":"x","detector":"../../etc/passwd","embedder":"e.pt"}"#;
        fs::write(folder.path().join(SETTINGS_FILE), text).unwrap();
        assert!(version(folder.path()).unwrap_err().to_string().contains("outside"));
    }
}
