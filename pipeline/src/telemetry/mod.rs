//! Tells receivers outside what happened in runs: OpenLineage events for catalogues, spans for traces.
//!
//! It follows the changes of runs in the database and keeps there how far each receiver was told, so that a receiver
//! that is away is told later, and one process of several tells it. Each change is told at least once. Nobody who runs
//! tasks waits for it.

mod openlineage;
mod spans;
pub(crate) mod trace;

use std::fmt;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use serde_json::{Value, json};
use tokio::sync::watch;
use tracing::{error, info, warn};
use url::Url;
use uuid::Uuid;

use crate::clock::Timestamp;
use crate::error::Result;
use crate::ids::RunId;
use crate::job::{Cancel, Job, JobContext, JobError, JobRegistry, ProgressSink, Retry};
use crate::logs::{MaskedLog, TracingLog};
use crate::mask::{KnownSecrets, Masker};
use crate::runner::RunnerOptions;
use crate::state::{InstanceFacts, RunChange, RunState, Store};

/// Changes are looked for every so many polls.
const POLLS: u32 = 4;
/// The longest pause after a receiver did not answer; the first is twice the usual one.
const LONGEST_PAUSE: Duration = Duration::from_secs(60);
/// How long a call may take.
const PATIENCE: Duration = Duration::from_secs(20);
/// A process that has told nothing for so long is taken for dead.
const LEASE: Duration = Duration::from_secs(60);
/// So often is a receiver told of a change that it refuses, within some minutes; then the change is passed over, or none
/// behind it would be told. One that does not answer is waited for.
const MOST_REFUSALS: u32 = 8;
/// Changes read at once.
const CHANGES: u32 = 100;
/// Task instances told in a call.
const INSTANCES: u32 = 200;

/// Who is told.
#[derive(Clone, PartialEq, Eq)]
pub enum Receiver {
    /// A catalogue that takes OpenLineage events.
    OpenLineage {
        /// Its address; events go to `<url>/api/v1/lineage`.
        url: String,
        /// Namespace of the jobs, and of assets that are no URLs.
        namespace: String,
        /// Sent as a bearer token, if there is one.
        api_key: Option<String>,
    },
    /// A collector that takes spans as OTLP/HTTP in JSON.
    Traces {
        /// Its whole address, such as `http://localhost:4318/v1/traces`.
        url: String,
        /// Sent as the header `Authorization`, if there is one.
        authorization: Option<String>,
    },
}

/// Why a receiver could not be told.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NotTold {
    /// Of which change.
    pub position: i64,
    /// Whether it refuses this change, and would refuse it again.
    pub refused: bool,
    /// In words.
    pub reason: String,
}

/// Without what nobody should read.
impl fmt::Debug for Receiver {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct(self.name()).finish_non_exhaustive()
    }
}

impl Receiver {
    /// What nobody should read of it.
    fn secret(&self) -> Option<&String> {
        match self {
            Self::OpenLineage { api_key, .. } => api_key.as_ref(),
            Self::Traces { authorization, .. } => authorization.as_ref(),
        }
    }

    /// Hides what nobody should read in its answers: a server may repeat what it was sent.
    fn masker(&self) -> Masker {
        let (Self::OpenLineage { url, .. } | Self::Traces { url, .. }) = self;
        // `Bearer …` or `Basic …`, of which the second word is the secret.
        let words = self.secret().into_iter().flat_map(|secret| secret.split_whitespace().last());
        let password = Url::parse(url).ok().and_then(|url| url.password().map(str::to_owned));
        Masker::new(self.secret().into_iter().cloned().chain(words.map(str::to_owned)).chain(password))
    }

    /// Its name in the database and in messages.
    pub fn name(&self) -> &'static str {
        match self {
            Self::OpenLineage { .. } => "openlineage",
            Self::Traces { .. } => "traces",
        }
    }
}

/// Tells receivers. Any number of processes may: each receiver is told by one of them at a time.
#[derive(Clone)]
pub struct Telemetry {
    store: Store,
    registry: JobRegistry,
    known_secrets: KnownSecrets,
    home: PathBuf,
    receivers: Vec<Receiver>,
    /// Whoever tells.
    owner: String,
    pause: Duration,
}

