//! What receivers outside are told of runs: everything, in order, once it can be told, by one process at a time.

use std::collections::{BTreeSet, HashMap};
use std::path::Path;
use std::process::{Command, Stdio};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};

use pipeline::clock::Timestamp;
use pipeline::{Job, JobContext, JobError, JobOutput, Receiver, RunState, Runner, RunnerOptions, Store, Telemetry};
use serde_json::{Value, json};

use crate::common::{dag, job, registry, store};

type Calls = Arc<Mutex<Vec<Value>>>;

const YAML: &str = "
dag: told
schedule: {assets: [photographs]}
tasks:
  list: {job: give, with: {value: [1, 2]}, produces: ['s3://lake/tables/media', shards]}
  look: {job: note, needs: [list], map: '{{ tasks.list.output }}'}
  flaky: {job: flaky, retries: 1, retry_delay: 1ms}
  broken: {job: fail, with: {message: no such table}}
  after: {job: give, needs: [broken]}
";

/// Stands for the job that calls receivers: keeps what it is given; the first calls fail, as many as told.
fn caller(calls: &Calls, failures: usize, error: fn(&'static str) -> JobError) -> Arc<dyn Job> {
    let (calls, count) = (Arc::clone(calls), AtomicUsize::new(0));
    job("http", move |_, with: Value| {
        let fails = count.fetch_add(1, Ordering::SeqCst) < failures;
        if !fails {
            calls.lock().unwrap().push(with);
        }
        async move { if fails { Err(error("nobody answers")) } else { Ok(JobOutput::new(Value::Null)) } }
    })
}

fn lineage() -> Receiver {
    let (url, namespace) = ("http://catalogue.example.org/".to_owned(), "farm".to_owned());
    Receiver::OpenLineage { url, namespace, api_key: Some("s3cret".to_owned()) }
}

fn traces() -> Receiver {
    Receiver::Traces { url: "http://collector.example.org/v1/traces".to_owned(), authorization: None }
}

struct World {
    store: Store,
    runner: Runner,
    telemetry: Telemetry,
    calls: Calls,
    /// What attempts at `look` hand on.
    traceparents: Arc<Mutex<Vec<String>>>,
    home: tempfile::TempDir,
}

async fn world(failures: usize, error: fn(&'static str) -> JobError) -> World {
    let home = tempfile::tempdir().unwrap();
    let (store, calls) = (store(home.path()).await, Calls::default());
    let traceparents = Arc::<Mutex<Vec<String>>>::default();
    let seen = Arc::clone(&traceparents);
    let note = job("note", move |context: JobContext, _| {
        seen.lock().unwrap().push(context.traceparent);
        async { Ok(JobOutput::new(Value::Null)) }
    });
    let flaky = job("flaky", |context: JobContext, _| async move {
        if context.attempt == 1 { Err(JobError::transient("not now")) } else { Ok(JobOutput::new(Value::Null)) }
    });
    let jobs = registry([caller(&calls, failures, error), note, flaky]);
    let poll = std::time::Duration::from_millis(2);
    let options = RunnerOptions { poll, ..RunnerOptions::new(home.path()) };
    let telemetry = Telemetry::new(store.clone(), jobs.clone(), &options, vec![lineage(), traces()]);
    let runner = Runner::new(store.clone(), jobs, options);
    World { store, runner, telemetry, calls, traceparents, home }
}

impl World {
    async fn run(&self) -> pipeline::RunId {
        let dag = dag(YAML);
        let run = self.store.create_run(&dag, &dag.params(&[]).unwrap(), Timestamp::now()).await.unwrap();
        assert_eq!(self.runner.drive(run).await.unwrap().state, RunState::Failed);
        run
    }

    /// Tells all there is to tell; the bodies of the calls.
    async fn told(&self, receiver: &Receiver) -> Vec<Value> {
        self.telemetry.tell(receiver).await.unwrap().unwrap();
        std::mem::take(&mut *self.calls.lock().unwrap()).into_iter().map(|mut with| with["body"].take()).collect()
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_catalogue_is_told_of_runs_and_their_tasks() {
    let world = world(0, JobError::transient).await;
    assert!(world.told(&lineage()).await.is_empty(), "nothing has happened yet");
    let run = world.run().await.to_string();
    world.telemetry.tell(&lineage()).await.unwrap().unwrap();
    let calls = std::mem::take(&mut *world.calls.lock().unwrap());
    let urls: BTreeSet<&str> = calls.iter().filter_map(|call| call["url"].as_str()).collect();
    assert_eq!(urls, BTreeSet::from(["http://catalogue.example.org/api/v1/lineage"]));
    assert_eq!(calls[0]["headers"], json!({"Authorization": "Bearer s3cret"}));

    let events: Vec<&Value> = calls.iter().map(|call| &call["body"]).collect();
    let name = |event: &Value| event["job"]["name"].as_str().unwrap().to_owned();
    let of_run: Vec<&&Value> = events.iter().filter(|event| name(event) == "told").collect();
    let kinds: Vec<&Value> = of_run.iter().map(|event| &event["eventType"]).collect();
    assert_eq!(kinds, ["START", "FAIL"]);
    assert!(of_run.iter().all(|event| event["run"]["runId"] == *run && event["job"]["namespace"] == "farm"));
    let message = &of_run[1]["run"]["facets"]["errorMessage"]["message"];
    assert!(message.as_str().unwrap().contains("no such table"), "{message}");

    let mut of_tasks: HashMap<String, Vec<&Value>> = HashMap::new();
    for event in events.iter().filter(|event| name(event) != "told") {
        assert_eq!(event["run"]["facets"]["parent"]["run"]["runId"], *run);
        of_tasks.entry(name(event)).or_default().push(event);
    }
    let ends =
        |task: &str| -> Vec<&str> { of_tasks[task].iter().filter_map(|event| event["eventType"].as_str()).collect() };
    assert_eq!(ends("told.list"), ["START", "COMPLETE"]);
    assert_eq!(ends("told.look"), ["START", "COMPLETE", "START", "COMPLETE"]);
    assert_eq!(ends("told.flaky"), ["START", "COMPLETE"]);
    assert_eq!(ends("told.broken"), ["START", "FAIL"]);
    assert!(!of_tasks.contains_key("told.after"), "what never ran is no run");
    let produced =
        [json!({"namespace": "s3://lake", "name": "tables/media"}), json!({"namespace": "farm", "name": "shards"})];
    assert_eq!(of_tasks["told.list"][1]["outputs"], json!(produced));
    let ids: BTreeSet<&str> = of_tasks["told.look"].iter().filter_map(|e| e["run"]["runId"].as_str()).collect();
    assert_eq!(ids.len(), 2, "each item is a run of its own");
    assert!(world.told(&lineage()).await.is_empty(), "each is told once");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_run_is_a_trace_from_its_trigger_to_its_attempts() {
    let world = world(0, JobError::transient).await;
    world.told(&traces()).await;
    let run = world.run().await;
    let bodies = world.told(&traces()).await;
    assert_eq!(bodies.len(), 1);
    let spans = bodies[0]["resourceSpans"][0]["scopeSpans"][0]["spans"].as_array().unwrap();
    let by_id: HashMap<&str, &Value> = spans.iter().map(|span| (span["spanId"].as_str().unwrap(), span)).collect();
    assert_eq!(by_id.len(), spans.len(), "no two spans have the same name");
    let trace = run.to_string().replace('-', "");
    assert!(spans.iter().all(|span| span["traceId"] == *trace));
    let named = |name: &str| spans.iter().filter(|span| span["name"] == name).collect::<Vec<_>>();
    assert_eq!(named("run told").len(), 1);
    assert_eq!((named("task look").len(), named("attempt look").len()), (2, 2));
    assert_eq!((named("task flaky").len(), named("attempt flaky").len()), (1, 2), "each attempt is a span");
    let codes: Vec<&Value> = named("attempt flaky").iter().map(|span| &span["status"]["code"]).collect();
    assert_eq!(codes, [2, 1], "the first failed");
    for span in spans {
        let time = |key: &str| span[key].as_str().unwrap().parse::<u64>().unwrap();
        assert!(time("startTimeUnixNano") <= time("endTimeUnixNano"));
        let name = span["name"].as_str().unwrap();
        let Some(parent) = span["parentSpanId"].as_str() else {
            assert_eq!(name, "run told");
            continue;
        };
        let above = if name.starts_with("task") { "run" } else { "task" };
        assert!(by_id[parent]["name"].as_str().unwrap().starts_with(above), "{name}");
    }
    // What attempts hand on names their own spans.
    let told: BTreeSet<String> = named("attempt look")
        .iter()
        .map(|span| format!("00-{trace}-{}-01", span["spanId"].as_str().unwrap()))
        .collect();
    assert_eq!(told, world.traceparents.lock().unwrap().iter().cloned().collect());
    assert_is_otlp(&bodies[0]);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_receiver_that_is_away_is_told_later_of_all() {
    let world = world(3, JobError::transient).await;
    // From the fourth call on somebody answers.
    world.telemetry.tell(&lineage()).await.unwrap().unwrap();
    world.run().await;
    for _ in 0..3 {
        let failure = world.telemetry.tell(&lineage()).await.unwrap().unwrap_err();
        assert_eq!((failure.reason.as_str(), failure.refused), ("nobody answers", false));
    }
    let events = world.told(&lineage()).await;
    assert_eq!(events.first().unwrap()["eventType"], "START");
    assert_eq!(events.last().unwrap()["eventType"], "FAIL");
    assert_eq!(events.len(), 12, "a run, and five task instances, each with a start and an end");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_change_that_is_refused_is_passed_over_in_the_end() {
    let world = world(usize::MAX, JobError::permanent).await;
    world.telemetry.tell(&traces()).await.unwrap().unwrap();
    world.run().await;
    assert!(world.telemetry.tell(&traces()).await.unwrap().unwrap_err().refused);
    let (stop, stopped) = tokio::sync::watch::channel(false);
    let only = Telemetry::new(
        world.store.clone(),
        registry([caller(&world.calls, 0, JobError::permanent)]),
        &RunnerOptions::new(world.home.path()),
        vec![traces()],
    );
    // Another process does not tell while the first may be at it.
    assert_eq!(only.tell(&traces()).await.unwrap(), Ok(0));
    assert!(world.calls.lock().unwrap().is_empty());
    let telling = tokio::spawn({
        let telemetry = world.telemetry.clone();
        async move { telemetry.serve(stopped).await }
    });
    // Some refusals and their pauses, then nothing is left to tell.
    let passed = async {
        while world.telemetry.tell(&traces()).await.unwrap().is_err() {
            tokio::time::sleep(std::time::Duration::from_millis(200)).await;
        }
    };
    tokio::time::timeout(std::time::Duration::from_secs(30), passed).await.expect("it is passed over");
    stop.send_replace(true);
    telling.await.unwrap();
}

/// The collector's own description of the format reads it.
fn assert_is_otlp(body: &Value) {
    let python = Path::new(env!("WORKSPACE_ROOT")).join(".venv/bin/python");
    if !python.exists() {
        println!("skipped: {} is missing; run scripts/setup", python.display());
        return;
    }
    let script = "import sys\n\
                  from google.protobuf import json_format\n\
                  from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest\n\
                  read = json_format.Parse(sys.stdin.read(), ExportTraceServiceRequest())\n\
                  print(sum(len(scope.spans) for r in read.resource_spans for scope in r.scope_spans))";
    let mut child =
        Command::new(python).args(["-c", script]).stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().unwrap();
    std::io::Write::write_all(&mut child.stdin.take().unwrap(), body.to_string().as_bytes()).unwrap();
    let output = child.wait_with_output().unwrap();
    let spans = body["resourceSpans"][0]["scopeSpans"][0]["spans"].as_array().unwrap().len();
    assert_eq!(String::from_utf8_lossy(&output.stdout).trim(), spans.to_string());
}
