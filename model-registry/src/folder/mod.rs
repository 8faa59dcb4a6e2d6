//! Model folders, as MLflow has them: `MLmodel` and the files that it names. Ours have, beside it, the sha256 of every
//! file, where the model comes from, and a card for people.

mod lineage;
mod manifest;
mod stage;

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use serde::Deserialize;
use serde_json::Value;

use crate::{Error, Result};

pub use lineage::{LINEAGE_FILE, Lineage};
pub(crate) use manifest::file_paths;
pub use manifest::{FileEntry, MANIFEST_FILE, Manifest};
pub use stage::{StageOptions, Staged};

/// The description that MLflow reads.
pub const MLMODEL_FILE: &str = "MLmodel";
/// The card.
pub const CARD_FILE: &str = "README.md";

/// A folder with a description.
#[derive(Clone, Debug, PartialEq)]
pub struct ModelFolder {
    path: PathBuf,
    description: Mlmodel,
}

/// What `MLmodel` says, as far as we read it. Other fields stay as they are.
#[derive(Clone, Debug, Default, Deserialize, PartialEq)]
pub struct Mlmodel {
    /// How the model can be loaded.
    #[serde(default)]
    pub flavors: BTreeMap<String, Value>,
    /// What goes in and comes out, as MLflow's JSON texts.
    #[serde(default)]
    pub signature: Option<Signature>,
    /// A file that can be shown to the model.
    #[serde(default)]
    pub saved_input_example_info: Option<InputExample>,
    /// Any.
    #[serde(default)]
    pub metadata: Option<Value>,
    /// MLflow's id of the model.
    #[serde(default)]
    pub model_uuid: Option<String>,
    /// When it was made.
    #[serde(default)]
    pub utc_time_created: Option<String>,
}

/// JSON texts of columns or tensors.
#[derive(Clone, Debug, Default, Deserialize, PartialEq, Eq)]
pub struct Signature {
    /// What goes in.
    #[serde(default)]
    pub inputs: Option<String>,
    /// What comes out.
    #[serde(default)]
    pub outputs: Option<String>,
}

/// Where an input example lies.
#[derive(Clone, Debug, Default, Deserialize, PartialEq, Eq)]
pub struct InputExample {
    /// Relative to the folder.
    pub artifact_path: String,
}

impl ModelFolder {
    /// Reads the description.
    ///
    /// # Errors
    /// There is no folder or no description, or it cannot be read.
    pub fn open(path: &Path) -> Result<Self> {
        let unusable = |reason: String| Error::Model { folder: path.display().to_string(), reason };
        if !path.is_dir() {
            return Err(unusable("there is no such folder".to_owned()));
        }
        let file = path.join(MLMODEL_FILE);
        let text = match std::fs::read_to_string(&file) {
            Ok(text) => text,
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => {
                return Err(unusable(format!("it has no file {MLMODEL_FILE}; save the model as MLflow does")));
            }
            Err(error) => return Err(unusable(format!("{MLMODEL_FILE} cannot be read: {error}"))),
        };
        let description = Mlmodel::parse(&text).map_err(|reason| unusable(format!("{MLMODEL_FILE}: {reason}")))?;
        Ok(Self { path: path.to_owned(), description })
    }

    /// Where it is.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// What it says of itself.
    pub fn description(&self) -> &Mlmodel {
        &self.description
    }

    /// The file that can be shown to the model, if there is one.
    pub fn input_example(&self) -> Option<PathBuf> {
        let info = self.description.saved_input_example_info.as_ref()?;
        let path = crate::artifacts::ArtifactPath::parse(&info.artifact_path).ok()?;
        Some(self.path.join(path.as_str())).filter(|file| file.is_file())
    }

    /// What a complete model has and this one has not, for people.
    pub fn missing(&self) -> Vec<&'static str> {
        let mut missing = Vec::new();
        if self.description.signature.as_ref().is_none_or(|signature| signature.inputs.is_none()) {
            missing.push("a signature");
        }
        if self.input_example().is_none() {
            missing.push("an input example");
        }
        if !self.path.join(CARD_FILE).is_file() {
            missing.push("a model card (README.md)");
        }
        missing
    }
}

impl Mlmodel {
    /// Reads the text of a description.
    ///
    /// # Errors
    /// What is wrong with it.
    pub fn parse(text: &str) -> std::result::Result<Self, String> {
        serde_saphyr::from_str(text).map_err(|error| error.to_string())
    }
}

/// Checks the files of a folder against its list of checksums; `false` if it has none.
///
/// # Errors
/// [`Error::Model`] that names the first file that is not what it was.
pub fn verify(folder: &Path) -> Result<bool> {
    match Manifest::read(folder)? {
        Some(manifest) => manifest.verify(folder).map(|()| true),
        None => Ok(false),
    }
}
