//! Collections beside `kill -9`: what was answered is there, what is sent again is there once, and no photograph is lost
//! sight of.
#![allow(clippy::unwrap_used)]

mod common;

use std::collections::{HashMap, HashSet};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use common::{Served, root, safari};
use futures::StreamExt;
use platform::database::Database;
use platform::object_store::ObjectStore;
use serde_json::Value;

const CLIENTS: usize = 4;
const ROUNDS: usize = 5;

/// What a client has sent: its key, the photograph, and the sighting if that was answered.
#[derive(Clone)]
struct Sent {
    key: String,
    picture: Vec<u8>,
    answered: Option<String>,
}

#[tokio::test(flavor = "multi_thread")]
async fn a_kill_between_photograph_and_row_loses_and_doubles_nothing_on_sqlite() {
    let folder = tempfile::tempdir().unwrap();
    let url = format!("sqlite://{}", folder.path().join("collections.db").display());
    kill_over_and_over(&Kept::beside(folder.path(), url)).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_kill_between_photograph_and_row_loses_and_doubles_nothing_in_a_bucket() {
    let folder = tempfile::tempdir().unwrap();
    let server = e2e::seaweedfs::Server::start().await.unwrap();
    let bucket = server.bucket("sightings").await.unwrap();
    let url = format!("sqlite://{}", folder.path().join("collections.db").display());
    let mut variables = server.variables().to_vec();
    variables.push(("SAFARI_COLLECTIONS_PICTURES", "s3://sightings".to_owned()));
    kill_over_and_over(&Kept { variables, bucket: Some(bucket), ..Kept::beside(folder.path(), url) }).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_kill_between_photograph_and_row_loses_and_doubles_nothing_on_postgres() {
    let folder = tempfile::tempdir().unwrap();
    let server = e2e::postgres::Server::start().await.unwrap();
    let url = server.database().await.unwrap();
    let refused = safari(folder.path()).args(["serve", "--collections", &url]).output().unwrap();
    let told = String::from_utf8(refused.stderr).unwrap();
    assert!(!refused.status.success() && told.contains("run `safari migrate`"), "{told}");
    let migrated = safari(folder.path()).env("SAFARI_COLLECTIONS_DATABASE", &url).arg("migrate").output().unwrap();
    assert!(migrated.status.success(), "{}", String::from_utf8_lossy(&migrated.stderr));
    kill_over_and_over(&Kept::beside(folder.path(), url)).await;
}

/// Where a server keeps what people send.
struct Kept {
    folder: PathBuf,
    database: String,
    /// Of the server's environment.
    variables: Vec<(&'static str, String)>,
    /// Photographs; none: in the home.
    bucket: Option<Arc<dyn ObjectStore>>,
}

impl Kept {
    fn beside(folder: &Path, database: String) -> Self {
        Self { folder: folder.to_owned(), database, variables: Vec::new(), bucket: None }
    }

    /// Names of all photographs.
    async fn objects(&self) -> HashSet<String> {
        if let Some(bucket) = &self.bucket {
            return bucket.list("pictures").map(|one| one.unwrap().key).collect().await;
        }
        let place = self.folder.join("home/collections");
        let names =
            files(&place).into_iter().map(|file| file.strip_prefix(&place).unwrap().to_str().unwrap().to_owned());
        names.filter(|name| name.starts_with("pictures/")).collect()
    }
}

async fn kill_over_and_over(kept: &Kept) {
    let mut all: Vec<Sent> = Vec::new();
    let number = Arc::new(AtomicUsize::new(0));
    for round in 0..ROUNDS {
        let mut served = start(kept).await;
        all = again(&served.url, all).await;
        let clients: Vec<_> = (0..CLIENTS)
            .map(|_| {
                let (url, number) = (served.url.clone(), Arc::clone(&number));
                tokio::spawn(async move {
                    let mut sent = Vec::new();
                    loop {
                        let one = fresh(number.fetch_add(1, Ordering::Relaxed));
                        let answered = send(&url, &one).await;
                        let over = answered.is_none();
                        sent.push(Sent { answered, ..one });
                        if over {
                            return sent;
                        }
                    }
                })
            })
            .collect();
        // Not always at the same step of the clients' work.
        tokio::time::sleep(Duration::from_millis(150 + 70 * round as u64)).await;
        served.child.kill().unwrap();
        served.child.wait().unwrap();
        for client in clients {
            all.extend(client.await.unwrap());
        }
    }
    assert!(all.iter().filter(|one| one.answered.is_some()).count() > CLIENTS, "the clients got nowhere");
    let served = start(kept).await;
    let all = again(&served.url, all).await;
    check(kept, &served.url, &all).await;
}

/// Sends everything again, as a device does that does not know what arrived; what was answered before is the same.
async fn again(url: &str, all: Vec<Sent>) -> Vec<Sent> {
    let mut known = Vec::new();
    for one in all {
        let answered = send(url, &one).await;
        assert!(answered.is_some(), "it was not answered");
        assert!(one.answered.is_none() || one.answered == answered, "another sighting of the same key");
        known.push(Sent { answered, ..one });
    }
    known
}

async fn check(kept: &Kept, url: &str, all: &[Sent]) {
    let ids: HashSet<&String> = all.iter().filter_map(|one| one.answered.as_ref()).collect();
    assert_eq!(ids.len(), all.len(), "one for each key");
    let list: Value = get(&format!("{url}/v1/collection")).await;
    assert_eq!(list["species"][0]["count"], all.len(), "none more");
    for one in all {
        let id = one.answered.as_ref().unwrap();
        let answer = client().get(format!("{url}/v1/sightings/{id}/picture")).send().await.unwrap();
        assert_eq!(answer.bytes().await.unwrap(), one.picture, "its photograph is whole");
    }
    // Every object is a picture's, or noted as one that is to be removed. What was not whole has no name yet, and is where the
    // store looks for it.
    let database = Database::open(&platform::config::database_address(&kept.database).unwrap()).await.unwrap();
    let column = async |sql: &'static str| -> HashSet<String> {
        let rows: Vec<String> = sqlx::query_scalar(sql).fetch_all(database.pool()).await.unwrap();
        rows.into_iter().collect()
    };
    let pictures = column("SELECT object FROM picture").await;
    let noted = column("SELECT object FROM stray_object").await;
    let objects = kept.objects().await;
    assert_eq!(pictures.len(), all.len());
    assert!(pictures.is_subset(&objects), "a picture without its bytes");
    let lost: Vec<&String> = objects.iter().filter(|one| !pictures.contains(*one) && !noted.contains(*one)).collect();
    assert!(lost.is_empty(), "nobody knows of {lost:?}");
}

async fn start(kept: &Kept) -> Served {
    let mut command = safari(&kept.folder);
    command.envs(kept.variables.iter().map(|(name, value)| (name, value)));
    command.args(["--set", "detector.device=cpu", "serve", "--listen", "127.0.0.1:0", "--collections", &kept.database]);
    let served = tokio::task::spawn_blocking(|| Served::start(command)).await.unwrap();
    let began = std::time::Instant::now();
    let ready = async || {
        client().get(format!("{}/healthz/ready", served.url)).send().await.is_ok_and(|one| one.status() == 200)
    };
    while !ready().await {
        assert!(began.elapsed() < Duration::from_secs(120), "it is not ready after two minutes");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    served
}

/// A sighting with a photograph that no other has.
fn fresh(number: usize) -> Sent {
    let mut picture = std::fs::read(root().join("data-samples/farmyard/dog.jpg")).unwrap();
    picture.extend_from_slice(&number.to_be_bytes());
    Sent { key: format!("device-{number}"), picture, answered: None }
}

/// Gives the id of the sighting; nothing once the server is gone.
async fn send(url: &str, one: &Sent) -> Option<String> {
    const BOUNDARY: &str = "a-boundary-of-the-tests";
    let part = |name: &str| format!("--{BOUNDARY}\r\nContent-Disposition: form-data; name=\"{name}\"\r\n\r\n");
    let mut body = part("sighting").into_bytes();
    body.extend_from_slice(b"{\"species\":\"canis-familiaris\"}\r\n");
    body.extend_from_slice(part("picture").as_bytes());
    body.extend_from_slice(&one.picture);
    body.extend_from_slice(format!("\r\n--{BOUNDARY}--\r\n").as_bytes());
    let request = client().post(format!("{url}/v1/sightings")).header("idempotency-key", &one.key);
    let request = request.header("content-type", format!("multipart/form-data; boundary={BOUNDARY}"));
    let answer = request.body(body).send().await.ok()?;
    let status = answer.status().as_u16();
    let text = answer.text().await.ok()?;
    assert!(matches!(status, 200 | 201), "{status} {text}");
    let sighting: HashMap<String, Value> = serde_json::from_str(&text).unwrap();
    Some(sighting["id"].as_str().unwrap().to_owned())
}

async fn get(url: &str) -> Value {
    serde_json::from_str(&client().get(url).send().await.unwrap().text().await.unwrap()).unwrap()
}

fn client() -> reqwest::Client {
    reqwest::Client::builder().no_proxy().timeout(Duration::from_secs(60)).build().unwrap()
}

fn files(folder: &Path) -> Vec<PathBuf> {
    let Ok(entries) = std::fs::read_dir(folder) else { return Vec::new() };
    let paths = entries.map(|entry| entry.unwrap().path());
    paths.flat_map(|path| if path.is_dir() { files(&path) } else { vec![path] }).collect()
}
