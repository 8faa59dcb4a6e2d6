//! Deadline and priority of a request, from its headers.

use std::time::{Duration, Instant};

use axum::http::HeaderMap;

use crate::batch::{Priority, Terms};
use crate::{Error, Result};

/// How long the caller waits: seconds, such as `2.5`, or milliseconds, such as `250ms`.
pub const TIMEOUT_HEADER: &str = "x-request-timeout";

/// `high`, `normal` or `low`.
pub const PRIORITY_HEADER: &str = "safari-priority";

/// The terms that the headers ask for; `longest` is the deadline of those that name none, and of those that ask for more.
///
/// # Errors
/// [`Error::Invalid`] for values that mean nothing.
pub fn terms_of(headers: &HeaderMap, now: Instant, longest: Duration) -> Result<Terms> {
    let text = |name: &str| {
        let value = headers.get(name).map(|value| value.to_str());
        value.transpose().map_err(|_| Error::Invalid(format!("the header {name} is no text")))
    };
    let timeout = match text(TIMEOUT_HEADER)? {
        None => longest,
        Some(given) => duration(given.trim()).map(|given| given.min(longest)).ok_or_else(|| {
            Error::Invalid(
                "X-Request-Timeout is a number of seconds above 0, such as 2.5, or milliseconds, such as 250ms"
                    .to_owned(),
            )
        })?,
    };
    let priority = match text(PRIORITY_HEADER)?.map(str::trim) {
        None => Priority::Normal,
        Some("high") => Priority::High,
        Some("normal") => Priority::Normal,
        Some("low") => Priority::Low,
        Some(_) => return Err(Error::Invalid("Safari-Priority is high, normal or low".to_owned())),
    };
    Ok(Terms { deadline: Some(now + timeout), priority })
}

fn duration(text: &str) -> Option<Duration> {
    let (number, unit) = match text.strip_suffix("ms") {
        Some(number) => (number, 1e-3),
        None => (text.strip_suffix('s').unwrap_or(text), 1.0),
    };
    let seconds = number.trim().parse::<f64>().ok()? * unit;
    (seconds > 0.0 && seconds.is_finite()).then(|| Duration::from_secs_f64(seconds.min(86_400.0)))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    fn terms(name: &'static str, value: &str) -> Result<(Duration, Priority)> {
        let now = Instant::now();
        let mut headers = HeaderMap::new();
        headers.insert(name, value.parse().unwrap());
        let terms = terms_of(&headers, now, Duration::from_secs(30))?;
        Ok((terms.deadline.unwrap() - now, terms.priority))
    }

    #[test]
    fn headers_are_read() {
        assert_eq!(terms(TIMEOUT_HEADER, "2.5").unwrap().0, Duration::from_millis(2500));
        assert_eq!(terms(TIMEOUT_HEADER, "250ms").unwrap().0, Duration::from_millis(250));
        assert_eq!(terms(TIMEOUT_HEADER, "3s").unwrap().0, Duration::from_secs(3));
        assert_eq!(terms(TIMEOUT_HEADER, "99999999").unwrap().0, Duration::from_secs(30));
        assert_eq!(terms(PRIORITY_HEADER, "low").unwrap(), (Duration::from_secs(30), Priority::Low));
        for bad in ["0", "-1", "soon", "nan", "inf", ""] {
            assert!(matches!(terms(TIMEOUT_HEADER, bad), Err(Error::Invalid(_))), "{bad}");
        }
        assert!(terms(PRIORITY_HEADER, "urgent").is_err());
    }
}
