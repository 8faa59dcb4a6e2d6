//! What is asked again, and when.

use std::time::Duration;

use axum::http::{Method, StatusCode};
use rand::RngExt;

/// Tries of one request.
pub(super) const TRIES: u32 = 6;
const FIRST_PAUSE: Duration = Duration::from_millis(200);
const LONGEST_PAUSE: Duration = Duration::from_secs(10);

/// Why a request has no answer, or none that counts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Trouble {
    /// It did not reach the server.
    NotSent,
    /// It may have reached it.
    NoAnswer,
    /// The server answered.
    Status(StatusCode),
}

/// Whether the same request may be sent again. One that changes something, and that would change it twice, only if the
/// server has not begun with it.
pub(super) fn may_repeat(method: &Method, trouble: Trouble) -> bool {
    let repeatable = method.is_idempotent();
    match trouble {
        Trouble::NotSent => true,
        Trouble::NoAnswer => repeatable,
        Trouble::Status(StatusCode::TOO_MANY_REQUESTS | StatusCode::SERVICE_UNAVAILABLE) => true,
        Trouble::Status(
            StatusCode::REQUEST_TIMEOUT
            | StatusCode::INTERNAL_SERVER_ERROR
            | StatusCode::BAD_GATEWAY
            | StatusCode::GATEWAY_TIMEOUT,
        ) => repeatable,
        Trouble::Status(_) => false,
    }
}

/// Waits longer after each try, with a random part, so that many who failed together do not come back together.
pub(super) async fn pause(tried: u32) {
    let longest = FIRST_PAUSE.saturating_mul(1 << tried.saturating_sub(1).min(10)).min(LONGEST_PAUSE);
    let part = rand::rng().random_range(0.5..1.0);
    tokio::time::sleep(longest.mul_f64(part)).await;
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_could_happen_twice_is_not_repeated() {
        assert!(may_repeat(&Method::POST, Trouble::NotSent));
        assert!(!may_repeat(&Method::POST, Trouble::NoAnswer));
        assert!(!may_repeat(&Method::POST, Trouble::Status(StatusCode::BAD_GATEWAY)));
        assert!(may_repeat(&Method::POST, Trouble::Status(StatusCode::SERVICE_UNAVAILABLE)));
        assert!(may_repeat(&Method::PUT, Trouble::NoAnswer));
        assert!(may_repeat(&Method::GET, Trouble::Status(StatusCode::INTERNAL_SERVER_ERROR)));
        assert!(!may_repeat(&Method::GET, Trouble::Status(StatusCode::NOT_FOUND)));
    }
}
