//! `POST /v1/detections`.

use std::time::Instant;

use axum::extract::State;
use axum::http::{HeaderMap, header};
use axum::response::{IntoResponse, Response};
use axum::{Extension, Json};
use bytes::Bytes;

use super::form::{self, Asked, JsonRequest};
use super::{Answer, Detections, ModelName, Timing, Timings, picture, terms_of};
use crate::app::App;
use crate::batch::Terms;
use crate::problem::Problem;
use crate::{Error, Result};

/// The camera that a picture comes from.
pub const DEPLOYMENT_HEADER: &str = "safari-deployment";

/// When the picture of a raw body was taken (RFC 3339).
pub const CAPTURED_HEADER: &str = "safari-captured-at";

/// Finds animals, persons and vehicles in photographs.
#[utoipa::path(post, path = "/v1/detections", tag = "detections",
    params(
        ("X-Request-Timeout" = Option<String>, Header, description = "Seconds such as 2.5, or milliseconds such as 250ms."),
        ("Safari-Priority" = Option<String>, Header, description = "high, normal or low."),
        ("Safari-Deployment" = Option<String>, Header, description = "The camera: its pictures go on with its burst."),
        ("Safari-Captured-At" = Option<String>, Header, description = "When the picture was taken, RFC 3339.")
    ),
    request_body(content(
        (JsonRequest = "application/json"),
        (Vec<u8> = "application/octet-stream"),
        (Vec<u8> = "image/jpeg"),
        (Vec<u8> = "image/png")
    ), description = "A photograph, a multipart form of photographs (`image`, each followed by `captured_at` for a burst), or JSON."),
    responses(
        (status = 200, description = "What was found; a JPEG with boxes for `Accept: image/jpeg`.", content((Answer = "application/json"), (Vec<u8> = "image/jpeg"))),
        (status = 400, description = "The request cannot be understood.", body = Problem, content_type = "application/problem+json"),
        (status = 403, description = "The URL may not be fetched.", body = Problem, content_type = "application/problem+json"),
        (status = 404, description = "There is no such object.", body = Problem, content_type = "application/problem+json"),
        (status = 406, description = "The answer has one picture only as JPEG.", body = Problem, content_type = "application/problem+json"),
        (status = 408, description = "The body took too long.", body = Problem, content_type = "application/problem+json"),
        (status = 413, description = "Too large, or too many pictures.", body = Problem, content_type = "application/problem+json"),
        (status = 415, description = "A content type that is not taken.", body = Problem, content_type = "application/problem+json"),
        (status = 422, description = "The photograph cannot be read.", body = Problem, content_type = "application/problem+json"),
        (status = 429, description = "The queue is full; ask again after `Retry-After` seconds.", body = Problem, content_type = "application/problem+json"),
        (status = 502, description = "The server of the URL does not answer.", body = Problem, content_type = "application/problem+json"),
        (status = 503, description = "Loading or ending; ask again after `Retry-After` seconds.", body = Problem, content_type = "application/problem+json"),
        (status = 504, description = "The deadline passed.", body = Problem, content_type = "application/problem+json")
    ))]
pub(crate) async fn detect(State(app): State<App>, headers: HeaderMap, body: Bytes) -> Result<Response> {
    let begun = Instant::now();
    let limits = &app.inner.options.limits;
    let terms = terms_of(&headers, begun, limits.request_timeout)?;
    let wants_picture = wants_picture(&headers)?;
    let camera = camera(&headers)?;
    let captured_at = captured_at(&headers)?;
    let mut asked = form::read(&headers, body, limits.pictures, &app.inner.fetcher, &app.inner.bodies).await?;
    // Until the answer is there.
    let _held = std::mem::take(&mut asked.held);
    if let [only] = asked.frames.as_mut_slice() {
        only.captured_at = only.captured_at.or(captured_at);
    }
    if wants_picture && asked.frames.len() > 1 {
        return Err(Error::NotAcceptable(
            "only an answer about one picture can be a JPEG; ask for application/json".to_owned(),
        ));
    }
    let first = asked.frames.first().map(|frame| frame.bytes.clone()).unwrap_or_default();
    let names: Vec<Option<String>> = asked.frames.iter_mut().map(|frame| frame.name.take()).collect();
    let burst = asked.burst;
    let (mut media, timing, model) = look(&app, asked, terms, camera.as_deref()).await?;
    if wants_picture {
        return drawn(&app, first, media).await;
    }
    for (found, name) in media.iter_mut().zip(names) {
        found.name = name;
        app.sign(found);
    }
    let timings = timings(timing, begun);
    // For the span of the request.
    Ok((Extension(timings), Json(Answer { model, burst, media, timings })).into_response())
}

