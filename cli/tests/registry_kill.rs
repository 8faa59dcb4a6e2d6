//! The registry as a process: killed in the middle of uploads and registrations, and given more than it can hold.
#![allow(clippy::unwrap_used)]

mod common;

use std::io::Write;
use std::path::Path;
use std::process::{Child, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{Duration, Instant};

use reqwest::{Client, Method};
use serde_json::{Value, json};

/// Files of every version: their names say how many bytes they have.
const FILES: [(&str, usize); 3] =
    [("data/weights-1500000.bin", 1_500_000), ("MLmodel-300.bin", 300), ("more-70000.bin", 70_000)];
const CLIENTS: usize = 6;

/// A registry that is killed when this is dropped.
struct Registry {
    child: Child,
    url: String,
    client: Client,
}

impl Registry {
    async fn start(folder: &Path, database: &str) -> Self {
        let port = e2e::free_port().unwrap();
        let mut command = common::safari(folder);
        command.args(["registry", "--listen", &format!("127.0.0.1:{port}"), "--database", database]);
        command.arg("--artifacts").arg(folder.join("artifacts"));
        let child = command.stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap();
        let registry = Self { child, url: format!("http://127.0.0.1:{port}"), client: Client::new() };
        let began = Instant::now();
        while registry.client.get(format!("{}/health", registry.url)).send().await.is_err() {
            assert!(began.elapsed() < Duration::from_secs(60), "the registry does not answer");
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
        registry
    }

    /// Kills it at once, as a lack of memory would.
    fn kill(mut self) {
        self.child.kill().unwrap();
        self.child.wait().unwrap();
    }

    /// Peak of its memory in MiB.
    fn peak(&self) -> u64 {
        let text = std::fs::read_to_string(format!("/proc/{}/status", self.child.id())).unwrap();
        let line = text.lines().find(|line| line.starts_with("VmHWM")).unwrap();
        line.split_whitespace().nth(1).unwrap().parse::<u64>().unwrap() / 1024
    }

    async fn must(&self, method: Method, path: &str, body: Value) -> Value {
        self.ask(method, path, body).await.unwrap()
    }

    async fn ask(&self, method: Method, path: &str, body: Value) -> Option<Value> {
        ask(&self.client, &self.url, method, path, body).await
    }
}

impl Drop for Registry {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn no_version_points_to_files_that_are_not_whole_on_sqlite() {
    let folder = tempfile::tempdir().unwrap();
    kill_over_and_over(folder.path(), &sqlite(folder.path())).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn no_version_points_to_files_that_are_not_whole_on_postgres() {
    let folder = tempfile::tempdir().unwrap();
    let server = e2e::postgres::Server::start().await.unwrap();
    let url = server.database().await.unwrap();
    let migrated = common::safari(folder.path()).args(["migrate", "--database", &url]).output().unwrap();
    assert!(migrated.status.success(), "{}", String::from_utf8_lossy(&migrated.stderr));
    kill_over_and_over(folder.path(), &url).await;
}

async fn kill_over_and_over(folder: &Path, database: &str) {
    let mut acknowledged: Vec<(String, String)> = Vec::new();
    let unique = Arc::new(AtomicU32::new(0));
    for round in 0..6 {
        let registry = Registry::start(folder, database).await;
        if round == 0 {
            registry.must(Method::POST, "registered-models/create", json!({"name": "owl"})).await;
        }
        check(&registry, &acknowledged).await;
        let clients: Vec<_> = (0..CLIENTS)
            .map(|_| {
                let (client, url, unique) = (registry.client.clone(), registry.url.clone(), Arc::clone(&unique));
                tokio::spawn(async move {
                    let mut made = Vec::new();
                    while let Some(version) = register(&client, &url, unique.fetch_add(1, Ordering::Relaxed)).await {
                        made.push(version);
                    }
                    made
                })
            })
            .collect();
        // Not always at the same step of the clients' work.
        tokio::time::sleep(Duration::from_millis(400 + 170 * round)).await;
        registry.kill();
        for client in clients {
            acknowledged.extend(client.await.unwrap());
        }
    }
    assert!(acknowledged.len() > CLIENTS, "the clients got nowhere: {}", acknowledged.len());
    check(&Registry::start(folder, database).await, &acknowledged).await;
}

fn sqlite(folder: &Path) -> String {
    format!("sqlite://{}", folder.join("registry.db").display())
}

/// Makes a logged model, its files and a version of it; nothing once the server is gone.
async fn register(client: &Client, url: &str, number: u32) -> Option<(String, String)> {
    let made =
        ask(client, url, Method::POST, "logged-models", json!({"experiment_id": "0", "name": format!("net{number}")}))
            .await?;
    let info = &made["model"]["info"];
    let (id, place) = (info["model_id"].as_str().unwrap(), info["artifact_uri"].as_str().unwrap());
    let place = place.trim_start_matches("mlflow-artifacts:/");
    for (name, size) in FILES {
        let target = format!("{url}/api/2.0/mlflow-artifacts/artifacts/{place}/{name}");
        let answer = client.put(target).body(bytes(name, size)).send().await.ok()?;
        assert_eq!(answer.status(), 200);
        answer.bytes().await.ok()?;
    }
    ask(
        client,
        url,
        Method::PATCH,
        &format!("logged-models/{id}"),
        json!({"model_id": id, "status": "LOGGED_MODEL_READY"}),
    )
    .await?;
    let version = json!({"name": "owl", "source": format!("models:/{id}"), "model_id": id});
    let made = ask(client, url, Method::POST, "model-versions/create", version).await?;
    Some((made["model_version"]["version"].as_str().unwrap().to_owned(), id.to_owned()))
}

/// Every version has all its files, whole; what was said to be made is there; numbers have no gap or repeat; a file that
/// is listed is whole, whoever it belongs to.
async fn check(registry: &Registry, acknowledged: &[(String, String)]) {
    let found = registry
        .must(Method::GET, "model-versions/search?max_results=10000&filter=name%3D%27owl%27", Value::Null)
        .await;
    let versions = found["model_versions"].as_array().cloned().unwrap_or_default();
    let mut numbers: Vec<u32> =
        versions.iter().map(|version| version["version"].as_str().unwrap().parse().unwrap()).collect();
    numbers.sort_unstable();
    assert_eq!(numbers, (1..=versions.len() as u32).collect::<Vec<_>>());
    for (number, id) in acknowledged {
        let version = versions.iter().find(|version| version["version"] == number.as_str());
        assert_eq!(version.unwrap()["source"], format!("models:/{id}"));
    }
    for version in &versions {
        let id = version["source"].as_str().unwrap().trim_start_matches("models:/");
        let model = registry.must(Method::GET, &format!("logged-models/{id}"), Value::Null).await;
        assert_eq!(model["model"]["info"]["status"], "LOGGED_MODEL_READY");
        let place = model["model"]["info"]["artifact_uri"]
            .as_str()
            .unwrap()
            .trim_start_matches("mlflow-artifacts:/")
            .to_owned();
        for (name, size) in FILES {
            let url = format!("{}/api/2.0/mlflow-artifacts/artifacts/{place}/{name}", registry.url);
            let answer = registry.client.get(url).send().await.unwrap();
            assert_eq!(answer.status(), 200, "version {version} lacks {name}");
            assert!(answer.bytes().await.unwrap() == bytes(name, size), "version {version} has another {name}");
        }
    }
    let logged = json!({"experiment_ids": ["0"], "max_results": 1000});
    let logged = registry.must(Method::POST, "logged-models/search", logged).await;
    for model in logged["models"].as_array().into_iter().flatten() {
        let place = model["info"]["artifact_uri"].as_str().unwrap().trim_start_matches("mlflow-artifacts:/").to_owned();
        for below in ["", "/data"] {
            let url = format!("{}/api/2.0/mlflow-artifacts/artifacts?path={place}{below}", registry.url);
            let listed = registry.client.get(url).send().await.unwrap().text().await.unwrap();
            let listed: Value = serde_json::from_str(&listed).unwrap();
            for file in listed["files"].as_array().into_iter().flatten().filter(|file| file["is_dir"] != true) {
                let (name, size) = (file["path"].as_str().unwrap(), &file["file_size"]);
                let size = size.as_str().map_or_else(|| size.as_u64().unwrap(), |size| size.parse().unwrap());
                assert!(name.ends_with(&format!("-{size}.bin")), "{name} has {size} bytes");
            }
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn bodies_without_an_end_are_refused_and_bombs_are_only_bytes() {
    let folder = tempfile::tempdir().unwrap();
    let registry = Registry::start(folder.path(), &sqlite(folder.path())).await;
    let run = registry.must(Method::POST, "runs/create", json!({"experiment_id": "0"})).await;
    let run = run["run"]["info"]["run_id"].as_str().unwrap().to_owned();
    let before = registry.peak();

    // A tag of 1 GiB, announced and not announced.
    let paths = ["runs/set-tag", "model-versions/set-tag", "experiments/create", "runs/log-batch"];
    for path in paths {
        for announced in [true, false] {
            let (url, run) = (registry.url.clone(), run.clone());
            let sent = tokio::task::spawn_blocking(move || endless(&url, path, &run, 1 << 30, announced));
            let (status, bytes) = sent.await.unwrap();
            assert!(
                (400..500).contains(&status) || status == 0 && bytes < 1 << 28,
                "{path}: {status} after {bytes} bytes"
            );
        }
    }
    let tags = registry.must(Method::GET, &format!("runs/get?run_id={run}"), Value::Null).await;
    assert!(tags.to_string().len() < 5000, "{tags}");

    // 256 MiB of zeros in some hundred kB: kept as they came, and given back as they are.
    let mut bomb = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::best());
    for _ in 0..256 {
        bomb.write_all(&[0; 1 << 20]).unwrap();
    }
    let bomb = bomb.finish().unwrap();
    let target = format!("{}/api/2.0/mlflow-artifacts/artifacts/0/bomb/model.tar.gz", registry.url);
    let sent = registry.client.put(&target).header("content-encoding", "gzip").body(bomb.clone()).send().await.unwrap();
    assert_eq!(sent.status(), 200);
    let back = registry.client.get(&target).header("accept-encoding", "gzip").send().await.unwrap();
    assert!(back.bytes().await.unwrap() == bomb);
    let grown = registry.peak() - before;
    assert!(grown < 128, "the registry's memory grew by {grown} MiB");
}

/// Sends a JSON text that does not end, up to `most` bytes; the status of the answer (0 if there is none) and how many
/// bytes the server took.
fn endless(url: &str, path: &str, run: &str, most: usize, announced: bool) -> (u16, usize) {
    use std::io::Read;
    let mut stream = std::net::TcpStream::connect(url.trim_start_matches("http://")).unwrap();
    stream.set_read_timeout(Some(Duration::from_secs(60))).unwrap();
    stream.set_write_timeout(Some(Duration::from_secs(60))).unwrap();
    let length = if announced { format!("Content-Length: {most}") } else { "Transfer-Encoding: chunked".to_owned() };
    let head = format!(
        "POST /api/2.0/mlflow/{path} HTTP/1.1\r\nHost: 127.0.0.1\r\nConnection: close\r\nContent-Type: application/json\r\n{length}\r\n\r\n"
    );
    stream.write_all(head.as_bytes()).unwrap();
    let begin = format!("{{\"run_id\": \"{run}\", \"name\": \"a\", \"version\": \"1\", \"key\": \"k\", \"value\": \"");
    let piece = vec![b'a'; 1 << 16];
    let mut sent = 0;
    let mut next: &[u8] = begin.as_bytes();
    while sent < most {
        let part = &next[..next.len().min(most - sent)];
        let framed = if announced {
            part.to_vec()
        } else {
            [format!("{:x}\r\n", part.len()).as_bytes(), part, b"\r\n"].concat()
        };
        if stream.write_all(&framed).is_err() {
            break;
        }
        sent += part.len();
        next = &piece;
    }
    let mut answer = Vec::new();
    let _ = stream.read_to_end(&mut answer);
    let text = String::from_utf8_lossy(&answer);
    (text.split_whitespace().nth(1).and_then(|status| status.parse().ok()).unwrap_or(0), sent)
}

/// The answer's JSON; nothing when the server is gone.
async fn ask(client: &Client, url: &str, method: Method, path: &str, body: Value) -> Option<Value> {
    let mut request = client.request(method, format!("{url}/api/2.0/mlflow/{path}"));
    if !body.is_null() {
        request = request.header("content-type", "application/json").body(body.to_string());
    }
    let answer = request.send().await.ok()?;
    let status = answer.status();
    let text = answer.text().await.ok()?;
    assert_eq!(status, 200, "{path}: {text}");
    serde_json::from_str(&text).ok()
}

/// Bytes that belong to a name.
fn bytes(name: &str, size: usize) -> Vec<u8> {
    name.bytes().cycle().enumerate().map(|(at, byte)| byte.wrapping_add((at / 7) as u8)).take(size).collect()
}
