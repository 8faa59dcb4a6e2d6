//! The JSON Schema accepts what the reader accepts, and refuses what a schema can refuse.

use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use pipeline::Dag;
use serde_json::{Value, json};

use crate::dag_files::GOOD;
use crate::dag_language::{STREAM, WHOLE};

/// The validator of the specification's authors, from PyPI: for each document its first error, or nothing.
const VALIDATE: &str = "
import json, sys
from jsonschema import Draft202012Validator as Draft
asked = json.load(sys.stdin)
Draft.check_schema(asked['schema'])
validator = Draft(asked['schema'])
first = lambda document: next((f'{error.json_path}: {error.message}' for error in validator.iter_errors(document)), None)
json.dump([first(document) for document in asked['documents']], sys.stdout)
";

/// The first error of each file by the schema.
fn errors(files: &[String]) -> Vec<Option<String>> {
    let documents: Vec<Value> = files.iter().map(|yaml| to_json(yaml)).collect();
    let asked = json!({"schema": pipeline::dag::schema(), "documents": documents}).to_string();
    let python = root().join(".venv/bin/python");
    let mut command = Command::new(&python);
    command.arg("-c").arg(VALIDATE).stdin(Stdio::piped()).stdout(Stdio::piped());
    let mut child =
        command.spawn().unwrap_or_else(|error| panic!("{}: {error}; run scripts/setup --test", python.display()));
    child.stdin.take().unwrap().write_all(asked.as_bytes()).unwrap();
    let output = child.wait_with_output().unwrap();
    assert!(output.status.success(), "the validator failed; run scripts/setup --test");
    serde_json::from_slice(&output.stdout).unwrap()
}

fn to_json(yaml: &str) -> Value {
    serde_saphyr::from_str(yaml).unwrap_or_else(|error| panic!("{error}\n{yaml}"))
}

fn root() -> PathBuf {
    Path::new(env!("WORKSPACE_ROOT")).canonicalize().unwrap()
}

fn root_file(path: &str) -> String {
    std::fs::read_to_string(root().join(path)).unwrap()
}

/// Both the reader and the schema must accept them.
#[track_caller]
fn accept(files: &[String]) {
    for yaml in files {
        if let Err(error) = Dag::parse("d.yaml", yaml) {
            panic!("{error}\n{yaml}");
        }
    }
    for (yaml, error) in files.iter().zip(errors(files)) {
        assert_eq!(error, None, "{yaml}");
    }
}

#[test]
fn right_files_are_accepted() {
    let mut files = vec![WHOLE.to_string(), STREAM.to_string(), GOOD.to_string(), root_file("dags/detect.yaml")];
    for lines in [
        "schedule: \"@daily\"",
        "schedule: {every: 15m, start: 2026-01-01}",
        "schedule: {assets: [a, s3://b/c]}",
        "schedule: {any_asset: [a]}",
        "continuous: {webhook: uploads}",
        "continuous: {nats: {url: \"nats://h\", stream: S, subject: m.>, consumer: c}, max_age: 1s}",
        "params:\ndefaults:\ngroups:",
        "defaults: {labels: , resources: }",
    ] {
        files.push(format!("dag: d\n{lines}\ntasks: {{a: {{job: x, with: }}}}\n"));
    }
    accept(&files);
}

#[test]
fn wrong_files_are_refused_by_both() {
    let dag = |lines: &str| format!("dag: d\n{lines}\ntasks: {{a: {{job: x}}}}\n");
    let task = |keys: &str| format!("dag: d\ntasks: {{a: {{{keys}}}}}\n");
    let wrong = [
        "dag: d\n".to_string(),
        "dag: my dag\ntasks: {a: {job: x}}\n".to_string(),
        "dag: d\ntasks: {}\n".to_string(),
        "dag: d\ntasks: {a-b: {job: x}}\n".to_string(),
        dag("descripton: x"),
        dag("params: {a: {type: strng}}"),
        dag("params: {a: {default: 1}}"),
        dag("schedule: 5"),
        dag("schedule: {zone: UTC}"),
        dag("schedule: {cron: \"@daily\", every: 1h}"),
        dag("schedule: {assets: [a], zone: UTC}"),
        dag("schedule: {assets: []}"),
        dag("schedule: {any_asset: [a b]}"),
        dag("schedule: {every: 5x}"),
        dag("schedule: \"@daily\"\ncontinuous: {source: a}"),
        dag("continuous: {max_batch: 5}"),
        dag("continuous: {source: a, webhook: b}"),
        dag("continuous: {source: a, max_batch: 0}"),
        dag("continuous: {nats: {url: a, stream: b, subject: c}}"),
        dag("max_active_runs: 0"),
        dag("timeout: soon"),
        dag("priority: 101"),
        dag("defaults: {trigger: always}"),
        dag("defaults: {retries: 1001}"),
        dag("alerts: {}"),
        dag("alerts: [{webhook: https://h}]"),
        dag("alerts: [{on: [], webhook: https://h}]"),
        dag("alerts: [{on: [failed], webhook: https://h}]"),
        dag("alerts: [{on: [retry], webhook: ftp://h}]"),
        dag("alerts: [{on: [retry], webhook: https://h, command: [x]}]"),
        dag("alerts: [{on: [retry]}]"),
        dag("groups: {g: {neds: []}}"),
        dag("groups: {a-b: {}}"),
        task("needs: []"),
        task("job: x, dag: y"),
        task("job: x, params: {}"),
        task("dag: y, with: {}"),
        task("dag: y z"),
        task("dag: y, wait: 1"),
        task("job: 3"),
        task("job: x, with: [1]"),
        task("job: x, needs: a"),
        task("job: x, map: 4"),
        task("job: x, map: text"),
        task("job: x, when: 3"),
        task("job: x, when: text"),
        task("job: x, trigger: all_sucess"),
        task("job: x, parallelism: 0"),
        task("job: x, retry_on: [{error: a}]"),
        task("job: x, retry_on: [{retries: 1}]"),
        task("job: x, retry_on: [{error: \"\", retries: 1}]"),
        task("job: x, cache: 1"),
        task("job: x, cache: {ttl: x}"),
        task("job: x, produces: []"),
        task("job: x, resources: {memory: 2G}"),
        task("job: x, resources: {cpu: 0}"),
        task("job: x, labels: {\"a b\": c}"),
        task("job: x, slots: 0"),
        task("job: x, pool: a b"),
    ];
    for (yaml, error) in wrong.iter().zip(errors(&wrong)) {
        assert!(Dag::parse("d.yaml", yaml).is_err(), "the reader accepts\n{yaml}");
        assert!(error.is_some(), "the schema accepts\n{yaml}");
    }
}

/// Each example of the operators' page, completed to a whole DAG.
#[test]
fn the_examples_of_the_page_are_right() {
    let page = root_file("docs/dags.md");
    let mut examples = Vec::new();
    for part in page.split("```yaml\n").skip(1) {
        let mut yaml = part.split("```").next().unwrap().to_string();
        if !yaml.starts_with("dag:") {
            yaml.insert_str(0, "dag: example\n");
        }
        if !yaml.contains("\ntasks:") {
            yaml.push_str("tasks: {a: {job: x}}\n");
        }
        examples.push(yaml);
    }
    assert!(examples.len() >= 10, "{} examples", examples.len());
    accept(&examples);
}
