//! The job `wait_for_http`: waits until an address answers as expected.

use std::time::Duration;

use async_trait::async_trait;
use pipeline::job::MAX_OUTPUT_BYTES;
use pipeline::{Job, JobContext, JobError, JobOutput, Masker};
use reqwest::header::HeaderMap;
use reqwest::{Method, StatusCode};
use serde_json::{Value, json};
use url::Url;

use crate::http::{Answer, Caller, Expect, Failure, Request, read_headers, read_url, shown};
use crate::with::{Keys, Templates};

use super::INTERVAL;

const KEYS: [&str; 6] = ["http", "status", "json", "headers", "timeout", "interval"];

const TIMEOUT: Duration = Duration::from_secs(10);

/// The job kind `wait_for_http`. Output: `{"status": 200, "body": …}` with the body if it is JSON.
#[derive(Debug)]
pub struct WaitForHttpJob {
    caller: Caller,
    masker: Masker,
}

#[derive(Debug)]
struct Settings {
    url: Option<Url>,
    headers: HeaderMap,
    expect: Expect,
    timeout: Duration,
    interval: Duration,
}

impl WaitForHttpJob {
    /// A job whose errors and outputs pass `masker` first. It opens nothing yet.
    pub fn new(masker: Masker) -> Self {
        Self { caller: Caller::default(), masker }
    }

    async fn attempt(&self, context: &JobContext, with: &Value, masker: &Masker) -> Result<JobOutput, JobError> {
        let settings = Settings::read(with, Templates::Rendered).map_err(JobError::permanent)?;
        let url = settings.url.ok_or_else(|| JobError::permanent("`http` has no value"))?;
        let name = shown(&url);
        let request =
            Request { method: Method::GET, url, headers: settings.headers, body: None, follow_redirects: true };
        let not_yet = |reason: &str| JobError::not_yet(format!("waiting for {name}: {reason}"), settings.interval);
        let answer = match self.caller.call(request, settings.timeout, &context.cancel).await {
            Ok(answer) => answer,
            Err(Failure::Cancelled) => return Err(JobError::interrupted()),
            Err(Failure::NoAnswer(reason)) => return Err(not_yet(&reason)),
            Err(Failure::Refused(reason)) => return Err(JobError::permanent(format!("{name}: {reason}"))),
        };
        if !settings.expect.accepts(answer.status) {
            return Err(match answer.status {
                StatusCode::UNAUTHORIZED | StatusCode::FORBIDDEN => {
                    JobError::permanent(format!("{name} answered {}: check `headers`", answer.status))
                }
                status => not_yet(&format!("it answered {status}")),
            });
        }
        match settings.expect.unmet(&answer, masker) {
            Some(unmet) => Err(not_yet(&unmet)),
            None => Ok(found(&name, &answer)),
        }
    }
}

#[async_trait]
impl Job for WaitForHttpJob {
    fn kind(&self) -> &'static str {
        "wait_for_http"
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

impl Settings {
    fn read(with: &Value, templates: Templates) -> Result<Self, String> {
        let keys = Keys::new(with, &KEYS, templates)?;
        Ok(Self {
            url: read_url(&keys, "http")?,
            headers: read_headers(&keys)?,
            expect: Expect::read(&keys)?,
            timeout: keys.positive_duration("timeout", TIMEOUT)?,
            interval: keys.positive_duration("interval", INTERVAL)?,
        })
    }
}

/// The output has the body only where it is JSON and fits with room to spare for the rest.
fn found(name: &str, answer: &Answer) -> JobOutput {
    let body: Value = serde_json::from_slice(&answer.body).unwrap_or_default();
    let body = if body.to_string().len() < MAX_OUTPUT_BYTES / 2 { body } else { Value::Null };
    let value = json!({ "status": answer.status.as_u16(), "body": body });
    JobOutput { value, failures: 0, summary: format!("{name} answered {}", answer.status) }
}
