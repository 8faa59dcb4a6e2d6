//! Writing a model folder: the files, and the `MLmodel` that describes them to MLflow.

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;

use chrono::{DateTime, Utc};
use serde::Serialize;
use serde_json::{Value, json};

use super::{LIQUID_FILE, SETTINGS_FILE, read_settings, version};
use crate::preprocess::{CROP_MARGIN, DETECTOR_SIDE, EMBEDDER_SIDE};
use crate::{Error, Result};

/// The description that MLflow reads.
const MLMODEL_FILE: &str = "MLmodel";

/// How the liquid network was judged.
const METRICS_FILE: &str = "metrics.json";

/// Files that a model has beside its networks and settings; those that are there are copied.
const COPIED: [&str; 6] =
    ["labels.csv", "clades.csv", "coco_groups.csv", "LICENSE.coco-ssd", "LICENSE.efficientnet-lite0", "README.md"];

/// Format of <https://mlflow.org/docs/latest/ml/model/> as of MLflow 3.
#[derive(Debug, Serialize)]
struct MlModel {
    artifact_path: String,
    flavors: BTreeMap<&'static str, Value>,
    metadata: Value,
    mlflow_version: &'static str,
    model_size_bytes: u64,
    model_uuid: String,
    signature: BTreeMap<&'static str, Option<String>>,
    utc_time_created: String,
}

/// Writes the model in `base`, with the liquid network in the file `weights`, to the folder `target`.
///
/// `metrics` becomes `metrics.json`. Every file appears whole; the description comes last. `base` and `target` may be
/// the same folder.
pub fn write_folder(base: &Path, target: &Path, weights: &Path, metrics: &impl Serialize) -> Result<()> {
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
    describe(target, Utc::now())
}

/// Writes the `MLmodel` of the model in `folder`.
pub fn describe(folder: &Path, created: DateTime<Utc>) -> Result<()> {
    let settings = read_settings(folder)?;
    let version = version(folder)?;
    let mut size = 0;
    for entry in fs::read_dir(folder).map_err(Error::io(folder))? {
        let path = entry.map_err(Error::io(folder))?.path();
        // The card may be edited after the fact.
        if path.file_name().is_some_and(|name| name != MLMODEL_FILE && name != "README.md") {
            size += path.metadata().map_err(Error::io(&path))?.len();
        }
    }
    let digest = uuid_of(version.as_str());
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
        signature: signature(),
        utc_time_created: created.format("%Y-%m-%d %H:%M:%S%.6f").to_string(),
    };
    let text = serde_saphyr::to_string(&description)
        .map_err(|error| Error::ModelFolder { path: folder.to_owned(), reason: error.to_string() })?;
    write_whole(&folder.join(MLMODEL_FILE), text.as_bytes())
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
