//! The clients that the protocol has: Triton's and KServe's own, each in a process of its own.

use std::path::PathBuf;

use serving::v2::proto::DESCRIPTOR_SET;
use tokio::process::Command;

use crate::server::{Server, workspace};

/// Python in the environment of the clients.
fn python() -> PathBuf {
    let python = workspace().join(".venv-serving/bin/python");
    assert!(python.is_file(), "{} is missing; run scripts/setup --test", python.display());
    python
}

async fn run(script: &str, arguments: &[&str]) {
    let script = workspace().join("serving/tests/python").join(script);
    let output = Command::new(python()).arg(script).args(arguments).kill_on_drop(true).output().await.unwrap();
    let said = String::from_utf8_lossy(&output.stdout);
    let errors = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success() && said.contains("ok"), "{arguments:?}\n{said}\n{errors}");
}

async fn ask(script: &str, kind: &str) {
    let server = Server::start().await;
    run(script, &[kind, &server.address.to_string()]).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn tritons_http_client_is_answered() {
    ask("triton.py", "http").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn tritons_grpc_client_is_answered() {
    ask("triton.py", "grpc").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn kserves_rest_client_is_answered() {
    ask("kserve_clients.py", "rest").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn kserves_grpc_client_is_answered() {
    ask("kserve_clients.py", "grpc").await;
}

#[tokio::test]
async fn messages_are_those_of_the_clients() {
    let file = tempfile::NamedTempFile::new().unwrap();
    std::fs::write(file.path(), DESCRIPTOR_SET).unwrap();
    for client in ["triton", "kserve"] {
        run("descriptors.py", &[client, &file.path().display().to_string()]).await;
    }
}
