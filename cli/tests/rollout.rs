//! Rollouts as an operator does them: real replicas, a real registry, and applications that ask all the while.
#![allow(clippy::unwrap_used)]

mod common;

use std::collections::BTreeSet;
use std::path::Path;
use std::process::{Command, Output, Stdio};
use std::time::Duration;

use common::{Served, model, root, safari, said, wait_until};
use e2e::load::Load;
use serde_json::Value;

const PHOTOS: [&str; 5] = [
    "farmyard/cow.jpg",
    "farmyard/cat.jpg",
    "garden/hedgehog.jpg",
    "prairie/horse.jpg",
    "savanna-waterhole/giraffe.jpg",
];

/// A registry with two versions of a model, and replicas that follow its alias `champion`.
struct World {
    folder: tempfile::TempDir,
    registry: Served,
    replicas: Vec<Served>,
}

impl World {
    /// `change` makes the candidate's settings of the shipped model's.
    fn new(change: impl Fn(String) -> String) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let mut command = safari(folder.path());
        command.args(["registry", "--listen", "127.0.0.1:0"]);
        let registry = Served::start(command);
        let stable = model(&folder.path().join("stable"), |settings| settings);
        let candidate = model(&folder.path().join("candidate"), change);
        let mut world = Self { folder, registry, replicas: Vec::new() };
        let register = |folder: &Path, more: &[&str]| {
            let folder = folder.display().to_string();
            let mut args = vec!["model", "register", &folder, "--name", "wildlife"];
            args.extend(more);
            world.said(&args);
        };
        register(&stable, &["--alias", "champion"]);
        register(&candidate, &[]);
        world.replicas = (0..2).map(|number| world.replica(number, "127.0.0.1:0")).collect();
        world
    }

    fn replica(&self, number: usize, listen: &str) -> Served {
        let home = self.folder.path().join(format!("replica-{number}"));
        let mut command = safari(&home);
        command.args(["--set", "detector.device=cpu", "--set", "detector.threads=1"]);
        command.args(["--set", &format!("registry.url={}", self.registry.url), "--set", "serve.poll_seconds=1"]);
        command.args(["--model", "models:/wildlife@champion", "serve", "--listen", listen]);
        let served = Served::start(command);
        wait_until("a replica is ready", || get(&format!("{}/healthz/ready", served.url)).is_some());
        served
    }

    fn said(&self, args: &[&str]) -> String {
        let registry = format!("registry.url={}", self.registry.url);
        let mut all = vec!["--set", registry.as_str()];
        all.extend(args);
        said(self.folder.path(), &all)
    }

    /// `safari rollout start wildlife/2` with these flags; it is not awaited.
    fn start(&self, more: &[&str]) -> Command {
        let mut command = safari(self.folder.path());
        command.args(["--set", &format!("registry.url={}", self.registry.url), "rollout", "start", "wildlife/2"]);
        for replica in &self.replicas {
            command.args(["--replica", &replica.url]);
        }
        command.args(["--min-answers", "20", "--max-error-rate", "0", "--max-drift", "1", "--as", "ada"]);
        command.args(more).stdout(Stdio::piped()).stderr(Stdio::piped());
        command
    }

    fn rollout(&self) -> Value {
        let listed: Value = serde_json::from_str(&self.said(&["rollout", "status", "--format", "json"])).unwrap();
        listed[0].clone()
    }

    /// What answers at each replica, and its candidate.
    fn models(&self) -> Vec<(String, Value)> {
        let of = |replica: &Served| {
            let status: Value = serde_json::from_str(&get(&format!("{}/v1/model", replica.url)).unwrap()).unwrap();
            (status["current"]["source"].as_str().unwrap().to_owned(), status["candidate"].clone())
        };
        self.replicas.iter().map(of).collect()
    }

    fn champion(&self) -> String {
        let shown = self.said(&["model", "show", "wildlife@champion", "--format", "json"]);
        let shown: Value = serde_json::from_str(&shown).unwrap();
        shown["version"]["version"].as_str().unwrap().to_owned()
    }
}