impl Telemetry {
    /// Tells the receivers with the job `http` of a registry.
    pub fn new(store: Store, registry: JobRegistry, options: &RunnerOptions, receivers: Vec<Receiver>) -> Self {
        let (known_secrets, home) = (options.known_secrets.clone(), options.home.clone());
        let pause = options.poll * POLLS;
        Self { store, registry, known_secrets, home, receivers, owner: Uuid::new_v4().to_string(), pause }
    }

    /// Tells until `stop` is set. A receiver or a database that is away may be back later: it goes on.
    pub async fn serve(&self, stop: watch::Receiver<bool>) {
        let telling = self.receivers.iter().map(|receiver| self.serve_one(receiver, stop.clone()));
        futures::future::join_all(telling).await;
    }

    /// Tells a receiver of what it was not told yet; how many changes that were.
    ///
    /// # Errors
    /// When the database fails. The inner error says why the receiver could not be told of the next change.
    pub async fn tell(&self, receiver: &Receiver) -> Result<std::result::Result<usize, NotTold>> {
        let name = receiver.name();
        let Some(mut position) = self.store.take_telemetry(name, &self.owner, Timestamp::now(), LEASE).await? else {
            return Ok(Ok(0));
        };
        self.store.place_changes().await?;
        let mut told = 0;
        loop {
            let changes = self.store.changes_after(position, CHANGES).await?;
            let Some(last) = changes.last() else { return Ok(Ok(told)) };
            position = last.position;
            for change in &changes {
                if let Err(error) = self.tell_change(receiver, change).await? {
                    let position = change.position;
                    return Ok(Err(NotTold { position, refused: error.retry == Retry::No, reason: error.message }));
                }
                if !self.told(receiver, change.position).await? {
                    return Ok(Ok(told));
                }
                told += 1;
            }
        }
    }

    async fn serve_one(&self, receiver: &Receiver, mut stop: watch::Receiver<bool>) {
        let name = receiver.name();
        let (mut pause, mut refused) = (self.pause, (0, 0));
        while !*stop.borrow_and_update() {
            match self.tell(receiver).await {
                Ok(Ok(_)) => {
                    if pause > self.pause {
                        info!(receiver = name, "told of runs again");
                    }
                    pause = self.pause;
                }
                Ok(Err(failure)) => {
                    warn!(receiver = name, error = failure.reason, "not told of runs; it is told later");
                    pause = (pause * 2).min(LONGEST_PAUSE);
                    if failure.refused {
                        refused = (failure.position, if refused.0 == failure.position { refused.1 + 1 } else { 1 });
                    }
                }
                Err(error) => {
                    warn!(receiver = name, %error, "not told of runs; it is told later");
                    pause = (pause * 2).min(LONGEST_PAUSE);
                }
            }
            if refused.1 >= MOST_REFUSALS {
                error!(receiver = name, position = refused.0, "a change of a run that it refuses is passed over");
                // What fails here is passed over the next time.
                refused.1 = if self.told(receiver, refused.0).await.is_ok() { 0 } else { MOST_REFUSALS - 1 };
            }
            tokio::select! {
                () = tokio::time::sleep(pause) => {}
                Ok(()) = stop.changed() => {}
            }
        }
    }

    /// Notes that a receiver needs no more telling up to a position. False when another process tells it meanwhile.
    async fn told(&self, receiver: &Receiver, position: i64) -> Result<bool> {
        let lease_until = Timestamp::now().plus(LEASE);
        self.store.telemetry_told(receiver.name(), &self.owner, position, lease_until).await
    }

    /// The inner error says why the receiver could not be told.
    async fn tell_change(&self, receiver: &Receiver, change: &RunChange) -> Result<std::result::Result<(), JobError>> {
        let calls = match receiver {
            Receiver::OpenLineage { namespace, .. } => self.lineage(namespace, change).await?,
            Receiver::Traces { .. } => self.trace(change).await?,
        };
        for call in calls {
            if let Err(error) = self.post(receiver, change, call).await {
                return Ok(Err(error));
            }
        }
        Ok(Ok(()))
    }

