//! Cleaning by policy: runs that ended long ago go with all that belongs to them, and logs before their runs.
//!
//! Rows of tables that runs have written are no history: they stay.

use std::io::ErrorKind;
use std::path::PathBuf;
use std::time::Duration;

use tokio::sync::watch;
use tracing::{info, warn};

pub use crate::state::Removed;

use crate::clock::Timestamp;
use crate::error::{Error, Result};
use crate::logs::Logs;
use crate::state::{Removal, Store};

/// How often a server cleans.
const INTERVAL: Duration = Duration::from_secs(600);

/// Runs removed before others have a turn.
const AT_ONCE: u32 = 50;

/// How long others have a turn.
const TURN: Duration = Duration::from_millis(20);

/// How long what has ended is kept; nothing: for ever.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Keep {
    /// Runs, counted from their end.
    pub runs: Option<Duration>,
    /// Logs of attempts, counted from the end of their run. They never outlive the run.
    pub logs: Option<Duration>,
}

/// Removes what has ended.
#[derive(Clone, Debug)]
pub struct History {
    store: Store,
    logs: Logs,
    home: PathBuf,
}

impl History {
    /// The history in a state database, with the logs of attempts and the home folder of the work folders.
    pub fn new(store: Store, logs: Logs, home: impl Into<PathBuf>) -> Self {
        Self { store, logs, home: home.into() }
    }

    /// Cleans now and then until `stop` is set. What fails now may do better later: it goes on.
    pub async fn serve(&self, keep: Keep, mut stop: watch::Receiver<bool>) {
        while !*stop.borrow_and_update() {
            let cleaning = async {
                match self.clean(keep, Timestamp::now()).await {
                    Ok(removed) if removed == Removed::default() => {}
                    Ok(Removed { runs, dag_versions, logs, .. }) => info!(runs, dag_versions, logs, "history cleaned"),
                    Err(error) => warn!(%error, "the history could not be cleaned; it is tried again"),
                }
                tokio::time::sleep(INTERVAL).await;
            };
            tokio::select! {
                () = cleaning => {}
                _ = stop.changed() => {}
            }
        }
    }

    /// Removes all that is older than is kept.
    ///
    /// # Errors
    /// When the database or the store of the logs fails. What was removed stays removed, and the rest is removed by the
    /// next call.
    pub async fn clean(&self, keep: Keep, now: Timestamp) -> Result<Removed> {
        let mut removed = match keep.runs {
            Some(time) => self.remove_runs(now.minus(time)).await?,
            None => Removed::default(),
        };
        if let Some(before) = keep.logs.map(|time| now.minus(time)) {
            loop {
                let some = self.store.remove_logs(before, AT_ONCE).await?;
                removed.logs += some;
                if some < u64::from(AT_ONCE) {
                    break;
                }
                tokio::time::sleep(TURN).await;
            }
        }
        self.remove_files().await?;
        Ok(removed)
    }

    /// Removes all runs that ended before a moment and that nothing needs any more.
    ///
    /// # Errors
    /// As [`History::clean`].
    pub async fn clean_before(&self, before: Timestamp) -> Result<Removed> {
        let removed = self.remove_runs(before).await?;
        self.remove_files().await?;
        Ok(removed)
    }

    /// Removes at most so many of the runs that [`History::clean_before`] removes, for callers that cannot wait long. Also
    /// says whether to call again.
    ///
    /// # Errors
    /// As [`History::clean`].
    pub async fn clean_some(&self, before: Timestamp, most: u32) -> Result<(Removed, bool)> {
        let mut removed = self.store.remove_runs(before, most).await?;
        // Runs whose children are gone now may be next.
        let more = removed.runs > 0;
        if !more {
            removed.dag_versions = self.store.remove_unused(before).await?;
        }
        self.remove_files().await?;
        Ok((removed, more))
    }

    /// What [`History::clean_before`] would remove.
    pub async fn removable(&self, before: Timestamp) -> Result<Removed> {
        self.store.removable(before).await
    }

    /// What [`History::clean`] would remove of runs.
    pub async fn preview(&self, keep: Keep, now: Timestamp) -> Result<Removed> {
        match keep.runs {
            Some(time) => self.store.removable(now.minus(time)).await,
            None => Ok(Removed::default()),
        }
    }

    async fn remove_runs(&self, before: Timestamp) -> Result<Removed> {
        let mut removed = Removed::default();
        loop {
            let some = self.store.remove_runs(before, AT_ONCE).await?;
            removed = removed.and(some);
            if some.runs == 0 {
                break;
            }
            tokio::time::sleep(TURN).await;
        }
        removed.dag_versions = self.store.remove_unused(before).await?;
        Ok(removed)
    }

    /// Removes logs and work folders of runs that are gone, also of those that another process had no time for.
    async fn remove_files(&self) -> Result<()> {
        let mut after = None;
        loop {
            let removals = self.store.removals(after, AT_ONCE).await?;
            let Some(last) = removals.last() else { return Ok(()) };
            after = Some(last.run);
            for removal in &removals {
                self.remove_files_of(removal).await?;
            }
            self.store.removals_done(&removals).await?;
        }
    }

    async fn remove_files_of(&self, removal: &Removal) -> Result<()> {
        self.logs.remove(&removal.dag, removal.run).await?;
        if !removal.whole {
            return Ok(());
        }
        let folder = self.home.join("runs").join(removal.run.to_string());
        match std::fs::remove_dir_all(&folder) {
            Err(error) if error.kind() != ErrorKind::NotFound => Err(Error::home(folder, error)),
            _ => Ok(()),
        }
    }
}
