//! Answers that are kept: in this process by size, and in Redis for all replicas.
//!
//! A key names the file's content, the model version and what changes its answers, so nothing is ever out of date. What
//! is kept can be lost at any time; Redis that is slow or gone costs one short wait, and then is not asked for a while.

mod redis;

use std::future::Future;
use std::sync::Arc;
use std::time::Duration;

use moka::future::Cache;

use crate::detections::Detections;
use crate::metrics::Metrics;
use crate::{Error, Result};
pub use redis::RedisCache;

/// What is kept.
#[derive(Debug, Clone, Default)]
pub struct CacheOptions {
    /// Bytes of answers in memory; 0 keeps none.
    pub bytes: u64,
    /// `redis://…`; none for no Redis.
    pub redis: Option<String>,
    /// How long Redis keeps an answer.
    pub redis_keep: Duration,
    /// How long Redis may take.
    pub redis_timeout: Duration,
}

/// The caches. Cheap to clone.
#[derive(Clone)]
pub struct Answers {
    memory: Option<Cache<String, Arc<Detections>>>,
    redis: Option<RedisCache>,
    metrics: Metrics,
}

impl Answers {
    /// Empty ones. Redis is connected to when it is first asked.
    ///
    /// # Errors
    /// The address of Redis is none.
    pub fn new(options: &CacheOptions, metrics: Metrics) -> Result<Self> {
        let memory = (options.bytes > 0).then(|| {
            Cache::builder()
                .weigher(|key: &String, kept: &Arc<Detections>| weight(key, kept))
                .max_capacity(options.bytes)
                .build()
        });
        let redis = options.redis.as_deref().map(|url| RedisCache::new(url, options, metrics.clone())).transpose()?;
        Ok(Self { memory, redis, metrics })
    }

    /// Whether answers are kept anywhere.
    pub fn keep_any(&self) -> bool {
        self.memory.is_some() || self.redis.is_some()
    }

    /// The key of a picture's answer.
    pub fn key(sha256: &str, version: &str, options: &str) -> String {
        format!("safari:detections:{version}:{options}:{sha256}")
    }

    /// The answer that is kept, or that of `work`. Equal requests at the same time share one `work`; if the one whose
    /// work it was gives up or is refused, others do their own.
    ///
    /// # Errors
    /// Those of `work`.
    pub async fn get_or<F>(&self, key: String, work: impl Fn() -> F + Send) -> Result<Detections>
    where
        F: Future<Output = Result<Detections>> + Send,
    {
        let Some(memory) = &self.memory else { return self.beyond_memory(&key, &work).await.map(|(found, _)| found) };
        if let Some(kept) = memory.get(&key).await {
            self.count("memory", "hit");
            return Ok(Detections { cached: true, ..kept.as_ref().clone() });
        }
        let mut own = false;
        let shared = memory
            .try_get_with(key.clone(), async {
                own = true;
                self.beyond_memory(&key, &work).await.map(|(found, _)| Arc::new(found))
            })
            .await;
        match shared {
            Ok(found) => {
                self.count("memory", if own { "miss" } else { "shared" });
                let cached = found.cached || !own;
                Ok(Detections { cached, ..found.as_ref().clone() })
            }
            Err(error) if own => Err(error.as_ref().clone()),
            // Another request's terms or luck are not this one's.
            Err(error) if matches!(*error, Error::Media(_)) => Err(error.as_ref().clone()),
            Err(_) => self.beyond_memory(&key, &work).await.map(|(found, _)| found),
        }
    }

    async fn beyond_memory<F>(&self, key: &str, work: &(impl Fn() -> F + Send)) -> Result<(Detections, bool)>
    where
        F: Future<Output = Result<Detections>> + Send,
    {
        let Some(redis) = &self.redis else { return work().await.map(|found| (found, false)) };
        if let Some(kept) = redis.get(key).await {
            self.count("redis", "hit");
            return Ok((Detections { cached: true, ..kept }, true));
        }
        self.count("redis", "miss");
        let found = work().await?;
        redis.put(key, &found);
        Ok((found, false))
    }

    fn count(&self, cache: &str, outcome: &str) {
        self.metrics.cache.with_label_values(&[cache, outcome]).inc();
    }
}

impl std::fmt::Debug for Answers {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.debug_struct("Answers").finish_non_exhaustive()
    }
}

/// Bytes that an answer takes, about.
fn weight(key: &str, kept: &Detections) -> u32 {
    let found: usize = kept
        .detections
        .iter()
        .map(|found| {
            let names: usize = found.top5.iter().map(|one| one.species.len() + one.scientific_name.len() + 64).sum();
            names + found.taxonomy.as_ref().map_or(0, String::len) + 400
        })
        .sum();
    u32::try_from(key.len() + found + 512).unwrap_or(u32::MAX)
}
