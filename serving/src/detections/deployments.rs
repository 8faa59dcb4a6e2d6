//! Bursts that cameras are in the middle of: a bounded number, for a bounded time.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use chrono::{DateTime, Utc};
use detector::live::LiveBurst;
use moka::future::Cache;

/// The burst of one camera, by one model.
pub struct LiveCamera {
    inner: Mutex<Inner>,
}

#[derive(Default)]
struct Inner {
    burst: Arc<Mutex<LiveBurst>>,
    began: Option<DateTime<Utc>>,
    last: Option<DateTime<Utc>>,
    frames: usize,
}

/// Cameras by name and model version.
#[derive(Clone)]
pub struct Deployments {
    cameras: Cache<(String, String), Arc<LiveCamera>>,
    gap: f64,
    max_frames: usize,
}

impl Deployments {
    /// At most `count` cameras, each forgotten when it has sent nothing for `idle`; pictures at most `gap` seconds apart are
    /// one burst of at most `max_frames`.
    pub fn new(count: u64, idle: Duration, gap: f64, max_frames: usize) -> Self {
        let cameras = Cache::builder().max_capacity(count).time_to_idle(idle).build();
        Self { cameras, gap, max_frames }
    }

    /// The burst that a picture taken at `at` belongs to, and its seconds from the burst's start.
    pub async fn place(&self, deployment: &str, version: &str, at: DateTime<Utc>) -> (Arc<Mutex<LiveBurst>>, f64) {
        let key = (deployment.to_owned(), version.to_owned());
        let camera = self.cameras.get_with(key, async { Arc::new(LiveCamera { inner: Mutex::default() }) }).await;
        let mut inner = camera.inner.lock().unwrap_or_else(PoisonError::into_inner);
        let goes_on = inner.last.is_some_and(|last| (at - last).as_seconds_f64().abs() <= self.gap);
        if !goes_on || inner.frames >= self.max_frames {
            *inner = Inner { began: Some(at), ..Inner::default() };
        }
        inner.frames += 1;
        inner.last = Some(at);
        let seconds = inner.began.map_or(0.0, |began| (at - began).as_seconds_f64());
        (Arc::clone(&inner.burst), seconds)
    }

    /// Cameras that are known now.
    pub async fn count(&self) -> u64 {
        self.cameras.run_pending_tasks().await;
        self.cameras.entry_count()
    }
}

impl std::fmt::Debug for Deployments {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.debug_struct("Deployments").finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    fn at(second: i64) -> DateTime<Utc> {
        DateTime::from_timestamp(1_700_000_000 + second, 0).unwrap()
    }

    #[tokio::test]
    async fn a_camera_keeps_its_burst_until_it_rests() {
        let cameras = Deployments::new(8, Duration::from_secs(60), 60.0, 3);
        let (first, zero) = cameras.place("gate", "v1", at(0)).await;
        let (second, ten) = cameras.place("gate", "v1", at(10)).await;
        assert!(Arc::ptr_eq(&first, &second));
        assert_eq!((zero, ten), (0.0, 10.0));
        let (other, _) = cameras.place("gate", "v2", at(10)).await;
        assert!(!Arc::ptr_eq(&first, &other), "another model has a burst of its own");
        let (later, zero) = cameras.place("gate", "v1", at(100)).await;
        assert!(!Arc::ptr_eq(&first, &later));
        assert_eq!(zero, 0.0);
    }

    #[tokio::test]
    async fn bursts_and_cameras_are_bounded() {
        let cameras = Deployments::new(2, Duration::from_secs(60), 60.0, 2);
        let bursts = futures::future::join_all((0..3).map(|second| cameras.place("gate", "v1", at(second)))).await;
        assert!(Arc::ptr_eq(&bursts[0].0, &bursts[1].0) && !Arc::ptr_eq(&bursts[1].0, &bursts[2].0));
        for number in 0..100 {
            cameras.place(&format!("camera {number}"), "v1", at(0)).await;
        }
        assert!(cameras.count().await <= 2);
    }
}
