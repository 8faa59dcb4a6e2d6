//! Other programs read what we write: Python's `deltalake` the tables, MegaDetector's own validator the export.

use std::io::Write as _;
use std::process::{Command, Stdio};

use serde_json::Value;

use lake::export::{MegadetectorOptions, megadetector};
use lake::{Table, Transaction};

use crate::export::mixed_lake;
use crate::sample::{jaguar, many, open, repository};

/// Runs `script` with the packages of scripts/requirements-test.txt and returns what it prints, as JSON.
pub fn python(script: &str, argument: &str, input: &[u8]) -> Value {
    let interpreter = repository().join(".venv/bin/python");
    assert!(interpreter.exists(), "the test packages are missing: run `make test`, which installs them");
    let mut child = Command::new(interpreter)
        .args(["-c", script, argument])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    child.stdin.take().unwrap().write_all(input).unwrap();
    let output = child.wait_with_output().unwrap();
    assert!(output.status.success(), "the script failed: {script}");
    serde_json::from_slice(&output.stdout).unwrap()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn python_deltalake_reads_the_tables() {
    let folder = tempfile::tempdir().unwrap();
    let lake = open(folder.path()).await;
    let mut second = jaguar("s3://b/p/ß.jpg", "run");
    second.species = None;
    second.detected_at = "2024-06-02T00:00:00Z".parse().unwrap();
    let boxes = [jaguar("s3://b/p/0000000.jpg", "run"), second];
    lake.append_detections(&boxes, &Transaction::new("t", 1)).await.unwrap();
    for shard in 0..3 {
        let media = many(shard * 10, 10, "run");
        lake.append_media(&media, &Transaction::new(format!("shard {shard}"), 1)).await.unwrap();
    }
    let script = "
import json, sys
from deltalake import DeltaTable, QueryBuilder
root = sys.argv[1].removeprefix('file://')
media, detections = DeltaTable(root + '/media'), DeltaTable(root + '/detections')
tables = QueryBuilder().register('media', media).register('detections', detections)
def ask(query):
    return tables.execute(query).read_all().to_struct_array().to_pylist()
print(json.dumps({
    'version': media.version(),
    'partitions': [media.metadata().partition_columns, detections.metadata().partition_columns],
    'columns': [field.name for field in detections.schema().fields],
    'txns': media.transaction_version('shard 2'),
    'media': ask('select count(*) as n, min(uri) as first from media'),
    'boxes': ask('select uri, species, top5, cast(detected_date as varchar) as day, x from detections order by detected_date'),
}))";
    let seen = python(script, lake.location(), b"");
    assert_eq!(seen["version"], 3);
    assert_eq!(seen["partitions"], serde_json::json!([["processed_date"], ["detected_date"]]));
    let names: Vec<String> = Table::Detections.schema().fields().iter().map(|field| field.name().clone()).collect();
    assert_eq!(seen["columns"], serde_json::json!(names));
    assert_eq!(seen["txns"], 1);
    assert_eq!(seen["media"], serde_json::json!([{"n": 30, "first": "s3://b/p/0000000.jpg"}]));
    assert_eq!(seen["boxes"][0]["species"], "jaguar");
    assert_eq!(seen["boxes"][0]["top5"][1]["scientific_name"], "Panthera pardus");
    assert_eq!(seen["boxes"][0]["x"], 0.25);
    assert_eq!(seen["boxes"][1]["species"], Value::Null);
    assert_eq!(seen["boxes"][1]["uri"], "s3://b/p/ß.jpg");
    assert_eq!(seen["boxes"][1]["day"], "2024-06-02");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn megadetectors_own_validator_accepts_the_export() {
    let folder = tempfile::tempdir().unwrap();
    let lake = mixed_lake(folder.path()).await;
    let mut out = Vec::new();
    let options = MegadetectorOptions { relative_to: Some("s3://wild/2024".to_owned()), ..Default::default() };
    let exported = megadetector(&lake, &options, &mut out).await.unwrap();
    // The validator's module imports what its package needs for pictures and plots; it does not call any of it.
    let script = "
import json, sys
from unittest.mock import MagicMock
for name in ['cv2', 'jsonpickle', 'numpy', 'PIL', 'PIL.ExifTags', 'pytest', 'requests']:
    sys.modules[name] = MagicMock()
from megadetector.postprocessing.validate_batch_results import validate_batch_results
document = json.loads(sys.stdin.read())
print(json.dumps(validate_batch_results(document)['validation_results']))";
    let verdict = python(script, "", &out);
    assert_eq!(verdict["errors"], serde_json::json!([]));
    assert_eq!(verdict["warnings"], serde_json::json!([]));
    let boxes = verdict["detection_category_id_to_count"].as_object().unwrap();
    let boxes: u64 = boxes.values().filter_map(Value::as_u64).sum();
    assert_eq!(boxes, exported.detections);
    assert!(!verdict["classification_category_id_to_count"].as_object().unwrap().is_empty());

    // The same document with one mistake is refused: the validator was really run.
    let broken = String::from_utf8(out).unwrap().replace("\"conf\":", "\"cnof\":");
    let verdict = python(script, "", broken.as_bytes());
    assert!(verdict["errors"][0].as_str().unwrap().contains("no confidence"), "{verdict}");
}
