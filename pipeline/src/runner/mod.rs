//! The runner: drives runs to their end in this process, and goes on where a dead or interrupted one stopped.

mod board;
mod cache;
mod delivery;
mod dispatch;
mod events;
mod flight;
mod lock;
mod offer;
mod retry;
mod run_dag;
mod secrets;
mod work;
mod worker;

use std::collections::HashMap;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use tokio::sync::{broadcast, watch};
use uuid::Uuid;

pub use events::{RunEvent, RunOutcome, TaskProgress};
pub(crate) use flight::failure;
pub(crate) use lock::host_name;
pub use offer::Offer;
pub(crate) use run_dag::check as check_run_dag;
pub use secrets::Secrets;

use crate::alerts::Alerts;
use crate::clock::Timestamp;
use crate::dag::{Dag, ExecutorKind, Params};
use crate::error::{Error, Result};
use crate::ids::RunId;
use crate::job::JobRegistry;
use crate::logs::Logs;
use crate::mask::KnownSecrets;
use crate::state::{InstanceKind, Owner, Store, TaskState, Ticket};

use delivery::ApalisDispatcher;
use dispatch::Dispatcher;
use lock::{Lock, Tried};
use worker::{Assignment, Worker};

/// Settings of a runner.
#[derive(Clone, Debug)]
pub struct RunnerOptions {
    /// Folder for locks and for the runs' work folders; made when it is missing.
    pub home: PathBuf,
    /// How many instances run at once in one run.
    pub parallelism: usize,
    /// After this time without a heartbeat, others may take an attempt over. Heartbeats come three times as often.
    pub lease: Duration,
    /// How long a job that was told to stop may take to do so.
    pub grace: Duration,
    /// So many attempts in a row whose process died fail a task instance.
    pub max_lost: u32,
    /// Hold `<home>/locks/run-<id>.lock` while driving, which makes take-over after a crash immediate. Without it
    /// several runners may drive the same run together, and only leases tell who is dead.
    pub exclusive: bool,
    /// How often a worker that shares the database looks for work that another process made.
    pub poll: Duration,
    /// What `secrets.<name>` means in templates.
    pub secrets: Secrets,
    /// Secrets that are hidden whatever task shows them. Those that a task or an alert is given become known, too.
    pub known_secrets: KnownSecrets,
    /// What tasks that ask for labels and resources find here; nothing: they find whatever they ask for.
    pub offer: Option<Offer>,
    /// Folder of DAG files in which tasks with `dag:` look first; afterwards among those that a server has read.
    pub dags: Option<PathBuf>,
    /// Where the logs of attempts are kept; nothing: their lines go to the program's own log.
    pub logs: Option<Logs>,
    /// Who does tasks that do not say where they run.
    pub default_executor: ExecutorKind,
}

impl RunnerOptions {
    /// The usual settings on a home folder: two instances at once, leases of 30 s, 10 s to stop, 5 lost attempts.
    pub fn new(home: impl Into<PathBuf>) -> Self {
        Self {
            home: home.into(),
            parallelism: 2,
            lease: Duration::from_secs(30),
            grace: Duration::from_secs(10),
            max_lost: 5,
            exclusive: true,
            poll: Duration::from_millis(250),
            secrets: Secrets::default(),
            known_secrets: KnownSecrets::default(),
            offer: None,
            dags: None,
            logs: None,
            default_executor: ExecutorKind::Worker,
        }
    }
}

/// A run that is ready to be driven.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Start {
    /// A new run.
    Started {
        /// Its id.
        run_id: RunId,
    },
    /// An unfinished run of the same DAG text and parameters whose owner is gone.
    Resumed {
        /// Its id.
        run_id: RunId,
        /// Task instances that are done and will not run again.
        done_instances: u64,
    },
}

impl Start {
    /// The run.
    pub fn run_id(self) -> RunId {
        match self {
            Self::Started { run_id } | Self::Resumed { run_id, .. } => run_id,
        }
    }
}

/// Drives runs in this process.
pub struct Runner {
    store: Store,
    registry: JobRegistry,
    options: RunnerOptions,
    dispatcher: Arc<dyn Dispatcher>,
    events: broadcast::Sender<(RunId, RunEvent)>,
    interrupt: watch::Sender<bool>,
    drain: watch::Sender<bool>,
    /// Locks taken by `start_or_resume`, waiting for `drive`.
    locks: Mutex<HashMap<RunId, Lock>>,
}

impl Runner {
    /// A runner on a store that can do the registered jobs.
    pub fn new(store: Store, mut registry: JobRegistry, options: RunnerOptions) -> Self {
        registry.put(Arc::new(run_dag::RunDag::new(&store, &registry, &options)));
        Self {
            store,
            registry,
            options,
            dispatcher: Arc::new(ApalisDispatcher::default()),
            events: broadcast::Sender::new(1024),
            interrupt: watch::Sender::new(false),
            drain: watch::Sender::new(false),
            locks: Mutex::default(),
        }
    }

    /// The store, for questions about runs.
    pub fn store(&self) -> &Store {
        &self.store
    }

    /// Tells the alerts of runs with what this runner has: see [`Alerts`].
    pub fn alerts(&self) -> Alerts {
        Alerts::new(self.store.clone(), self.registry.clone(), &self.options)
    }

