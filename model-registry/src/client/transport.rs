//! How requests reach a server: through a socket, or as a call of its handlers in this process.

use std::fmt;
use std::time::Duration;

use axum::Router;
use axum::body::Body;
use axum::http::{HeaderMap, HeaderName, HeaderValue, Method, Request, StatusCode, header};
use bytes::Bytes;
use futures::stream::{BoxStream, StreamExt, TryStreamExt};
use platform::error::root_cause;
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use tower::ServiceExt;
use url::Url;

use super::Credentials;
use super::retry::{TRIES, Trouble, may_repeat, pause};
use crate::promotion::{ACTOR, ROLES};
use crate::{Error, ErrorCode, Result};

/// A server that does not even accept the connection is not waited for longer.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(10);
/// How long a server may be silent.
const READ_TIMEOUT: Duration = Duration::from_secs(120);
/// The most bytes of an answer that is read as a whole.
const MOST: usize = 256 * 1024 * 1024;

/// A way to a server.
#[derive(Clone)]
pub(super) struct Transport {
    way: Way,
    /// The server for people.
    server: String,
    /// Sent with every request.
    headers: HeaderMap,
}

#[derive(Clone)]
enum Way {
    Http { client: reqwest::Client, base: Url },
    Local(Router),
}

/// A request.
#[derive(Clone)]
pub(super) struct Ask {
    method: Method,
    /// Encoded, from the root of the server on.
    path: String,
    headers: HeaderMap,
    body: Bytes,
}

/// An answer whose body was not read yet.
pub(super) struct Answer {
    pub(super) status: StatusCode,
    pub(super) headers: HeaderMap,
    pub(super) bytes: BoxStream<'static, Result<Bytes, String>>,
}

/// An error as MLflow's servers tell it.
#[derive(Deserialize)]
struct Problem {
    error_code: Option<String>,
    message: Option<String>,
}

impl Ask {
    pub(super) fn get(path: &str, query: &[(&str, &str)]) -> Self {
        Self::new(Method::GET, &with_query(path, query))
    }

    pub(super) fn post(path: &str, body: &impl Serialize) -> Self {
        // What is sent is made of text and numbers, which always become JSON.
        let body = serde_json::to_vec(body).unwrap_or_default();
        let mut ask = Self::new(Method::POST, path);
        ask.headers.insert(header::CONTENT_TYPE, HeaderValue::from_static("application/json"));
        ask.body = body.into();
        ask
    }

    pub(super) fn new(method: Method, path: &str) -> Self {
        Self { method, path: path.to_owned(), headers: HeaderMap::new(), body: Bytes::new() }
    }

    pub(super) fn with(mut self, method: Method) -> Self {
        self.method = method;
        self
    }

    pub(super) fn header(mut self, name: HeaderName, value: &str) -> Self {
        if let Ok(value) = HeaderValue::try_from(value) {
            self.headers.insert(name, value);
        }
        self
    }
}

impl Transport {
    pub(super) fn http(url: &str, credentials: Credentials) -> Result<Self> {
        let unusable = |reason: String| Error::Server { server: "the server of registry.url".to_owned(), reason };
        let mut base = Url::parse(url).map_err(|error| unusable(error.to_string()))?;
        if !matches!(base.scheme(), "http" | "https") || !base.has_host() {
            return Err(unusable("its address is not http://HOST:PORT or https://HOST".to_owned()));
        }
        // A user in the address counts as one in the variables, and is shown nowhere.
        let decoded = |text: &str| percent_encoding::percent_decode_str(text).decode_utf8_lossy().into_owned();
        let credentials = match (base.username(), base.password()) {
            ("", None) => credentials,
            (user, password) => {
                Credentials::Basic { user: decoded(user), password: decoded(password.unwrap_or_default()) }
            }
        };
        // Both fail only for addresses that cannot have a user.
        let _ = base.set_username("");
        let _ = base.set_password(None);
        base.set_query(None);
        base.set_fragment(None);
        let client = reqwest::Client::builder()
            .user_agent(concat!("safari/", env!("CARGO_PKG_VERSION")))
            .connect_timeout(CONNECT_TIMEOUT)
            .read_timeout(READ_TIMEOUT)
            .tcp_nodelay(true)
            .redirect(reqwest::redirect::Policy::none())
            .build()
            .map_err(|error| unusable(root_cause(&error)))?;
        let mut headers = HeaderMap::new();
        if let Some(value) = credentials.header() {
            let mut value = HeaderValue::try_from(value)
                .map_err(|_| unusable("its credentials hold characters that cannot be sent".to_owned()))?;
            value.set_sensitive(true);
            headers.insert(header::AUTHORIZATION, value);
        }
        let server = base.as_str().trim_end_matches('/').to_owned();
        Ok(Self { way: Way::Http { client, base }, server, headers })
    }

