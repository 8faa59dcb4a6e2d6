//! `safari registry`, `safari model` and `safari migrate`, as people use them.
#![allow(clippy::unwrap_used)]

mod common;

use std::io::{BufRead, BufReader, Read, Write};
use std::net::TcpStream;
use std::path::Path;
use std::process::{Child, Command, Stdio};

use common::{root, safari, said, wait_until};
use serde_json::Value;

/// A registry in a process of its own.
struct Registry {
    process: Child,
    address: String,
}

impl Registry {
    /// Starts it on a free port and waits for the line that tells the address.
    fn start(home: &Path, args: &[&str]) -> Self {
        let mut command = safari(home);
        command.args(["registry", "--listen", "127.0.0.1:0"]).args(args);
        let mut process = command.stdout(Stdio::null()).stderr(Stdio::piped()).spawn().unwrap();
        let mut lines = BufReader::new(process.stderr.take().unwrap()).lines();
        let line = lines.by_ref().map(|line| line.unwrap()).find(|line| line.contains("the registry answers")).unwrap();
        // Whatever it says later must not fill the pipe.
        std::thread::spawn(move || lines.for_each(drop));
        let at = line.find("http://").unwrap();
        let address: String =
            line[at + 7..].chars().take_while(|letter| letter.is_ascii_digit() || ".:".contains(*letter)).collect();
        Self { process, address }
    }

    fn url(&self) -> String {
        format!("http://{}", self.address)
    }

    /// Sends one request and gives the whole answer.
    fn ask(&self, request: &str) -> String {
        let mut connection = TcpStream::connect(&self.address).unwrap();
        let request = request.replace("HOST", &format!("Host: {}\r\nConnection: close", self.address));
        connection.write_all(request.as_bytes()).unwrap();
        let mut answer = String::new();
        connection.read_to_string(&mut answer).unwrap();
        answer
    }

    fn signal(&self, name: &str) {
        assert!(Command::new("kill").args([name, &self.process.id().to_string()]).status().unwrap().success());
    }
}

