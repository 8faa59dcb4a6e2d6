//! Changes of runs as they happen, in this process or another: one poller looks at the database for all who follow, and
//! only while somebody does.

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::broadcast::error::RecvError;
use tokio::sync::{Mutex, broadcast};
use tracing::warn;

use crate::error::{Error, Result};
use crate::state::{ChangeFilter, RunChange, Store};

/// How often the database is looked at.
const PAUSE: Duration = Duration::from_millis(250);
const PAUSE_AFTER_ERROR: Duration = Duration::from_secs(2);
/// Changes kept for followers that are slow. Whoever falls further behind reads from the database.
const KEPT: usize = 1024;
/// Changes read at once.
const PAGE: u32 = 256;

/// Where to follow changes; clones share one poller.
#[derive(Clone, Debug)]
pub struct ChangeFeed {
    store: Store,
    /// What the poller tells; nothing while nobody follows.
    live: Arc<Mutex<Option<broadcast::Sender<RunChange>>>>,
}

/// One who follows. It holds a page of changes at most, however slowly they are taken.
#[derive(Debug)]
pub struct Follower {
    feed: ChangeFeed,
    filter: ChangeFilter,
    live: broadcast::Receiver<RunChange>,
    /// All changes up to here were given or are in `page`.
    position: i64,
    /// There may be changes behind `position` that `live` will not bring.
    behind: bool,
    page: VecDeque<RunChange>,
}

impl ChangeFeed {
    /// A feed on a store.
    pub fn new(store: Store) -> Self {
        Self { store, live: Arc::default() }
    }

    /// Follows from behind a position on, or from now on.
    ///
    /// # Errors
    /// [`Error::PositionUnknown`] when no change has had the position yet, and errors of the database.
    pub async fn follow(&self, filter: ChangeFilter, after: Option<i64>) -> Result<Follower> {
        let live = self.listen().await?;
        // What was committed before now comes before now.
        self.store.place_changes().await?;
        let last = self.store.last_change().await?;
        let position = after.unwrap_or(last);
        if position > last {
            return Err(Error::PositionUnknown { position, last });
        }
        Ok(Follower { feed: self.clone(), filter, live, position, behind: true, page: VecDeque::new() })
    }

    /// What the poller tells from now on. It is started when nobody has followed before.
    async fn listen(&self) -> Result<broadcast::Receiver<RunChange>> {
        let mut live = self.live.lock().await;
        if let Some(sender) = live.as_ref() {
            return Ok(sender.subscribe());
        }
        // Read before anybody reads pages: what is behind it is told to all.
        let position = self.store.last_change().await?;
        let (sender, receiver) = broadcast::channel(KEPT);
        *live = Some(sender.clone());
        tokio::spawn(poll(self.clone(), sender, position));
        Ok(receiver)
    }
}

impl Follower {
    /// Where to go on from, should this follower end now.
    pub fn position(&self) -> i64 {
        self.page.front().map_or(self.position, |change| change.position - 1)
    }

    /// Waits for the next change. May be dropped while it waits: nothing is lost.
    pub async fn next(&mut self) -> Result<RunChange> {
        loop {
            if let Some(change) = self.page.pop_front() {
                return Ok(change);
            }
            if self.behind {
                self.read_page().await?;
                continue;
            }
            match self.live.recv().await {
                Ok(change) if change.position <= self.position => {}
                Ok(change) => {
                    self.position = change.position;
                    if self.filter.fits(&change) {
                        return Ok(change);
                    }
                }
                Err(RecvError::Lagged(_)) => self.behind = true,
                Err(RecvError::Closed) => {
                    self.live = self.feed.listen().await?;
                    self.behind = true;
                }
            }
        }
    }

    async fn read_page(&mut self) -> Result<()> {
        let page = self.feed.store.changes_after(self.position, PAGE).await?;
        self.behind = page.len() == PAGE as usize;
        self.position = page.last().map_or(self.position, |change| change.position);
        self.page = page.into_iter().filter(|change| self.filter.fits(change)).collect();
        Ok(())
    }
}

/// Tells what comes behind `position` until nobody listens.
async fn poll(feed: ChangeFeed, told: broadcast::Sender<RunChange>, mut position: i64) {
    loop {
        {
            let mut live = feed.live.lock().await;
            if told.receiver_count() == 0 {
                *live = None;
                return;
            }
        }
        let mut pause = PAUSE;
        if let Err(error) = tell(&feed.store, &told, &mut position).await {
            warn!(%error, "changes of runs cannot be read; they are told when they can");
            pause = PAUSE_AFTER_ERROR;
        }
        tokio::time::sleep(pause).await;
    }
}

async fn tell(store: &Store, told: &broadcast::Sender<RunChange>, position: &mut i64) -> Result<()> {
    store.place_changes().await?;
    loop {
        let page = store.changes_after(*position, PAGE).await?;
        let full = page.len() == PAGE as usize;
        for change in page {
            *position = change.position;
            // Fails when nobody listens any more; then nobody misses it.
            let _ = told.send(change);
        }
        if !full {
            return Ok(());
        }
    }
}
