//! What a request brings. What cannot be read is told as a [`Problem`].

use std::str::FromStr;

use axum::body::Bytes;
use axum::extract::{FromRequest, FromRequestParts, Request};
use axum::http::{HeaderMap, StatusCode, Uri, header, request::Parts};
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

/// A JSON body; an empty one is an empty object.
pub(super) struct Body<T>(pub T);

/// How many things a page has at most.
#[derive(Clone, Copy, Debug, Deserialize)]
#[serde(try_from = "u32")]
pub(super) struct Limit(u32);

impl Limit {
    /// The number that was asked for, or the usual one.
    pub(super) fn of(limit: Option<Self>) -> u32 {
        limit.map_or(USUAL, |limit| limit.0)
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

/// Where the next page begins; nothing behind a page that is not full.
pub(super) fn next<T, K>(page: &[T], limit: u32, key: impl Fn(&T) -> K) -> Option<K> {
    let full = page.len() == usize::try_from(limit).unwrap_or(usize::MAX);
    page.last().filter(|_| full).map(key)
}

/// Reads an identifier of the path or of a query.
pub(super) fn id<T: FromStr>(text: &str, what: &str) -> Result<T, Problem> {
    text.parse().map_err(|_| Problem::bad_request(format!("`{text}` is no {what}; a {what} is named by a UUID")))
}

impl<S: Send + Sync, T: DeserializeOwned + Send> FromRequestParts<S> for Path<T> {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, state: &S) -> Result<Self, Problem> {
        refuse_nul(&parts.uri)?;
        let read = axum::extract::Path::from_request_parts(parts, state).await;
        read.map(|axum::extract::Path(value)| Self(value)).map_err(|error| Problem::bad_request(error.body_text()))
    }
}

impl<S: Send + Sync, T: DeserializeOwned> FromRequestParts<S> for Query<T> {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, state: &S) -> Result<Self, Problem> {
        refuse_nul(&parts.uri)?;
        let read = axum::extract::Query::from_request_parts(parts, state).await;
        read.map(|axum::extract::Query(value)| Self(value)).map_err(|error| Problem::bad_request(error.body_text()))
    }
}

impl<S: Send + Sync, T: DeserializeOwned> FromRequest<S> for Body<T> {
    type Rejection = Problem;

    async fn from_request(request: Request, state: &S) -> Result<Self, Problem> {
        let is_json = is_json(request.headers());
        let body = Bytes::from_request(request, state)
            .await
            .map_err(|error| Problem::new("the body cannot be read", error.status(), error.body_text()))?;
        let text: &[u8] = match (body.is_empty(), is_json) {
            (true, _) => b"{}",
            (false, true) => &body,
            (false, false) => {
                let detail = "the body must be JSON, sent with `Content-Type: application/json`";
                return Err(Problem::new("unsupported content type", StatusCode::UNSUPPORTED_MEDIA_TYPE, detail));
            }
        };
        let read = serde_json::from_slice(text);
        read.map(Self).map_err(|error| Problem::bad_request(format!("the body is not as it should be: {error}")))
    }
}

/// PostgreSQL takes no text with a NUL, and nothing is called so.
fn refuse_nul(uri: &Uri) -> Result<(), Problem> {
    if uri.path_and_query().is_some_and(|text| text.as_str().contains("%00")) {
        return Err(Problem::bad_request("the address holds a NUL character; leave it out"));
    }
    Ok(())
}

/// Asking for the type keeps web pages of other sites from sending bodies through a browser.
fn is_json(headers: &HeaderMap) -> bool {
    let given = headers.get(header::CONTENT_TYPE).and_then(|value| value.to_str().ok()).unwrap_or_default();
    let essence = given.split(';').next().unwrap_or_default().trim();
    essence.eq_ignore_ascii_case("application/json")
}
