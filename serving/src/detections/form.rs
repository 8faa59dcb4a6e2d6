//! The forms in which pictures are asked about: a raw body, a multipart form, or JSON.

use axum::extract::{DefaultBodyLimit, FromRequest, Multipart};
use axum::http::{HeaderMap, Request, header};
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use bytes::Bytes;
use chrono::{DateTime, Utc};
use serde::Deserialize;
use tokio::sync::OwnedSemaphorePermit;
use utoipa::ToSchema;

use crate::fetch::Fetcher;
use crate::limits::Bodies;
use crate::{Error, Result};

/// A request for detections.
#[derive(Debug)]
pub struct Asked {
    /// The pictures.
    pub frames: Vec<AskedFrame>,
    /// Whether they show one event.
    pub burst: bool,
    /// The memory that the pictures take beside the body.
    pub held: Vec<OwnedSemaphorePermit>,
}

/// One picture of a request.
#[derive(Debug)]
pub struct AskedFrame {
    /// The file.
    pub bytes: Bytes,
    /// Its name, if the request gives one.
    pub name: Option<String>,
    /// When it was taken, if the request says so.
    pub captured_at: Option<DateTime<Utc>>,
}

/// The JSON form: one picture, or `images` with several.
#[derive(Debug, Default, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct JsonRequest {
    /// The file in base64.
    pub image: Option<String>,
    /// `s3://…` or `https://…` below an allowed prefix.
    pub url: Option<String>,
    /// When it was taken.
    #[schema(value_type = Option<String>, format = DateTime)]
    pub captured_at: Option<DateTime<Utc>>,
    /// Several pictures; with `captured_at` in each they are a burst.
    #[serde(default)]
    pub images: Vec<JsonImage>,
}

/// A picture of several.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct JsonImage {
    /// The file in base64.
    pub image: Option<String>,
    /// `s3://…` or `https://…` below an allowed prefix.
    pub url: Option<String>,
    /// Given back with the answer.
    pub name: Option<String>,
    /// When it was taken.
    #[schema(value_type = Option<String>, format = DateTime)]
    pub captured_at: Option<DateTime<Utc>>,
}

/// Reads a request whose body has come.
pub(super) async fn read(
    headers: &HeaderMap,
    body: Bytes,
    most: usize,
    fetcher: &Fetcher,
    bodies: &Bodies,
) -> Result<Asked> {
    let kind = headers.get(header::CONTENT_TYPE).map(|kind| kind.to_str().unwrap_or("?")).unwrap_or_default();
    let essence = kind.split(';').next().unwrap_or_default().trim().to_ascii_lowercase();
    let mut held = Vec::new();
    let frames = match essence.as_str() {
        "multipart/form-data" => {
            // The parts are copies.
            held.push(bodies.hold(body.len())?);
            multipart(headers, body, most).await?
        }
        "application/json" => json(&body, most, fetcher, bodies, &mut held).await?,
        // The last is what `curl --data-binary` says of whatever it sends.
        "" | "application/octet-stream" | "application/x-www-form-urlencoded" => vec![alone(body)],
        image if image.starts_with("image/") => vec![alone(body)],
        other => {
            let other: String = other.chars().take(60).collect();
            return Err(Error::Unsupported(format!(
                "the content type {other} is not taken; send image/*, application/octet-stream, multipart/form-data or \
                 application/json"
            )));
        }
    };
    if frames.is_empty() {
        return Err(Error::Invalid("the request has no picture".to_owned()));
    }
    let timed = frames.iter().filter(|frame| frame.captured_at.is_some()).count();
    if frames.len() > 1 && timed != 0 && timed != frames.len() {
        return Err(Error::Invalid("either all pictures of a burst have a time, or none".to_owned()));
    }
    let burst = frames.len() > 1 && timed == frames.len();
    Ok(Asked { frames, burst, held })
}

fn alone(bytes: Bytes) -> AskedFrame {
    AskedFrame { bytes, name: None, captured_at: None }
}

