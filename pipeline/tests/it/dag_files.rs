//! Mistakes in DAG files: exact messages with line and column.

use pipeline::{Dag, Error};

use crate::common::{dag, registry};

/// The mistakes of a file, one a line.
fn mistakes(yaml: &str) -> String {
    match Dag::parse("d.yaml", yaml) {
        Err(error @ Error::Dag(_)) => error.to_string(),
        Err(error) => panic!("another error: {error}"),
        Ok(dag) => panic!("no mistake in {}", dag.name),
    }
}

#[track_caller]
pub fn golden(yaml: &str, expected: &[&str]) {
    assert_eq!(mistakes(yaml), expected.join("\n"));
}

pub const GOOD: &str = r#"
dag: detect
description: Find animals
params:
  source: {type: string, description: a folder or s3:// URL}
  shard_size: {type: integer, default: 200}
  threshold: {type: number, default: 0.3}
tasks:
  report:
    job: report
    needs: [infer]
    with: {shards: "{{ tasks.infer.output }}", from: "{{ tasks.ingest.output.count }}"}
  ingest: {job: ingest, with: {source: "{{ params.source }}", size: "{{ params.shard_size }}"}}
  infer:
    job: infer
    needs: [ingest]
    map: "{{ tasks.ingest.output.shards }}"
    with: {shard: "{{ item }}", number: "{{ index + 1 }}"}
    retries: 2
    retry_delay: 1m30s
    timeout: 1h
    parallelism: 2
"#;

#[test]
fn a_good_file_is_read() {
    let dag = dag(GOOD);
    assert_eq!(dag.name, "detect");
    let order: Vec<&str> = dag.tasks().iter().map(|task| task.id.as_str()).collect();
    assert_eq!(order, ["ingest", "infer", "report"]);
    let infer = dag.task("infer").unwrap();
    assert_eq!((infer.retries, infer.parallelism), (2, Some(2)));
    assert_eq!(infer.retry_delay.as_secs(), 90);
    assert_eq!(infer.timeout.unwrap().as_secs(), 3600);
    assert_eq!(dag.params[1].default, Some(serde_json::json!(200)));
    assert_eq!(dag.sha256().len(), 64);
}

#[test]
fn every_mistake_is_told_at_once_in_the_order_of_the_file() {
    golden(
        r#"dag: my dag
descripton: x
params:
  source: {type: strng}
  size: {type: integer, default: big}
  7: {type: string}
tasks:
  ingest:
    with: {source: "{{ params.sorce }}"}
  infer:
    job: infer
    needs: [ingset, ingest]
    retries: -1
    timeout: soon
    parallelism: 0
"#,
        &[
            "d.yaml:1:6: the DAG's name `my dag` must be at most 64 letters, digits, `_` and `-`, the first a letter",
            "d.yaml:2:1: unknown key `descripton` in the DAG; did you mean `description`?",
            "d.yaml:4:18: unknown type `strng`; did you mean `string`?",
            "d.yaml:5:34: the default of parameter `size` must be of type integer, but is a string",
            "d.yaml:6:3: a key of `params` must be a string, but is a number; put it in quotes",
            "d.yaml:8:3: task `ingest` has no job; add `job: <kind>`",
            "d.yaml:9:24: unknown parameter `sorce`; did you mean `source`?",
            "d.yaml:12:13: task `infer` needs unknown task `ingset`; did you mean `ingest`?",
            "d.yaml:13:14: `retries` must be a whole number from 0 to 4294967295",
            "d.yaml:14:14: `timeout`: `soon` is not a length of time; write for example `500ms`, `30s`, `5m`, `2h` or `1h30m`",
            "d.yaml:15:18: `parallelism` must be at least 1",
        ],
    );
}

#[test]
fn templates_are_checked_where_they_stand() {
    golden(
        r#"dag: d
params: {source: {type: string}}
tasks:
  a: {job: x}
  b: {job: x, with: {v: "{{ tasks.a.output }}"}}
  c:
    job: x
    needs: [a]
    with:
      own: "{{ tasks.c.output }}"
      item: "s3://{{ item }}"
      list:
        - "{{ params.source | lowr }}"
        - "{{ tasks.aa.output }}"
        - plain
      text: |
        first line
        then {{ tasks.a.outputs }}
      broken: "{{ 1 + }}"
      open: 'a {{ b'
"#,
        &[
            "d.yaml:5:29: task `b` uses the output of `a` but does not need it; add `a` to its `needs`",
            "d.yaml:10:16: task `c` uses its own output; use that of a task that it needs",
            "d.yaml:11:22: `item` is known only in `with` of a task that has `map`",
            "d.yaml:13:31: unknown filter `lowr`; did you mean `lower`?",
            "d.yaml:14:15: unknown task `aa` in a template; did you mean `a`?",
            "d.yaml:18:17: write `tasks.a.output`: a task gives nothing else to a template",
            "d.yaml:19:23: not a readable template: syntax error: unexpected end of variable block",
            "d.yaml:20:16: `{{` is never closed by `}}`",
        ],
    );
}

#[test]
fn circles_are_told_with_their_path() {
    golden(
        "dag: d\ntasks:\n  a: {job: x, needs: [c]}\n  b: {job: x, needs: [a]}\n  c: {job: x, needs: [b]}\n  e: {job: x, needs: [e]}\n  f: {job: x, needs: [g]}\n  g: {job: x, needs: [f, c]}\n",
        &[
            "d.yaml:3:3: tasks need one another in a circle: a → c → b → a; remove one of these needs",
            "d.yaml:6:23: task `e` needs itself",
            "d.yaml:7:3: tasks need one another in a circle: f → g → f; remove one of these needs",
        ],
    );
}

#[test]
fn shapes_that_are_no_dag() {
    golden("- a\n- b\n", &["d.yaml:1:1: a DAG is a mapping that starts with `dag: <name>`, but this is a list"]);
    golden("dag: d\n", &["d.yaml:1:1: the DAG has no tasks; add `tasks:` with at least one"]);
    golden("dag: d\ntasks: {}\n", &["d.yaml:2:8: the DAG has no tasks; add at least one under `tasks:`"]);
    golden(
        "dag: d\ntasks:\n  a: [1]\n  b: {job: 3, needs: a, with: [1], map: 4}\n",
        &[
            "d.yaml:3:3: task `a` has no job; add `job: <kind>`",
            "d.yaml:3:6: task `a` must be a mapping (`key: value` lines), but is a list",
            "d.yaml:4:12: `job` must be a string, but is a number; put it in quotes",
            "d.yaml:4:22: `needs` must be a list of tasks such as `[a]`",
            "d.yaml:4:31: `with` must be a mapping (`key: value` lines), but is a list",
            "d.yaml:4:41: `map` must be a list or a template that gives one, but is a number",
        ],
    );
    golden(
        "dag: d\ntasks:\n  a: {job: x}\n  a: {job: y}\n  b: {job: x, with: {k: 1, k: 2}}\n  c-d: {job: x}\n",
        &[
            "d.yaml:4:3: `a` is given twice in `tasks`; the first is at 3:3",
            "d.yaml:5:28: `k` is given twice in `with`; the first is at 5:22",
            "d.yaml:6:3: task `c-d` must be at most 64 letters, digits and `_`, the first a letter",
        ],
    );
}

#[test]
fn yaml_that_cannot_be_read() {
    for (yaml, expected) in [
        ("", "d.yaml:1:1: the file is empty; a DAG starts with `dag: <name>`"),
        ("# nothing\n", "d.yaml:2:1: the file is empty; a DAG starts with `dag: <name>`"),
        ("dag: [", "d.yaml:1:6: not readable as YAML: unclosed bracket '['"),
        ("dag: 'x", "d.yaml:1:6: not readable as YAML: unclosed quote"),
        (
            "dag: d\ntasks:\n\tx: 1\n",
            "d.yaml:3:2: not readable as YAML: tabs disallowed within this context (block indentation)",
        ),
        (
            "dag: d\n---\ndag: e\n",
            "d.yaml:3:1: not readable as YAML: the file holds more than one document; keep one DAG a file",
        ),
        ("dag: d\ntasks: *x", "d.yaml:2:8: not readable as YAML: alias references unknown anchor"),
        ("<<: {a: 1}", "d.yaml:1:1: not readable as YAML: merge keys (`<<`) are not supported; repeat the lines"),
        ("dag: .nan", "d.yaml:1:6: not readable as YAML: `.nan` is not a finite number"),
        (
            "dag: d\ntasks:\n  a: {job: x\n  b: y\n",
            "d.yaml:4:4: not readable as YAML: while parsing a flow mapping, did not find expected ',' or '}'",
        ),
    ] {
        golden(yaml, &[expected]);
    }
    golden(
        "dag: d\n? [a]\n: b\ntasks: {a: {job: x}}\n",
        &["d.yaml:2:3: a key of the DAG must be a string, but is a list"],
    );
}

#[test]
fn unknown_kinds_and_refused_settings_are_told_with_their_place() {
    let dag = dag(
        "dag: d\nparams: {n: {type: integer, default: 1}}\ntasks:\n  a: {job: giv}\n  b: {job: give, with: {forbidden: 1}}\n  c: {dag: other}\n",
    );
    let error = registry([]).check(&dag, None).unwrap_err();
    assert_eq!(
        error.to_string(),
        "test.yaml:4:12: unknown job kind `giv`; did you mean `give`?\n\
         test.yaml:5:24: task `b`: `forbidden` is not allowed"
    );
}

#[test]
fn files_that_cannot_be_read() {
    let missing = Dag::load(std::path::Path::new("no/such/dag.yaml")).unwrap_err().to_string();
    assert!(missing.starts_with("cannot read the DAG file no/such/dag.yaml: "), "{missing}");
    let file = tempfile::NamedTempFile::new().unwrap();
    std::fs::write(file.path(), b"dag: \xff").unwrap();
    assert!(Dag::load(file.path()).unwrap_err().to_string().contains("byte 5 is not UTF-8"));
}
