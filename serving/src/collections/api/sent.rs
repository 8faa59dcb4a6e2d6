//! What a client sends of a sighting: JSON, a form with a photograph, or a photograph alone.

use axum::body::Bytes;
use axum::extract::{FromRequest, Multipart, Request};
use axum::http::HeaderMap;
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use serde::{Deserialize, Deserializer};
use tokio::sync::OwnedSemaphorePermit;
use utoipa::ToSchema;
use uuid::Uuid;

use super::extract::{content_type, read_json, whole};
use crate::app::App;
use crate::collections::place::Place;
use crate::collections::record::Request as Wanted;
use crate::collections::{Key, Moment};
use crate::{Error, Result};

/// The header that names a request: the IETF draft "The Idempotency-Key HTTP Header Field".
pub(super) const IDEMPOTENCY_KEY: &str = "idempotency-key";

/// A sighting to be recorded. One of `species`, `detection` and `picture` must be there; `species` has the last word.
#[derive(Debug, Default, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct NewSightingBody {
    /// A UUID that the client made: the same again makes no second sighting. Needed for a sync; else the header
    /// `Idempotency-Key` does the same.
    #[serde(default)]
    #[schema(value_type = Option<String>, format = "uuid")]
    pub client_id: Option<Uuid>,
    /// What was seen, as the person says: an id of `/v1/species`.
    #[serde(default)]
    pub species: Option<String>,
    /// A detection that the server answered: its `token`.
    #[serde(default)]
    pub detection: Option<String>,
    /// A photograph (JPEG, PNG, WebP, TIFF) in base64, 20 MiB at most.
    #[serde(default)]
    pub picture: Option<String>,
    /// When: RFC 3339, not in the future.
    #[serde(default)]
    #[schema(format = "date-time")]
    pub time: Option<String>,
    /// Where.
    #[serde(default)]
    pub place: Option<Place>,
}

/// What is changed of a sighting: what is left out stays, `null` takes it away.
#[derive(Debug, Default, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct SightingChange {
    /// What was seen, as the person says now.
    #[serde(default)]
    pub species: Option<String>,
    /// When.
    #[serde(default, deserialize_with = "given")]
    #[schema(value_type = Option<String>, format = "date-time")]
    pub time: Option<Option<String>>,
    /// Where.
    #[serde(default, deserialize_with = "given")]
    #[schema(value_type = Option<Place>)]
    pub place: Option<Option<Place>>,
}

impl NewSightingBody {
    /// Checks what was sent; `header` is the key of the request's header.
    pub(super) fn into_request(self, header: Option<Key>) -> Result<Wanted> {
        let own = self.client_id.map(Key::from);
        if let (Some(own), Some(header)) = (&own, &header)
            && own != header
        {
            let reason = "the header Idempotency-Key and `client_id` differ: give one of them";
            return Err(Error::Invalid(reason.to_owned()));
        }
        let decode =
            |text: String| STANDARD.decode(text).map_err(|_| Error::Invalid("`picture` is no base64".to_owned()));
        let picture = self.picture.map(decode).transpose()?.map(Bytes::from);
        Ok(Wanted {
            key: own.or(header),
            species: self.species,
            detection: self.detection,
            picture,
            seen_at: self.time.map(|time| Moment::read_past(&time, Moment::now())).transpose()?,
            place: self.place.map(Place::check).transpose()?,
        })
    }
}

/// Reads a request of any of the three kinds, and holds the memory that it takes beside the body.
pub(super) async fn read(request: Request, app: &App) -> Result<(Wanted, OwnedSemaphorePermit)> {
    let (parts, body) = request.into_parts();
    let key = key(&parts.headers)?;
    let kind = content_type(&parts.headers);
    let bytes = whole(body).await?;
    // Base64 is decoded into a copy, and the parts of a form are copies.
    let is_copied = matches!(kind.as_str(), "application/json" | "multipart/form-data");
    let held = app.inner.bodies.hold(if is_copied { bytes.len() } else { 0 })?;
    let wanted = match kind.as_str() {
        "application/json" => read_json::<NewSightingBody>(&bytes)?.into_request(key)?,
        "multipart/form-data" => form(Request::from_parts(parts, bytes.into()), app, key).await?,
        "application/octet-stream" => Wanted { key, picture: Some(bytes), ..Wanted::default() },
        image if image.starts_with("image/") => Wanted { key, picture: Some(bytes), ..Wanted::default() },
        _ => {
            let reason = "send JSON (application/json), a form (multipart/form-data) or a photograph (image/jpeg)";
            return Err(Error::Unsupported(reason.to_owned()));
        }
    };
    Ok((wanted, held))
}

/// A form with the fields `sighting` (JSON) and `picture` (a file).
async fn form(request: Request, app: &App, key: Option<Key>) -> Result<Wanted> {
    let unreadable = |text: String| Error::Invalid(format!("the form cannot be read: {text}"));
    let form = Multipart::from_request(request, app).await;
    let mut form = form.map_err(|error| unreadable(error.body_text()))?;
    let (mut body, mut picture) = (NewSightingBody::default(), None);
    while let Some(field) = form.next_field().await.map_err(|error| unreadable(error.body_text()))? {
        let name = field.name().unwrap_or_default().to_owned();
        let bytes = field.bytes().await.map_err(|error| unreadable(error.body_text()))?;
        match name.as_str() {
            "sighting" => body = read_json(&bytes)?,
            "picture" if picture.is_none() => picture = Some(bytes),
            "picture" => return Err(Error::Invalid("a sighting has one photograph; send `picture` once".to_owned())),
            _ => return Err(Error::Invalid("the form has a field other than `sighting` and `picture`".to_owned())),
        }
    }
    let mut wanted = body.into_request(key)?;
    if picture.is_some() && wanted.picture.is_some() {
        return Err(Error::Invalid("the photograph is there twice; leave it out of `sighting`".to_owned()));
    }
    wanted.picture = wanted.picture.or(picture);
    Ok(wanted)
}

fn key(headers: &HeaderMap) -> Result<Option<Key>> {
    let Some(value) = headers.get(IDEMPOTENCY_KEY) else { return Ok(None) };
    let text = value.to_str().unwrap_or_default();
    // The draft has a quoted string; most clients send it bare.
    let bare = text.strip_prefix('"').and_then(|text| text.strip_suffix('"')).unwrap_or(text);
    bare.parse().map(Some)
}

/// Tells `null` from nothing.
fn given<'de, D: Deserializer<'de>, T: Deserialize<'de>>(
    deserializer: D,
) -> std::result::Result<Option<Option<T>>, D::Error> {
    Option::deserialize(deserializer).map(Some)
}
