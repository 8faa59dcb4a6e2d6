//! Uploads in parts: `mpu/create`, `mpu/complete`, `mpu/abort`, and where the parts of files in a folder are sent.

use axum::extract::rejection::PathRejection;
use axum::extract::{Path, Request, State};
use axum::http::{HeaderMap, HeaderValue, header};
use axum::response::{IntoResponse, Response};
use platform::object_store::Part;
use serde::{Deserialize, Serialize};
use serde_json::json;

use super::artifacts::{artifact, incoming};
use super::{App, Json};
use crate::artifacts::ArtifactPath;
use crate::{Error, Result};

#[derive(Deserialize)]
pub(super) struct Create {
    path: Option<String>,
    num_parts: Option<u32>,
}

#[derive(Deserialize)]
pub(super) struct Complete {
    path: Option<String>,
    upload_id: Option<String>,
    #[serde(default)]
    parts: Vec<GivenPart>,
}

#[derive(Deserialize)]
struct GivenPart {
    part_number: u32,
    #[serde(default)]
    etag: Option<String>,
}

#[derive(Deserialize)]
pub(super) struct Abort {
    path: Option<String>,
    upload_id: Option<String>,
}

#[derive(Serialize)]
struct Created {
    upload_id: String,
    credentials: Vec<Given>,
}

#[derive(Serialize)]
struct Given {
    url: String,
    part_number: u32,
    headers: serde_json::Map<String, serde_json::Value>,
}

type Folder = Result<Path<String>, PathRejection>;

pub(super) async fn create(
    State(app): State<App>,
    folder: Folder,
    headers: HeaderMap,
    Json(body): Json<Create>,
) -> Result<Response> {
    begin(&app, &artifact(folder)?, &headers, body).await
}

pub(super) async fn create_in_root(
    State(app): State<App>,
    headers: HeaderMap,
    Json(body): Json<Create>,
) -> Result<Response> {
    begin(&app, &ArtifactPath::parse("")?, &headers, body).await
}

pub(super) async fn complete(State(app): State<App>, folder: Folder, Json(body): Json<Complete>) -> Result<Response> {
    end(&app, &artifact(folder)?, body).await
}

pub(super) async fn complete_in_root(State(app): State<App>, Json(body): Json<Complete>) -> Result<Response> {
    end(&app, &ArtifactPath::parse("")?, body).await
}

pub(super) async fn abort(State(app): State<App>, folder: Folder, Json(body): Json<Abort>) -> Result<Response> {
    give_up(&app, &artifact(folder)?, body).await
}

pub(super) async fn abort_in_root(State(app): State<App>, Json(body): Json<Abort>) -> Result<Response> {
    give_up(&app, &ArtifactPath::parse("")?, body).await
}

/// A part of a file in a folder. The upload's id, which only its creator knows, is what allows it: clients send nothing
/// else along to such addresses.
pub(super) async fn write(
    State(app): State<App>,
    place: Result<Path<(String, u32)>, PathRejection>,
    request: Request,
) -> Result<Response> {
    let Path((upload, number)) = place.map_err(|_| Error::invalid("Invalid path"))?;
    let (bytes, size) = incoming(request)?;
    let part = app.artifacts.write_part(&app.store, &upload, number, bytes, size).await?;
    let mut answer = axum::Json(json!({})).into_response();
    let tag = HeaderValue::try_from(format!("\"{}\"", part.tag.trim_matches('"')));
    if let Ok(tag) = tag {
        answer.headers_mut().insert(header::ETAG, tag);
    }
    Ok(answer)
}

async fn begin(app: &App, folder: &ArtifactPath, headers: &HeaderMap, body: Create) -> Result<Response> {
    let path = file(folder, body.path.as_deref())?;
    let (upload_id, credentials) = app.artifacts.begin_upload(&app.store, &path, body.num_parts.unwrap_or(1)).await?;
    let here = own_address(headers)?;
    let credentials = credentials.into_iter().map(|given| Given {
        url: given
            .url
            .unwrap_or_else(|| format!("{here}/api/2.0/mlflow-artifacts/mpu/part/{upload_id}/{}", given.number)),
        part_number: given.number,
        headers: given.headers.into_iter().map(|(name, value)| (name, value.into())).collect(),
    });
    let credentials = credentials.collect();
    Ok(axum::Json(Created { upload_id, credentials }).into_response())
}

async fn end(app: &App, folder: &ArtifactPath, body: Complete) -> Result<Response> {
    let path = file(folder, body.path.as_deref())?;
    let local = !app.artifacts.gives_addresses();
    let parts: Vec<Part> = body
        .parts
        .into_iter()
        .map(|part| {
            let tag = part.etag.unwrap_or_default();
            let tag = if local { tag.trim_matches('"').to_owned() } else { tag };
            Part { number: part.part_number, tag }
        })
        .collect();
    app.artifacts.complete_upload(&app.store, &path, &required(body.upload_id)?, &parts).await?;
    Ok(axum::Json(json!({})).into_response())
}

async fn give_up(app: &App, folder: &ArtifactPath, body: Abort) -> Result<Response> {
    let path = file(folder, body.path.as_deref())?;
    app.artifacts.abort_upload(&app.store, &path, &required(body.upload_id)?).await?;
    Ok(axum::Json(json!({})).into_response())
}

/// The client names its own local file; only the last name of it counts.
fn file(folder: &ArtifactPath, given: Option<&str>) -> Result<ArtifactPath> {
    let given = given.ok_or_else(|| Error::invalid("Missing value for required parameter 'path'."))?;
    let name = given.rsplit('/').next().unwrap_or_default();
    if name.is_empty() || name == "." {
        return Err(Error::invalid("Invalid path"));
    }
    folder.join(name)
}

fn required(upload: Option<String>) -> Result<String> {
    let given = upload.filter(|upload| !upload.is_empty());
    given.ok_or_else(|| Error::invalid("Missing value for required parameter 'upload_id'."))
}

/// This server as the client has reached it.
fn own_address(headers: &HeaderMap) -> Result<String> {
    let text = |name: &str| headers.get(name).and_then(|value| value.to_str().ok()).filter(|text| !text.is_empty());
    let host = text("x-forwarded-host").or_else(|| text("host"));
    let host = host.ok_or_else(|| Error::invalid("the header Host is missing"))?;
    let scheme = if text("x-forwarded-proto") == Some("https") { "https" } else { "http" };
    let plain = |letter: char| letter.is_ascii_alphanumeric() || ".-:[]_".contains(letter);
    if !host.chars().all(plain) {
        return Err(Error::invalid("the header Host is no name of a server"));
    }
    Ok(format!("{scheme}://{host}"))
}
