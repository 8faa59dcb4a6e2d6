//! `safari serve` as an operator starts it: its answers are those of the batch job, to the last digit.
#![allow(clippy::unwrap_used)]

mod common;

use std::fs::File;
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::Duration;

use common::{Server, root, safari, said, wait_until};
use serde_json::{Value, json};

/// A server that is ready, and its address.
fn serve(home: &Path, args: &[&str]) -> (Server, String) {
    let log = home.join("serve.log");
    let mut command = safari(home);
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