/// Applications that ask all replicas until they are told to stop.
/// Applications that ask every replica.
fn start_load(world: &World) -> Load {
    let urls = world.replicas.iter().map(|replica| format!("{}/v1/detections", replica.url));
    let pictures: Vec<Vec<u8>> =
        PHOTOS.iter().map(|photo| std::fs::read(root().join("data-samples").join(photo)).unwrap()).collect();
    // Half of two cores are for those who work.
    Load::start(urls, &pictures, Duration::from_millis(5))
}

fn client() -> reqwest::Client {
    reqwest::Client::builder().no_proxy().timeout(Duration::from_secs(60)).build().unwrap()
}

fn wait<T>(work: impl Future<Output = T>) -> T {
    tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap().block_on(work)
}

/// The body of an answer that is a success.
fn get(url: &str) -> Option<String> {
    wait(async {
        let answer = client().get(url).send().await.ok()?;
        if answer.status().is_success() { answer.text().await.ok() } else { None }
    })
}

fn text(output: &Output) -> String {
    format!("{}{}", String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr))
}

#[test]
fn a_good_version_goes_through_under_load_though_its_driver_is_killed_and_a_replica_restarts() {
    // The same networks with another content: its answers are the same.
    let mut world = World::new(|settings| format!("{settings}\n"));
    let load = start_load(&world);
    let mut driver = world.start(&["--steps", "30,60,100", "--pause", "3s"]).spawn().unwrap();
    wait_until("the second step", || world.rollout()["step"].as_u64() >= Some(1));
    // kill -9: it says nothing to anybody.
    driver.kill().unwrap();
    driver.wait().unwrap();
    let id = world.rollout()["id"].as_str().unwrap().to_owned();
    let went_on = world.said(&["rollout", "resume", &id]);
    assert!(went_on.contains("promoted"), "{went_on}");

    let asked = load.end().unwrap();
    assert!(asked.bad.is_empty(), "{} failed of {}: {:?}", asked.bad.len(), asked.good, asked.bad.first());
    assert!(asked.good > 200, "{} answers", asked.good);
    let both = BTreeSet::from(["models:/wildlife/1".to_owned(), "models:/wildlife/2".to_owned()]);
    assert_eq!(asked.sources, both);
    eprintln!("{} requests, none failed", asked.good);

    assert_eq!(world.champion(), "2");
    let after = ("models:/wildlife/2".to_owned(), Value::Null);
    assert_eq!(world.models(), [after.clone(), after.clone()]);
    let history = world.said(&["model", "history", "wildlife", "--format", "json"]);
    assert!(history.contains(&format!("rollout {id}")), "{history}");

    // One that is away while the rollout is undone comes back to what the alias names.
    let address = world.replicas[1].url.trim_start_matches("http://").to_owned();
    drop(world.replicas.pop());
    let undoing = ["rollout", "undo", &id, "--reason", "it missed the owls", "--detach"];
    world.said(&undoing);
    let mut driver = safari(world.folder.path());
    driver.args(["--set", &format!("registry.url={}", world.registry.url), "rollout", "resume", &id]);
    let driver = driver.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    wait_until("the alias is back", || world.champion() == "1");
    let back = world.replica(1, &address);
    world.replicas.push(back);
    let ended = driver.wait_with_output().unwrap();
    assert!(text(&ended).contains("version 1 answers at all 2 replicas"), "{}", text(&ended));
    let before = ("models:/wildlife/1".to_owned(), Value::Null);
    assert_eq!(world.models(), [before.clone(), before]);
}

#[test]
fn a_version_whose_answers_drift_is_aborted_without_a_failed_request() {
    // It is far less sure of every name.
    let world =
        World::new(|settings| settings.replace("\"unknown_probability\": 0.05", "\"unknown_probability\": 0.9"));
    let load = start_load(&world);
    let ended = world.start(&["--steps", "50,100", "--pause", "20s"]).output().unwrap();
    let asked = load.end().unwrap();
    assert!(!ended.status.success(), "{}", text(&ended));
    assert!(text(&ended).contains("population stability index"), "{}", text(&ended));
    assert!(asked.bad.is_empty(), "{} failed of {}: {:?}", asked.bad.len(), asked.good, asked.bad.first());
    assert_eq!((world.champion().as_str(), world.rollout()["phase"].as_str().unwrap()), ("1", "aborted"));
    let before = ("models:/wildlife/1".to_owned(), Value::Null);
    assert_eq!(world.models(), [before.clone(), before]);
}
