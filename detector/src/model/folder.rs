//! Writing a model folder: the files, and the `MLmodel` that describes them to MLflow.

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use chrono::{DateTime, Utc};
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use super::{LIQUID_FILE, SETTINGS_FILE, read_settings, version};
use crate::preprocess::{CROP_MARGIN, DETECTOR_SIDE, EMBEDDER_SIDE};
use crate::{Error, Result};

/// The description that MLflow reads.
const MLMODEL_FILE: &str = "MLmodel";

/// How the liquid network was judged.
const METRICS_FILE: &str = "metrics.json";

/// The model's card.
const CARD_FILE: &str = "README.md";

/// The input example, as MLflow's client writes the split form of a table.
const EXAMPLE_FILE: &str = "input_example.json";

/// Files that a model has beside its networks and settings; those that are there are copied.
const COPIED: [&str; 6] =
    ["labels.csv", "clades.csv", "coco_groups.csv", "LICENSE.coco-ssd", "LICENSE.efficientnet-lite0", CARD_FILE];

/// What a model folder holds beside the model.
#[derive(Debug, Clone, Default)]
pub struct Extras {
    /// A photograph or video that the model can be tried with.
    pub example: Option<Vec<u8>>,
    /// Further files by their names; they go before those of the base model.
    pub files: Vec<(String, Vec<u8>)>,
}

/// Format of <https://mlflow.org/docs/latest/ml/model/> as of MLflow 3.
#[derive(Debug, Serialize)]
struct MlModel {
    artifact_path: String,
    flavors: BTreeMap<&'static str, Value>,
    metadata: Value,
    mlflow_version: &'static str,
    model_size_bytes: u64,
    model_uuid: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    saved_input_example_info: Option<Value>,
    signature: BTreeMap<&'static str, Option<String>>,
    utc_time_created: String,
}

/// Writes the model in `base`, with the liquid network in the file `weights`, to the folder `target`.
///
/// `metrics` becomes `metrics.json`. Every file appears whole; the description comes last. `base` and `target` may be
/// the same folder.
pub fn write_folder(
    base: &Path,
    target: &Path,
    weights: &Path,
    metrics: &impl Serialize,
    extras: &Extras,
) -> Result<()> {
    fs::create_dir_all(target).map_err(Error::io(target))?;
    let mut settings = read_settings(base)?;
    for file in COPIED.into_iter().chain([settings.detector.as_str(), settings.embedder.as_str()]) {
        let (from, to) = (base.join(file), target.join(file));
        if from.exists() && !same_file(&from, &to) {
            write_whole(&to, &fs::read(&from).map_err(Error::io(&from))?)?;
        }
    }
    write_whole(&target.join(LIQUID_FILE), &fs::read(weights).map_err(Error::io(weights))?)?;
    write_json(&target.join(METRICS_FILE), metrics)?;
    settings.liquid = Some(LIQUID_FILE.to_owned());
    write_json(&target.join(SETTINGS_FILE), &settings)?;
    for (name, bytes) in &extras.files {
        write_whole(&target.join(name), bytes)?;
    }
    if let Some(example) = &extras.example {
        write_json(&target.join(EXAMPLE_FILE), &json!({ "columns": ["media"], "data": [[STANDARD.encode(example)]] }))?;
    }
    describe(target, Utc::now())
}

/// The bytes of the photograph or video that the model in `folder` can be tried with; none if it has no input example.
/// The example is a table in JSON, as MLflow's client writes it, or the medium itself.
///
/// # Errors
/// [`Error::ModelFolder`] for an example that is no table with a column `media` in base64.
pub fn input_example(folder: &Path) -> Result<Option<Vec<u8>>> {
    #[derive(Deserialize)]
    struct Description {
        #[serde(default)]
        saved_input_example_info: Option<Info>,
    }
    #[derive(Deserialize)]
    struct Info {
        artifact_path: String,
    }
    #[derive(Deserialize)]
    struct Table {
        columns: Vec<String>,
        data: Vec<Vec<Value>>,
    }
    let broken = |reason: String| Error::ModelFolder { path: folder.to_owned(), reason };
    let description: Option<Description> = read_description(folder)?;
    let Some(info) = description.and_then(|description| description.saved_input_example_info) else { return Ok(None) };
    if Path::new(&info.artifact_path).components().any(|part| !matches!(part, std::path::Component::Normal(_))) {
        return Err(broken(format!("{MLMODEL_FILE} names {}, which lies outside the folder", info.artifact_path)));
    }
    let path = folder.join(&info.artifact_path);
    let bytes = fs::read(&path).map_err(Error::io(&path))?;
    if path.extension().is_none_or(|ending| ending != "json") {
        return Ok(Some(bytes));
    }
    let table: Table =
        serde_json::from_slice(&bytes).map_err(|error| broken(format!("{}: {error}", info.artifact_path)))?;
    let column = table.columns.iter().position(|column| column == "media");
    let cell = column.and_then(|column| table.data.first()?.get(column)?.as_str());
    // Python's encoder breaks lines.
    let text: Option<String> = cell.map(|cell| cell.split_ascii_whitespace().collect());
    let media = text.and_then(|text| STANDARD.decode(text).ok());
    media.map(Some).ok_or_else(|| broken(format!("{} has no column `media` in base64", info.artifact_path)))
}

