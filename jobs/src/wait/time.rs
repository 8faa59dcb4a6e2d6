//! The job `wait_for_time`: waits for a point in time.

use std::time::Duration;

use async_trait::async_trait;
use chrono::{DateTime, SecondsFormat, Utc};
use pipeline::{Job, JobContext, JobError, JobOutput};
use serde_json::{Value, json};

use crate::text;
use crate::with::{Keys, Templates};

const KEYS: [&str; 3] = ["time", "after", "since"];

/// The job kind `wait_for_time`. Output: `{"time": "…", "late_seconds": n}`.
#[derive(Clone, Copy, Debug, Default)]
pub struct WaitForTimeJob;

impl WaitForTimeJob {
    /// The job.
    pub fn new() -> Self {
        Self
    }
}

#[async_trait]
impl Job for WaitForTimeJob {
    fn kind(&self) -> &'static str {
        "wait_for_time"
    }

    fn check(&self, with: &Value) -> Result<(), String> {
        read(with, Templates::Unrendered).map(drop)
    }

    async fn run(&self, _context: JobContext, with: Value) -> Result<JobOutput, JobError> {
        let time = read(&with, Templates::Rendered).map_err(JobError::permanent)?;
        look(time.ok_or_else(|| JobError::permanent("`time` has no value"))?, Utc::now())
    }
}

/// The time to wait for; `None` while a part of it is a template.
fn read(with: &Value, templates: Templates) -> Result<Option<DateTime<Utc>>, String> {
    let keys = Keys::new(with, &KEYS, templates)?;
    match (keys.has("time"), keys.has("after"), keys.has("since")) {
        (true, false, false) => read_time(&keys, "time"),
        (false, true, true) => {
            let after = keys.duration("after", Duration::ZERO)?;
            let since = read_time(&keys, "since")?.filter(|_| keys.value("after").is_some());
            let too_late = || "`since` and `after` together are no time of the calendar".to_owned();
            since.map(|since| since.checked_add_signed(chrono_duration(after)).ok_or_else(too_late)).transpose()
        }
        (false, true, false) => Err("`after` needs `since`, for example `since: \"{{ run.started_at }}\"`".to_owned()),
        _ => Err("give either `time`, or `after` and `since`".to_owned()),
    }
}

fn read_time(keys: &Keys, key: &str) -> Result<Option<DateTime<Utc>>, String> {
    let Some(text) = keys.text(key)? else { return Ok(None) };
    let wrong = |error| {
        format!("`{key}` is no time ({error}): write it with its offset from UTC, for example 2026-03-01T06:00:00Z")
    };
    DateTime::parse_from_rfc3339(text).map(|time| Some(time.to_utc())).map_err(wrong)
}

/// Durations of DAG files are a year at most, which fits.
fn chrono_duration(duration: Duration) -> chrono::Duration {
    chrono::Duration::from_std(duration).unwrap_or(chrono::Duration::MAX)
}

fn look(time: DateTime<Utc>, now: DateTime<Utc>) -> Result<JobOutput, JobError> {
    let shown = time.to_rfc3339_opts(SecondsFormat::AutoSi, true);
    let late = match (time - now).to_std() {
        Ok(left) if !left.is_zero() => {
            return Err(JobError::not_yet(format!("waiting for {shown}, in {}", text::duration(left)), left));
        }
        _ => now - time,
    };
    let late = late.to_std().unwrap_or_default();
    let value = json!({ "time": shown, "late_seconds": late.as_secs() });
    Ok(JobOutput { value, failures: 0, summary: format!("{shown} is past") })
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use pipeline::Retry;

    fn at(text: &str) -> DateTime<Utc> {
        DateTime::parse_from_rfc3339(text).unwrap().to_utc()
    }

    #[test]
    fn what_is_left_is_waited_for_exactly() {
        let now = at("2026-03-01T05:59:57.250Z");
        let error = look(at("2026-03-01T07:00:00+01:00"), now).unwrap_err();
        assert_eq!(error.retry, Retry::Later(Duration::from_millis(2_750)));
        assert_eq!(error.message, "waiting for 2026-03-01T06:00:00Z, in 2.8 s");
        let output = look(at("2026-03-01T05:59:00Z"), now).unwrap();
        assert_eq!(output.value, json!({"time": "2026-03-01T05:59:00Z", "late_seconds": 57}));
        assert!(look(now, now).is_ok());
    }

    #[test]
    fn times_are_read() {
        let read = |with: Value| read(&with, Templates::Unrendered);
        assert_eq!(read(json!({"time": "2026-03-01T06:00:00Z"})), Ok(Some(at("2026-03-01T06:00:00Z"))));
        let after = json!({"after": "1h30m", "since": "2026-03-01T06:00:00.5Z"});
        assert_eq!(read(after), Ok(Some(at("2026-03-01T07:30:00.5Z"))));
        assert_eq!(read(json!({"after": "{{ params.wait }}", "since": "2026-03-01T06:00:00Z"})), Ok(None));
        assert_eq!(read(json!({"after": "1h", "since": "{{ run.started_at }}"})), Ok(None));
        for (with, part) in [
            (json!({}), "give either `time`"),
            (json!({"time": "2026-03-01T06:00:00Z", "after": "1h"}), "give either `time`"),
            (json!({"after": "1h"}), "needs `since`"),
            (json!({"time": "2026-03-01 06:00"}), "with its offset from UTC"),
            (json!({"time": 5}), "must be a text, but is a number"),
            (json!({"after": "soon", "since": "2026-03-01T06:00:00Z"}), "is not a length of time"),
            (json!({"tme": "x"}), "did you mean `time`?"),
        ] {
            let message = read(with.clone()).unwrap_err();
            assert!(message.contains(part), "{with}: {message}");
        }
    }
}
