//! The time as MLflow has it.

use chrono::Utc;

/// Milliseconds since 1970-01-01 UTC.
pub(crate) fn now_millis() -> i64 {
    Utc::now().timestamp_millis()
}