/// Writes the `MLmodel` of the model in `folder`.
pub fn describe(folder: &Path, created: DateTime<Utc>) -> Result<()> {
    let settings = read_settings(folder)?;
    let version = version(folder)?;
    let mut size = 0;
    for entry in fs::read_dir(folder).map_err(Error::io(folder))? {
        let path = entry.map_err(Error::io(folder))?.path();
        // The card may be edited after the fact.
        if path.file_name().is_some_and(|name| name != MLMODEL_FILE && name != CARD_FILE) {
            size += path.metadata().map_err(Error::io(&path))?.len();
        }
    }
    let digest = uuid_of(version.as_str());
    let example = folder.join(EXAMPLE_FILE).exists();
    let example =
        example.then(|| json!({ "artifact_path": EXAMPLE_FILE, "pandas_orient": "split", "type": "dataframe" }));
    let description = MlModel {
        artifact_path: settings.name.clone(),
        flavors: BTreeMap::from([(
            "safari",
            json!({
                "safari_version": env!("CARGO_PKG_VERSION"),
                "settings": SETTINGS_FILE,
                "detector": settings.detector,
                "embedder": settings.embedder,
                "liquid": settings.liquid,
                "labels": "labels.csv",
                "libtorch": "2.11.0",
            }),
        )]),
        metadata: json!({ "version": version.as_str(), "preprocessing": preprocessing() }),
        mlflow_version: "3.17.2",
        model_size_bytes: size,
        model_uuid: digest,
        saved_input_example_info: example,
        signature: signature(),
        utc_time_created: created.format("%Y-%m-%d %H:%M:%S%.6f").to_string(),
    };
    let text = serde_saphyr::to_string(&description)
        .map_err(|error| Error::ModelFolder { path: folder.to_owned(), reason: error.to_string() })?;
    write_whole(&folder.join(MLMODEL_FILE), text.as_bytes())
}

fn read_description<T: serde::de::DeserializeOwned>(folder: &Path) -> Result<Option<T>> {
    let path = folder.join(MLMODEL_FILE);
    if !path.exists() {
        return Ok(None);
    }
    let text = fs::read_to_string(&path).map_err(Error::io(&path))?;
    let read = serde_saphyr::from_str(&text);
    read.map(Some)
        .map_err(|error| Error::ModelFolder { path: folder.to_owned(), reason: format!("{MLMODEL_FILE}: {error}") })
}

/// What turns media bytes into the networks' inputs.
fn preprocessing() -> Value {
    json!({
        "orientation": "EXIF orientation applied",
        "resize": "bilinear, antialiased, stretched",
        "detector": { "shape": ["N", DETECTOR_SIDE, DETECTOR_SIDE, 3], "dtype": "uint8", "channels": "RGB" },
        "embedder": {
            "shape": ["N", EMBEDDER_SIDE, EMBEDDER_SIDE, 3],
            "dtype": "uint8",
            "channels": "RGB",
            "crop": format!("box grown by {:.0} % a side, clipped", CROP_MARGIN * 100.0),
        },
        "liquid": "frames of one animal in order of time, with the real gaps between them in seconds",
    })
}

/// One photograph or video in, its boxes out, in MLflow's column format.
fn signature() -> BTreeMap<&'static str, Option<String>> {
    let column = |name: &str, kind: &str, required: bool| json!({"type": kind, "name": name, "required": required});
    let inputs = json!([column("media", "binary", true)]);
    let outputs = json!([
        column("frame", "long", true),
        json!({"type": "array", "items": {"type": "double"}, "name": "bbox", "required": true}),
        column("category", "string", true),
        column("confidence", "double", true),
        column("species", "string", false),
        column("scientific_name", "string", false),
        column("rank", "string", false),
        column("species_confidence", "double", false),
    ]);
    BTreeMap::from([("inputs", Some(inputs.to_string())), ("outputs", Some(outputs.to_string())), ("params", None)])
}

/// The same 32 digits for the same version, as MLflow's ids look.
fn uuid_of(version: &str) -> String {
    use sha2::{Digest, Sha256};
    hex::encode(&Sha256::digest(version)[..16])
}

fn same_file(a: &Path, b: &Path) -> bool {
    matches!((a.canonicalize(), b.canonicalize()), (Ok(a), Ok(b)) if a == b)
}

fn write_json(path: &Path, value: &impl Serialize) -> Result<()> {
    let text = serde_json::to_string_pretty(value)
        .map_err(|error| Error::ModelFolder { path: path.to_owned(), reason: error.to_string() })?;
    write_whole(path, format!("{text}\n").as_bytes())
}

/// Writes beside the file and renames, so that nobody sees half of it.
fn write_whole(path: &Path, bytes: &[u8]) -> Result<()> {
    let folder = path.parent().unwrap_or(Path::new("."));
    let mut file = tempfile::NamedTempFile::new_in(folder).map_err(Error::io(folder))?;
    std::io::Write::write_all(&mut file, bytes).map_err(Error::io(path))?;
    let readable = std::os::unix::fs::PermissionsExt::from_mode(0o644);
    file.as_file().set_permissions(readable).map_err(Error::io(path))?;
    file.persist(path).map(drop).map_err(|error| Error::io(path)(error.error))
}