/// Parts with a file are pictures; a part `captured_at` (or `time`) is the time of the picture before it.
async fn multipart(headers: &HeaderMap, body: Bytes, most: usize) -> Result<Vec<AskedFrame>> {
    let broken = |error: &dyn std::fmt::Display| Error::Invalid(format!("the multipart form cannot be read: {error}"));
    let mut request = Request::new(axum::body::Body::from(body));
    if let Some(kind) = headers.get(header::CONTENT_TYPE) {
        request.headers_mut().insert(header::CONTENT_TYPE, kind.clone());
    }
    // The body has come and is within the limit of the server; the extractor has one of its own.
    DefaultBodyLimit::disable().apply(&mut request);
    let mut form = Multipart::from_request(request, &()).await.map_err(|error| broken(&error.body_text()))?;
    let mut frames: Vec<AskedFrame> = Vec::new();
    while let Some(part) = form.next_field().await.map_err(|error| broken(&error.body_text()))? {
        let field = part.name().unwrap_or_default().to_owned();
        let file = part.file_name().map(|name| name.chars().take(255).collect::<String>());
        let bytes = part.bytes().await.map_err(|error| broken(&error.body_text()))?;
        if matches!(field.as_str(), "captured_at" | "time") && file.is_none() {
            let Some(frame) = frames.last_mut() else {
                return Err(Error::Invalid(format!(
                    "the part {field} stands before any picture; put it after its picture"
                )));
            };
            frame.captured_at = Some(time(&bytes)?);
            continue;
        }
        if file.is_none() && !matches!(field.as_str(), "image" | "images" | "file" | "frame") {
            let field: String = field.chars().take(60).collect();
            return Err(Error::Invalid(format!("the part {field} is not known; parts are image and captured_at")));
        }
        if frames.len() == most {
            return Err(too_many(most));
        }
        frames.push(AskedFrame { bytes, name: file, captured_at: None });
    }
    Ok(frames)
}

async fn json(
    body: &[u8],
    most: usize,
    fetcher: &Fetcher,
    bodies: &Bodies,
    held: &mut Vec<OwnedSemaphorePermit>,
) -> Result<Vec<AskedFrame>> {
    // The texts are copies, until they are decoded.
    let _texts = bodies.hold(body.len())?;
    let asked: JsonRequest = serde_json::from_slice(body)
        .map_err(|error| Error::Invalid(format!("the JSON body cannot be read: {error}")))?;
    let single = asked.image.is_some() || asked.url.is_some();
    if single && !asked.images.is_empty() {
        return Err(Error::Invalid("give image, url or images, not several of them".to_owned()));
    }
    let images = if asked.images.is_empty() {
        vec![JsonImage { image: asked.image, url: asked.url, name: None, captured_at: asked.captured_at }]
    } else {
        asked.images
    };
    if images.len() > most {
        return Err(too_many(most));
    }
    let mut frames = Vec::with_capacity(images.len());
    for image in images {
        let bytes = match (image.image, image.url) {
            (Some(text), None) => {
                held.push(bodies.hold(text.len() / 4 * 3)?);
                let decoded = STANDARD.decode(text.trim());
                Bytes::from(decoded.map_err(|error| Error::Invalid(format!("image is no base64: {error}")))?)
            }
            (None, Some(url)) => {
                // As much as it may be, until it is known how much it is.
                let most = bodies.hold(fetcher.max_bytes())?;
                let bytes = fetcher.fetch(&url).await?;
                drop(most);
                held.push(bodies.hold(bytes.len())?);
                bytes
            }
            _ => return Err(Error::Invalid("each picture has either image (base64) or url".to_owned())),
        };
        frames.push(AskedFrame { bytes, name: image.name, captured_at: image.captured_at });
    }
    Ok(frames)
}

fn too_many(most: usize) -> Error {
    Error::TooLarge { what: "the number of pictures".to_owned(), limit: most.to_string() }
}

fn time(bytes: &[u8]) -> Result<DateTime<Utc>> {
    let text = std::str::from_utf8(bytes).unwrap_or_default().trim();
    let time = DateTime::parse_from_rfc3339(text).map(|time| time.to_utc());
    time.map_err(|error| Error::Invalid(format!("captured_at is no time such as 2026-07-01T05:30:00Z: {error}")))
}
