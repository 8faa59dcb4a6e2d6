//! How often one identity may ask.

use std::num::NonZeroU32;

use governor::clock::{Clock, DefaultClock};
use governor::{DefaultKeyedRateLimiter, Quota, RateLimiter};

use super::refusal::Refusal;

/// More keys than this are looked through for those that say nothing any more.
const MOST_KEYS: usize = 10_000;

/// Counts requests by identity, and by address of those who have none.
#[derive(Debug)]
pub(super) struct Limits {
    limiter: Option<DefaultKeyedRateLimiter<String>>,
    clock: DefaultClock,
}

impl Limits {
    /// So many requests a second, and as many more in a burst; 0 for no limit.
    pub(super) fn new(per_second: u32) -> Self {
        let limiter = NonZeroU32::new(per_second).map(|rate| {
            let burst = rate.saturating_mul(NonZeroU32::MIN.saturating_add(1));
            RateLimiter::keyed(Quota::per_second(rate).allow_burst(burst))
        });
        Self { limiter, clock: DefaultClock::default() }
    }

    /// Counts a request, or refuses it.
    pub(super) fn count(&self, key: &str) -> Result<(), Refusal> {
        let Some(limiter) = &self.limiter else { return Ok(()) };
        if limiter.len() > MOST_KEYS {
            limiter.retain_recent();
        }
        limiter.check_key(&key.to_owned()).map_err(|early| {
            let wait = early.wait_time_from(self.clock.now()).as_secs_f64().ceil();
            Refusal::too_many("too many requests; wait as long as `Retry-After` says", wait as u64)
        })
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn each_identity_has_its_own_limit() {
        let limits = Limits::new(1);
        limits.count("ada").unwrap();
        limits.count("ada").unwrap();
        assert_eq!(limits.count("ada").unwrap_err().status(), 429);
        limits.count("grace").unwrap();
        let none = Limits::new(0);
        (0..1000).for_each(|_| none.count("ada").unwrap());
    }
}
