//! Logs of attempts: written while they run, read while they run and afterwards, in a folder and on S3.

use std::borrow::Cow;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::Arc;
use std::time::Duration;

use axum::body::{Body, to_bytes};
use axum::http::{Request, StatusCode};
use axum::{Extension, Router};
use futures::{StreamExt, TryStreamExt};
use pipeline::clock::Timestamp;
use pipeline::logs::{LogReader, Masking, RunLine, Stream, Wanted};
use pipeline::{
    AttemptState, Job, JobContext, JobError, JobOutput, Logs, LogsOptions, RunId, RunState, Runner, RunnerOptions,
    Store,
};
use platform::object_store::{Location, ObjectStore};
use serde_json::{Value, json};
use tokio::sync::{OnceCell, Semaphore};
use tower::ServiceExt;

use crate::common::{dag, job, prepare, registry, store};

/// Home and place of the logs of the child.
const HOME: &str = "PIPELINE_TEST_LOGS_HOME";
const PLACE: &str = "PIPELINE_TEST_LOGS_PLACE";

/// The S3 server of all tests of this binary.
async fn s3() -> &'static e2e::seaweedfs::Server {
    static SERVER: OnceCell<e2e::seaweedfs::Server> = OnceCell::const_new();
    SERVER.get_or_init(|| async { e2e::seaweedfs::Server::start().await.unwrap() }).await
}

async fn bucket(name: &str) -> Arc<dyn ObjectStore> {
    s3().await.bucket(name).await.unwrap()
}

/// Hides one word.
struct Hide(&'static str);

impl Masking for Hide {
    fn mask<'a>(&self, text: &'a str) -> Cow<'a, str> {
        text.replace(self.0, "***").into()
    }
}

fn folder(home: &Path) -> Logs {
    Logs::new(home.join("logs").as_path().into(), LogsOptions::default())
}

async fn runner(home: &Path, logs: &Logs, jobs: impl IntoIterator<Item = Arc<dyn Job>>) -> Runner {
    let options = RunnerOptions { logs: Some(logs.clone()), ..RunnerOptions::new(home) };
    Runner::new(store(home).await, registry(jobs), options)
}

/// Logs each text of `with.say`, then gives null.
fn say() -> Arc<dyn Job> {
    job("say", |context: JobContext, with: Value| async move {
        for text in with["say"].as_array().unwrap() {
            context.log.line(Stream::Stdout, text.as_str().unwrap());
        }
        Ok(JobOutput::new(json!(null)))
    })
}

async fn drive(runner: &Runner, yaml: &str) -> (RunId, RunState) {
    let dag = dag(yaml);
    let start = runner.start_or_resume(&dag, &dag.params(&[]).unwrap()).await.unwrap();
    (start.run_id(), runner.drive(start.run_id()).await.unwrap().state)
}

fn all(run: RunId) -> Wanted {
    Wanted { run, task: None, map_index: None, attempt: None, follow: false }
}

fn of(run: RunId, task: &str) -> Wanted {
    Wanted { task: Some(task.to_owned()), ..all(run) }
}

async fn read(store: &Store, logs: &Logs, wanted: Wanted) -> Vec<RunLine> {
    let mut reader = LogReader::open(store, logs, wanted).await.unwrap();
    let mut lines = Vec::new();
    while let Some(line) = reader.next().await.unwrap() {
        lines.push(line);
    }
    lines
}

fn messages(lines: &[RunLine]) -> Vec<&str> {
    lines.iter().map(|line| line.line.message.as_str()).collect()
}

async fn keys(store: &dyn ObjectStore) -> Vec<String> {
    store.list("").map_ok(|object| object.key).filter_map(|key| async { key.ok() }).collect().await
}

