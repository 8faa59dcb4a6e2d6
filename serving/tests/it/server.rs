//! A server in this process with the shipped model, and what tests ask it.

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use bytes::Bytes;
use detector::device::Device;
use platform::config::Config;
use reqwest::{Client, Response};
use serde_json::Value;
use serving::models::ModelSource;
use serving::{Error, Options, Service};
use tempfile::TempDir;
use tokio::sync::watch;
use tokio::task::JoinHandle;

/// How long anything may take on a busy machine before a test fails.
pub const PATIENCE: Duration = Duration::from_secs(120);

/// It ends when this value is dropped.
pub struct Server {
    pub address: SocketAddr,
    pub client: Client,
    pub home: TempDir,
    stop: watch::Sender<bool>,
    running: Option<JoinHandle<Result<(), Error>>>,
}

impl Server {
    /// A server that is ready, with the shipped model unless `change` says otherwise.
    pub async fn start(change: impl FnOnce(&mut Options)) -> Self {
        let server = Self::start_in(tempfile::tempdir().unwrap(), &[], change).await;
        server.wait_ready().await;
        server
    }

    /// A server with its state in `home`, which may not be ready yet.
    pub async fn start_in(home: TempDir, settings: &[(&str, &str)], change: impl FnOnce(&mut Options)) -> Self {
        let config = config(&home, settings);
        let mut options = Options::of(&config).unwrap();
        options.listen = "127.0.0.1:0".parse().unwrap();
        // What the environment names is not what the tests are about.
        options.model = ModelSource::Shipped;
        change(&mut options);
        let service = Service::open(options, config, Device::Cpu).await.unwrap();
        let (stop, stopped) = watch::channel(false);
        let address = service.address();
        let running = Some(tokio::spawn(service.run(stopped)));
        let client = Client::builder().no_proxy().timeout(PATIENCE).build().unwrap();
        Self { address, client, home, stop, running }
    }

    pub async fn wait_ready(&self) {
        self.wait_for("it is ready", async || self.get("/healthz/ready").await.status() == 200).await;
    }

    /// Asks until `done`.
    pub async fn wait_for(&self, what: &str, done: impl AsyncFn() -> bool) {
        let began = Instant::now();
        while !done().await {
            assert!(began.elapsed() < PATIENCE, "{what}: not in time");
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    }

    pub fn url(&self, path: &str) -> String {
        format!("http://{}{path}", self.address)
    }

    pub async fn get(&self, path: &str) -> Response {
        self.client.get(self.url(path)).send().await.unwrap()
    }

    pub fn post(&self, path: &str, kind: &str, body: impl Into<reqwest::Body>) -> reqwest::RequestBuilder {
        self.client.post(self.url(path)).header("content-type", kind).body(body)
    }

    /// Sends a photograph as it is.
    pub fn picture(&self, bytes: &Bytes) -> reqwest::RequestBuilder {
        self.post("/v1/detections", "image/jpeg", bytes.clone())
    }

    /// The answer to a photograph.
    pub async fn found(&self, bytes: &Bytes) -> Value {
        json(self.picture(bytes).send().await.unwrap()).await
    }

    /// A number of `/metrics`; 0 for what was not counted yet.
    pub async fn metric(&self, line: &str) -> f64 {
        let text = self.get("/metrics").await.text().await.unwrap();
        let found = text.lines().find_map(|one| one.strip_prefix(line)?.strip_prefix(' '));
        found.map_or(0.0, |number| number.parse().unwrap())
    }

    /// Tells it to end, without waiting.
    pub fn tell_to_end(&self) {
        self.stop.send_replace(true);
    }

    /// Tells it to end, and waits for that.
    pub async fn end(self) -> Result<(), Error> {
        self.tell_to_end();
        self.ended().await
    }

    /// Waits until it has ended by itself.
    pub async fn ended(mut self) -> Result<(), Error> {
        self.running.take().unwrap().await.unwrap()
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        if let Some(running) = &self.running {
            running.abort();
        }
    }
}

pub fn config(home: &TempDir, settings: &[(&str, &str)]) -> Config {
    let mut flags = vec![("home".to_owned(), home.path().join("home").display().to_string())];
    flags.extend(settings.iter().map(|(key, value)| ((*key).to_owned(), (*value).to_owned())));
    Config::load(None, &flags).unwrap()
}

/// JSON of an answer that must be a success.
pub async fn json(answer: Response) -> Value {
    let status = answer.status();
    let text = answer.text().await.unwrap();
    assert!(status.is_success(), "{status}: {text}");
    serde_json::from_str(&text).unwrap()
}

/// Status and problem of an answer that must be a refusal, in the form of problem details.
pub async fn problem(answer: Response) -> (u16, String) {
    let status = answer.status().as_u16();
    assert_eq!(answer.headers()["content-type"], "application/problem+json", "{status}");
    let value: Value = serde_json::from_str(&answer.text().await.unwrap()).unwrap();
    assert_eq!(value["status"], status);
    assert!(!value["title"].as_str().unwrap().is_empty());
    (status, value["detail"].as_str().unwrap().to_owned())
}

pub fn root() -> PathBuf {
    Path::new(env!("WORKSPACE_ROOT")).canonicalize().unwrap()
}

/// A photograph of `data-samples`.
pub fn sample(name: &str) -> Bytes {
    std::fs::read(root().join("data-samples").join(name)).unwrap().into()
}

/// The frames of a burst, in order.
pub fn burst(place: &str, frames: usize) -> Vec<Bytes> {
    (1..=frames).map(|number| sample(&format!("{place}/frame-{number}.jpg"))).collect()
}

/// A multipart form: pieces with name, file name and content.
pub fn form(parts: &[(&str, Option<&str>, &[u8])]) -> (String, Vec<u8>) {
    const BOUNDARY: &str = "a-boundary-of-the-tests";
    let mut body = Vec::new();
    for (name, file, content) in parts {
        let file = file.map(|file| format!("; filename=\"{file}\"")).unwrap_or_default();
        let head = format!("--{BOUNDARY}\r\nContent-Disposition: form-data; name=\"{name}\"{file}\r\n\r\n");
        body.extend_from_slice(head.as_bytes());
        body.extend_from_slice(content);
        body.extend_from_slice(b"\r\n");
    }
    body.extend_from_slice(format!("--{BOUNDARY}--\r\n").as_bytes());
    (format!("multipart/form-data; boundary={BOUNDARY}"), body)
}

/// What an answer says, without what differs from one time to the next.
pub fn said(answer: &Value) -> Value {
    let mut media = answer["media"].clone();
    for one in media.as_array_mut().unwrap() {
        one["cached"] = false.into();
        one.as_object_mut().unwrap().remove("name");
        // Each of these servers signs with a key of its own.
        for found in one["detections"].as_array_mut().into_iter().flatten() {
            found.as_object_mut().unwrap().remove("token");
        }
    }
    media
}

/// A copy of the shipped model with other content and the same answers: a version of its own.
pub fn model_folder(place: &Path, number: usize) -> PathBuf {
    let folder = place.join(format!("model-{number}"));
    std::fs::create_dir(&folder).unwrap();
    for entry in std::fs::read_dir(root().join("detector/model/wildlife")).unwrap() {
        let entry = entry.unwrap();
        std::fs::copy(entry.path(), folder.join(entry.file_name())).unwrap();
    }
    let settings = folder.join("settings.json");
    let text = std::fs::read_to_string(&settings).unwrap();
    std::fs::write(&settings, format!("{text}{}", "\n".repeat(number))).unwrap();
    folder
}
