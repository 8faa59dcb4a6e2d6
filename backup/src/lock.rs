//! One writer at a time in a place of backups.
//!
//! `locks/<number>` is written by whoever is at work, and written again as a sign of life. The highest number holds the
//! place; it is never removed, only marked as released, so that a number is given once. Whether a holder is dead is judged
//! by watching its object for as long as a lease by the watcher's own steady clock: no clock of another machine is asked,
//! and none that was changed matters. A holder that stood still finds the higher number before it records anything.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use bytes::Bytes;
use chrono::{DateTime, Utc};
use futures::TryStreamExt;
use platform::object_store::ObjectStore;
use serde::{Deserialize, Serialize};
use tokio::sync::Notify;
use tokio::task::JoinHandle;
use tracing::{info, warn};

use crate::{Error, Result};

/// Signs of life within a lease.
const BEATS: u32 = 4;

/// The right to write to a place, until it is released or lost.
#[derive(Debug)]
pub(crate) struct Lock {
    store: Arc<dyn ObjectStore>,
    number: u64,
    holder: Holder,
    lost: Arc<AtomicBool>,
    enough: Arc<Notify>,
    beating: JoinHandle<()>,
}

/// What a lock's object says.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
struct Holder {
    host: String,
    process: u32,
    doing: String,
    since: DateTime<Utc>,
    /// Grows with each sign of life.
    beat: u64,
    released: bool,
}

impl Lock {
    /// Takes the place, after watching a holder that shows no sign of life for `lease`.
    ///
    /// # Errors
    /// [`Error::InUse`] when its holder lives, or another one was faster.
    pub(crate) async fn take(store: &Arc<dyn ObjectStore>, doing: &str, lease: Duration) -> Result<Self> {
        let newest = newest(store).await?;
        if let Some(number) = newest {
            wait_until_free(store, number, lease).await?;
        }
        let number = newest.map_or(1, |number| number + 1);
        let holder = Holder {
            host: host(),
            process: std::process::id(),
            doing: doing.to_owned(),
            since: Utc::now(),
            beat: 0,
            released: false,
        };
        if !store.put_if_absent(&key(number), holder.to_bytes()?).await? {
            let other = read(store, number).await?;
            return Err(in_use(store, other.as_ref()));
        }
        for old in (1..number).rev().take(8) {
            store.delete(&key(old)).await?;
        }
        let lost = Arc::new(AtomicBool::new(false));
        let enough = Arc::new(Notify::new());
        let heart = Heart {
            store: Arc::clone(store),
            number,
            holder: holder.clone(),
            pause: lease / BEATS,
            lost: Arc::clone(&lost),
            enough: Arc::clone(&enough),
        };
        let beating = tokio::spawn(heart.beat());
        Ok(Self { store: Arc::clone(store), number, holder, lost, enough, beating })
    }

    /// Its number, which only grows.
    pub(crate) fn number(&self) -> u64 {
        self.number
    }

    /// That the place is still this process's: asked right before something is recorded or removed.
    ///
    /// # Errors
    /// [`Error::LockLost`].
    pub(crate) async fn check(&self) -> Result<()> {
        if self.lost.load(Ordering::SeqCst) || newest(&self.store).await? != Some(self.number) {
            return Err(Error::LockLost { place: self.store.location().to_string() });
        }
        Ok(())
    }

    /// The time by the place's own clock, as it writes it to objects.
    pub(crate) async fn store_time(&self) -> Result<DateTime<Utc>> {
        let probe = format!("locks/clock-{:010}", self.number);
        self.store.put(&probe, Bytes::from_static(b"what time is it")).await?;
        let modified = self.store.head(&probe).await?.modified;
        self.store.delete(&probe).await?;
        Ok(modified)
    }

    /// Gives the place back.
    pub(crate) async fn release(mut self) -> Result<()> {
        // A sign of life that is under way must not come after this.
        self.enough.notify_one();
        let _ended = (&mut self.beating).await;
        let released = Holder { released: true, ..self.holder.clone() };
        Ok(self.store.put(&key(self.number), released.to_bytes()?).await?)
    }
}

impl Drop for Lock {
    fn drop(&mut self) {
        self.beating.abort();
    }
}

impl Holder {
    fn to_bytes(&self) -> Result<Bytes> {
        Ok(crate::manifest::to_line(self)?.into())
    }
}

/// Gives signs of life.
struct Heart {
    store: Arc<dyn ObjectStore>,
    number: u64,
    holder: Holder,
    pause: Duration,
    lost: Arc<AtomicBool>,
    enough: Arc<Notify>,
}

impl Heart {
    /// Until it is enough, or the place was given to another.
    async fn beat(mut self) {
        loop {
            tokio::select! {
                () = tokio::time::sleep(self.pause) => {}
                () = self.enough.notified() => return,
            }
            // A store that does not answer shows itself to the work, too.
            if newest(&self.store).await.is_ok_and(|found| found > Some(self.number)) {
                self.lost.store(true, Ordering::SeqCst);
                return;
            }
            self.holder.beat += 1;
            let Ok(bytes) = self.holder.to_bytes() else { return };
            if let Err(error) = self.store.put(&key(self.number), bytes).await {
                warn!(%error, "no sign of life can be given");
            }
        }
    }
}

