//! What is sent of a model folder: its own files as they are, and beside them those that make it complete. The folder
//! itself is not changed.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

use serde_json::{Value, json};
use tempfile::TempDir;

use super::manifest::file_paths;
use super::{CARD_FILE, FileEntry, LINEAGE_FILE, Lineage, MANIFEST_FILE, MLMODEL_FILE, Manifest, ModelFolder};
use crate::{Error, Result};

/// What is to be added to a folder.
#[derive(Clone, Debug, Default)]
pub struct StageOptions {
    /// The name that it is registered under, for the card.
    pub name: String,
    /// Where it comes from; a `lineage.json` that is there counts where this says nothing.
    pub lineage: Lineage,
    /// A file that can be shown to the model, if the folder has none.
    pub input_example: Option<PathBuf>,
}

/// A complete model: files by their paths.
#[derive(Debug)]
pub struct Staged {
    /// Path in the model, and the local file.
    pub files: BTreeMap<String, PathBuf>,
    /// Checksums of all of them.
    pub manifest: Manifest,
    /// One sha256 for the files as they were found, without what was added: the same model gives the same.
    pub content: String,
    /// Where it comes from.
    pub lineage: Lineage,
    /// The files that were made.
    _made: TempDir,
}

impl Staged {
    /// Reads a folder and makes what it lacks: checksums, lineage, a card.
    ///
    /// # Errors
    /// The folder is no model, or its checksums say that files have changed.
    pub fn new(folder: &ModelFolder, options: &StageOptions) -> Result<Self> {
        let made = tempfile::tempdir().map_err(|source| io("write", &std::env::temp_dir(), source))?;
        if let Some(manifest) = Manifest::read(folder.path())? {
            manifest.verify(folder.path())?;
        }
        let mut files: BTreeMap<String, PathBuf> = BTreeMap::new();
        for path in file_paths(folder.path())? {
            let file = folder.path().join(&path);
            files.insert(path, file);
        }
        files.remove(MANIFEST_FILE);
        let mut manifest = Manifest::default();
        for (path, file) in &files {
            manifest.files.insert(path.clone(), FileEntry::of_file(file)?);
        }
        let content = manifest.digest();
        let mut put = |path: &str, bytes: &[u8]| -> Result<()> {
            let file = made.path().join(path);
            fs::write(&file, bytes).map_err(|source| io("write", &file, source))?;
            manifest.files.insert(path.to_owned(), FileEntry::of_file(&file)?);
            files.insert(path.to_owned(), file);
            Ok(())
        };
        let lineage = merged(&options.lineage, folder.path())?;
        if !lineage.is_empty() {
            put(LINEAGE_FILE, &lineage.to_text())?;
        }
        if !folder.path().join(CARD_FILE).is_file() {
            put(CARD_FILE, card(&options.name, folder, &lineage).as_bytes())?;
        }
        if let Some(example) = options.input_example.as_ref().filter(|_| folder.input_example().is_none()) {
            let ending = example.extension().map(|ending| format!(".{}", ending.to_string_lossy())).unwrap_or_default();
            let name = format!("input_example{ending}");
            put(&name, &fs::read(example).map_err(|source| io("read", example, source))?)?;
            put(MLMODEL_FILE, with_example(folder.path(), &name)?.as_bytes())?;
        }
        let file = made.path().join(MANIFEST_FILE);
        fs::write(&file, manifest.to_text()).map_err(|source| io("write", &file, source))?;
        files.insert(MANIFEST_FILE.to_owned(), file);
        Ok(Self { files, manifest, content, lineage, _made: made })
    }
}

/// What is given counts more than what the folder says.
fn merged(given: &Lineage, folder: &Path) -> Result<Lineage> {
    let known = Lineage::of_folder(folder)?;
    let given = given.clone();
    Ok(Lineage {
        dag: given.dag.or(known.dag),
        dag_run: given.dag_run.or(known.dag_run),
        training_data: given.training_data.or(known.training_data),
        training_digest: given.training_digest.or(known.training_digest),
        training_table: given.training_table.or(known.training_table),
        training_table_version: given.training_table_version.or(known.training_table_version),
        code_commit: given.code_commit.or(known.code_commit),
        base_model: given.base_model.or(known.base_model),
    })
}

/// The description with an input example; all else stays.
fn with_example(folder: &Path, name: &str) -> Result<String> {
    let unusable = |reason: String| Error::Model { folder: folder.display().to_string(), reason };
    let path = folder.join(MLMODEL_FILE);
    let text = fs::read_to_string(&path).map_err(|source| io("read", &path, source))?;
    let mut description: Value =
        serde_saphyr::from_str(&text).map_err(|error| unusable(format!("{MLMODEL_FILE}: {error}")))?;
    description["saved_input_example_info"] = json!({ "artifact_path": name, "type": "file" });
    serde_saphyr::to_string(&description).map_err(|error| unusable(format!("{MLMODEL_FILE}: {error}")))
}

fn card(name: &str, folder: &ModelFolder, lineage: &Lineage) -> String {
    let description = folder.description();
    let flavors: Vec<&str> = description.flavors.keys().map(String::as_str).collect();
    let mut text = format!("# {name}\n\nFlavors: {}.\n", flavors.join(", "));
    if let Some(time) = &description.utc_time_created {
        text.push_str(&format!("Made: {time} UTC.\n"));
    }
    if let Some(signature) = &description.signature {
        let shown = |part: &Option<String>| part.clone().unwrap_or_else(|| "not said".to_owned());
        text.push_str(&format!(
            "\n## Signature\n- In: `{}`\n- Out: `{}`\n",
            shown(&signature.inputs),
            shown(&signature.outputs)
        ));
    }
    if !lineage.is_empty() {
        text.push_str("\n## Where it comes from\n");
        for tag in lineage.tags() {
            text.push_str(&format!("- {}: {}\n", tag.key.trim_start_matches("safari.").replace('_', " "), tag.value));
        }
    }
    text.push_str("\nNobody has written a card for this model: this one was made when it was registered.\n");
    text
}

fn io(doing: &'static str, path: &Path, source: std::io::Error) -> Error {
    Error::Io { doing, path: path.display().to_string(), source }
}
