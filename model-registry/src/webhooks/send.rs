//! Sends one message to one receiver, signed as MLflow signs.

use std::error::Error as _;
use std::time::Duration;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use hmac::{Hmac, KeyInit, Mac};
use platform::public_address::PublicOnly;
use reqwest::header::{CONTENT_TYPE, RETRY_AFTER};
use reqwest::redirect::Policy;
use sha2::Sha256;

use super::address;
use crate::clock::now_millis;
use crate::{Error, Result};

const SIGNATURE: &str = "X-MLflow-Signature";
const TIMESTAMP: &str = "X-MLflow-Timestamp";
const DELIVERY_ID: &str = "X-MLflow-Delivery-Id";

/// Of an answer, at most this much is read.
const MOST_OF_ANSWER: usize = 64 * 1024;

/// Where webhooks may go and how long that may take.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct WebhookOptions {
    /// Whether `http://` is allowed, too.
    pub allow_http: bool,
    /// Whether receivers may have internal addresses, such as loopback.
    pub allow_private: bool,
    /// How long one attempt may take.
    pub timeout: Duration,
    /// Attempts before a message is given up.
    pub attempts: u32,
    /// The wait after the first attempt that failed; it doubles with each.
    pub first_wait: Duration,
    /// No wait is longer.
    pub longest_wait: Duration,
}

impl Default for WebhookOptions {
    fn default() -> Self {
        Self {
            allow_http: false,
            allow_private: false,
            timeout: Duration::from_secs(30),
            attempts: 10,
            first_wait: Duration::from_secs(1),
            longest_wait: Duration::from_secs(600),
        }
    }
}

/// What a receiver answered.
#[derive(Clone, Debug)]
pub(crate) struct Answer {
    pub(crate) status: u16,
    pub(crate) body: String,
    /// How long it asks to be left alone.
    pub(crate) retry_after: Option<Duration>,
}

/// Sends messages.
#[derive(Clone, Debug)]
pub(crate) struct Sender {
    client: reqwest::Client,
    options: WebhookOptions,
}

/// What is sent.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Message<'a> {
    pub(crate) url: &'a str,
    /// The same for all attempts.
    pub(crate) delivery_id: &'a str,
    pub(crate) body: &'a str,
    /// What it is signed with.
    pub(crate) secret: Option<&'a str>,
}

impl Sender {
    /// # Errors
    /// When the program cannot use HTTP at all.
    pub(crate) fn new(options: WebhookOptions) -> Result<Self> {
        let builder = reqwest::Client::builder()
            .user_agent(concat!("safari-registry/", env!("CARGO_PKG_VERSION")))
            .timeout(options.timeout)
            .connect_timeout(options.timeout.min(Duration::from_secs(10)))
            // A proxy or a redirect would reach what the address was not checked for.
            .no_proxy()
            .redirect(Policy::none())
            .pool_max_idle_per_host(2);
        let builder =
            if options.allow_private { builder } else { builder.dns_resolver(std::sync::Arc::new(PublicOnly)) };
        let client = builder.build().map_err(|error| Error::Server {
            server: "the receivers of webhooks".to_owned(),
            reason: format!("cannot set up HTTP: {}", root_cause(&error)),
        })?;
        Ok(Self { client, options })
    }

    pub(crate) fn options(&self) -> &WebhookOptions {
        &self.options
    }

    /// Refuses URLs to which nothing is sent.
    pub(crate) async fn check(&self, url: &str) -> Result<()> {
        address::check(url, &self.options).await.map(drop)
    }

    /// Sends a message; the error says in words why there is no answer.
    pub(crate) async fn send(&self, message: Message<'_>) -> std::result::Result<Answer, String> {
        let url = address::check(message.url, &self.options).await.map_err(|error| error.to_string())?;
        let timestamp = (now_millis() / 1000).to_string();
        let mut request = self
            .client
            .post(url)
            .header(CONTENT_TYPE, "application/json")
            .header(DELIVERY_ID, message.delivery_id)
            .header(TIMESTAMP, &timestamp);
        if let Some(secret) = message.secret {
            request = request.header(SIGNATURE, signature(secret, message.delivery_id, &timestamp, message.body));
        }
        let answer = request.body(message.body.to_owned()).send().await.map_err(|error| root_cause(&error))?;
        let status = answer.status().as_u16();
        let retry_after = answer.headers().get(RETRY_AFTER).and_then(|value| value.to_str().ok()?.parse().ok());
        let body = read_some(answer).await;
        Ok(Answer { status, body, retry_after: retry_after.map(Duration::from_secs) })
    }
}

/// `v1,` and the HMAC-SHA256 of `<delivery>.<time>.<body>` in base64.
fn signature(secret: &str, delivery_id: &str, timestamp: &str, body: &str) -> String {
    // HMAC takes keys of any length.
    let Ok(mut mac) = Hmac::<Sha256>::new_from_slice(secret.as_bytes()) else { return String::new() };
    for part in [delivery_id, ".", timestamp, ".", body] {
        mac.update(part.as_bytes());
    }
    format!("v1,{}", STANDARD.encode(mac.finalize().into_bytes()))
}

/// The beginning of an answer; one that breaks off is as good.
async fn read_some(mut answer: reqwest::Response) -> String {
    let mut bytes = Vec::new();
    while let Ok(Some(chunk)) = answer.chunk().await {
        let room = MOST_OF_ANSWER - bytes.len();
        bytes.extend_from_slice(&chunk[..chunk.len().min(room)]);
        if bytes.len() == MOST_OF_ANSWER {
            break;
        }
    }
    String::from_utf8_lossy(&bytes).into_owned()
}

/// What went wrong at the bottom, without the URL, which may have a token in it.
fn root_cause(error: &reqwest::Error) -> String {
    if error.is_timeout() {
        return "no answer in time".to_owned();
    }
    let mut cause: &dyn std::error::Error = error;
    while let Some(source) = cause.source() {
        cause = source;
    }
    match error.source() {
        Some(_) => cause.to_string(),
        None => "the request failed".to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Computed with Python's `hmac` as MLflow computes it.
    #[test]
    fn signatures_are_mlflows() {
        let signed = signature("s3cret", "d1", "1700000000", "{\"a\": 1}");
        assert_eq!(signed, "v1,SL09e/IZgMeXvzZRPOdF+ztEGcfCg48OkhwoQmVq2JE=");
    }
}
