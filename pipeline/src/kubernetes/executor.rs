//! The executor's loop.

use std::time::{Duration, Instant};

use k8s_openapi::apimachinery::pkg::apis::meta::v1::OwnerReference;
use tokio::sync::watch;

use super::claims::Book;
use super::cluster::Cluster;
use super::job::claimed_by;
use super::options::KubernetesOptions;
use super::reconcile::{Memory, round};
use super::watch::Watched;
use crate::clock::Timestamp;
use crate::error::Result;
use crate::runner::host_name;
use crate::state::{Owner, Store};

/// How often it looks without being told, and at what it was told of at least so far apart: much is told at once.
const LOOK: Duration = Duration::from_secs(1);
const BREATH: Duration = Duration::from_millis(50);
/// How long it waits for an API server or a database that went away.
const PAUSE: Duration = Duration::from_secs(1);

/// Runs attempts of tasks that want a pod. Several may run on one namespace; they help each other, and may then exceed the
/// parallelism for a moment, as each counts before it claims.
pub struct Executor {
    store: Store,
    options: KubernetesOptions,
    cluster: Cluster,
    owner: Owner,
}

impl Executor {
    /// An executor on a state database and a cluster.
    ///
    /// # Errors
    /// [`Error::NoCluster`](crate::Error::NoCluster) when it is not known how to reach the API server. It is not asked yet.
    pub async fn open(store: Store, options: KubernetesOptions) -> Result<Self> {
        let cluster = Cluster::open(&options).await?;
        let owner = Owner { host: host_name(), pid: std::process::id(), key: claimed_by(&cluster.namespace) };
        Ok(Self { store, options, cluster, owner })
    }

    /// The namespace of its Jobs.
    pub fn namespace(&self) -> &str {
        &self.cluster.namespace
    }

    /// Works until `stopped`. Pods go on without it, and the next executor finds them.
    pub async fn serve(&self, mut stopped: watch::Receiver<bool>) {
        let heart = tokio::spawn(beat(self.store.clone(), self.owner.key.clone(), self.options.lease));
        let mut watched = Watched::start(self.cluster.jobs.clone(), self.cluster.pods.clone());
        let mut changed = self.store.changed();
        let mut turn = Turn::default();
        while !*stopped.borrow() {
            let wait = match self.turn(&watched, &mut turn).await {
                Ok(wait) => wait,
                Err(error) => {
                    tracing::warn!(%error, "the Kubernetes executor waits; pods go on");
                    PAUSE
                }
            };
            tokio::select! {
                () = tokio::time::sleep(wait) => {}
                Ok(()) = watched.changed.changed() => tokio::time::sleep(BREATH).await,
                Ok(()) = changed.changed() => {}
                _ = stopped.changed() => {}
            }
        }
        heart.abort();
    }

    /// One round and a claim; gives how long the next may wait.
    async fn turn(&self, watched: &Watched, turn: &mut Turn) -> Result<Duration> {
        if !watched.is_whole() {
            return Ok(LOOK);
        }
        if let (Some(name), None) = (&self.options.owner, &turn.job_owner) {
            match self.cluster.owner(name).await {
                Ok(owner) => turn.job_owner = Some(owner),
                Err(reason) => {
                    tracing::warn!(config_map = name, reason, "the owner of Jobs cannot be read; no Job is made");
                    return Ok(PAUSE);
                }
            }
        }
        let book = Book { store: &self.store, options: &self.options, owner: &self.owner };
        if turn.next_sweep.is_none_or(|at| Instant::now() >= at) {
            // After a pause of this process its own leases come first.
            self.store.renew(&self.owner.key, Timestamp::now(), self.options.lease).await?;
            book.sweep().await?;
            turn.next_sweep = Some(Instant::now() + self.options.lease / 3);
        }
        let memory = &mut turn.memory;
        let mut under_way = round(&book, &self.cluster, watched, turn.job_owner.as_ref(), memory).await?;
        // What nobody can begin is left to those who can.
        if memory.is_cut_off {
            return Ok(PAUSE);
        }
        let mut next_ready = None;
        while under_way < self.options.parallelism {
            let (claimed, next) = book.claim(self.options.parallelism - under_way).await?;
            next_ready = next;
            if claimed.is_empty() {
                break;
            }
            under_way = round(&book, &self.cluster, watched, turn.job_owner.as_ref(), memory).await?;
        }
        let ready = next_ready.map_or(LOOK, |at| at.since(Timestamp::now()));
        Ok(LOOK.min(ready.max(BREATH)))
    }
}

/// What is kept from turn to turn.
#[derive(Default)]
struct Turn {
    job_owner: Option<OwnerReference>,
    next_sweep: Option<Instant>,
    memory: Memory,
}

/// Renews the leases of what waits for a pod.
async fn beat(store: Store, key: String, lease: Duration) {
    loop {
        let wait = match store.renew(&key, Timestamp::now(), lease).await {
            Ok(_) => lease / 3,
            Err(error) => {
                tracing::warn!(%error, "could not renew the leases of attempts that wait for a pod");
                (lease / 20).min(Duration::from_secs(1))
            }
        };
        tokio::time::sleep(wait).await;
    }
}
