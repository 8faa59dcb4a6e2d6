//! The jobs in runs of the orchestrator.

use std::sync::Arc;

use jobs::Masker;
use pipeline::logs::{LogReader, Stream, Wanted};
use pipeline::{Dag, JobRegistry, Logs, LogsOptions, RunState, Runner, RunnerOptions, Store};

fn registry() -> JobRegistry {
    let mut registry = JobRegistry::new();
    jobs::register_general(&mut registry, &Masker::new(["s3cret-word".to_owned()])).unwrap();
    registry
}

#[test]
fn all_kinds_are_registered() {
    let kinds = registry().kinds();
    assert_eq!(kinds, ["command", "http", "wait_for_http", "wait_for_object", "wait_for_time"]);
}

#[test]
fn mistakes_are_told_when_a_dag_is_checked() {
    let yaml = "dag: t\ntasks:\n  a: {job: comand, with: {shell: x}}\n  b: {job: command, with: {shel: x}}\n";
    let dag = Dag::parse("t.yaml", yaml).unwrap();
    let error = registry().check(&dag, None).unwrap_err().to_string();
    assert!(error.contains("did you mean `command`?") && error.contains("did you mean `shell`?"), "{error}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_task_waits_for_what_another_makes() {
    let home = tempfile::tempdir().unwrap();
    let made = home.path().join("made");
    let yaml = format!(
        r#"
dag: t
tasks:
  start: {{job: command, with: {{shell: "echo '{{\"n\": 3}}'"}}}}
  make: {{job: command, needs: [start], with: {{shell: "echo content > {0}"}}}}
  wait: {{job: wait_for_object, with: {{object: "{0}", min_size: 8, interval: 20ms}}}}
  moment: {{job: wait_for_time, with: {{time: "2026-01-01T00:00:00Z"}}}}
  use:
    job: command
    needs: [start, wait, moment]
    with: {{command: [echo, "{{{{ tasks.start.output.n }}}} of {{{{ tasks.wait.output.size }}}} bytes and s3cret-word"]}}
"#,
        made.display()
    );
    let masking = Arc::new(Masker::new(["s3cret-word".to_owned()]));
    let logs = Logs::new(home.path().join("logs").as_path().into(), LogsOptions { masking, ..LogsOptions::default() });
    let store =
        Store::open(platform::database::open_sqlite(&home.path().join("state.db")).await.unwrap()).await.unwrap();
    let options = RunnerOptions { logs: Some(logs.clone()), ..RunnerOptions::new(home.path()) };
    let runner = Runner::new(store.clone(), registry(), options);
    let dag = Dag::parse("t.yaml", &yaml).unwrap();
    let start = runner.start_or_resume(&dag, &dag.params(&[]).unwrap()).await.unwrap();
    let outcome = runner.drive(start.run_id()).await.unwrap();
    assert_eq!(outcome.state, RunState::Succeeded, "{outcome:?}");
    let wanted =
        Wanted { run: start.run_id(), task: Some("use".to_owned()), map_index: None, attempt: None, follow: false };
    let mut reader = LogReader::open(&store, &logs, wanted).await.unwrap();
    let mut lines = Vec::new();
    while let Some(line) = reader.next().await.unwrap() {
        lines.push((line.line.stream, line.line.message));
    }
    assert_eq!(lines[1], (Stream::Stdout, "3 of 8 bytes and ***".to_owned()), "{lines:?}");
    assert_eq!(lines.len(), 3, "{lines:?}");
}
