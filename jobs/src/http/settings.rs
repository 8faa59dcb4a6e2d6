//! The keys of `with` for `http`.

use std::time::Duration;

use pipeline::JobContext;
use reqwest::Method;
use reqwest::header::{CONTENT_TYPE, HeaderMap, HeaderName, HeaderValue};
use serde_json::Value;
use url::Url;

use crate::trace::traceparent;
use crate::with::{Keys, Templates};

use super::expect::Expect;
use super::request::{Request, read_headers, read_url};

const KEYS: [&str; 9] =
    ["url", "method", "headers", "body", "expect", "timeout", "output", "follow_redirects", "idempotency_header"];

const METHODS: [&str; 7] = ["GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS"];

const TIMEOUT: Duration = Duration::from_secs(30);

/// What to send and what must come back.
#[derive(Debug)]
pub(super) struct Settings {
    url: Option<Url>,
    method: Method,
    headers: HeaderMap,
    body: Option<Value>,
    follow_redirects: bool,
    idempotency_header: bool,
    pub(super) expect: Expect,
    pub(super) timeout: Duration,
    /// `None`: the body if it is JSON by its content type.
    pub(super) output: Option<Output>,
}

/// What the task's output is made of.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Output {
    /// The body, which must be JSON.
    Json,
    /// The body as it is.
    Text,
    /// Nothing.
    Nothing,
}

impl Settings {
    /// Reads `with`; values that are templates still are left out.
    pub(super) fn read(with: &Value, templates: Templates) -> Result<Self, String> {
        let keys = Keys::new(with, &KEYS, templates)?;
        let method = keys.choice("method", &METHODS)?.unwrap_or("GET");
        let output = keys.choice("output", &["json", "text", "none"])?;
        Ok(Self {
            url: read_url(&keys, "url")?,
            method: Method::from_bytes(method.as_bytes()).unwrap_or_default(),
            headers: read_headers(&keys)?,
            body: keys.value("body").cloned(),
            follow_redirects: keys.flag("follow_redirects", true)?,
            idempotency_header: keys.flag("idempotency_header", true)?,
            expect: Expect::read(&keys.inside("expect", &["status", "json"])?)?,
            timeout: keys.positive_duration("timeout", TIMEOUT)?,
            output: output.map(|name| match name {
                "json" => Output::Json,
                "text" => Output::Text,
                _ => Output::Nothing,
            }),
        })
    }

    /// The request of an attempt. Headers of the task go before those that are added here.
    pub(super) fn request(&self, context: &JobContext) -> Result<Request, String> {
        let mut headers = self.headers.clone();
        if self.idempotency_header && changes_something(&self.method) {
            let key = HeaderValue::from_str(&context.idempotency_key)
                .map_err(|_| "the idempotency key cannot be a header: set `idempotency_header: false`".to_owned())?;
            headers.entry(HeaderName::from_static("idempotency-key")).or_insert(key);
        }
        if let Ok(trace) = HeaderValue::from_str(&traceparent(context)) {
            headers.entry(HeaderName::from_static("traceparent")).or_insert(trace);
        }
        let body = match &self.body {
            None => None,
            Some(Value::String(text)) => {
                headers.entry(CONTENT_TYPE).or_insert(HeaderValue::from_static("text/plain; charset=utf-8"));
                Some(text.clone().into_bytes())
            }
            Some(json) => {
                headers.entry(CONTENT_TYPE).or_insert(HeaderValue::from_static("application/json"));
                Some(json.to_string().into_bytes())
            }
        };
        let url = self.url.clone().ok_or("`url` has no value")?;
        Ok(Request { method: self.method.clone(), url, headers, body, follow_redirects: self.follow_redirects })
    }
}

/// Whether a repeated request could do its work twice.
fn changes_something(method: &Method) -> bool {
    [Method::POST, Method::PUT, Method::PATCH, Method::DELETE].contains(method)
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn check(with: Value) -> Result<(), String> {
        Settings::read(&with, Templates::Unrendered).map(drop)
    }

    #[test]
    fn right_settings_are_accepted() {
        for with in [
            json!({"url": "https://h.example/x"}),
            json!({"url": "http://{{ params.host }}/x", "headers": {"A": "{{ item }}", "B": 1}, "body": "{{ item }}"}),
            json!({"url": "{{ params.url }}", "method": "{{ params.method }}", "timeout": "{{ params.timeout }}"}),
            json!({"url": "http://h", "method": "POST", "body": [1], "expect": {"status": [200, "4xx"], "json": {"/a": 1}}}),
            json!({"url": "http://h", "expect": {"status": "{{ params.status }}", "json": {"": "{{ item }}"}}}),
            json!({"url": "http://h", "expect": "{{ params.expect }}", "output": "text", "follow_redirects": false}),
        ] {
            assert_eq!(check(with.clone()), Ok(()), "{with}");
        }
    }

    #[test]
    fn wrong_settings_are_told() {
        for (with, part) in [
            (json!({}), "`with` lacks the key `url`"),
            (json!({"uri": "http://h"}), "unknown key `uri` in `with`, did you mean `url`?"),
            (json!({"url": "h.example"}), "`url` is no URL"),
            (json!({"url": "ftp://h.example"}), "starts with ftp"),
            (json!({"url": "http://h", "method": "post"}), "did you mean `POST`?"),
            (json!({"url": "http://h", "headers": {"a b": "x"}}), "no name of a header"),
            (json!({"url": "http://h", "headers": {"a": "x\ny"}}), "such as a line break"),
            (json!({"url": "http://h", "headers": {"Content-Length": 3}}), "is set for you"),
            (json!({"url": "http://h", "headers": ["a"]}), "a mapping of names to texts, but is a list"),
            (json!({"url": "http://h", "timeout": "0s"}), "more than no time"),
            (json!({"url": "http://h", "expect": {"staus": 200}}), "unknown key `staus` in `expect`"),
            (json!({"url": "http://h", "expect": {"status": 99}}), "must be a status such as 200"),
            (json!({"url": "http://h", "expect": {"status": []}}), "`status` is empty"),
            (json!({"url": "http://h", "expect": {"json": {"a": 1}}}), "no JSON pointer"),
            (json!({"url": "http://h", "follow_redirects": "yes"}), "`true` or `false`, but is a text"),
        ] {
            let message = check(with.clone()).err();
            assert!(message.as_deref().is_some_and(|message| message.contains(part)), "{with}: {message:?}");
        }
    }

    #[test]
    fn messages_hide_urls_and_header_values() {
        let message = check(json!({"url": "http://me:pass word@h:x/"})).err().unwrap_or_default();
        assert!(message.contains("no URL") && !message.contains("pass"), "{message}");
        let message = check(json!({"url": "http://h", "headers": {"Authorization": "geheim\n"}})).err();
        assert!(message.is_some_and(|message| !message.contains("geheim")));
    }
}
