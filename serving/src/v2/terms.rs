//! Until when a request's answer is wanted, and which requests go first.

use std::time::{Duration, Instant};

use super::backend::{Parameter, Parameters};
use super::tensor::shortened;
use crate::batch::{Priority, Terms};
use crate::{Error, Result};

/// The terms of a request that came now: the earliest of the server's limit, the transport's time-out and the parameter
/// `timeout`, in microseconds as Triton's clients send it; and the parameter `priority`, where 1 is the first level, 0 the
/// usual one, and larger levels come later. Both parameters are taken out.
///
/// # Errors
/// A parameter is no such number.
pub fn terms(parameters: &mut Parameters, transport: Option<Duration>, longest: Duration) -> Result<Terms> {
    let micros = unsigned(parameters.remove("timeout"), "timeout")?;
    let asked = Some(micros).filter(|micros| *micros > 0).map(Duration::from_micros);
    let time = [Some(longest), transport, asked].into_iter().flatten().min().unwrap_or(longest);
    let priority = match unsigned(parameters.remove("priority"), "priority")? {
        0 => Priority::Normal,
        1 => Priority::High,
        2 => Priority::Normal,
        _ => Priority::Low,
    };
    Ok(Terms { deadline: Instant::now().checked_add(time), priority })
}

/// The time of a `X-Request-Timeout` header: seconds, with decimals if need be.
///
/// # Errors
/// It is no positive number.
pub fn request_timeout(text: &str) -> Result<Duration> {
    let seconds = text.trim().parse::<f64>().ok().filter(|seconds| *seconds > 0.0);
    let time = seconds.and_then(|seconds| Duration::try_from_secs_f64(seconds).ok());
    time.ok_or_else(|| {
        Error::Invalid(format!(
            "the header X-Request-Timeout is `{}`, and must be a number of seconds, such as 2.5",
            shortened(text)
        ))
    })
}

/// The time of a `grpc-timeout` header: up to eight digits and a unit.
///
/// # Errors
/// It is none.
pub fn grpc_timeout(text: &str) -> Result<Duration> {
    let refused = || Error::Invalid(format!("grpc-timeout is `{}`, and must be such as 500m", shortened(text)));
    let (digits, unit) = text.split_at_checked(text.len().saturating_sub(1)).ok_or_else(refused)?;
    if digits.is_empty() || digits.len() > 8 || !digits.bytes().all(|digit| digit.is_ascii_digit()) {
        return Err(refused());
    }
    let value: u64 = digits.parse().map_err(|_| refused())?;
    match unit {
        "H" => Ok(Duration::from_secs(value * 3600)),
        "M" => Ok(Duration::from_secs(value * 60)),
        "S" => Ok(Duration::from_secs(value)),
        "m" => Ok(Duration::from_millis(value)),
        "u" => Ok(Duration::from_micros(value)),
        "n" => Ok(Duration::from_nanos(value)),
        _ => Err(refused()),
    }
}

/// A number without a sign; Triton's gRPC client sends numbers as texts, too.
fn unsigned(parameter: Option<Parameter>, name: &str) -> Result<u64> {
    let number = match parameter {
        None => Some(0),
        Some(Parameter::Int64(number)) => u64::try_from(number).ok(),
        Some(Parameter::Uint64(number)) => Some(number),
        Some(Parameter::String(text)) => text.parse().ok(),
        Some(Parameter::Bool(_) | Parameter::Double(_)) => None,
    };
    number.ok_or_else(|| Error::Invalid(format!("parameter `{name}` must be a number that is not negative")))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn the_earliest_time_counts() {
        let ask = |transport, micros: i64| {
            let mut parameters = Parameters::from([("timeout".to_owned(), Parameter::Int64(micros))]);
            let begun = Instant::now();
            let deadline = terms(&mut parameters, transport, Duration::from_secs(60)).unwrap().deadline.unwrap();
            assert!(parameters.is_empty());
            (deadline - begun).as_millis() / 100
        };
        assert_eq!(ask(None, 0), 600);
        assert_eq!(ask(Some(Duration::from_secs(3)), 0), 30);
        assert_eq!(ask(Some(Duration::from_secs(3)), 2_000_000), 20);
        assert_eq!(ask(Some(Duration::from_secs(3_000)), i64::MAX), 600);
    }

    #[test]
    fn priorities_are_tritons() {
        for (level, expected) in [(0, Priority::Normal), (1, Priority::High), (2, Priority::Normal), (7, Priority::Low)]
        {
            let mut parameters = Parameters::from([("priority".to_owned(), Parameter::Uint64(level))]);
            assert_eq!(terms(&mut parameters, None, Duration::from_secs(1)).unwrap().priority, expected);
        }
        let mut parameters = Parameters::from([("priority".to_owned(), Parameter::Int64(-1))]);
        let error = terms(&mut parameters, None, Duration::from_secs(1)).unwrap_err().to_string();
        assert!(error.contains("parameter `priority`"), "{error}");
    }

    #[test]
    fn times_of_headers_are_read() {
        assert_eq!(request_timeout("0.25").unwrap(), Duration::from_millis(250));
        for text in ["", "x", "-1", "0", "NaN", "inf", "1e300"] {
            assert!(request_timeout(text).is_err(), "{text}");
        }
        assert_eq!(grpc_timeout("500m").unwrap(), Duration::from_millis(500));
        assert_eq!(grpc_timeout("99999999H").unwrap(), Duration::from_secs(99_999_999 * 3600));
        for text in ["", "m", "1", "1é", "123456789m", "-1m", "+1m", "1d"] {
            assert!(grpc_timeout(text).is_err(), "{text}");
        }
    }
}
