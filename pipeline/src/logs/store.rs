//! The place of all logs, and what writes to it in the background.

use std::fmt;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError, Weak};
use std::time::Duration;

use futures::StreamExt;
use platform::object_store::{self, Location, ObjectStore};
use tokio::sync::{Notify, OnceCell};
use tracing::{info, warn};

use super::key::LogKey;
use super::writer::{LogHandle, Writer};
use super::{Masking, NoSecrets};
use crate::error::Result;
use crate::ids::RunId;
use crate::mask::Masker;

/// How often new lines go to the store.
const TICK: Duration = Duration::from_secs(1);

/// How often it looks whether anybody may still write.
const IDLE: Duration = Duration::from_secs(60);

/// Logs that are written at once.
const AT_ONCE: usize = 8;

/// What the logs of attempts are bound to.
#[derive(Clone)]
pub struct LogsOptions {
    /// What an attempt writes beyond so many bytes is not kept.
    pub max_bytes: u64,
    /// Hides secrets before a line is kept.
    pub masking: Arc<dyn Masking>,
}

impl Default for LogsOptions {
    fn default() -> Self {
        Self { max_bytes: 64 << 20, masking: Arc::new(NoSecrets) }
    }
}

/// The logs of attempts in an object store; clones share it.
#[derive(Clone)]
pub struct Logs(Arc<Shared>);

pub(super) struct Shared {
    place: Location,
    store: OnceCell<Arc<dyn ObjectStore>>,
    pub(super) options: LogsOptions,
    /// Logs under way that have lines.
    open: Mutex<Vec<Arc<Writer>>>,
    begun: AtomicBool,
    /// Something was opened, or has much to write.
    wake: Arc<Notify>,
    /// The last write failed: it was warned of already.
    failing: AtomicBool,
}

impl Logs {
    /// Logs at a place, which is opened when it is first needed.
    pub fn new(place: Location, options: LogsOptions) -> Self {
        Self::with(place, OnceCell::new(), options)
    }

    /// Logs in a store that is open.
    pub fn on(store: Arc<dyn ObjectStore>, options: LogsOptions) -> Self {
        Self::with(store.location().clone(), OnceCell::new_with(Some(store)), options)
    }

    fn with(place: Location, store: OnceCell<Arc<dyn ObjectStore>>, options: LogsOptions) -> Self {
        Self(Arc::new(Shared {
            place,
            store,
            options,
            open: Mutex::default(),
            begun: AtomicBool::new(false),
            wake: Arc::default(),
            failing: AtomicBool::new(false),
        }))
    }

    /// Where they are.
    pub fn place(&self) -> &Location {
        &self.0.place
    }

    /// The log of an attempt that begins. What the masker hides is hidden beside what all logs hide.
    pub(crate) fn writer(&self, key: LogKey, masker: Masker) -> LogHandle {
        if !self.0.begun.swap(true, Ordering::AcqRel) {
            tokio::spawn(serve(Arc::downgrade(&self.0)));
        }
        LogHandle(Arc::new(Writer::new(key, Arc::clone(&self.0), masker)))
    }

    /// Removes all logs of a run; gives how many objects that were.
    ///
    /// # Errors
    /// When the store fails; what was removed stays removed, and the call may be repeated.
    pub async fn remove(&self, dag: &str, run: RunId) -> Result<u64> {
        let store = self.0.store().await?;
        let folder = LogKey::folder(dag, run);
        let mut objects = store.list(&folder);
        let mut removed = 0;
        while let Some(object) = objects.next().await {
            match object {
                Ok(object) => store.delete(&object.key).await?,
                // A folder without any log.
                Err(platform::Error::NotFound { .. }) => break,
                Err(error) => return Err(error.into()),
            }
            removed += 1;
        }
        if let Some(path) = store.local_path(&folder) {
            // Empty folders are left of it, or nothing.
            let _ = std::fs::remove_dir_all(path);
        }
        Ok(removed)
    }

    pub(super) async fn store(&self) -> Result<&Arc<dyn ObjectStore>> {
        Ok(self.0.store().await?)
    }
}

impl Shared {
    pub(super) async fn store(&self) -> platform::Result<&Arc<dyn ObjectStore>> {
        self.store.get_or_try_init(|| object_store::open(&self.place)).await
    }

    /// A log has its first line.
    pub(super) fn opened(&self, writer: Arc<Writer>) {
        self.open.lock().unwrap_or_else(PoisonError::into_inner).push(writer);
        self.wake.notify_one();
    }

    /// A log has ended.
    pub(super) fn closed(&self, writer: &Writer) {
        let mut open = self.open.lock().unwrap_or_else(PoisonError::into_inner);
        open.retain(|other| !std::ptr::eq(other.as_ref(), writer));
    }

    pub(super) fn is_failing(&self) -> bool {
        self.failing.load(Ordering::Acquire)
    }

    /// How a write went. A store that fails is told once, until it does better.
    pub(super) fn wrote(&self, result: &Result<(), String>) {
        match result {
            Ok(()) if self.failing.swap(false, Ordering::AcqRel) => {
                info!(logs = %self.place, "logs of attempts are kept again");
            }
            Err(error) if !self.failing.swap(true, Ordering::AcqRel) => {
                warn!(logs = %self.place, error, "logs of attempts cannot be kept; the attempts go on without");
            }
            _ => {}
        }
    }
}

impl fmt::Debug for Logs {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.debug_tuple("Logs").field(&self.0.place).finish()
    }
}

/// Writes what is new of all logs, until nobody needs them any more.
async fn serve(shared: Weak<Shared>) {
    loop {
        let Some(strong) = shared.upgrade() else { return };
        let open = strong.open.lock().unwrap_or_else(PoisonError::into_inner).clone();
        let idle = open.is_empty();
        let wake = Arc::clone(&strong.wake);
        drop(strong);
        let flushes = futures::stream::iter(open);
        flushes.for_each_concurrent(AT_ONCE, |writer| async move { writer.flush().await }).await;
        if idle {
            let _ = tokio::time::timeout(IDLE, wake.notified()).await;
        }
        tokio::time::sleep(TICK).await;
    }
}
