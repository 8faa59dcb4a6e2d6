//! `safari serve` as an operator starts it: its answers are those of the batch job, to the last digit, and it gets on with a
//! browser, a bucket and a server of runs.
#![allow(clippy::unwrap_used)]

mod common;

use std::fs::File;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::Duration;

use common::{Served, Server, root, safari, said, wait_until};
use serde_json::{Value, json};

/// A server that is ready, and its address.
fn serve(home: &Path, args: &[&str]) -> (Server, String) {
    serve_with(home, &[], args)
}

/// The same with variables of its environment.
fn serve_with(home: &Path, variables: &[(&str, String)], args: &[&str]) -> (Server, String) {
    let log = home.join("serve.log");
    let mut command = safari(home);
    command.envs(variables.iter().map(|(name, value)| (name, value)));
    command.args(["--set", "detector.device=cpu"]).args(["serve", "--listen", "127.0.0.1:0"]).args(args);
    let child = command.stdout(Stdio::null()).stderr(File::create(&log).unwrap()).spawn().unwrap();
    let server = Server(child);
    let url = || {
        let text = std::fs::read_to_string(&log).unwrap();
        let values = text.lines().filter_map(|line| serde_json::from_str::<Value>(line).ok());
        values.filter_map(|line| Some(line.get("url")?.as_str()?.to_owned())).next()
    };
    wait_until("it listens", || url().is_some());
    let url = url().unwrap();
    wait_until("it is ready", || status(&format!("{url}/healthz/ready")) == Some(200));
    (server, url)
}

fn client() -> reqwest::Client {
    reqwest::Client::builder().no_proxy().timeout(Duration::from_secs(120)).build().unwrap()
}

fn wait<T>(work: impl Future<Output = T>) -> T {
    tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap().block_on(work)
}

fn status(url: &str) -> Option<u16> {
    wait(async { client().get(url).send().await.ok().map(|answer| answer.status().as_u16()) })
}

fn ask(url: &str, kind: &str, body: Vec<u8>) -> Value {
    wait(async {
        let answer =
            client().post(format!("{url}/v1/detections")).header("content-type", kind).body(body).send().await.unwrap();
        let (status, text) = (answer.status(), answer.text().await.unwrap());
        assert!(status.is_success(), "{status} {text}");
        serde_json::from_str(&text).unwrap()
    })
}

/// All photographs of the samples.
fn photographs(folder: &Path) -> Vec<PathBuf> {
    let mut found = Vec::new();
    for entry in std::fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            found.extend(photographs(&path));
        } else if path.extension().is_some_and(|extension| extension == "jpg") {
            found.push(path);
        }
    }
    found.sort();
    found
}

/// What both answers have of a box, with the digits that they were written with.
fn boxes(answer: &Value) -> Vec<Value> {
    let parts = ["category", "confidence", "bbox", "species", "scientific_name", "rank", "species_confidence"];
    let found = answer["detections"].as_array().unwrap();
    let part = |one: &Value| parts.iter().map(|part| ((*part).to_owned(), one[*part].clone())).collect();
    found.iter().map(|one| Value::Object(part(one))).collect()
}