    pub(super) fn local(router: Router) -> Self {
        Self { way: Way::Local(router), server: "the registry of this machine".to_owned(), headers: HeaderMap::new() }
    }

    pub(super) fn act_as(&mut self, name: &str, roles: &[String]) {
        for (header, value) in [(ACTOR, name.to_owned()), (ROLES, roles.join(","))] {
            if let Ok(value) = HeaderValue::try_from(value)
                && !value.is_empty()
            {
                self.headers.insert(HeaderName::from_static(header), value);
            }
        }
    }

    pub(super) fn server(&self) -> &str {
        &self.server
    }

    /// Asks, as often as it helps, and reads the answer.
    pub(super) async fn json<T: DeserializeOwned>(&self, ask: Ask) -> Result<T> {
        let answer = self.ask(ask).await?;
        let body = self.whole(answer).await?;
        let text: &[u8] = if body.is_empty() { b"{}" } else { &body };
        serde_json::from_slice(text).map_err(|error| self.not_understood(&format!("something else ({error})")))
    }

    /// Asks, as often as it helps. The answer is one of success.
    pub(super) async fn ask(&self, ask: Ask) -> Result<Answer> {
        let mut tried = 1;
        loop {
            let body = Sending::Whole(ask.body.clone());
            let (trouble, error) = match self.once(&ask, body).await {
                Ok(answer) if answer.status.is_success() || answer.status == StatusCode::NOT_MODIFIED => {
                    return Ok(answer);
                }
                Ok(answer) => (Trouble::Status(answer.status), self.refusal(answer).await),
                Err(failed) => failed,
            };
            if tried >= TRIES || !may_repeat(&ask.method, trouble) {
                return Err(error);
            }
            pause(tried).await;
            tried += 1;
        }
    }

    /// Sends a stream of `size` bytes, once: whoever has the bytes may try again.
    pub(super) async fn send(
        &self,
        ask: Ask,
        bytes: BoxStream<'static, std::io::Result<Bytes>>,
        size: u64,
    ) -> std::result::Result<Answer, (bool, Error)> {
        let ask = ask.header(header::CONTENT_LENGTH, &size.to_string());
        match self.once(&ask, Sending::Stream(bytes)).await {
            Ok(answer) if answer.status.is_success() => Ok(answer),
            Ok(answer) => {
                let again = may_repeat(&ask.method, Trouble::Status(answer.status));
                Err((again, self.refusal(answer).await))
            }
            Err((trouble, error)) => Err((may_repeat(&ask.method, trouble), error)),
        }
    }

    /// An error about this server.
    pub(super) fn failed(&self, reason: impl Into<String>) -> Error {
        Error::Server { server: self.server.clone(), reason: reason.into() }
    }

    pub(super) fn not_understood(&self, what: &str) -> Error {
        self.failed(format!("it answered {what}; check that `registry.url` names a tracking server"))
    }

    async fn whole(&self, answer: Answer) -> Result<Bytes> {
        let mut bytes = answer.bytes;
        let mut whole = Vec::new();
        while let Some(piece) = bytes.next().await {
            let piece = piece.map_err(|reason| self.failed(format!("its answer broke off: {reason}")))?;
            if whole.len() + piece.len() > MOST {
                return Err(self.not_understood("more than fits into memory"));
            }
            whole.extend_from_slice(&piece);
        }
        Ok(whole.into())
    }

