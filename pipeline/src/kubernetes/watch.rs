//! Jobs and pods as they stand, kept up to date by watching them.

use std::collections::HashMap;
use std::fmt::Debug;
use std::hash::Hash;
use std::sync::Arc;
use std::time::Duration;

use futures::StreamExt;
use k8s_openapi::api::batch::v1::Job;
use k8s_openapi::api::core::v1::Pod;
use kube::runtime::reflector::{self, Store};
use kube::runtime::watcher::{self, watcher};
use kube::{Api, Resource, ResourceExt};
use serde::de::DeserializeOwned;
use tokio::sync::watch;
use tokio::task::JoinHandle;

use super::job::{ATTEMPT, MANAGED_BY};
use crate::ids::AttemptId;

/// How long one watch lasts. The next finds a connection anew, so that one whose other end has vanished misleads no longer.
const WATCH_SECONDS: u32 = 60;

/// How long it waits before it asks again after an error: the first time, and at most.
const SHORTEST_PAUSE: Duration = Duration::from_millis(200);
const LONGEST_PAUSE: Duration = Duration::from_secs(5);

/// What was seen last. While the API server is away it stays as it was.
pub(super) struct Watched {
    jobs: Store<Job>,
    pods: Store<Pod>,
    /// How many of the two lists were read whole at least once.
    listed: [watch::Receiver<bool>; 2],
    /// Changes with whatever is seen.
    pub(super) changed: watch::Receiver<u64>,
    watching: [JoinHandle<()>; 2],
}

/// All objects at a moment.
pub(super) struct Seen {
    /// By name.
    pub(super) jobs: HashMap<String, Arc<Job>>,
    /// By the attempt that they are for, those made last first.
    pub(super) pods: HashMap<AttemptId, Vec<Arc<Pod>>>,
}

impl Watched {
    /// Watches until it is dropped.
    pub(super) fn start(jobs: Api<Job>, pods: Api<Pod>) -> Self {
        let (seen, changed) = watch::channel(0);
        let seen = Arc::new(seen);
        let (jobs, jobs_listed, first) = follow(jobs, Arc::clone(&seen));
        let (pods, pods_listed, second) = follow(pods, seen);
        Self { jobs, pods, listed: [jobs_listed, pods_listed], changed, watching: [first, second] }
    }

    /// Whether everything that was there at the start is known.
    pub(super) fn is_whole(&self) -> bool {
        self.listed.iter().all(|listed| *listed.borrow())
    }

    pub(super) fn now(&self) -> Seen {
        let jobs = self.jobs.state().into_iter().map(|job| (job.name_any(), job)).collect();
        let mut pods: HashMap<AttemptId, Vec<Arc<Pod>>> = HashMap::new();
        for pod in self.pods.state() {
            if let Some(attempt) = attempt_of(pod.as_ref()) {
                pods.entry(attempt).or_default().push(pod);
            }
        }
        for pods in pods.values_mut() {
            pods.sort_by_key(|pod| std::cmp::Reverse(pod.creation_timestamp().map(|time| time.0)));
        }
        Seen { jobs, pods }
    }
}

impl Drop for Watched {
    fn drop(&mut self) {
        self.watching.iter().for_each(JoinHandle::abort);
    }
}

/// The attempt that an object of ours is for.
pub(super) fn attempt_of<K: Resource>(object: &K) -> Option<AttemptId> {
    object.meta().labels.as_ref()?.get(ATTEMPT)?.parse().ok()
}

/// Keeps objects of one kind in a store.
fn follow<K>(api: Api<K>, changed: Arc<watch::Sender<u64>>) -> (Store<K>, watch::Receiver<bool>, JoinHandle<()>)
where
    K: Resource + Clone + Debug + DeserializeOwned + Send + Sync + 'static,
    K::DynamicType: Default + Eq + Hash + Clone + Send + Sync,
{
    let (store, mut writer) = reflector::store();
    let (list, listed) = watch::channel(false);
    let ours = watcher::Config::default().labels(&format!("{}={},{ATTEMPT}", MANAGED_BY.0, MANAGED_BY.1));
    let ours = ours.timeout(WATCH_SECONDS);
    let watching = tokio::spawn(async move {
        let mut events = std::pin::pin!(watcher(api, ours));
        let mut pause = SHORTEST_PAUSE;
        while let Some(event) = events.next().await {
            match event {
                Ok(event) => {
                    writer.apply_watcher_event(&event);
                    pause = SHORTEST_PAUSE;
                    if matches!(event, watcher::Event::InitDone) {
                        list.send_replace(true);
                    }
                    changed.send_modify(|count| *count += 1);
                }
                Err(error) => {
                    let kind = K::kind(&K::DynamicType::default()).into_owned();
                    tracing::warn!(kind, %error, "the API server of Kubernetes cannot be watched; what runs goes on");
                    tokio::time::sleep(pause).await;
                    pause = (pause * 2).min(LONGEST_PAUSE);
                }
            }
        }
    });
    (store, listed, watching)
}