#[test]
fn a_served_answer_is_the_batch_jobs_to_the_last_digit() {
    let home = tempfile::tempdir().unwrap();
    // A photograph by itself, as a request is: each in a place of its own.
    let samples = root().join("data-samples");
    let files = photographs(&samples);
    assert!(files.len() > 30, "{}", files.len());
    let apart = home.path().join("apart");
    for (number, file) in files.iter().enumerate() {
        let place = apart.join(format!("camera-{number:03}"));
        std::fs::create_dir_all(&place).unwrap();
        std::fs::copy(file, place.join("picture.jpg")).unwrap();
    }
    let looked = said(home.path(), &["--set", "detector.device=cpu", "detect", "--json", apart.to_str().unwrap()]);
    let batch: Vec<Value> = looked.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    assert_eq!(batch.len(), files.len());

    let (mut server, url) = serve(home.path(), &[]);
    let mut seen = 0;
    for (file, expected) in files.iter().zip(&batch) {
        let answer = ask(&url, "image/jpeg", std::fs::read(file).unwrap());
        let found = &answer["media"][0];
        assert_eq!(boxes(found), boxes(expected), "{}", file.display());
        assert_eq!(found["captured_at"].is_null(), expected["captured_at"].is_null(), "{}", file.display());
        seen += boxes(found).len();
    }
    assert!(seen >= 40, "{seen} boxes");
    for place in ["forest-trail/burst-jaguar", "prairie/burst-bison"] {
        compare_burst(home.path(), &url, &samples.join(place));
    }

    // SIGTERM ends it with success, and says what it does.
    let pid = server.0.id().to_string();
    assert!(std::process::Command::new("kill").args(["-TERM", &pid]).status().unwrap().success());
    assert!(server.0.wait().unwrap().success());
    let log = std::fs::read_to_string(home.path().join("serve.log")).unwrap();
    let lines: Vec<Value> = log.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    let asked = lines.iter().filter(|line| line["route"] == "/v1/detections" && line["status"] == "200").count();
    assert_eq!(asked, files.len() + 2, "a line for each request");
    assert!(log.contains("those under way may end"), "{log}");
}

/// The frames of a burst in one request, with the times that the batch job found in them.
fn compare_burst(home: &Path, url: &str, folder: &Path) {
    let looked = said(home, &["--set", "detector.device=cpu", "detect", "--json", folder.to_str().unwrap()]);
    let batch: Vec<Value> = looked.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    let mut body = Vec::new();
    for one in &batch {
        body.extend_from_slice(b"--b\r\nContent-Disposition: form-data; name=\"image\"; filename=\"a.jpg\"\r\n\r\n");
        body.extend_from_slice(&std::fs::read(one["file"].as_str().unwrap()).unwrap());
        let time = one["captured_at"].as_str().unwrap();
        let part = format!("\r\n--b\r\nContent-Disposition: form-data; name=\"captured_at\"\r\n\r\n{time}\r\n");
        body.extend_from_slice(part.as_bytes());
    }
    body.extend_from_slice(b"--b--\r\n");
    let answer = ask(url, "multipart/form-data; boundary=b", body);
    assert_eq!(answer["burst"], true);
    for (found, expected) in answer["media"].as_array().unwrap().iter().zip(&batch) {
        assert_eq!(boxes(found), boxes(expected), "{}", expected["file"]);
    }
}

#[test]
fn addresses_of_others_and_models_that_are_none_are_refused() {
    let home = tempfile::tempdir().unwrap();
    let refused = |args: &[&str]| {
        let output = safari(home.path()).args(args).output().unwrap();
        assert!(!output.status.success(), "{args:?}");
        String::from_utf8(output.stderr).unwrap()
    };
    let told = refused(&["serve", "--listen", "0.0.0.0:0"]);
    assert!(told.contains("can be reached from other machines"), "{told}");
    let told = refused(&["--model", "/no/such/model", "serve", "--listen", "127.0.0.1:0"]);
    assert!(told.contains("/no/such/model"), "{told}");
    let told = refused(&["--model", "models:/wildlife@champion", "serve", "--listen", "127.0.0.1:0"]);
    assert!(told.contains("wildlife"), "{told}");
    let told = refused(&["--set", "serve.queue=0", "serve"]);
    assert!(told.contains("serve.queue"), "{told}");
}

#[test]
fn one_torchscript_file_is_served() {
    let home = tempfile::tempdir().unwrap();
    let lookup = root().join("serving/tests/models/lookup");
    std::fs::copy(lookup.join("model.pt"), home.path().join("net.pt")).unwrap();
    std::fs::copy(lookup.join("signature.yaml"), home.path().join("net.signature.yaml")).unwrap();
    let file = home.path().join("net.pt").display().to_string();
    let (_server, url) = serve(home.path(), &["--model", &file]);
    let rows = json!({"inputs": [{"name": "index", "shape": [1], "datatype": "INT64", "data": [2]}]}).to_string();
    let answer: Value = wait(async {
        let answer = client().post(format!("{url}/v2/models/net/infer")).body(rows).send().await.unwrap();
        serde_json::from_str(&answer.text().await.unwrap()).unwrap()
    });
    assert_eq!(answer["outputs"][0]["data"], json!([6.0, 7.0, 8.0]), "{answer}");
}