    async fn refusal(&self, answer: Answer) -> Error {
        let status = answer.status;
        let body = match self.whole(answer).await {
            Ok(body) => body,
            Err(error) => return error,
        };
        let problem = serde_json::from_slice::<Problem>(&body).ok();
        let Some(Problem { error_code: Some(code), message }) = problem else {
            return match status {
                StatusCode::UNAUTHORIZED | StatusCode::FORBIDDEN => self.failed(format!(
                    "it answered {status}; set MLFLOW_TRACKING_TOKEN, or MLFLOW_TRACKING_USERNAME and MLFLOW_TRACKING_PASSWORD"
                )),
                status => self.not_understood(&status.to_string()),
            };
        };
        let by_status = || match status {
            StatusCode::NOT_FOUND => ErrorCode::ResourceDoesNotExist,
            StatusCode::CONFLICT => ErrorCode::ResourceConflict,
            StatusCode::UNAUTHORIZED => ErrorCode::Unauthenticated,
            StatusCode::FORBIDDEN => ErrorCode::PermissionDenied,
            status if status.is_server_error() => ErrorCode::InternalError,
            _ => ErrorCode::BadRequest,
        };
        let code = ErrorCode::read(&code).unwrap_or_else(by_status);
        Error::refused(code, message.unwrap_or_else(|| status.to_string()))
    }

    async fn once(&self, ask: &Ask, body: Sending) -> std::result::Result<Answer, (Trouble, Error)> {
        match &self.way {
            Way::Http { client, base } => self.through_socket(client, base, ask, body).await,
            Way::Local(router) => Ok(in_process(router, ask, &self.headers, body).await),
        }
    }

    async fn through_socket(
        &self,
        client: &reqwest::Client,
        base: &Url,
        ask: &Ask,
        body: Sending,
    ) -> std::result::Result<Answer, (Trouble, Error)> {
        let mut url = base.clone();
        let (path, query) =
            ask.path.split_once('?').map_or((ask.path.as_str(), None), |(path, query)| (path, Some(query)));
        url.set_path(&format!("{}{path}", base.path().trim_end_matches('/')));
        url.set_query(query);
        let mut request =
            client.request(ask.method.clone(), url).headers(self.headers.clone()).headers(ask.headers.clone());
        request = match body {
            Sending::Whole(bytes) if bytes.is_empty() => request,
            Sending::Whole(bytes) => request.body(bytes),
            Sending::Stream(bytes) => request.body(reqwest::Body::wrap_stream(bytes)),
        };
        let answer = request.send().await.map_err(|error| {
            let trouble = if error.is_connect() { Trouble::NotSent } else { Trouble::NoAnswer };
            (trouble, self.failed(format!("it does not answer ({}); check that it runs", root_cause(&error))))
        })?;
        Ok(Answer {
            status: answer.status(),
            headers: answer.headers().clone(),
            bytes: answer.bytes_stream().map_err(|error| root_cause(&error)).boxed(),
        })
    }
}

enum Sending {
    Whole(Bytes),
    Stream(BoxStream<'static, std::io::Result<Bytes>>),
}

async fn in_process(router: &Router, ask: &Ask, headers: &HeaderMap, body: Sending) -> Answer {
    let body = match body {
        Sending::Whole(bytes) => Body::from(bytes),
        Sending::Stream(bytes) => Body::from_stream(bytes),
    };
    let mut request = Request::new(body);
    *request.method_mut() = ask.method.clone();
    // Paths are encoded before they come here; one that is none is answered as one that does not exist.
    *request.uri_mut() = ask.path.parse().unwrap_or_default();
    request.headers_mut().extend(headers.clone());
    request.headers_mut().extend(ask.headers.clone());
    request.headers_mut().insert(header::HOST, HeaderValue::from_static("localhost"));
    let Ok(answer) = router.clone().oneshot(request).await;
    let (parts, body) = answer.into_parts();
    let bytes = body.into_data_stream().map_err(|error| error.to_string()).boxed();
    Answer { status: parts.status, headers: parts.headers, bytes }
}

fn with_query(path: &str, query: &[(&str, &str)]) -> String {
    if query.is_empty() {
        return path.to_owned();
    }
    let query = url::form_urlencoded::Serializer::new(String::new()).extend_pairs(query).finish();
    format!("{path}?{query}")
}

impl fmt::Debug for Transport {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Transport").field("server", &self.server).finish_non_exhaustive()
    }
}