    /// Events of a run that has begun; of its tasks, too, when it has ended.
    async fn lineage(&self, namespace: &str, change: &RunChange) -> Result<Vec<Value>> {
        if change.state == RunState::Queued {
            return Ok(Vec::new());
        }
        let run = self.store.run(change.run).await?;
        let dag = self.store.dag(&run).await?;
        if !change.state.is_finished() {
            return Ok(vec![openlineage::run_started(namespace, &run, &dag, change.at)]);
        }
        let instances = self.instances(change.run).await?;
        let mut events: Vec<Value> =
            instances.iter().flat_map(|one| openlineage::of_instance(namespace, &run, &dag, one)).collect();
        events.push(openlineage::run_ended(namespace, &run, &dag, change.at));
        Ok(events)
    }

    /// Spans of a run that has ended.
    async fn trace(&self, change: &RunChange) -> Result<Vec<Value>> {
        if !change.state.is_finished() {
            return Ok(Vec::new());
        }
        let run = self.store.run(change.run).await?;
        let mut spans = vec![spans::of_run(&run, change.at)];
        for instance in self.instances(change.run).await? {
            spans.extend(spans::of_instance(&run, &instance));
        }
        Ok(spans.chunks(INSTANCES as usize).map(spans::request).collect())
    }

    async fn instances(&self, run: RunId) -> Result<Vec<InstanceFacts>> {
        let mut all: Vec<InstanceFacts> = Vec::new();
        loop {
            let page = self.store.instances_tried(run, all.last().map(InstanceFacts::place), INSTANCES).await?;
            let full = page.len() == INSTANCES as usize;
            all.extend(page);
            if !full {
                return Ok(all);
            }
        }
    }

    async fn post(&self, receiver: &Receiver, change: &RunChange, body: Value) -> std::result::Result<(), JobError> {
        let Some(job) = self.registry.get("http") else {
            return Err(JobError::transient("this program has no job kind `http`, which telemetry needs"));
        };
        let (url, authorization) = match receiver {
            Receiver::OpenLineage { url, api_key, .. } => {
                let authorization = api_key.as_ref().map(|key| format!("Bearer {key}"));
                (format!("{}/api/v1/lineage", url.trim_end_matches('/')), authorization)
            }
            Receiver::Traces { url, authorization } => (url.clone(), authorization.clone()),
        };
        let mut with = json!({
            "url": url,
            "method": "POST",
            "body": body,
            "output": "none",
            "idempotency_header": false,
        });
        if let Some(authorization) = authorization {
            with["headers"] = json!({"Authorization": authorization});
        }
        call(&job, self.context(receiver, change), with).await
    }

    fn context(&self, receiver: &Receiver, change: &RunChange) -> impl FnOnce(Cancel) -> JobContext {
        let (run, name, position) = (change.run, receiver.name(), change.position);
        let (dag, home, masker) =
            (change.dag.clone(), self.home.clone(), self.known_secrets.masker().join(&receiver.masker()));
        move |cancel| JobContext {
            run_id: run,
            dag,
            task: name.to_owned(),
            map_index: None,
            attempt: 1,
            idempotency_key: format!("{run}/{name}/{position}"),
            traceparent: trace::traceparent(run, name, None, 1),
            cancel,
            progress: ProgressSink::default(),
            work_dir: home,
            log: Arc::new(MaskedLog { log: Arc::new(TracingLog), masker: masker.clone() }),
            masker,
        }
    }
}

async fn call(
    job: &Arc<dyn Job>,
    context: impl FnOnce(Cancel) -> JobContext,
    with: Value,
) -> std::result::Result<(), JobError> {
    let (stop, cancel) = Cancel::new();
    let context = context(cancel);
    let masker = context.masker.clone();
    let answered = tokio::time::timeout(PATIENCE, job.run(context, with)).await;
    drop(stop);
    match answered {
        Ok(answered) => masker.mask_result(answered).map(drop),
        Err(_) => Err(JobError::transient(format!("no answer within {PATIENCE:?}"))),
    }
}