#[tokio::test(flavor = "multi_thread")]
async fn what_attempts_write_is_read_in_the_order_of_time_and_secrets_are_hidden() {
    let home = tempfile::tempdir().unwrap();
    let options = LogsOptions { masking: Arc::new(Hide("hunter2")), ..LogsOptions::default() };
    let logs = Logs::new(home.path().join("logs").as_path().into(), options);
    let runner = runner(home.path(), &logs, [say()]).await;
    let yaml = "dag: d\ntasks:\n  a: {job: say, with: {say: [one, 'password=hunter2']}}\n  b: {job: say, needs: [a], map: [x, y], parallelism: 1, with: {say: ['{{ item }}']}}\n  c: {job: fail, needs: [b], with: {message: no luck}}\n";
    let (run, state) = drive(&runner, yaml).await;
    assert_eq!(state, RunState::Failed);
    let lines = read(runner.store(), &logs, all(run)).await;
    let told: Vec<(&str, Option<u32>, &str)> =
        lines.iter().map(|line| (line.task.as_str(), line.map_index, line.line.message.as_str())).collect();
    let said: Vec<_> = told.iter().filter(|(.., text)| !text.starts_with("attempt")).copied().collect();
    assert_eq!(said, [("a", None, "one"), ("a", None, "password=***"), ("b", Some(0), "x"), ("b", Some(1), "y")]);
    assert_eq!(told.iter().filter(|(.., text)| text.starts_with("attempt 1 begins on ")).count(), 4);
    assert_eq!(told.last().unwrap(), &("c", None, "attempt 1 failed: no luck"));
    assert!(lines.is_sorted_by_key(|line| &line.line.time), "{lines:?}");
    assert_eq!((lines[1].line.stream, &lines[1].line.level), (Stream::Stdout, &None));
    assert_eq!(lines.last().unwrap().line.level.as_deref(), Some("error"));
    // One object an attempt that wrote something, nothing of the others.
    let kept = walk(&home.path().join("logs"));
    let names = [format!("d/{run}/a/1.jsonl"), format!("d/{run}/b/0/1.jsonl"), format!("d/{run}/b/1/1.jsonl")];
    assert_eq!(kept, names);
    let second = read(runner.store(), &logs, Wanted { map_index: Some(1), ..of(run, "b") }).await;
    assert_eq!(messages(&second)[1..], ["y", "attempt 1 succeeded"]);
    let error = LogReader::open(runner.store(), &logs, of(run, "z")).await.err().unwrap().to_string();
    assert!(error.contains("has no task `z`; its tasks: a, b, c"), "{error}");
    let wanted = Wanted { attempt: Some(7), ..of(run, "a") };
    let error = LogReader::open(runner.store(), &logs, wanted).await.err().unwrap().to_string();
    assert!(error.contains("has no such attempt yet"), "{error}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_run_that_writes_nothing_leaves_nothing_and_a_store_that_fails_fails_no_attempt() {
    let home = tempfile::tempdir().unwrap();
    let logs = folder(home.path());
    let runner1 = runner(home.path(), &logs, [say()]).await;
    let (run, _) = drive(&runner1, "dag: quiet\ntasks:\n  a: {job: give}\n").await;
    assert!(!home.path().join("logs").exists());
    assert_eq!(read(runner1.store(), &logs, of(run, "a")).await.len(), 2, "its beginning and its end");

    std::fs::write(home.path().join("file"), "").unwrap();
    let broken = Logs::new(home.path().join("file/logs").as_path().into(), LogsOptions::default());
    let runner2 = runner(home.path(), &broken, [say()]).await;
    let (run, state) = drive(&runner2, "dag: broken\ntasks:\n  a: {job: say, with: {say: [lost]}}\n").await;
    assert_eq!(state, RunState::Succeeded);
    assert!(runner2.store().attempts(run).await.unwrap().iter().all(|one| one.state == AttemptState::Succeeded));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_log_is_cut_at_its_limit() {
    let home = tempfile::tempdir().unwrap();
    let options = LogsOptions { max_bytes: 1_000, ..LogsOptions::default() };
    let logs = Logs::new(home.path().join("logs").as_path().into(), options);
    let runner = runner(home.path(), &logs, [say()]).await;
    let yaml = "dag: d\ntasks:\n  a: {job: say, with: {say: '{{ range(100) | map(\"string\") | list }}'}}\n";
    let (run, state) = drive(&runner, yaml).await;
    assert_eq!(state, RunState::Succeeded);
    let lines = read(runner.store(), &logs, of(run, "a")).await;
    let said = messages(&lines);
    let cut = said[said.len() - 2];
    assert!(cut.contains("the log is cut here: it has the 1000 bytes that `logs.max_bytes` allows"), "{said:?}");
    assert_eq!(said[1..4], ["0", "1", "2"]);
    assert!(said.len() < 20, "{said:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn each_attempt_has_its_own_log_and_a_look_that_finds_nothing_leaves_none() {
    let home = tempfile::tempdir().unwrap();
    let logs = folder(home.path());
    let moody = job("moody", |context: JobContext, _| async move {
        context.log.line(Stream::Stderr, &format!("try {}", context.attempt));
        match context.attempt {
            1 => Err(JobError::not_yet("not there", Duration::from_millis(1))),
            2 => Err(JobError::transient("again")),
            _ => Ok(JobOutput::default()),
        }
    });
    let runner = runner(home.path(), &logs, [moody]).await;
    let (run, _) = drive(&runner, "dag: d\ntasks:\n  a: {job: moody, retries: 1, retry_delay: 1ms}\n").await;
    assert_eq!(walk(&home.path().join("logs")), [format!("d/{run}/a/2.jsonl"), format!("d/{run}/a/3.jsonl")]);
    let last = read(runner.store(), &logs, of(run, "a")).await;
    assert_eq!(messages(&last)[1..], ["try 3", "attempt 3 succeeded"]);
    let second = read(runner.store(), &logs, Wanted { attempt: Some(2), ..of(run, "a") }).await;
    assert_eq!(messages(&second)[1..], ["try 2", "attempt 2 failed: again"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn events_of_an_attempt_are_in_its_log() {
    platform::telemetry::init_to("info", Some(true), std::io::sink).unwrap();
    let home = tempfile::tempdir().unwrap();
    let logs = folder(home.path());
    let telling = job("telling", |_, _| async {
        tracing::warn!(target: "pipeline", disk = 3, "slow");
        tracing::debug!(target: "pipeline", "below the level");
        Ok(JobOutput::default())
    });
    let runner = runner(home.path(), &logs, [telling]).await;
    let (run, _) = drive(&runner, "dag: d\ntasks:\n  a: {job: telling}\n").await;
    let lines = read(runner.store(), &logs, of(run, "a")).await;
    assert_eq!(messages(&lines)[1..], ["slow disk=3", "attempt 1 succeeded"]);
    assert_eq!((lines[1].line.stream, lines[1].line.level.as_deref()), (Stream::Event, Some("warn")));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_reader_follows_a_run_in_a_folder() {
    let home = tempfile::tempdir().unwrap();
    let location = Location::from(home.path().join("logs").as_path());
    let access = platform::object_store::open(&location).await.unwrap();
    follow(home.path(), access).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_reader_follows_a_run_on_s3() {
    let home = tempfile::tempdir().unwrap();
    follow(home.path(), bucket("follow").await).await;
}

/// The job goes on only when the reader, which has its own connection, has seen what was written before: what is large
/// fills several parts.
async fn follow(home: &Path, objects: Arc<dyn ObjectStore>) {
    let (writing, reading) =
        (Logs::on(objects.clone(), LogsOptions::default()), Logs::on(objects.clone(), LogsOptions::default()));
    let gate = Arc::new(Semaphore::new(0));
    let passing = Arc::clone(&gate);
    let slow = job("slow", move |context: JobContext, _| {
        let gate = Arc::clone(&passing);
        async move {
            for step in 0..4 {
                for line in 0..700 {
                    context.log.line(Stream::Stdout, &format!("{step} {line} {}", "x".repeat(1_000)));
                }
                context.log.line(Stream::Stdout, &format!("step {step}"));
                gate.acquire().await.unwrap().forget();
            }
            Ok(JobOutput::default())
        }
    });
    let runner = runner(home, &writing, [slow]).await;
    let dag = dag("dag: d\ntasks:\n  a: {job: slow}\n  b: {job: give, needs: [a]}\n");
    let start = runner.start_or_resume(&dag, &dag.params(&[]).unwrap()).await.unwrap();
    let run = start.run_id();
    let driving = tokio::spawn(async move { runner.drive(run).await.unwrap().state });
    let store = store(home).await;
    let mut reader = LogReader::open(&store, &reading, Wanted { follow: true, ..all(run) }).await.unwrap();
    let mut lines = Vec::new();
    let mut parts_seen = false;
    while let Some(line) = tokio::time::timeout(Duration::from_secs(60), reader.next()).await.unwrap().unwrap() {
        if line.line.message.starts_with("step ") {
            parts_seen |= keys(objects.as_ref()).await.iter().any(|key| key.contains(".parts/"));
            gate.add_permits(1);
        }
        lines.push(line);
    }
    assert_eq!(driving.await.unwrap(), RunState::Succeeded);
    assert!(parts_seen);
    let mut expected = Vec::new();
    for step in 0..4 {
        expected.extend((0..700).map(|line| format!("{step} {line} {}", "x".repeat(1_000))));
        expected.push(format!("step {step}"));
    }
    let of_a: Vec<&str> = messages(&lines).into_iter().filter(|text| !text.starts_with("attempt")).collect();
    assert!(of_a == expected, "{} lines of {}", of_a.len(), expected.len());
    assert_eq!(lines.last().unwrap().task, "b", "the reader stays to the end of the run");
    // Its parts have become one object, and who comes later reads the same.
    assert_eq!(keys(objects.as_ref()).await, [format!("d/{run}/a/1.jsonl")]);
    let later = read(&store, &reading, all(run)).await;
    assert_eq!(messages(&later), messages(&lines));
    assert_eq!(reading.remove("d", run).await.unwrap(), 1);
    assert_eq!(reading.remove("d", run).await.unwrap(), 0);
    assert!(keys(objects.as_ref()).await.is_empty());
}

/// The child: drives a run whose job never ends.
#[test]
fn child() {
    let (Ok(home), Ok(place)) = (std::env::var(HOME), std::env::var(PLACE)) else { return };
    let home = PathBuf::from(home);
    let logs = Logs::new(Location::parse(&place).unwrap(), LogsOptions::default());
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap();
    runtime.block_on(async {
        let runner = runner(&home, &logs, [stuck()]).await;
        drive(&runner, STUCK).await;
    });
}

const STUCK: &str = "dag: d\ntasks:\n  a: {job: stuck}\n";

/// Says who it is; the first attempt never ends.
fn stuck() -> Arc<dyn Job> {
    job("stuck", |context: JobContext, _| async move {
        context.log.line(Stream::Stdout, &format!("this is {}", context.attempt));
        if context.attempt == 1 {
            std::future::pending::<()>().await;
        }
        Ok(JobOutput::default())
    })
}

#[test]
fn the_log_of_a_killed_worker_stays_readable() {
    let home = tempfile::tempdir().unwrap();
    prepare(home.path());
    tokio::runtime::Runtime::new().unwrap().block_on(async {
        let location = Location::from(home.path().join("logs").as_path());
        let objects = platform::object_store::open(&location).await.unwrap();
        kill_in_the_middle(home.path(), objects, &[]).await;
    });
}

#[test]
fn the_log_of_a_killed_worker_stays_readable_on_s3() {
    let home = tempfile::tempdir().unwrap();
    prepare(home.path());
    tokio::runtime::Runtime::new().unwrap().block_on(async {
        let objects = bucket("killed").await;
        kill_in_the_middle(home.path(), objects, &s3().await.variables()).await;
    });
}

/// Kills a worker in the middle of an attempt that has written something; `variables` lead it to the store of the logs.
async fn kill_in_the_middle(home: &Path, objects: Arc<dyn ObjectStore>, variables: &[(&str, String)]) {
    let mut child = Command::new(std::env::current_exe().unwrap())
        .args(["--exact", "logs::child", "--nocapture", "--test-threads", "1"])
        .env(HOME, home)
        .env(PLACE, objects.location().to_string())
        .envs(variables.iter().cloned())
        .stdout(Stdio::null())
        .spawn()
        .unwrap();
    let (store, logs) = (store(home).await, Logs::on(objects.clone(), LogsOptions::default()));
    let run = loop {
        if let [run] = store.runs(2).await.unwrap().as_slice() {
            break run.id;
        }
        tokio::time::sleep(Duration::from_millis(20)).await;
    };
    let mut reader = LogReader::open(&store, &logs, Wanted { follow: true, ..of(run, "a") }).await.unwrap();
    let patience = Duration::from_secs(60);
    assert!(tokio::time::timeout(patience, reader.next()).await.unwrap().unwrap().is_some());
    let line = tokio::time::timeout(patience, reader.next()).await.unwrap().unwrap().unwrap();
    assert_eq!(line.line.message, "this is 1");
    // SIGKILL.
    child.kill().unwrap();
    child.wait().unwrap();
    assert_eq!(keys(objects.as_ref()).await, [format!("d/{run}/a/1.parts/000000.jsonl")], "it had no time to tidy up");
    let lines = read(&store, &logs, of(run, "a")).await;
    assert_eq!(messages(&lines)[1..], ["this is 1"]);

    let runner = runner(home, &logs, [stuck()]).await;
    assert_eq!(drive(&runner, STUCK).await, (run, RunState::Succeeded));
    let first = read(&store, &logs, Wanted { attempt: Some(1), ..of(run, "a") }).await;
    let first = messages(&first);
    assert!(first[1] == "this is 1" && first[2].starts_with("attempt 1 was lost: "), "{first:?}");
    // Who follows the task goes on with the next attempt.
    let mut rest = Vec::new();
    while let Some(line) = tokio::time::timeout(patience, reader.next()).await.unwrap().unwrap() {
        rest.push(line);
    }
    assert_eq!(messages(&rest)[2..], ["this is 2", "attempt 2 succeeded"], "{rest:?}");
}

async fn get(api: &Router, path: &str) -> (StatusCode, String) {
    let answer = api.clone().oneshot(Request::get(path).body(Body::empty()).unwrap()).await.unwrap();
    let status = answer.status();
    let bytes = to_bytes(answer.into_body(), 1 << 20).await.unwrap();
    (status, String::from_utf8(bytes.to_vec()).unwrap())
}

#[tokio::test(flavor = "multi_thread")]
async fn logs_are_read_over_http() {
    let home = tempfile::tempdir().unwrap();
    let logs = folder(home.path());
    let runner = runner(home.path(), &logs, [say()]).await;
    let (run, _) = drive(&runner, "dag: d\ntasks:\n  a: {job: say, with: {say: [one, two]}}\n  b: {job: say, map: [x, y], with: {say: ['{{ item }}']}}\n").await;
    let api = pipeline::api::router(runner.store().clone()).layer(Extension(logs.clone()));
    let path = format!("/api/v1/runs/{run}/tasks");
    let (status, body) = get(&api, &format!("{path}/a/logs")).await;
    assert_eq!(status, StatusCode::OK, "{body}");
    let lines: Vec<Value> = body.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    assert_eq!((&lines[1]["message"], &lines[1]["stream"]), (&json!("one"), &json!("stdout")));
    assert_eq!(lines.len(), 4, "{body}");
    let rest = get(&api, &format!("{path}/a/logs?from=2")).await.1;
    assert_eq!(rest.lines().collect::<Vec<_>>(), body.lines().skip(2).collect::<Vec<_>>());
    let item = get(&api, &format!("{path}/b/logs?map_index=1&attempt=1&follow=true")).await.1;
    assert!(item.contains("\"message\":\"y\"") && item.contains("attempt 1 succeeded"), "{item}");
    for (path, status, words) in [
        (format!("{path}/b/logs"), 422, "say which item with `map_index`"),
        (format!("{path}/b/logs?map_index=9"), 404, "no such attempt yet"),
        (format!("{path}/z/logs"), 404, "has no task `z`"),
        (format!("{path}/a/logs?form=2"), 400, "form"),
        ("/api/v1/runs/nonsense/tasks/a/logs".to_owned(), 400, "`nonsense` is no run"),
    ] {
        let (got, problem) = get(&api, &path).await;
        assert!(got.as_u16() == status && problem.contains(words), "{path}: {got} {problem}");
    }
    // A run that waits has no attempts; whoever does not wait for them is told so.
    let waiting = dag("dag: w\ntasks:\n  a: {job: give}\n");
    let run = runner.store().create_run(&waiting, &waiting.params(&[]).unwrap(), Timestamp::now()).await.unwrap();
    assert_eq!(get(&api, &format!("/api/v1/runs/{run}/tasks/a/logs")).await.0, StatusCode::NOT_FOUND);
}

/// Keys of all files below a folder, sorted.
fn walk(root: &Path) -> Vec<String> {
    let mut found = Vec::new();
    let mut open = vec![root.to_owned()];
    while let Some(folder) = open.pop() {
        for entry in std::fs::read_dir(folder).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                open.push(path);
            } else {
                found.push(path.strip_prefix(root).unwrap().display().to_string());
            }
        }
    }
    found.sort();
    found
}
