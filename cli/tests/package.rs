//! `safari model package`: this very program and the shipped model as an image, loaded and run by Docker.
#![allow(clippy::unwrap_used)]

mod common;

use std::path::Path;
use std::process::{Command, Output, Stdio};
use std::time::Duration;

use common::{Server, root, said, wait_until};
use e2e::docker::Daemon;
use serde_json::Value;

fn succeeded(command: &mut Command) -> String {
    let output: Output = command.output().unwrap();
    assert!(output.status.success(), "{command:?}: {}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout).unwrap()
}

/// Registers the shipped model and packs it.
fn packed(home: &Path, file: &Path) -> Value {
    let model = root().join("detector/model/wildlife");
    said(home, &["model", "register", model.to_str().unwrap()]);
    let file = file.to_str().unwrap();
    serde_json::from_str(&said(home, &["model", "package", "wildlife/1", "-o", file, "--format", "json"])).unwrap()
}

#[test]
fn docker_loads_an_image_of_this_program_which_detects_and_serves() {
    let home = tempfile::tempdir().unwrap();
    let file = home.path().join("image.tar");
    let told = packed(home.path(), &file);
    let again =
        said(home.path(), &["model", "package", "wildlife/1", "-o", file.to_str().unwrap(), "--format", "json"]);
    assert_eq!(told["digest"], serde_json::from_str::<Value>(&again).unwrap()["digest"]);
    let archive = format!("docker-archive:{}", file.display());
    let seen: Value = serde_json::from_str(&succeeded(Command::new("skopeo").args(["inspect", &archive]))).unwrap();
    assert_eq!(seen["Layers"].as_array().unwrap().len(), 3, "{seen}");

    let docker = match Daemon::start() {
        Ok(docker) => docker,
        Err(reason) => {
            eprintln!("SKIPPED: no Docker daemon can be started here, the image was not run: {reason}");
            return;
        }
    };
    succeeded(docker.command().arg("load").arg("--input").arg(&file));
    let tag = told["tag"].as_str().unwrap();
    let samples = format!("{}:/data:ro", root().join("data-samples/savanna-waterhole").display());
    let run = ["run", "--rm", "--read-only", "--tmpfs", "/tmp", "--cap-drop", "ALL"];
    let found =
        succeeded(docker.command().args(run).args(["--network", "none", "-v", &samples, tag, "detect", "/data"]));
    assert!(found.contains("giraffe"), "{found}");

    // Without identity it serves nobody but its own machine, and says so.
    let refused = docker.command().args(run).args(["--network", "none", tag]).output().unwrap();
    let words = String::from_utf8_lossy(&refused.stderr);
    assert!(!refused.status.success() && words.contains("identity"), "{words}");
    let port = e2e::free_port().unwrap();
    let listen = format!("SAFARI_SERVE_LISTEN=127.0.0.1:{port}");
    let mut serve = docker.command();
    serve.args(run).args(["--network", "host", "--name", "served", "--env", &listen, tag]);
    let serving = Server(serve.stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap());
    let ready = format!("http://127.0.0.1:{port}/healthz/ready");
    wait_until("it serves", || status(&ready) == Some(200));
    succeeded(docker.command().args(["stop", "--time", "20", "served"]).stdout(Stdio::null()));
    drop(serving);
}

fn status(url: &str) -> Option<u16> {
    let client = reqwest::Client::builder().no_proxy().timeout(Duration::from_secs(10)).build().unwrap();
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    runtime.block_on(async { client.get(url).send().await.ok().map(|answer| answer.status().as_u16()) })
}