#[test]
fn the_page_shows_a_person_what_is_on_their_photograph() {
    let Some(chromium) = ["chromium", "chromium-browser", "google-chrome"].into_iter().find(|name| is_installed(name))
    else {
        eprintln!("skipped: no Chromium; scripts/setup --test installs it");
        return;
    };
    let home = tempfile::tempdir().unwrap();
    let (_server, url) = serve(home.path(), &[]);
    let python = root().join(".venv-serving/bin/python");
    assert!(python.is_file(), "{} is missing; run scripts/setup --test", python.display());
    let screenshot = home.path().join("page.png");
    let mut command = Command::new(python);
    command.arg(root().join("serving/tests/python/page.py")).args([chromium, &url]);
    command.arg(root().join("data-samples/farmyard/cow.jpg")).arg(root().join("README.md")).arg(&screenshot);
    let output = command.output().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let seen: Value = serde_json::from_slice(&output.stdout).unwrap();

    let answer = ask(&url, "image/jpeg", std::fs::read(root().join("data-samples/farmyard/cow.jpg")).unwrap());
    let media = &answer["media"][0];
    assert_eq!(seen["size"], json!([media["width"], media["height"]]), "{seen}");
    let rows = seen["rows"].as_array().unwrap();
    assert_eq!(rows.len(), media["detections"].as_array().unwrap().len(), "{seen}");
    assert_eq!(rows[0][0], media["detections"][0]["species"], "{seen}");
    assert!(seen["marked"].as_u64().unwrap() > 200 && seen["is_shown"] == true, "{seen}");
    assert!(seen["status"].as_str().unwrap().starts_with("animal; "), "{seen}");
    assert!(seen["refused"].as_str().unwrap().starts_with("not a photograph"), "{seen}");
    assert_eq!(seen["complaints"], json!([]), "the browser itself complains about nothing");
    assert!(std::fs::metadata(screenshot).unwrap().len() > 10_000);
}

