//! What a request brings, and who asks.

use std::sync::Arc;
use std::time::Instant;

use axum::body::Bytes;
use axum::extract::{FromRequest, FromRequestParts, Request};
use axum::http::request::Parts;
use axum::http::{HeaderMap, header};
use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use platform::identity::Principal;
use serde::Deserialize;
use serde::de::DeserializeOwned;
use tokio::sync::OwnedSemaphorePermit;

use crate::app::App;
use crate::batch::Terms;
use crate::collections::Collections;
use crate::collections::person::Person;
use crate::collections::species::Catalogue;
use crate::detections::terms_of;
use crate::{Error, Result};

/// Things on one page.
const MOST: u32 = 1000;
/// Things on one page when nobody says how many.
const USUAL: u32 = 100;

/// Who asks, and what answers need.
#[derive(Clone, Debug)]
pub(crate) struct Asking {
    pub(crate) app: App,
    pub(crate) collections: Collections,
    /// The vocabulary of the model that answers now.
    pub(crate) catalogue: Arc<Catalogue>,
    pub(crate) person: Person,
}

/// Parts of the path.
pub(super) struct Path<T>(pub T);

/// What is behind the question mark.
pub(super) struct Query<T>(pub T);

/// A JSON body.
pub(super) struct Body<T> {
    pub(super) value: T,
    /// The memory that the value takes beside the body, until the answer is there.
    _held: OwnedSemaphorePermit,
}

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

    fn try_from(limit: u32) -> std::result::Result<Self, String> {
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
pub(super) fn read_token(token: &str) -> Result<String> {
    let bytes = URL_SAFE_NO_PAD.decode(token).ok();
    bytes.and_then(|bytes| String::from_utf8(bytes).ok()).ok_or_else(bad_token)
}

/// The refusal of a page that no answer named.
pub(super) fn bad_token() -> Error {
    Error::Invalid("`page_token` is none that an answer gave as `next_page_token`".to_owned())
}

impl Asking {
    /// How long the answer may take, by the request's headers.
    pub(crate) fn terms(&self, headers: &HeaderMap) -> Result<Terms> {
        terms_of(headers, Instant::now(), self.app.inner.options.limits.request_timeout)
    }
}

impl FromRequestParts<App> for Asking {
    type Rejection = Error;

    async fn from_request_parts(parts: &mut Parts, app: &App) -> Result<Self> {
        let off = || Error::NotConfigured("this server keeps no collections: `collections.enabled` is off".to_owned());
        let collections = app.inner.collections.clone().ok_or_else(off)?;
        let catalogue = app.catalogue()?;
        // The doors let nobody in of whom nothing is known.
        let principal = parts.extensions.get::<Principal>();
        let nobody = || Error::Forbidden("it is not known who asks".to_owned());
        let person = principal.map(Person::from).ok_or_else(nobody)?;
        Ok(Self { app: app.clone(), collections, catalogue, person })
    }
}

impl<S: Send + Sync, T: DeserializeOwned + Send> FromRequestParts<S> for Path<T> {
    type Rejection = Error;

    async fn from_request_parts(parts: &mut Parts, state: &S) -> Result<Self> {
        let read = axum::extract::Path::from_request_parts(parts, state).await;
        read.map(|axum::extract::Path(value)| Self(value)).map_err(|error| Error::Invalid(error.body_text()))
    }
}

impl<S: Send + Sync, T: DeserializeOwned> FromRequestParts<S> for Query<T> {
    type Rejection = Error;

    async fn from_request_parts(parts: &mut Parts, state: &S) -> Result<Self> {
        let read = axum::extract::Query::from_request_parts(parts, state).await;
        read.map(|axum::extract::Query(value)| Self(value)).map_err(|error| Error::Invalid(error.body_text()))
    }
}

impl<T: DeserializeOwned> FromRequest<App> for Body<T> {
    type Rejection = Error;

    async fn from_request(request: Request, app: &App) -> Result<Self> {
        if content_type(request.headers()) != "application/json" {
            let reason = "the body must be JSON, sent with `Content-Type: application/json`";
            return Err(Error::Unsupported(reason.to_owned()));
        }
        let bytes = whole(request.into_body()).await?;
        let _held = app.inner.bodies.hold(bytes.len())?;
        Ok(Self { value: read_json(&bytes)?, _held })
    }
}

/// The whole body, which was read within its limits before ([`crate::limits`]).
pub(super) async fn whole(body: axum::body::Body) -> Result<Bytes> {
    axum::body::to_bytes(body, usize::MAX).await.map_err(|_| Error::Invalid("the body broke off".to_owned()))
}

pub(super) fn read_json<T: DeserializeOwned>(bytes: &[u8]) -> Result<T> {
    serde_json::from_slice(bytes).map_err(|error| Error::Invalid(format!("the body is not as it should be: {error}")))
}

/// The essence of the content type in small letters; empty if there is none.
pub(super) fn content_type(headers: &HeaderMap) -> String {
    let given = headers.get(header::CONTENT_TYPE).and_then(|value| value.to_str().ok()).unwrap_or_default();
    given.split(';').next().unwrap_or_default().trim().to_ascii_lowercase()
}
