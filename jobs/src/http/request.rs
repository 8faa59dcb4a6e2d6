//! One request and its answer.

use pipeline::Masker;
use platform::error::root_cause;
use reqwest::header::{CONNECTION, CONTENT_LENGTH, HeaderMap, HeaderName, HeaderValue, TRANSFER_ENCODING};
use reqwest::{Client, Method, Response, StatusCode};
use url::Url;

use crate::text;
use crate::with::Keys;

/// The largest body that is read (1 MiB).
const MOST_BODY_BYTES: usize = 1024 * 1024;

/// Bytes of an answer in a message.
const WORDS: usize = 300;

/// What to send.
#[derive(Debug)]
pub(crate) struct Request {
    pub(crate) method: Method,
    pub(crate) url: Url,
    pub(crate) headers: HeaderMap,
    pub(crate) body: Option<Vec<u8>>,
    pub(crate) follow_redirects: bool,
}

/// What came back.
#[derive(Debug)]
pub(crate) struct Answer {
    pub(crate) status: StatusCode,
    pub(crate) headers: HeaderMap,
    /// Its first MiB.
    pub(crate) body: Vec<u8>,
    is_whole: bool,
}

/// Why there is no answer. The messages have nothing of the URL.
#[derive(Debug)]
pub(crate) enum Failure {
    /// No connection, or it broke off: this may pass.
    NoAnswer(String),
    /// Trying again will not help.
    Refused(String),
    /// The attempt should stop.
    Cancelled,
}

impl Request {
    /// Sends it and reads the answer's head.
    pub(super) async fn send(&self, client: &Client) -> Result<Response, Failure> {
        let mut request = client.request(self.method.clone(), self.url.clone()).headers(self.headers.clone());
        if let Some(body) = &self.body {
            request = request.body(body.clone());
        }
        request.send().await.map_err(|error| failure(&error))
    }
}

impl Answer {
    /// Reads the body, as much of it as is allowed.
    pub(super) async fn read(mut response: Response) -> Result<Self, Failure> {
        let (status, headers) = (response.status(), response.headers().clone());
        let mut body = Vec::new();
        while let Some(chunk) = response.chunk().await.map_err(|error| failure(&error))? {
            body.extend_from_slice(&chunk);
            if body.len() > MOST_BODY_BYTES {
                body.truncate(MOST_BODY_BYTES);
                return Ok(Self { status, headers, body, is_whole: false });
            }
        }
        Ok(Self { status, headers, body, is_whole: true })
    }

    /// The whole body, unless it is too large.
    pub(crate) fn whole_body(&self) -> Result<&[u8], String> {
        match self.is_whole {
            true => Ok(&self.body),
            false => {
                Err(format!("the answer has more than the {MOST_BODY_BYTES} bytes allowed: ask the service for less"))
            }
        }
    }

    /// The beginning of the body as one line, for a message. It may repeat what was sent, and no part of a secret is to
    /// stay at a cut.
    pub(crate) fn words(&self, masker: &Masker) -> String {
        let body = String::from_utf8_lossy(&self.body);
        let masked = masker.mask(&body);
        let line = text::one_line(text::head(&masked, 4 * WORDS));
        text::head(&line, WORDS).to_owned()
    }
}

/// A URL as messages show it: without user, password and query, which may be secret.
pub(crate) fn shown(url: &Url) -> String {
    let mut shown = url.clone();
    // Fails for URLs without a host, which have no user either.
    let _no_host = shown.set_username("").and_then(|()| shown.set_password(None));
    shown.set_query(None);
    shown.set_fragment(None);
    let query = if url.query().is_some() { "?…" } else { "" };
    format!("{shown}{query}")
}

/// The URL under a key; messages do not show it.
pub(crate) fn read_url(keys: &Keys, key: &str) -> Result<Option<Url>, String> {
    keys.require(key)?;
    let Some(text) = keys.filled_text(key)? else { return Ok(None) };
    let url = Url::parse(text)
        .map_err(|error| format!("`{key}` is no URL ({error}): write for example https://host/path"))?;
    match url.scheme() {
        "http" | "https" => Ok(Some(url)),
        other => Err(format!("`{key}` starts with {other}: only http and https are known")),
    }
}

/// The headers under `headers`; messages do not show their values.
pub(crate) fn read_headers(keys: &Keys) -> Result<HeaderMap, String> {
    let mut headers = HeaderMap::new();
    for (name, value) in keys.mapping("headers")? {
        let name: HeaderName =
            name.parse().map_err(|_| format!("`headers` has `{name}`, which is no name of a header"))?;
        if [CONTENT_LENGTH, TRANSFER_ENCODING, CONNECTION].contains(&name) {
            return Err(format!("`headers` sets {name}, which is set for you: remove it"));
        }
        let Some(value) = value else { continue };
        let mut value: HeaderValue = value.parse().map_err(|_| {
            format!("the value of `headers.{name}` has characters that a header cannot have, such as a line break")
        })?;
        value.set_sensitive(true);
        headers.insert(name, value);
    }
    Ok(headers)
}

fn failure(error: &reqwest::Error) -> Failure {
    let reason = root_cause(error);
    if error.is_builder() {
        return Failure::Refused(format!("the request cannot be made: {reason}"));
    }
    if error.is_body() || error.is_decode() {
        return Failure::NoAnswer(format!("the answer broke off: {reason}"));
    }
    Failure::NoAnswer(format!("no answer ({reason}): check that the service runs, its address and the network"))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn urls_are_shown_without_secrets() {
        let url = Url::parse("https://me:pass@h.example:8443/a/b?token=1#x").unwrap();
        assert_eq!(shown(&url), "https://h.example:8443/a/b?…");
        assert_eq!(shown(&Url::parse("http://h.example").unwrap()), "http://h.example/");
    }
}