fn is_installed(program: &str) -> bool {
    Command::new(program).arg("--version").stdout(Stdio::null()).stderr(Stdio::null()).status().is_ok()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_picture_in_a_bucket_is_looked_at_below_the_allowed_prefixes() {
    let store = e2e::seaweedfs::Server::start().await.unwrap();
    let bucket = store.bucket("camera-traps").await.unwrap();
    let cow = std::fs::read(root().join("data-samples/farmyard/cow.jpg")).unwrap();
    bucket.put("2026/cow in the field.jpg", cow.clone().into()).await.unwrap();
    bucket.put("secret/cow.jpg", cow.clone().into()).await.unwrap();
    bucket.put("2026/notes.txt", b"no picture".to_vec().into()).await.unwrap();
    let mut variables = store.variables().to_vec();
    variables.push(("SAFARI_SERVE_FETCH_ALLOW", "s3://camera-traps/2026/".to_owned()));
    let home = tempfile::tempdir().unwrap();
    let path = home.path().to_owned();
    // It waits with a runtime of its own.
    let started = tokio::task::spawn_blocking(move || serve_with(&path, &variables, &[]));
    let (_server, url) = started.await.unwrap();

    let sent = ask_at(&url, "image/jpeg", cow).await;
    let fetched = ask_at(&url, "application/json", of("s3://camera-traps/2026/cow%20in%20the%20field.jpg")).await;
    assert_eq!((sent.0, fetched.0), (200, 200), "{}", fetched.1);
    assert_eq!(boxes(&fetched.1["media"][0]), boxes(&sent.1["media"][0]));
    for (place, status, words) in [
        ("s3://camera-traps/secret/cow.jpg", 403, "allowed prefixes"),
        ("s3://camera-traps/2026/../secret/cow.jpg", 403, "allowed prefixes"),
        ("s3://camera-traps/2026/%2e%2e/secret/cow.jpg", 403, "allowed prefixes"),
        ("s3://camera-traps/2026/none.jpg", 404, "none.jpg"),
        ("s3://camera-traps/2026/notes.txt", 422, "not a photograph"),
    ] {
        let (refused, told) = ask_at(&url, "application/json", of(place)).await;
        assert_eq!(refused, status, "{place}: {told}");
        assert!(told["detail"].as_str().unwrap().contains(words), "{place}: {told}");
        assert!(!told.to_string().contains(store.secret_key()), "{told}");
    }
}

fn of(place: &str) -> Vec<u8> {
    json!({ "url": place }).to_string().into_bytes()
}

/// Status and JSON of what is answered.
async fn ask_at(url: &str, kind: &str, body: Vec<u8>) -> (u16, Value) {
    let request = client().post(format!("{url}/v1/detections")).header("content-type", kind).body(body);
    let answer = request.send().await.unwrap();
    let (status, text) = (answer.status().as_u16(), answer.text().await.unwrap());
    (status, serde_json::from_str(&text).unwrap())
}

#[test]
fn a_large_set_is_looked_at_by_a_run_of_the_batch_dag() {
    let home = tempfile::tempdir().unwrap();
    // The server of runs asks who asks.
    let mut command = safari(home.path());
    command.args(["--set", "identity.enabled=true", "server", "--listen", "127.0.0.1:0", "--dags", "dags"]);
    let runs = Served::start(command);
    let pipeline = ("SAFARI_SERVE_PIPELINE", runs.url.clone());
    wait_until("the dag is read", || said(home.path(), &["dag", "list"]).contains("detect"));
    let source = root().join("data-samples/farmyard");
    let elsewhere = tempfile::tempdir().unwrap();
    let (unknown, url) = serve_with(elsewhere.path(), std::slice::from_ref(&pipeline), &[]);
    let (status, told) = job(&url, "", Some(json!({ "source": source })));
    assert!(status == 502 && told["detail"].as_str().unwrap().contains("SAFARI_TOKEN"), "{status}: {told}");
    drop(unknown);

    let token =
        said(home.path(), &["token", "create", "--role", "scientist", "--expires", "1h", "--name", "detection"]);
    let variables = [pipeline, ("SAFARI_TOKEN", token.trim().to_owned())];
    let (_server, url) = serve_with(elsewhere.path(), &variables, &[]);
    let (status, started) = job(&url, "", Some(json!({ "source": source })));
    assert_eq!(status, 202, "{started}");
    let id = started["id"].as_str().unwrap().to_owned();
    wait_until("the run ends", || job(&url, &format!("/{id}"), None).1["run"]["state"] == "succeeded");
    let counted = said(home.path(), &["sql", "--format", "csv", "select count(*) from media"]);
    assert!(counted.contains(&format!("\n{}", photographs(&source).len())), "{counted}");

    let (status, told) = job(&url, "/0199f0c0-0000-7000-8000-000000000000", None);
    assert_eq!(status, 404, "{told}");
    let (status, told) = job(&url, "", Some(json!({ "source": " " })));
    assert!(status == 400 && told["detail"].as_str().unwrap().contains("source"), "{status}: {told}");
    drop(runs);
    let (status, told) = job(&url, &format!("/{id}"), None);
    assert!(status == 502 && told["detail"].as_str().unwrap().contains("does not answer"), "{status}: {told}");
}

/// Status and JSON of a detection job that is started or followed.
fn job(url: &str, path: &str, body: Option<Value>) -> (u16, Value) {
    let place = format!("{url}/v1/detection-jobs{path}");
    let request = match body {
        Some(body) => client().post(place).header("content-type", "application/json").body(body.to_string()),
        None => client().get(place),
    };
    wait(async {
        let answer = request.send().await.unwrap();
        (answer.status().as_u16(), serde_json::from_str(&answer.text().await.unwrap()).unwrap())
    })
}
