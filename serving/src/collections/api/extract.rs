//! What a request brings. What cannot be read is told as a [`Problem`].

use axum::body::Bytes;
use axum::extract::{FromRequest, FromRequestParts, Request};
use axum::http::{HeaderMap, StatusCode, header, request::Parts};
use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use serde::Deserialize;
use serde::de::DeserializeOwned;

use super::problem::Problem;

/// Things on one page.
const MOST: u32 = 1000;
/// Things on one page when nobody says how many.
const USUAL: u32 = 100;

/// Parts of the path.
pub(super) struct Path<T>(pub T);

/// What is behind the question mark.
pub(super) struct Query<T>(pub T);

/// A JSON body.
pub(super) struct Body<T>(pub T);

/// How many things a page has at most.
#[derive(Clone, Copy, Debug, Deserialize)]
#[serde(try_from = "u32")]
pub(super) struct Limit(u32);

impl Limit {
    /// The number that was asked for, or the usual one.
    pub(super) fn of(limit: Option<Self>) -> usize {
        limit.map_or(USUAL, |limit| limit.0) as usize
    }
}

impl TryFrom<u32> for Limit {
    type Error = String;

    fn try_from(limit: u32) -> Result<Self, Self::Error> {
        if (1..=MOST).contains(&limit) {
            return Ok(Self(limit));
        }
        Err(format!("`limit` is {limit}; give a number from 1 to {MOST}"))
    }
}

/// A text that says where the next page begins; clients give it back as it is.
pub(super) fn token(place: &str) -> String {
    URL_SAFE_NO_PAD.encode(place)
}

/// What [`token`] was made of.
pub(super) fn read_token(token: &str) -> Result<String, Problem> {
    let bytes = URL_SAFE_NO_PAD.decode(token).ok();
    bytes.and_then(|bytes| String::from_utf8(bytes).ok()).ok_or_else(bad_token)
}

/// The refusal of a page that no answer named.
pub(super) fn bad_token() -> Problem {
    Problem::bad_request("`page_token` is none that an answer gave as `next_page_token`")
}

impl<S: Send + Sync, T: DeserializeOwned + Send> FromRequestParts<S> for Path<T> {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, state: &S) -> Result<Self, Problem> {
        let read = axum::extract::Path::from_request_parts(parts, state).await;
        read.map(|axum::extract::Path(value)| Self(value)).map_err(|error| Problem::bad_request(error.body_text()))
    }
}

impl<S: Send + Sync, T: DeserializeOwned> FromRequestParts<S> for Query<T> {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, state: &S) -> Result<Self, Problem> {
        let read = axum::extract::Query::from_request_parts(parts, state).await;
        read.map(|axum::extract::Query(value)| Self(value)).map_err(|error| Problem::bad_request(error.body_text()))
    }
}

impl<S: Send + Sync, T: DeserializeOwned> FromRequest<S> for Body<T> {
    type Rejection = Problem;

    async fn from_request(request: Request, state: &S) -> Result<Self, Problem> {
        if content_type(request.headers()) != "application/json" {
            let detail = "the body must be JSON, sent with `Content-Type: application/json`";
            return Err(Problem::new("unsupported content", StatusCode::UNSUPPORTED_MEDIA_TYPE, detail));
        }
        read_json(&whole(request, state).await?).map(Self)
    }
}

/// The whole body, as far as the route's limit allows.
pub(super) async fn whole<S: Send + Sync>(request: Request, state: &S) -> Result<Bytes, Problem> {
    let read = Bytes::from_request(request, state).await;
    read.map_err(|error| Problem::new("the body cannot be read", error.status(), error.body_text()))
}

pub(super) fn read_json<T: DeserializeOwned>(bytes: &[u8]) -> Result<T, Problem> {
    serde_json::from_slice(bytes)
        .map_err(|error| Problem::bad_request(format!("the body is not as it should be: {error}")))
}

/// The essence of the content type in small letters; empty if there is none.
pub(super) fn content_type(headers: &HeaderMap) -> String {
    let given = headers.get(header::CONTENT_TYPE).and_then(|value| value.to_str().ok()).unwrap_or_default();
    given.split(';').next().unwrap_or_default().trim().to_ascii_lowercase()
}
