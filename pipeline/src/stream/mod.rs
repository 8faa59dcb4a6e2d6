//! The sources of continuous DAGs: what comes in is written down, each item once, and the scheduler cuts batches of it.
//!
//! Any number of processes may read: a source has one reader at a time, and what two of them write down is there once.

mod folder;
mod nats;
pub mod notification;

use std::collections::HashMap;
use std::time::Duration;

use tokio::sync::watch;
use tokio::task::{Id, JoinError, JoinSet};
use tracing::warn;

use crate::clock::Timestamp;
use crate::dag::{Continuous, Dag, StreamSource};
use crate::error::Result;
use crate::state::Store;
use crate::template::{self, Scope};

/// A reader that has said nothing for so long is dead. One that was only slow does no harm: what two write down is there once.
const LEASE: Duration = Duration::from_secs(20);

/// A source is read as often as its batches may be old, within these limits.
const SHORTEST_INTERVAL: Duration = Duration::from_millis(500);
const LONGEST_INTERVAL: Duration = Duration::from_secs(30);

/// More items than this need not wait in the state: the source keeps them as well.
const MOST_WAITING: u64 = 20_000;

/// How long it waits after the database failed.
const PAUSE_AFTER_ERROR: Duration = Duration::from_secs(1);

/// Reads the sources of all continuous DAGs that a server has read.
#[derive(Clone, Debug)]
pub struct Streams {
    store: Store,
    /// How often it looks which sources are due.
    poll: Duration,
}

impl Streams {
    /// Readers that look at the database at least this often.
    pub fn new(store: Store, poll: Duration) -> Self {
        Self { store, poll }
    }

    /// Works until `stop` is set; what is being read then is left to whoever looks next.
    pub async fn serve(&self, mut stop: watch::Receiver<bool>) {
        let mut readers = Readers::default();
        while !*stop.borrow_and_update() {
            let wait = match self.start_readers(&mut readers).await {
                Ok(()) => self.poll,
                Err(error) => {
                    warn!(%error, "the sources of continuous dags could not be looked at; it tries again");
                    PAUSE_AFTER_ERROR
                }
            };
            while let Some(ended) = readers.tasks.try_join_next_with_id() {
                readers.forget(&ended);
            }
            tokio::select! {
                Ok(()) = stop.changed() => {}
                () = tokio::time::sleep(wait) => {}
            }
        }
        self.give_back(readers).await;
    }

    /// Stops what is being read; the next server need not wait until its reader counts as dead.
    async fn give_back(&self, mut readers: Readers) {
        readers.tasks.abort_all();
        while let Some(ended) = readers.tasks.join_next_with_id().await {
            let Some(dag) = readers.forget(&ended) else { continue };
            if ended.is_ok() {
                continue;
            }
            if let Err(error) = self.store.set_reading(&dag, Timestamp::now(), None).await {
                warn!(dag, %error, "the source is read again when its reader counts as dead");
            }
        }
    }

    /// Starts a reader for each source that is due.
    async fn start_readers(&self, readers: &mut Readers) -> Result<()> {
        for record in self.store.dags().await? {
            if record.paused || record.file.is_none() {
                continue;
            }
            let dag = self.store.dag_version(record.version).await?;
            let Some(continuous) = dag.continuous.clone() else { continue };
            // Items of webhooks come in by the API.
            let Some(source) = source_of(&dag, &continuous) else { continue };
            let now = Timestamp::now();
            if !self.store.begin_reading(&dag.name, now, now.plus(LEASE)).await? {
                continue;
            }
            let (store, name) = (self.store.clone(), dag.name.clone());
            let reader = readers.tasks.spawn(async move { read(&store, &dag.name, &continuous, source).await });
            readers.dags.insert(reader.id(), name);
        }
        Ok(())
    }
}

/// The sources that this process reads.
#[derive(Default)]
struct Readers {
    tasks: JoinSet<()>,
    dags: HashMap<Id, String>,
}

impl Readers {
    /// The DAG of a reader that has ended.
    fn forget(&mut self, ended: &std::result::Result<(Id, ()), JoinError>) -> Option<String> {
        let id = match ended {
            Ok((id, ())) => *id,
            Err(error) => error.id(),
        };
        self.dags.remove(&id)
    }
}

/// A source that can be read.
enum Source {
    Folder(String),
    Nats(nats::Source),
}

/// Reads a source for a while, and says how it went.
async fn read(store: &Store, dag: &str, continuous: &Continuous, source: std::result::Result<Source, String>) {
    let interval = continuous.max_age.clamp(SHORTEST_INTERVAL, LONGEST_INTERVAL);
    let (done, pause) = match source {
        Ok(Source::Folder(source)) => (folder::read(store, dag, continuous, &source).await, interval),
        Ok(Source::Nats(source)) => (nats::read(store, dag, continuous, &source).await, Duration::ZERO),
        Err(error) => (Err(error), interval),
    };
    if let Err(error) = &done {
        warn!(dag, error, "the source could not be read; it tries again");
    }
    let next = Timestamp::now().plus(if done.is_ok() { pause } else { interval });
    if let Err(error) = store.set_reading(dag, next, done.err().as_deref()).await {
        warn!(dag, %error, "the source is read again when its reader counts as dead");
    }
}

/// How many items may wait for a DAG: a few batches, but enough that a source is not asked all the time.
fn most_waiting(continuous: &Continuous) -> u64 {
    MOST_WAITING.max(u64::from(continuous.max_batch) * u64::from(continuous.max_in_flight))
}

/// The source of a DAG with its templates rendered; nothing for a webhook.
fn source_of(dag: &Dag, continuous: &Continuous) -> Option<std::result::Result<Source, String>> {
    match &continuous.source {
        StreamSource::Webhook(_) => None,
        StreamSource::Folder(source) => Some(render(dag, source).map(Source::Folder)),
        StreamSource::Nats { url, stream, subject, consumer } => {
            let rendered = || {
                Ok(nats::Source {
                    url: render(dag, url)?,
                    stream: render(dag, stream)?,
                    subject: render(dag, subject)?,
                    consumer: render(dag, consumer)?,
                })
            };
            Some(rendered().map(Source::Nats))
        }
    }
}

/// Sources know the default parameters and nothing else.
fn render(dag: &Dag, source: &str) -> std::result::Result<String, String> {
    let params = dag.params(&[]).map_err(|error| error.to_string())?;
    let scope = Scope::new(&params.to_json(), &serde_json::Value::Null);
    match template::render(&serde_json::Value::String(source.to_owned()), &scope)? {
        serde_json::Value::String(text) => Ok(text),
        other => Err(format!("`source` must give a text, but gives {other}")),
    }
}