    /// Everything that happens from now on in the runs that this runner drives.
    pub fn events(&self) -> broadcast::Receiver<(RunId, RunEvent)> {
        self.events.subscribe()
    }

    /// Stops driving: running jobs are told to stop, `drive` returns [`Error::Interrupted`], and the run can go on
    /// later. Jobs that do not stop within the grace time are left behind. This runner drives nothing afterwards.
    pub fn interrupt(&self) {
        self.interrupt.send_replace(true);
    }

    /// Claims nothing more; what is under way may end, and then `serve` returns.
    pub fn drain(&self) {
        self.drain.send_replace(true);
    }

    /// Finds the unfinished run of this DAG text and these parameters and takes it over, or makes a new one. Job kinds
    /// and what they are given are checked first. [`Error::RunOwned`] when a live process drives that run.
    pub async fn start_or_resume(&self, dag: &Dag, params: &Params) -> Result<Start> {
        self.registry.check(dag, Some(params))?;
        let _only_one = match self.options.exclusive {
            true => Some(lock::start(&self.options.home).await?),
            false => None,
        };
        let mut owned = None;
        for run_id in self.store.unfinished_runs(dag, params).await? {
            match self.own(run_id)? {
                None => {}
                Some(pid) => {
                    owned = Some(Error::RunOwned { run: run_id, pid });
                    continue;
                }
            }
            // It may have ended between the question and the lock.
            if self.store.run(run_id).await?.state.is_finished() {
                self.release(run_id, true);
                continue;
            }
            let instances = self.store.instances(run_id).await?;
            let done = |instance: &&crate::state::InstanceRecord| {
                instance.state == TaskState::Succeeded && instance.kind != InstanceKind::Map
            };
            let done_instances = instances.iter().filter(done).count() as u64;
            return Ok(Start::Resumed { run_id, done_instances });
        }
        if let Some(error) = owned {
            return Err(error);
        }
        let run_id = self.store.create_run(dag, params, Timestamp::now()).await?;
        if let Some(pid) = self.own(run_id)? {
            return Err(Error::RunOwned { run: run_id, pid });
        }
        Ok(Start::Started { run_id })
    }

    /// Drives a run to its end. A run whose tasks failed is an outcome, not an error; an error means that the run could
    /// not be driven on, and can be resumed. Dropping the future stops its jobs and leaves the run to be resumed too.
    pub async fn drive(&self, run_id: RunId) -> Result<RunOutcome> {
        if let Some(pid) = self.own(run_id)? {
            return Err(Error::RunOwned { run: run_id, pid });
        }
        let result = self.drive_owned(run_id).await;
        self.release(run_id, result.is_ok());
        result
    }

    async fn drive_owned(&self, run_id: RunId) -> Result<RunOutcome> {
        Worker::new(self, Assignment::Run(run_id), self.new_owner()).drive(run_id).await
    }

    /// Works on whatever is ready in any run, until [`Runner::interrupt`]. `queues` limits it to tasks of these queues
    /// and of none; empty means all. An error means that the database failed for good.
    pub async fn serve(&self, queues: Vec<String>) -> Result<()> {
        Worker::new(self, Assignment::All { queues }, self.new_owner()).serve().await
    }

    /// Does the attempt of a ticket to its end, wherever it was claimed; false when it is not to be had any more: it has
    /// ended, or another process does it. `pod` is the name of the pod that this process runs in. After
    /// [`Runner::interrupt`] the attempt is given back.
    pub async fn run_attempt(&self, ticket: &Ticket, pod: &str) -> Result<bool> {
        let owner = Owner {
            host: pod.to_owned(),
            pid: std::process::id(),
            key: format!("{}/{}", ticket.claimed_by, Uuid::new_v4()),
        };
        let (store, lease) = (&self.store, self.options.lease);
        let take = || store.take_over(ticket, &owner, Timestamp::now(), lease);
        let Some(claim) = worker::until_it_answers(self.interrupt.subscribe(), take).await? else { return Ok(false) };
        Worker::new(self, Assignment::All { queues: Vec::new() }, owner).serve_one(claim).await?;
        Ok(true)
    }

    /// A key for each worker: what an earlier one of this process left behind is lost too.
    fn new_owner(&self) -> Owner {
        Owner { host: lock::host_name(), pid: std::process::id(), key: Uuid::new_v4().to_string() }
    }

    /// Takes the lock of a run unless it is ours already; gives the process that holds it.
    fn own(&self, run: RunId) -> Result<Option<u32>> {
        if !self.options.exclusive {
            return Ok(None);
        }
        let mut locks = self.locks.lock().unwrap_or_else(PoisonError::into_inner);
        if locks.contains_key(&run) {
            return Ok(None);
        }
        match lock::try_run(&self.options.home, run)? {
            Tried::Locked(lock) => {
                locks.insert(run, lock);
                Ok(None)
            }
            Tried::Held { pid } => Ok(Some(pid)),
        }
    }

    fn release(&self, run: RunId, ended: bool) {
        let lock = self.locks.lock().unwrap_or_else(PoisonError::into_inner).remove(&run);
        if let Some(lock) = lock
            && ended
        {
            lock.remove();
        }
    }
}
