//! A model folder in MLflow's layout: the three networks, the vocabulary and the settings.

mod folder;

use std::fs;
use std::io::Read;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

use crate::device::Device;
use crate::liquid::{BurstModel, LiquidFrame, baselines};
use crate::networks::Networks;
use crate::taxonomy::{FusionOptions, Taxonomy};
use crate::{Error, Result};

/// The file with what our code needs to run the model.
pub const SETTINGS_FILE: &str = "settings.json";

/// The usual name of the liquid network's file.
pub const LIQUID_FILE: &str = "liquid.safetensors";

pub use folder::{Extras, input_example, write_folder};

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
    /// File of the liquid network over bursts. Without one, bursts are judged by the mean of their frames.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub liquid: Option<String>,
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
    /// The judge of bursts, if the model has one.
    pub liquid: Option<BurstModel>,
    version: ModelVersion,
}

impl Model {
    /// Loads the model folder `folder` onto `device`.
    pub fn load(folder: &Path, device: Device) -> Result<Self> {
        let settings = read_settings(folder)?;
        let version = version(folder)?;
        let taxonomy = Taxonomy::load(folder, settings.fusion)?;
        let networks = Networks::load(&folder.join(&settings.detector), &folder.join(&settings.embedder), device)?;
        let liquid = settings.liquid.map(|file| BurstModel::load(&folder.join(file))).transpose()?;
        if let Some(trained_for) = liquid.as_ref().map(BurstModel::taxa)
            && trained_for != taxonomy.taxa().len()
        {
            let reason = format!(
                "the liquid network was trained for {trained_for} taxa, labels.csv has {}; train it again with safari train",
                taxonomy.taxa().len()
            );
            return Err(Error::ModelFolder { path: folder.to_owned(), reason });
        }
        Ok(Self { networks, taxonomy, liquid, version })
    }

    /// Log probabilities over all taxa for the animal that `frames` of a burst show, in order of time.
    pub fn judge(&self, frames: &[LiquidFrame<'_>]) -> Result<Vec<f32>> {
        match &self.liquid {
            Some(liquid) => liquid.judge(frames),
            None => Ok(baselines::mean_of_logits(frames)),
        }
    }

    /// Name and content of the model.
    pub fn version(&self) -> &ModelVersion {
        &self.version
    }
}

/// The name and content of the model in `folder`, without loading it.
pub fn version(folder: &Path) -> Result<ModelVersion> {
    let settings = read_settings(folder)?;
    let digest = digest(folder)?;
    Ok(ModelVersion(format!("{}-{}", settings.name, &digest[..12])))
}

/// The vocabulary of the model in `folder`, without its networks.
pub fn taxonomy(folder: &Path) -> Result<Taxonomy> {
    Taxonomy::load(folder, read_settings(folder)?.fusion)
}

/// The name that the settings of the model in `folder` give it.
pub fn name(folder: &Path) -> Result<String> {
    Ok(read_settings(folder)?.name)
}

/// sha256 in hex of the files that decide what the model answers; its version ends in the first twelve digits.
pub fn digest(folder: &Path) -> Result<String> {
    let settings = read_settings(folder)?;
    let mut hasher = Sha256::new();
    let networks = [Some(&settings.detector), Some(&settings.embedder), settings.liquid.as_ref()];
    let tables = [SETTINGS_FILE, "labels.csv", "clades.csv", "coco_groups.csv"];
    for file in tables.into_iter().chain(networks.into_iter().flatten().map(String::as_str)) {
        // English names above the taxa are optional.
        if file != "clades.csv" || folder.join(file).exists() {
            hash_file(&folder.join(file), &mut hasher)?;
        }
    }
    Ok(hex::encode(hasher.finalize()))
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
    let source = Path::new(env!("WORKSPACE_ROOT")).join("detector/model/wildlife");
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
    for file in [Some(&settings.detector), Some(&settings.embedder), settings.liquid.as_ref()].into_iter().flatten() {
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
