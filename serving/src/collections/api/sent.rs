//! What a client sends of a sighting: JSON, a form with a photograph, or a photograph alone.

use axum::extract::{FromRequest, Multipart, Request};
use axum::http::{HeaderMap, StatusCode};
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use serde::{Deserialize, Deserializer};
use utoipa::ToSchema;
use uuid::Uuid;

use super::extract::{content_type, read_json, whole};
use super::problem::Problem;
use crate::collections::place::Place;
use crate::collections::record::{PICTURE_BYTES, Request as Wanted};
use crate::collections::{Collections, Error, Key, Moment, Result};

/// The header that names a request: the IETF draft "The Idempotency-Key HTTP Header Field".
pub(super) const IDEMPOTENCY_KEY: &str = "idempotency-key";

/// Characters of a detection's id.
const LONGEST_DETECTION: usize = 200;

/// A sighting to be recorded. One of `species`, `detection` and `picture` must be there; `species` has the last word.
#[derive(Debug, Default, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct NewSightingBody {
    /// A UUID that the client made: the same again makes no second sighting. Needed for a sync; else the header
    /// `Idempotency-Key` does the same.
    #[serde(default)]
    pub client_id: Option<Uuid>,
    /// What was seen, as the person says: an id of `/v1/species`.
    #[serde(default)]
    pub species: Option<String>,
    /// A detection that the server answered lately.
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
        if let Some(detection) = &self.detection {
            check_detection(detection)?;
        }
        let picture = self.picture.map(|text| {
            let bytes = STANDARD.decode(text).map_err(|_| Error::Invalid("`picture` is no base64".to_owned()))?;
            Ok(bytes.into())
        });
        Ok(Wanted {
            key: own.or(header),
            species: self.species,
            detection: self.detection,
            picture: picture.transpose()?,
            seen_at: self.time.map(|time| Moment::read_past(&time, Moment::now())).transpose()?,
            place: self.place.map(Place::check).transpose()?,
        })
    }
}

/// Reads a request of any of the three kinds.
pub(super) async fn read(request: Request, state: &Collections) -> Result<Wanted, Problem> {
    let key = key(request.headers())?;
    let kind = content_type(request.headers());
    match kind.as_str() {
        "application/json" => {
            let body: NewSightingBody = read_json(&whole(request, state).await?)?;
            Ok(body.into_request(key)?)
        }
        "multipart/form-data" => Ok(form(request, state, key).await?),
        "application/octet-stream" => photograph(request, state, key).await,
        image if image.starts_with("image/") => photograph(request, state, key).await,
        _ => {
            let detail = "send JSON (application/json), a form (multipart/form-data) or a photograph (image/jpeg)";
            Err(Problem::new("unsupported content", StatusCode::UNSUPPORTED_MEDIA_TYPE, detail))
        }
    }
}

async fn photograph(request: Request, state: &Collections, key: Option<Key>) -> Result<Wanted, Problem> {
    let bytes = whole(request, state).await?;
    Ok(Wanted { key, picture: Some(bytes), ..Wanted::default() })
}

/// A form with the fields `sighting` (JSON) and `picture` (a file).
async fn form(request: Request, state: &Collections, key: Option<Key>) -> Result<Wanted, Problem> {
    let unreadable = |status: StatusCode, text: String| Problem::new("the form cannot be read", status, text);
    let mut form =
        Multipart::from_request(request, state).await.map_err(|error| unreadable(error.status(), error.body_text()))?;
    let (mut body, mut picture) = (NewSightingBody::default(), None);
    while let Some(field) = form.next_field().await.map_err(|error| unreadable(error.status(), error.body_text()))? {
        let name = field.name().unwrap_or_default().to_owned();
        let bytes = field.bytes().await.map_err(|error| unreadable(error.status(), error.body_text()))?;
        match name.as_str() {
            "sighting" => body = read_json(&bytes)?,
            "picture" if bytes.len() > PICTURE_BYTES => {
                return Err(Error::TooLarge { what: "the photograph", limit: PICTURE_BYTES }.into());
            }
            "picture" if picture.is_none() => picture = Some(bytes),
            "picture" => return Err(Problem::bad_request("a sighting has one photograph; send `picture` once")),
            _ => return Err(Problem::bad_request("the form has a field other than `sighting` and `picture`")),
        }
    }
    let mut wanted = body.into_request(key)?;
    if picture.is_some() && wanted.picture.is_some() {
        return Err(Problem::bad_request("the photograph is there twice; leave it out of `sighting`"));
    }
    wanted.picture = wanted.picture.or(picture);
    Ok(wanted)
}

fn key(headers: &HeaderMap) -> Result<Option<Key>, Problem> {
    let Some(value) = headers.get(IDEMPOTENCY_KEY) else { return Ok(None) };
    let text = value.to_str().unwrap_or_default();
    // The draft has a quoted string; most clients send it bare.
    let bare = text.strip_prefix('"').and_then(|text| text.strip_suffix('"')).unwrap_or(text);
    Ok(Some(bare.parse()?))
}

fn check_detection(id: &str) -> Result<()> {
    let allowed = |byte: u8| byte.is_ascii_alphanumeric() || b"-_.:".contains(&byte);
    if (1..=LONGEST_DETECTION).contains(&id.len()) && id.bytes().all(allowed) {
        return Ok(());
    }
    Err(Error::Invalid("`detection` is no id of a detection: give one of an answer of /v1/detections".to_owned()))
}

/// Tells `null` from nothing.
fn given<'de, D: Deserializer<'de>, T: Deserialize<'de>>(deserializer: D) -> Result<Option<Option<T>>, D::Error> {
    Option::deserialize(deserializer).map(Some)
}
