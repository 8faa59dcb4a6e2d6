//! How long to wait before an attempt is tried again.

use std::time::Duration;

use uuid::Uuid;

use crate::dag::RetryPolicy;

/// No wait is longer, unless the task says so.
const LONGEST: Duration = Duration::from_secs(3600);

/// The policy's delay doubled for each earlier failure, at most its `max_delay` or an hour, and up to a quarter more or
/// less so that many failures at once do not come back at once.
pub(super) fn delay(policy: &RetryPolicy, failed_before: u32) -> Duration {
    let factor = 1_u32.checked_shl(failed_before.min(31)).unwrap_or(u32::MAX);
    let full = policy.delay.saturating_mul(factor).min(policy.max_delay.unwrap_or(LONGEST));
    // The low 62 bits of a random UUID are all random.
    let random = (Uuid::new_v4().as_u128() & 0xffff_ffff) as f64 / f64::from(u32::MAX);
    full.mul_f64(0.75 + random / 2.0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn doubles_with_jitter_and_stops_at_an_hour() {
        let second = Duration::from_secs(1);
        let policy = RetryPolicy { retries: 9, delay: second, max_delay: None };
        let mut seen = std::collections::HashSet::new();
        for failed in 0..40 {
            let full = second.saturating_mul(1_u32.checked_shl(failed).unwrap_or(u32::MAX)).min(LONGEST);
            let wait = delay(&policy, failed);
            assert!(wait >= full.mul_f64(0.749) && wait <= full.mul_f64(1.251), "{failed}: {wait:?}");
            seen.insert(delay(&policy, 0));
        }
        assert!(seen.len() > 10, "no jitter: {seen:?}");
        let short = RetryPolicy { max_delay: Some(second * 5), ..policy };
        assert!(delay(&short, 9) <= second.mul_f64(6.26));
        assert_eq!(delay(&RetryPolicy { delay: Duration::ZERO, ..policy }, 3), Duration::ZERO);
    }
}
