//! Plays a kubelet: a node of a real control plane whose pods are processes of this machine. It registers the node, renews
//! its lease, runs what is bound to it, tells how that stands, ends what is deleted within its time, and gives the API
//! server the logs. A pod has an address of 127.0.0.0/8, is ready when its probe says so, and begins anew if it is to run always.
//!
//! An image is a program. An annotation of a pod, [`PLAY`], lets it die as it would of a fault: see [`Play`].

mod logs;
mod node;
mod pod;
mod probe;

use std::collections::{BTreeMap, HashMap};
use std::path::PathBuf;
use std::sync::{Arc, Mutex, PoisonError};

use futures::StreamExt;
use k8s_openapi::api::core::v1::Pod;
use kube::runtime::watcher::{self, watcher};
use kube::{Api, Client, ResourceExt};
use tempfile::TempDir;
use tokio::sync::watch;
use tokio::task::JoinHandle;

use crate::Result;
use crate::error::io;
use logs::Logs;

/// The annotation that says what befalls a pod: `oom:300` and so on, a [`Play`] and after how many milliseconds;
/// `first-oom:300` befalls first attempts alone.
pub const PLAY: &str = "e2e.safari/play";

/// How long one watch lasts.
const WATCH_SECONDS: u32 = 20;

/// What befalls a pod.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Play {
    /// `oom`: the kernel kills it for its memory.
    OutOfMemory,
    /// `evict`: the node needs what it has.
    Evicted,
    /// `crash`: it dies of itself.
    Crashes,
}

/// What a node has, and what its images are.
#[derive(Clone, Debug, Default)]
pub struct NodeOptions {
    /// Labels of the node.
    pub labels: BTreeMap<String, String>,
    /// GPUs that it tells of.
    pub gpus: u32,
    /// Most pods that it takes.
    pub pods: u32,
    /// The program that an image stands for. Others cannot be pulled.
    pub images: BTreeMap<String, PathBuf>,
    /// Variables of every process, as an image would bring them.
    pub environment: BTreeMap<String, String>,
    /// The folder that processes begin in.
    pub folder: PathBuf,
}

/// A node at work; its processes end when it is dropped, or with the process.
#[derive(Debug)]
pub struct Node {
    name: String,
    unplug: watch::Sender<bool>,
    tasks: Vec<JoinHandle<()>>,
    started: Arc<Mutex<u64>>,
}

/// What all pods of a node share.
#[derive(Clone)]
struct Shared {
    client: Client,
    node: String,
    options: Arc<NodeOptions>,
    logs: Logs,
    unplugged: watch::Receiver<bool>,
    started: Arc<Mutex<u64>>,
}

impl Node {
    /// Registers a node and begins to work.
    ///
    /// # Errors
    /// [`crate::Error::Kubernetes`] when the API server refuses the node.
    pub async fn start(client: Client, name: &str, options: NodeOptions) -> Result<Self> {
        let folder = TempDir::new().map_err(io("make a folder for the logs of pods"))?;
        let logs = Logs::new(folder);
        let (unplug, unplugged) = watch::channel(false);
        let serving = logs.serve(unplugged.clone()).await?;
        node::register(&client, name, &options, serving.port).await?;
        let started = Arc::new(Mutex::new(0));
        let shared = Shared {
            client: client.clone(),
            node: name.to_owned(),
            options: Arc::new(options),
            logs,
            unplugged: unplugged.clone(),
            started: Arc::clone(&started),
        };
        let tasks = vec![
            serving.task,
            tokio::spawn(node::keep_ready(client, name.to_owned(), unplugged)),
            tokio::spawn(run_pods(shared)),
        ];
        Ok(Self { name: name.to_owned(), unplug, tasks, started })
    }

    /// Its name.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// How many processes it has started.
    pub fn started(&self) -> u64 {
        *self.started.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The node loses its power: its processes are dead, and nobody is told.
    pub fn unplug(&self) {
        self.unplug.send_replace(true);
    }
}

impl Drop for Node {
    fn drop(&mut self) {
        self.unplug();
        self.tasks.iter().for_each(JoinHandle::abort);
    }
}

/// Begins the pods that are bound to the node, and tells those that are deleted to end.
async fn run_pods(shared: Shared) {
    let all: Api<Pod> = Api::all(shared.client.clone());
    let ours = watcher::Config::default().fields(&format!("spec.nodeName={}", shared.node)).timeout(WATCH_SECONDS);
    let mut events = std::pin::pin!(watcher(all, ours));
    let mut running: HashMap<String, pod::Handle> = HashMap::new();
    let mut unplugged = shared.unplugged.clone();
    loop {
        let event = tokio::select! {
            event = events.next() => event,
            // Dropping the handles kills the processes.
            _ = unplugged.wait_for(|unplugged| *unplugged) => return,
        };
        match event {
            Some(Ok(watcher::Event::Apply(pod) | watcher::Event::InitApply(pod))) => {
                let uid = pod.uid().unwrap_or_default();
                let handle = running.entry(uid).or_insert_with(|| pod::begin(shared.clone(), pod.clone()));
                if pod.metadata.deletion_timestamp.is_some() {
                    handle.end(pod.metadata.deletion_grace_period_seconds);
                }
            }
            Some(Ok(watcher::Event::Delete(pod))) => {
                running.remove(&pod.uid().unwrap_or_default());
            }
            Some(Ok(watcher::Event::Init | watcher::Event::InitDone)) => {}
            Some(Err(_)) => tokio::time::sleep(std::time::Duration::from_millis(200)).await,
            None => return,
        }
    }
}
