//! Requests to the API of a server.

use std::path::Path;
use std::time::Duration;

use pipeline::api::{PROBLEM_TYPE, Problem};
use platform::error::root_cause;
use reqwest::header::HeaderValue;
use reqwest::redirect::Policy;
use reqwest::{Client, Method, Response, header};
use serde::Serialize;
use serde::de::DeserializeOwned;
use url::Url;

use crate::credentials::{self, server_of};
use crate::error::{Error, Result};

/// A server that does not even accept the connection is not waited for longer.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(10);
/// How long an answer may take; cancelling a large backfill takes a while.
const TIMEOUT: Duration = Duration::from_secs(60);

/// A server's API.
#[derive(Clone, Debug)]
pub(super) struct Http {
    client: Client,
    base: Url,
    /// The server for people, without a password.
    server: String,
}

/// What is behind the question mark.
pub(super) type Query<'a> = &'a [(&'a str, Option<String>)];

impl Http {
    pub(super) fn new(base: &str, home: &Path) -> Result<Self> {
        let unusable = |reason: String| Error::ServerUnreachable { server: "the server".to_owned(), reason };
        let base = Url::parse(base).map_err(|error| unusable(error.to_string()))?;
        let mut shown = base.clone();
        // Both fail only for URLs that cannot have a password.
        let _ = shown.set_password(None);
        let _ = shown.set_username("");
        let mut headers = header::HeaderMap::new();
        if let Some(token) = credentials::token_for(server_of(&base), home) {
            let value = HeaderValue::try_from(format!("Bearer {token}"));
            let mut value = value.map_err(|_| unusable("the token holds characters that cannot be sent".to_owned()))?;
            value.set_sensitive(true);
            headers.insert(header::AUTHORIZATION, value);
        }
        let client = Client::builder()
            .default_headers(headers)
            .user_agent(concat!("safari/", env!("CARGO_PKG_VERSION")))
            .connect_timeout(CONNECT_TIMEOUT)
            .redirect(Policy::none())
            .build()
            .map_err(|error| unusable(root_cause(&error)))?;
        Ok(Self { client, base, server: shown.to_string() })
    }

    pub(super) async fn get<T: DeserializeOwned>(&self, path: &[&str], query: Query<'_>) -> Result<T> {
        let answer = self.send(Method::GET, path, query, None).await?;
        self.read(answer).await
    }

    pub(super) async fn post<T: DeserializeOwned>(&self, path: &[&str], query: Query<'_>) -> Result<T> {
        let answer = self.send(Method::POST, path, query, None).await?;
        self.read(answer).await
    }

    pub(super) async fn post_json<T: DeserializeOwned>(&self, path: &[&str], body: &impl Serialize) -> Result<T> {
        // What is sent is made of text and numbers, which always become JSON.
        let body = serde_json::to_vec(body).unwrap_or_default();
        let answer = self.send(Method::POST, path, &[], Some(body)).await?;
        self.read(answer).await
    }

    /// A request whose answer is only whether it succeeded.
    pub(super) async fn tell(&self, path: &[&str]) -> Result<()> {
        self.send(Method::POST, path, &[], None).await.map(drop)
    }

    /// Begins to read a stream of events or lines; they may take as long as they want.
    pub(super) async fn stream(&self, path: &[&str], query: Query<'_>, headers: header::HeaderMap) -> Result<Response> {
        let request = self.client.get(self.url(path, query)).headers(headers);
        let answer = request.send().await.map_err(|error| self.unreachable(error))?;
        self.accept(answer).await
    }

    /// An error for an answer that this program does not understand.
    pub(super) fn not_understood(&self, what: impl Into<String>) -> Error {
        Error::NoSafariServer { server: self.server.clone(), what: what.into() }
    }

    /// An error for an answer that ended in the middle.
    pub(super) fn broken_off(&self) -> Error {
        Error::ServerUnreachable { server: self.server.clone(), reason: "its answer broke off".to_owned() }
    }

    async fn send(&self, method: Method, path: &[&str], query: Query<'_>, body: Option<Vec<u8>>) -> Result<Response> {
        let mut request = self.client.request(method, self.url(path, query)).timeout(TIMEOUT);
        if let Some(body) = body {
            request = request.header(header::CONTENT_TYPE, "application/json").body(body);
        }
        let answer = request.send().await.map_err(|error| self.unreachable(error))?;
        self.accept(answer).await
    }

    /// Tells an answer of success from all others.
    async fn accept(&self, answer: Response) -> Result<Response> {
        let status = answer.status();
        if status.is_success() {
            return Ok(answer);
        }
        let kind = answer.headers().get(header::CONTENT_TYPE).and_then(|value| value.to_str().ok());
        let is_problem = kind.is_some_and(|kind| kind.starts_with(PROBLEM_TYPE));
        let body = answer.bytes().await.map_err(|error| self.unreachable(error))?;
        match serde_json::from_slice::<Problem>(&body) {
            Ok(problem) if is_problem && status.is_client_error() => Err(Error::Refused(problem.detail)),
            Ok(problem) if is_problem => {
                Err(Error::ServerFailed { server: self.server.clone(), detail: problem.detail })
            }
            _ => Err(self.not_understood(status.to_string())),
        }
    }

    async fn read<T: DeserializeOwned>(&self, answer: Response) -> Result<T> {
        let body = answer.bytes().await.map_err(|error| self.unreachable(error))?;
        serde_json::from_slice(&body).map_err(|error| self.not_understood(format!("something else ({error})")))
    }

    fn url(&self, path: &[&str], query: Query<'_>) -> Url {
        let mut url = self.base.clone();
        if let Ok(mut segments) = url.path_segments_mut() {
            segments.pop_if_empty().extend(["api", "v1"]).extend(path);
        }
        let given: Vec<(&str, &str)> =
            query.iter().filter_map(|(name, value)| Some((*name, value.as_deref()?))).collect();
        if !given.is_empty() {
            url.query_pairs_mut().extend_pairs(given);
        }
        url
    }

    fn unreachable(&self, error: reqwest::Error) -> Error {
        Error::ServerUnreachable { server: self.server.clone(), reason: root_cause(&error) }
    }
}