/// Returns when the lock's holder has released it, or was watched for as long as a lease without a sign of life.
async fn wait_until_free(store: &Arc<dyn ObjectStore>, number: u64, lease: Duration) -> Result<()> {
    let first = read(store, number).await?;
    let began = Instant::now();
    loop {
        let now = read(store, number).await?;
        match &now {
            None => return Ok(()),
            Some(holder) if holder.released => return Ok(()),
            Some(_) if now != first => return Err(in_use(store, now.as_ref())),
            Some(holder) if began.elapsed() > lease => {
                info!(
                    host = holder.host,
                    process = holder.process,
                    "a backup that was begun shows no sign of life, going on"
                );
                return Ok(());
            }
            Some(_) => tokio::time::sleep(lease / (2 * BEATS)).await,
        }
    }
}

/// None when it has gone or holds nothing that can be read, as after a write that broke off.
async fn read(store: &Arc<dyn ObjectStore>, number: u64) -> Result<Option<Holder>> {
    match store.get(&key(number)).await {
        Ok(bytes) => Ok(serde_json::from_slice(&bytes).ok()),
        Err(platform::Error::NotFound { .. }) => Ok(None),
        Err(error) => Err(error.into()),
    }
}

async fn newest(store: &Arc<dyn ObjectStore>) -> Result<Option<u64>> {
    let mut listed = store.list("locks");
    let mut newest = None;
    loop {
        match listed.try_next().await {
            Ok(Some(meta)) => {
                let number = meta.key.strip_prefix("locks/").and_then(|number| number.parse().ok());
                newest = newest.max(number);
            }
            Ok(None) => return Ok(newest),
            // The folder of a place where nothing was written yet; a lock that was removed meanwhile.
            Err(platform::Error::NotFound { .. }) => {}
            Err(error) => return Err(error.into()),
        }
    }
}

fn key(number: u64) -> String {
    format!("locks/{number:010}")
}

fn in_use(store: &Arc<dyn ObjectStore>, holder: Option<&Holder>) -> Error {
    let holder = holder.map_or_else(
        || "another process".to_owned(),
        |holder| {
            let since = holder.since.format("%Y-%m-%d %H:%M:%S UTC");
            format!("process {} on {} ({}, since {since})", holder.process, holder.host, holder.doing)
        },
    );
    Error::InUse { place: store.location().to_string(), holder }
}

/// The name of this machine.
pub(crate) fn host() -> String {
    let name = std::fs::read_to_string("/proc/sys/kernel/hostname").unwrap_or_default();
    if name.trim().is_empty() { "a machine without a name".to_owned() } else { name.trim().to_owned() }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use platform::object_store::{Location, open};

    use super::*;

    const LEASE: Duration = Duration::from_millis(400);

    async fn place() -> (tempfile::TempDir, Arc<dyn ObjectStore>) {
        let folder = tempfile::tempdir().unwrap();
        let store = open(&Location::Local(folder.path().join("backups"))).await.unwrap();
        (folder, store)
    }

    #[tokio::test(flavor = "multi_thread")]
    async fn of_many_at_once_one_takes_it_and_the_next_after_it() {
        let (_folder, store) = place().await;
        let takes = (0..16).map(|_| Lock::take(&store, "back up", LEASE));
        let taken = futures::future::join_all(takes).await;
        let (mut held, refused): (Vec<_>, Vec<_>) = taken.into_iter().partition(Result::is_ok);
        assert_eq!((held.len(), refused.len()), (1, 15));
        for refusal in refused {
            let text = refusal.unwrap_err().to_string();
            assert!(text.contains("is in use by process") && text.contains("back up"), "{text}");
        }
        let held = held.remove(0).unwrap();
        held.check().await.unwrap();
        held.release().await.unwrap();
        let next = Lock::take(&store, "prune", LEASE).await.unwrap();
        next.check().await.unwrap();
        next.release().await.unwrap();
    }

    #[tokio::test(flavor = "multi_thread")]
    async fn a_dead_holder_is_waited_for_and_one_that_comes_back_has_lost() {
        let (_folder, store) = place().await;
        let dead = Lock::take(&store, "back up", LEASE).await.unwrap();
        // As a process that stands still.
        dead.beating.abort();
        let began = Instant::now();
        let next = Lock::take(&store, "back up", LEASE).await.unwrap();
        assert!(began.elapsed() >= LEASE);
        assert!(matches!(dead.check().await, Err(Error::LockLost { .. })));
        next.check().await.unwrap();
        // One that lives is refused although it was begun long ago.
        tokio::time::sleep(LEASE * 2).await;
        assert!(matches!(Lock::take(&store, "back up", LEASE).await, Err(Error::InUse { .. })));
    }
}