impl Drop for Registry {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

fn json(home: &Path, args: &[&str]) -> Value {
    serde_json::from_str(&said(home, args)).unwrap()
}

/// What a command that must fail says.
fn refused(home: &Path, args: &[&str]) -> String {
    let output = safari(home).args(args).output().unwrap();
    assert!(!output.status.success(), "{args:?} succeeded: {}", String::from_utf8_lossy(&output.stdout));
    String::from_utf8_lossy(&output.stderr).into_owned()
}

/// A model folder with weights of its own.
fn model(folder: &Path, weights: &[u8]) -> String {
    std::fs::create_dir_all(folder).unwrap();
    std::fs::write(folder.join("MLmodel"), "flavors:\n  safari: {settings: settings.json}\nmodel_uuid: 01\n").unwrap();
    std::fs::write(folder.join("weights"), weights).unwrap();
    folder.display().to_string()
}

#[test]
fn a_registry_answers_drains_and_starts_again() {
    let home = tempfile::tempdir().unwrap();
    let mut registry = Registry::start(home.path(), &[]);
    assert!(registry.ask("GET /health HTTP/1.1\r\nHOST\r\n\r\n").ends_with("\r\n\r\nOK"));
    let body = "{\"name\": \"owl\"}";
    let create = format!(
        "POST /api/2.0/mlflow/registered-models/create HTTP/1.1\r\nHOST\r\nContent-Type: application/json\r\n\
         Content-Length: {}\r\n\r\n{body}",
        body.len()
    );
    assert!(registry.ask(&create).starts_with("HTTP/1.1 200"));

    // An answer that is under way when the server is told to end still ends well.
    let mut upload = TcpStream::connect(&registry.address).unwrap();
    let head = "PUT /api/2.0/mlflow-artifacts/artifacts/a HTTP/1.1\r\nHost: x\r\nContent-Length: 4\r\n\r\nab";
    upload.write_all(head.as_bytes()).unwrap();
    std::thread::sleep(std::time::Duration::from_millis(300));
    registry.signal("-TERM");
    std::thread::sleep(std::time::Duration::from_millis(300));
    assert!(registry.process.try_wait().unwrap().is_none(), "it does not wait for an upload");
    upload.write_all(b"cd").unwrap();
    let mut answer = String::new();
    upload.read_to_string(&mut answer).unwrap();
    assert!(answer.starts_with("HTTP/1.1 200"), "{answer}");
    assert!(registry.process.wait().unwrap().success());

    let registry = Registry::start(home.path(), &[]);
    assert!(registry.ask("GET /api/2.0/mlflow-artifacts/artifacts/a HTTP/1.1\r\nHOST\r\n\r\n").ends_with("abcd"));
    assert!(said(home.path(), &["model", "--registry", &registry.url(), "list"]).contains("owl"));
    assert!(said(home.path(), &["model", "list"]).contains("owl"), "also without the server");
}

#[test]
fn a_server_that_is_killed_in_an_upload_shows_nothing_of_it() {
    let home = tempfile::tempdir().unwrap();
    let registry = Registry::start(home.path(), &[]);
    let mut upload = TcpStream::connect(&registry.address).unwrap();
    let head =
        "PUT /api/2.0/mlflow-artifacts/artifacts/model/weights HTTP/1.1\r\nHost: x\r\nContent-Length: 9000000\r\n\r\n";
    upload.write_all(head.as_bytes()).unwrap();
    upload.write_all(&vec![7; 4_000_000]).unwrap();
    let unfinished = home.path().join("home/artifacts/.safari-tmp-uploads");
    wait_until("some of it is on the disk", || {
        std::fs::read_dir(&unfinished)
            .into_iter()
            .flatten()
            .any(|file| file.unwrap().metadata().unwrap().len() > 1_000_000)
    });
    registry.signal("-KILL");
    drop(upload);
    drop(registry);
    let registry = Registry::start(home.path(), &[]);
    let answer = registry.ask("GET /api/2.0/mlflow-artifacts/artifacts/model/weights HTTP/1.1\r\nHOST\r\n\r\n");
    assert!(answer.starts_with("HTTP/1.1 404") && answer.contains("RESOURCE_DOES_NOT_EXIST"), "{answer}");
    let listed = registry.ask("GET /api/2.0/mlflow-artifacts/artifacts HTTP/1.1\r\nHOST\r\n\r\n");
    assert!(listed.ends_with("{}"), "{listed}");
}

/// At whatever moment a registration is killed, each version that is there has all its files.
#[test]
fn a_registration_that_is_killed_leaves_no_version_without_its_files() {
    let home = tempfile::tempdir().unwrap();
    let registry = Registry::start(home.path(), &[]);
    let mut killed = 0;
    for round in 0..12u64 {
        let folder = home.path().join(format!("model{round}"));
        let path = model(&folder, &vec![round as u8; 20_000_000]);
        let mut command = safari(home.path());
        command.args(["model", "--registry", &registry.url(), "register", &path, "--name", "owl"]);
        let mut process = command.stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap();
        std::thread::sleep(std::time::Duration::from_millis(20 + 45 * round));
        killed += u32::from(process.try_wait().unwrap().is_none());
        let _ = process.kill();
        process.wait().unwrap();
        check_versions(home.path(), &registry, round);
    }
    assert!(killed > 0, "every registration was faster than its killer");
    let path = home.path().join("model0").display().to_string();
    let url = registry.url();
    let args = ["model", "--registry", &url, "register", &path, "--name", "owl"];
    let first = said(home.path(), &args);
    let again = said(home.path(), &args);
    assert_eq!(first.split(' ').next(), again.split(' ').next(), "the same files are the same version");
    check_versions(home.path(), &registry, 99);
}

fn check_versions(home: &Path, registry: &Registry, round: u64) {
    let url = registry.url();
    let output = safari(home).args(["model", "--registry", &url, "show", "owl", "--format", "json"]).output().unwrap();
    if !output.status.success() {
        return;
    }
    let shown: Value = serde_json::from_slice(&output.stdout).unwrap();
    for version in shown["versions"].as_array().unwrap() {
        let name = format!("owl/{}", version["version"].as_str().unwrap());
        let target = home.join(format!("check-{round}-{}", version["version"].as_str().unwrap()));
        let told = said(home, &["model", "--registry", &url, "download", &name, &target.display().to_string()]);
        assert!(told.contains("its files are what they were"), "{told}");
        std::fs::remove_dir_all(target).unwrap();
    }
}

#[test]
fn models_are_kept_without_a_server() {
    let home = tempfile::tempdir().unwrap();
    let dir = home.path();
    let one = model(&dir.join("one"), b"one");
    let two = model(&dir.join("two"), b"two");
    let made = json(
        dir,
        &[
            "model",
            "register",
            &one,
            "--name",
            "owl",
            "--alias",
            "champion",
            "--tag",
            "site=north",
            "--description",
            "the first",
            "--dag-run",
            "019a",
            "--trained-on",
            "s3://lake/labels@7",
            "--commit",
            "0c0ffee",
            "--format",
            "json",
        ],
    );
    assert_eq!((made["version"].as_str(), made["is_new"].as_bool()), (Some("1"), Some(true)), "{made}");
    assert!(said(dir, &["model", "register", &one, "--name", "owl"]).contains("models:/owl/1 registered before"));
    assert!(
        said(dir, &["model", "register", &two, "--name", "owl", "--alias", "challenger"])
            .contains("models:/owl/2 registered")
    );
    let shown = said(dir, &["model", "show", "owl"]);
    assert!(shown.contains("champion") && shown.contains("challenger"), "{shown}");
    let shown = said(dir, &["model", "show", "owl@champion"]);
    for part in ["site", "north", "safari.dag_run", "019a", "s3://lake/labels", "0c0ffee", "weights", "the first"] {
        assert!(shown.contains(part), "{part}: {shown}");
    }
    let compared = said(dir, &["model", "compare", "owl@champion", "owl@challenger"]);
    assert!(
        compared.contains("weights") && compared.contains("site") && compared.contains("more are the same"),
        "{compared}"
    );

    let target = dir.join("fetched").display().to_string();
    assert!(said(dir, &["model", "download", "owl@challenger", &target]).contains("its files are what they were"));
    assert_eq!(std::fs::read(dir.join("fetched/weights")).unwrap(), b"two");
    assert!(said(dir, &["model", "copy", "owl", "owl-copy"]).contains("owl-copy/2"));
    assert!(said(dir, &["model", "copy", "owl", "owl-copy"]).contains("copied before"));

    let gates = dir.join("gates.yaml");
    std::fs::write(
        &gates,
        "gates:\n  - name: reviewed\n    tags: {reviewed: 'yes'}\n  - name: one ranger\n    approvals: {ranger: 1}\n",
    )
    .unwrap();
    let gates = gates.display().to_string();
    let promote = ["model", "promote", "owl/2", "--gates", &gates, "--reason", "spring", "--as", "ada"];
    let told = refused(dir, &promote);
    assert!(told.contains("reviewed") && told.contains("`one ranger`"), "{told}");
    said(dir, &["model", "approve", "owl/2", "--role", "ranger", "--as", "grace"]);
    let told = refused(dir, &promote);
    assert!(told.contains("reviewed") && !told.contains("`one ranger`"), "{told}");
    assert!(
        said(dir, &["model", "promote", "owl/2", "--as", "ada", "--reason", "no gates"])
            .contains("names version 2, before 1")
    );
    assert!(
        said(dir, &["model", "rollback", "owl", "--as", "eve", "--reason", "worse"])
            .contains("names version 1, before 2")
    );
    let history = json(dir, &["model", "history", "owl", "--alias", "champion", "--format", "json"]);
    let outcomes: Vec<&str> = history.as_array().unwrap().iter().map(|one| one["outcome"].as_str().unwrap()).collect();
    assert_eq!(outcomes[..4], ["moved", "moved", "refused", "refused"], "{history}");
    let history = said(dir, &["model", "history", "owl"]);
    assert!(
        history.contains("eve") && history.contains("worse") && history.contains("refused: gate `reviewed`"),
        "{history}"
    );

    assert!(refused(dir, &["model", "delete", "owl"]).contains("--yes"));
    assert!(said(dir, &["model", "delete", "owl/2"]).contains("`safari registry gc` removes its files"));
    let would = json(dir, &["registry", "gc", "--older-than", "0s", "--dry-run", "--format", "json"]);
    let done = json(dir, &["registry", "gc", "--older-than", "0s", "--format", "json"]);
    assert_eq!((would["dry_run"].as_bool(), done["dry_run"].as_bool()), (Some(true), Some(false)));
    for told in [would, done] {
        assert_eq!((told["logged_models"].as_u64(), told["files"].as_u64()), (Some(1), Some(4)), "{told}");
    }
    let target = dir.join("again").display().to_string();
    assert!(said(dir, &["model", "download", "owl@champion", &target]).contains("its files are what they were"));
    said(dir, &["model", "delete", "owl", "--yes"]);
    assert!(refused(dir, &["model", "show", "owl"]).contains("owl"));
}

#[test]
fn mistakes_are_told_with_what_to_do() {
    let home = tempfile::tempdir().unwrap();
    let dir = home.path();
    let told = refused(dir, &["registry", "--listen", "0.0.0.0:0"]);
    assert!(told.contains("can be reached from other machines") && told.contains("--listen"), "{told}");
    assert!(refused(dir, &["registry", "--database", "mysql://x"]).contains("sqlite:///"));
    assert!(refused(dir, &["model", "--registry", "localhost:5000", "list"]).contains("http://HOST:PORT"));
    let told = refused(dir, &["model", "--registry", "http://127.0.0.1:1", "list"]);
    assert!(told.contains("http://127.0.0.1:1") && told.contains("check that it runs"), "{told}");
    std::fs::create_dir(dir.join("empty")).unwrap();
    let told = refused(dir, &["model", "register", &dir.join("empty").display().to_string()]);
    assert!(told.contains("no file MLmodel"), "{told}");
    assert!(refused(dir, &["model", "show", "nothing"]).contains("nothing"));
    assert!(refused(dir, &["model", "promote", "nothing/1"]).contains("nothing"));
}

#[tokio::test(flavor = "multi_thread")]
async fn tables_on_postgresql_are_brought_up_to_date_by_hand() {
    let server = e2e::postgres::Server::start().await.unwrap();
    let url = server.database().await.unwrap();
    let home = tempfile::tempdir().unwrap();
    tokio::task::spawn_blocking(move || {
        let dir = home.path();
        let told = refused(dir, &["registry", "--listen", "127.0.0.1:0", "--database", &url]);
        assert!(told.contains("run `safari migrate`") && !told.contains("password="), "{told}");
        let told = refused(dir, &["migrate", "--check", "--database", &url]);
        assert!(told.contains("run `safari migrate`"), "{told}");
        said(dir, &["migrate", "--database", &url]);
        assert!(said(dir, &["migrate", "--check", "--database", &url]).matches("up to date").count() == 5);
        let registry = Registry::start(dir, &["--database", &url]);
        assert!(registry.ask("GET /health HTTP/1.1\r\nHOST\r\n\r\n").ends_with("OK"));
    })
    .await
    .unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn the_registry_and_the_state_of_runs_never_share_a_database() {
    let server = e2e::postgres::Server::start().await.unwrap();
    let (runs, models) = (server.database().await.unwrap(), server.database().await.unwrap());
    let homes = tempfile::tempdir().unwrap();
    tokio::task::spawn_blocking(move || {
        let refused = |mut command: Command| {
            let output = command.output().unwrap();
            assert!(!output.status.success());
            String::from_utf8(output.stderr).unwrap()
        };
        let migrate = |home: &str, state: &str, registry: &str| {
            let mut command = safari(&homes.path().join(home));
            command.env("SAFARI_STATE_URL", state).env("SAFARI_REGISTRY_DATABASE", registry).arg("migrate");
            command
        };
        let told = refused(migrate("one", &runs, &runs));
        assert!(told.contains("give it one of its own by `registry.database`"), "{told}");
        assert!(migrate("two", "", &models).output().unwrap().status.success());
        let told = refused(migrate("three", &models, ""));
        assert!(told.contains("give it one of its own by `state.url`"), "{told}");
    })
    .await
    .unwrap();
}

#[test]
fn the_server_answers_clients_of_mlflow_too() {
    let home = tempfile::tempdir().unwrap();
    let dags = home.path().join("dags");
    std::fs::create_dir(&dags).unwrap();
    let mut command = safari(home.path());
    command.args(["server", "--listen", "127.0.0.1:0", "--registry", "127.0.0.1:0", "--dags"]).arg(&dags);
    let mut process = command.stdout(Stdio::null()).stderr(Stdio::piped()).spawn().unwrap();
    let mut lines = BufReader::new(process.stderr.take().unwrap()).lines();
    let line = lines.by_ref().map(|line| line.unwrap()).find(|line| line.contains("the registry answers")).unwrap();
    std::thread::spawn(move || lines.for_each(drop));
    let at = line.find("http://").unwrap();
    let address: String =
        line[at + 7..].chars().take_while(|letter| letter.is_ascii_digit() || ".:".contains(*letter)).collect();
    let mut registry = Registry { process, address };
    assert!(registry.ask("GET /version HTTP/1.1\r\nHOST\r\n\r\n").contains("3."));
    registry.signal("-TERM");
    assert!(registry.process.wait().unwrap().success());
    let _ = root();
}
