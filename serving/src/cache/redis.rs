//! Redis: shared by replicas, never relied on.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use redis::aio::{ConnectionManager, ConnectionManagerConfig};
use redis::{AsyncCommands, Client};
use tokio::sync::{Mutex, Semaphore};
use tracing::{info, warn};

use super::CacheOptions;
use crate::detections::Detections;
use crate::metrics::Metrics;
use crate::{Error, Result};

/// After a failure Redis is left alone for so long.
const REST: Duration = Duration::from_secs(5);

/// Answers that may be on their way to Redis at once; more are not sent.
const WRITES: usize = 64;

/// Answers in Redis. Cheap to clone.
#[derive(Clone)]
pub struct RedisCache {
    inner: Arc<Inner>,
}

struct Inner {
    client: Client,
    connection: Mutex<Option<ConnectionManager>>,
    keep: Duration,
    timeout: Duration,
    began: Instant,
    /// Milliseconds after `began` until which Redis is left alone.
    rests_until: AtomicU64,
    writes: Arc<Semaphore>,
    metrics: Metrics,
}

impl RedisCache {
    /// Connects to nothing yet.
    ///
    /// # Errors
    /// The address is none.
    pub fn new(url: &str, options: &CacheOptions, metrics: Metrics) -> Result<Self> {
        // The error would repeat the address, which may hold a password.
        let client = Client::open(url).map_err(|_| {
            Error::Setup("serve.redis is no address of Redis, such as redis://127.0.0.1:6379/0".to_owned())
        })?;
        let inner = Inner {
            client,
            connection: Mutex::new(None),
            keep: options.redis_keep,
            timeout: options.redis_timeout,
            began: Instant::now(),
            rests_until: AtomicU64::new(0),
            writes: Arc::new(Semaphore::new(WRITES)),
            metrics,
        };
        Ok(Self { inner: Arc::new(inner) })
    }

    /// The answer that is kept, if Redis says so in time.
    pub async fn get(&self, key: &str) -> Option<Detections> {
        if self.rests() {
            return None;
        }
        let asked = async {
            let mut connection = self.connection().await?;
            connection.get::<_, Option<Vec<u8>>>(key).await
        };
        let kept = self.within(asked).await.flatten()?;
        // What another program wrote there is not an answer.
        serde_json::from_slice(&kept).ok()
    }

    /// Keeps an answer, without the caller waiting for it.
    pub fn put(&self, key: &str, found: &Detections) {
        if self.rests() {
            return;
        }
        let Ok(permit) = Arc::clone(&self.inner.writes).try_acquire_owned() else { return };
        let Ok(bytes) = serde_json::to_vec(found) else { return };
        let (this, key, seconds) = (self.clone(), key.to_owned(), self.inner.keep.as_secs().max(1));
        tokio::spawn(async move {
            let _permit = permit;
            let written = async {
                let mut connection = this.connection().await?;
                connection.set_ex::<_, _, ()>(key, bytes, seconds).await
            };
            this.within(written).await;
        });
    }

    async fn connection(&self) -> redis::RedisResult<ConnectionManager> {
        let mut slot = self.inner.connection.lock().await;
        if let Some(connection) = slot.as_ref() {
            return Ok(connection.clone());
        }
        let timeout = Some(self.inner.timeout);
        let config = ConnectionManagerConfig::new()
            .set_number_of_retries(0)
            .set_connection_timeout(timeout)
            .set_response_timeout(timeout);
        let made = ConnectionManager::new_with_config(self.inner.client.clone(), config).await?;
        info!("answers are kept in Redis");
        Ok(slot.insert(made).clone())
    }

    async fn within<T>(&self, work: impl Future<Output = redis::RedisResult<T>>) -> Option<T> {
        let failure = match tokio::time::timeout(self.inner.timeout, work).await {
            Ok(Ok(answer)) => return Some(answer),
            // Kind and code only: the words may hold the address.
            Ok(Err(error)) => format!("{:?}", error.kind()),
            Err(_) => "it took too long".to_owned(),
        };
        self.inner.metrics.redis_failures.inc();
        let until = (self.inner.began.elapsed() + REST).as_millis() as u64;
        let before = self.inner.rests_until.swap(until, Ordering::Relaxed);
        if before + 1000 < until {
            warn!(failure, seconds = REST.as_secs(), "Redis fails and is left alone for a while");
        }
        None
    }

    fn rests(&self) -> bool {
        (self.inner.began.elapsed().as_millis() as u64) < self.inner.rests_until.load(Ordering::Relaxed)
    }
}