async fn look(
    app: &App,
    asked: Asked,
    terms: Terms,
    camera: Option<&str>,
) -> Result<(Vec<Detections>, Option<Timing>, ModelName)> {
    if let Some(camera) = camera {
        // In order: each goes on with the camera's burst.
        let mut media = Vec::with_capacity(asked.frames.len());
        let mut timing = Timing::default();
        for frame in asked.frames {
            let (found, took) = app.live(camera, frame.bytes, frame.captured_at, terms).await?;
            timing.queue += took.queue;
            timing.decode += took.decode;
            timing.forward += took.forward;
            media.push(found);
        }
        return with_model(media, Some(timing));
    }
    if asked.burst {
        let pictures =
            asked.frames.into_iter().map(|frame| (frame.bytes, frame.captured_at.unwrap_or_default())).collect();
        let (media, timing, model) = app.burst(pictures, terms).await?;
        return Ok((media, Some(timing), model));
    }
    let alone = asked.frames.len() == 1;
    let looks = asked.frames.into_iter().map(|frame| async move {
        let bytes = frame.bytes.clone();
        match app.single(frame.bytes, terms, None).await {
            Ok((found, timing)) => {
                let captured_at = frame.captured_at.or(found.captured_at);
                Ok((Detections { captured_at, ..found }, timing))
            }
            // One of several that cannot be read leaves the others their answers.
            Err(Error::Media(reason)) if !alone => {
                let model = app.inner.slot.pick(None)?.name.clone();
                let sha256 = hex::encode(<sha2::Sha256 as sha2::Digest>::digest(&bytes));
                Ok((Detections::failed(&sha256, &model, reason), None))
            }
            Err(error) => Err(error),
        }
    });
    let found = futures::future::try_join_all(looks).await?;
    let timing = found.iter().filter_map(|(_, took)| *took).reduce(|sum, took| Timing {
        queue: sum.queue.max(took.queue),
        decode: sum.decode + took.decode,
        forward: sum.forward + took.forward,
    });
    with_model(found.into_iter().map(|(found, _)| found).collect(), timing)
}

fn with_model(media: Vec<Detections>, timing: Option<Timing>) -> Result<(Vec<Detections>, Option<Timing>, ModelName)> {
    let model = media.first().map(|found| found.model.clone());
    let model = model.ok_or_else(|| Error::Invalid("the request has no picture".to_owned()))?;
    Ok((media, timing, model))
}

async fn drawn(app: &App, bytes: Bytes, media: Vec<Detections>) -> Result<Response> {
    let found = media.into_iter().next().ok_or_else(|| Error::Invalid("the request has no picture".to_owned()))?;
    let limits = app.inner.options.engine.limits;
    // Drawing takes the processor for longer than an async thread may be kept; no libtorch is in it.
    let jpeg = tokio::task::spawn_blocking(move || picture::annotated(&bytes, &found, &limits));
    let jpeg = jpeg.await.map_err(|error| Error::Model(format!("drawing broke off: {error}")))??;
    Ok(([(header::CONTENT_TYPE, "image/jpeg")], jpeg).into_response())
}

pub(crate) fn timings(timing: Option<Timing>, begun: Instant) -> Timings {
    let ms = |duration: std::time::Duration| (duration.as_secs_f64() * 1e6).round() / 1e3;
    Timings {
        queue_ms: timing.map(|timing| ms(timing.queue)),
        decode_ms: timing.map(|timing| ms(timing.decode)),
        forward_ms: timing.map(|timing| ms(timing.forward)),
        total_ms: ms(begun.elapsed()),
    }
}

/// Whether a JPEG is asked for rather than JSON.
fn wants_picture(headers: &HeaderMap) -> Result<bool> {
    let mut json = false;
    let mut jpeg = false;
    let mut any = false;
    for accepted in headers.get_all(header::ACCEPT) {
        for kind in accepted.to_str().unwrap_or_default().split(',') {
            any = true;
            match kind.split(';').next().unwrap_or_default().trim().to_ascii_lowercase().as_str() {
                "application/json" | "application/*" | "*/*" | "" | "application/problem+json" => json = true,
                "image/jpeg" | "image/*" => jpeg = true,
                _ => {}
            }
        }
    }
    if any && !json && !jpeg {
        return Err(Error::NotAcceptable("answers are application/json, or image/jpeg for one picture".to_owned()));
    }
    // A browser that names both wants the JSON that the page asks for.
    Ok(jpeg && !json)
}

fn camera(headers: &HeaderMap) -> Result<Option<String>> {
    let Some(value) = headers.get(DEPLOYMENT_HEADER) else { return Ok(None) };
    let name = value.to_str().ok().map(str::trim).filter(|name| !name.is_empty() && name.len() <= 200);
    name.map(|name| Some(name.to_owned()))
        .ok_or_else(|| Error::Invalid("Safari-Deployment is a text of 1 to 200 characters".to_owned()))
}

fn captured_at(headers: &HeaderMap) -> Result<Option<chrono::DateTime<chrono::Utc>>> {
    let Some(value) = headers.get(CAPTURED_HEADER) else { return Ok(None) };
    let time = value.to_str().ok().and_then(|text| chrono::DateTime::parse_from_rfc3339(text.trim()).ok());
    time.map(|time| Some(time.to_utc()))
        .ok_or_else(|| Error::Invalid("Safari-Captured-At is a time such as 2026-07-01T05:30:00Z".to_owned()))
}
