//! The model in the repository is what its description, its metrics and its card say.
#![allow(clippy::unwrap_used)]

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use detector::model;
use serde_json::Value;

/// Bytes that the model may have in all.
const LARGEST: u64 = 45_000_000;

fn folder() -> PathBuf {
    Path::new(env!("WORKSPACE_ROOT")).join("detector/model/wildlife")
}

fn metrics() -> Value {
    serde_json::from_slice(&fs::read(folder().join("metrics.json")).unwrap()).unwrap()
}

/// What the MLflow client reads of the description, as JSON.
const READ: &str = "
import json, sys
from mlflow.models import Model
model = Model.load(sys.argv[1])
print(json.dumps({
    'version': model.metadata['version'],
    'flavour': model.flavors['safari'],
    'inputs': model.signature.inputs.to_dict(),
    'outputs': model.signature.outputs.to_dict(),
}))";

#[test]
fn the_mlflow_client_reads_its_description() {
    let python = Path::new(env!("WORKSPACE_ROOT")).join(".venv/bin/python");
    assert!(python.exists(), "the MLflow client is missing; run scripts/setup --test");
    let output = Command::new(python).args(["-c", READ]).arg(folder()).output().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let read: Value = serde_json::from_slice(&output.stdout).unwrap();
    assert_eq!(read["version"], model::version(&folder()).unwrap().as_str());
    assert_eq!(read["inputs"][0]["name"], "media");
    assert!(read["outputs"].as_array().unwrap().iter().any(|column| column["name"] == "scientific_name"));
    for file in ["settings", "detector", "embedder", "liquid", "labels"] {
        let name = read["flavour"][file].as_str().unwrap();
        assert!(folder().join(name).is_file(), "{name}");
    }
}

#[test]
fn it_is_small_enough_for_the_repository() {
    let sizes = fs::read_dir(folder()).unwrap().map(|entry| entry.unwrap().metadata().unwrap().len());
    let total: u64 = sizes.sum();
    assert!(total < LARGEST, "{total} bytes");
}

#[test]
fn the_liquid_network_beats_the_mean_of_the_frames_and_the_best_frame() {
    let metrics = metrics();
    for other in ["mean_of_logits", "best_single_frame"] {
        let gain = &metrics["test"][format!("gain_over_{other}")];
        for figure in ["top1", "loss"] {
            assert!(gain[figure]["low"].as_f64().unwrap() > 0.0, "{other}, {figure}: {}", gain[figure]);
        }
    }
}

#[test]
fn the_card_has_the_numbers_of_the_metrics() {
    let (card, metrics) = (fs::read_to_string(folder().join("README.md")).unwrap(), metrics());
    for judge in ["liquid", "mean_of_logits", "best_single_frame"] {
        let top1 = &metrics["test"][judge]["top1"];
        let percent = |key: &str| format!("{:.1}", 100.0 * top1[key].as_f64().unwrap());
        let words = format!("{} % [{}, {}]", percent("value"), percent("low"), percent("high"));
        assert!(card.contains(&words), "the card lacks '{words}' of {judge}");
    }
}
