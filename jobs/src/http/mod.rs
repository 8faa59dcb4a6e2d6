//! The job `http`: sends one request.

mod client;
mod expect;
mod redirect;
mod request;
mod settings;

use std::sync::Arc;
use std::time::{Duration, Instant};

use async_trait::async_trait;
use chrono::{DateTime, Utc};
use pipeline::job::MAX_OUTPUT_BYTES;
use pipeline::{Job, JobContext, JobError, JobOutput, Masker};
use reqwest::StatusCode;
use reqwest::header::{CONTENT_TYPE, HeaderMap, RETRY_AFTER};
use serde_json::Value;

use crate::log::MaskedLog;
use crate::text;
use crate::with::Templates;

pub(crate) use client::Caller;
pub(crate) use expect::Expect;
pub(crate) use request::{Answer, Failure, Request, read_headers, read_url, shown};

use settings::{Output, Settings};

/// The job kind `http`. Output: the answer's body.
pub struct HttpJob {
    caller: Caller,
    masker: Masker,
}

impl HttpJob {
    /// A job that notes its requests; lines, errors and outputs pass `masker` first. It opens nothing yet.
    pub fn new(masker: Masker) -> Self {
        Self { caller: Caller::default(), masker }
    }

    async fn attempt(&self, context: &JobContext, with: &Value, masker: &Masker) -> Result<JobOutput, JobError> {
        let settings = Settings::read(with, Templates::Rendered).map_err(JobError::permanent)?;
        let request = settings.request(context).map_err(JobError::permanent)?;
        let name = format!("{} {}", request.method, shown(&request.url));
        let began = Instant::now();
        let answer = match self.caller.call(request, settings.timeout, &context.cancel).await {
            Ok(answer) => answer,
            Err(Failure::Cancelled) => return Err(JobError::interrupted()),
            Err(Failure::NoAnswer(reason)) => return Err(JobError::transient(format!("{name}: {reason}"))),
            Err(Failure::Refused(reason)) => return Err(JobError::permanent(format!("{name}: {reason}"))),
        };
        let summary = format!("{name}: {} in {}", answer.status, text::duration(began.elapsed()));
        MaskedLog { log: Arc::clone(&context.log), masker: masker.clone() }.note(&summary);
        if !settings.expect.accepts(answer.status) {
            return Err(unexpected(&name, &answer, masker));
        }
        if let Some(unmet) = settings.expect.unmet(&answer, masker) {
            return Err(JobError::transient(format!("{name} answered {}, but {unmet}", answer.status)));
        }
        let value =
            output(settings.output, &answer).map_err(|reason| JobError::permanent(format!("{name}: {reason}")))?;
        Ok(JobOutput { value, failures: 0, summary })
    }
}

#[async_trait]
impl Job for HttpJob {
    fn kind(&self) -> &'static str {
        "http"
    }

    fn check(&self, with: &Value) -> Result<(), String> {
        Settings::read(with, Templates::Unrendered).map(drop)
    }

    async fn run(&self, context: JobContext, with: Value) -> Result<JobOutput, JobError> {
        let masker = self.masker.join(&context.masker);
        let result = self.attempt(&context, &with, &masker).await;
        masker.mask_result(result)
    }
}

/// An answer whose status is not among those expected.
fn unexpected(name: &str, answer: &Answer, masker: &Masker) -> JobError {
    let words = answer.words(masker);
    let words = if words.is_empty() { words } else { format!(": {words}") };
    let message = format!("{name} answered {}{words}", answer.status);
    if !may_pass(answer.status) {
        return JobError::permanent(message);
    }
    match retry_after(&answer.headers, Utc::now()) {
        Some(wait) => JobError::transient(format!("{message}; the server asks to wait {}", text::duration(wait))),
        None => JobError::transient(message),
    }
}

/// Whether the same request may be answered otherwise later.
fn may_pass(status: StatusCode) -> bool {
    status.is_server_error()
        || [StatusCode::REQUEST_TIMEOUT, StatusCode::TOO_EARLY, StatusCode::TOO_MANY_REQUESTS].contains(&status)
}

/// How long the server asks to wait: seconds, or a date.
fn retry_after(headers: &HeaderMap, now: DateTime<Utc>) -> Option<Duration> {
    let text = headers.get(RETRY_AFTER)?.to_str().ok()?.trim();
    if let Ok(seconds) = text.parse() {
        return Some(Duration::from_secs(seconds));
    }
    let time = DateTime::parse_from_rfc2822(text).ok()?;
    (time.to_utc() - now).to_std().ok()
}

fn output(wanted: Option<Output>, answer: &Answer) -> Result<Value, String> {
    let is_json = || {
        let kind = answer.headers.get(CONTENT_TYPE).and_then(|kind| kind.to_str().ok()).unwrap_or_default();
        let kind = kind.split(';').next().unwrap_or_default().trim().to_ascii_lowercase();
        kind == "application/json" || kind.ends_with("+json")
    };
    let value = match wanted {
        Some(Output::Nothing) => return Ok(Value::Null),
        None if !is_json() => return Ok(Value::Null),
        Some(Output::Text) => Value::from(String::from_utf8_lossy(answer.whole_body()?)),
        Some(Output::Json) | None if answer.body.trim_ascii().is_empty() => Value::Null,
        Some(Output::Json) | None => serde_json::from_slice(answer.whole_body()?)
            .map_err(|error| format!("the answer is no JSON ({error}): set `output: text` or `output: none`"))?,
    };
    match value.to_string().len() {
        0..=MAX_OUTPUT_BYTES => Ok(value),
        length => Err(format!(
            "the answer has {length} bytes, more than the {MAX_OUTPUT_BYTES} allowed as an output: set `output: none`, or \
             ask the service for less"
        )),
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    fn after(text: &str) -> Option<Duration> {
        let now = DateTime::parse_from_rfc3339("2026-11-06T08:49:00Z").unwrap().to_utc();
        retry_after(&HeaderMap::from_iter([(RETRY_AFTER, text.parse().unwrap())]), now)
    }

    #[test]
    fn waits_are_seconds_or_dates() {
        assert_eq!(after("120"), Some(Duration::from_secs(120)));
        assert_eq!(after("Fri, 06 Nov 2026 08:49:37 GMT"), Some(Duration::from_secs(37)));
        assert_eq!(after("Fri, 06 Nov 2026 08:48:37 GMT"), None);
        assert_eq!(after("soon"), None);
    }
}
