//! Files: `/api/2.0/mlflow-artifacts`, and what lists and downloads files of runs and versions by their names.

use axum::body::Body;
use axum::extract::rejection::PathRejection;
use axum::extract::{Path, Request, State};
use axum::http::{HeaderMap, HeaderValue, Method, StatusCode, header};
use axum::response::{IntoResponse, Response};
use futures::StreamExt;
use platform::identity::{Guarded, Permission};
use platform::object_store::{Incoming, ObjectMeta};
use serde::{Deserialize, Serialize};
use serde_json::json;
use sqlx::Row;

use super::ranges::{self, Wanted};
use super::{App, Query, parts};
use crate::artifacts::{ArtifactPath, Entry};
use crate::{Error, Result};

/// Endings of names that MLflow shows as text.
const TEXT: &[&str] = &[
    "txt",
    "log",
    "err",
    "cfg",
    "conf",
    "cnf",
    "cf",
    "ini",
    "properties",
    "prop",
    "hocon",
    "toml",
    "yaml",
    "yml",
    "xml",
    "json",
    "js",
    "py",
    "py3",
    "csv",
    "tsv",
    "md",
    "rst",
    "MLmodel",
    "MLproject",
    "jsonnet",
];

/// Below `/api/2.0/mlflow-artifacts`.
pub(super) fn routes() -> Guarded<App> {
    Guarded::new()
        .get("/artifacts", Permission::TrackingRead, list)
        .get("/artifacts/{*path}", Permission::TrackingRead, download)
        .put("/artifacts/{*path}", Permission::TrackingWrite, upload)
        .delete("/artifacts/{*path}", Permission::TrackingWrite, delete)
        .get("/presigned/{*path}", Permission::TrackingRead, presigned)
        .post("/mpu/create/{*path}", Permission::TrackingWrite, parts::create)
        .post("/mpu/complete/{*path}", Permission::TrackingWrite, parts::complete)
        .post("/mpu/abort/{*path}", Permission::TrackingWrite, parts::abort)
        // For files right in the root.
        .post("/mpu/create", Permission::TrackingWrite, parts::create_in_root)
        .post("/mpu/complete", Permission::TrackingWrite, parts::complete_in_root)
        .post("/mpu/abort", Permission::TrackingWrite, parts::abort_in_root)
        .put("/mpu/part/{upload}/{number}", Permission::TrackingWrite, parts::write)
}

/// Below `/api/2.0/mlflow`.
pub(super) fn run_routes() -> Guarded<App> {
    Guarded::new().get("/artifacts/list", Permission::TrackingRead, list_of_run)
}

/// At the root, as pages in a browser ask.
pub(super) fn page_routes() -> Guarded<App> {
    Guarded::new()
        .get("/get-artifact", Permission::TrackingRead, download_of_run)
        .get("/model-versions/get-artifact", Permission::TrackingRead, download_of_version)
        .get("/api/3.0/mlflow/server-info", Permission::TrackingRead, server_info)
        .get("/ajax-api/3.0/mlflow/server-info", Permission::TrackingRead, server_info)
}

/// One line of a listing. Fields that are missing in MLflow's answers are missing here.
#[derive(Serialize)]
struct FileInfo<'a> {
    path: &'a str,
    is_dir: bool,
    #[serde(skip_serializing_if = "is_zero")]
    file_size: u64,
}

#[derive(Serialize)]
struct Listing<'a> {
    #[serde(skip_serializing_if = "Option::is_none")]
    root_uri: Option<&'a str>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    files: Vec<FileInfo<'a>>,
}

#[derive(Deserialize)]
struct ListQuery {
    path: Option<String>,
}

#[derive(Deserialize)]
struct RunQuery {
    run_id: Option<String>,
    run_uuid: Option<String>,
    path: Option<String>,
}

#[derive(Deserialize)]
struct VersionQuery {
    name: Option<String>,
    version: Option<String>,
    path: Option<String>,
}

async fn list(State(app): State<App>, Query(query): Query<ListQuery>) -> Result<Response> {
    let folder = ArtifactPath::parse(query.path.as_deref().unwrap_or_default())?;
    let entries = app.artifacts.list(&folder).await?;
    let files = entries.iter().map(|entry| info(entry, entry.path.name())).collect();
    Ok(axum::Json(Listing { root_uri: None, files }).into_response())
}

async fn list_of_run(State(app): State<App>, Query(query): Query<RunQuery>) -> Result<Response> {
    let uri = run_uri(&app, &query).await?;
    let root = ArtifactPath::of_uri(&uri)?;
    let folder = root.join(query.path.as_deref().unwrap_or_default())?;
    let entries = app.artifacts.list(&folder).await?;
    let below = if root.is_root() { 0 } else { root.as_str().len() + 1 };
    let files = entries.iter().map(|entry| info(entry, &entry.path.as_str()[below..])).collect();
    Ok(axum::Json(Listing { root_uri: Some(&uri), files }).into_response())
}

async fn download(
    State(app): State<App>,
    path: Result<Path<String>, PathRejection>,
    method: Method,
    headers: HeaderMap,
) -> Result<Response> {
    send(&app, &artifact(path)?, &method, &headers).await
}

async fn download_of_run(
    State(app): State<App>,
    Query(query): Query<RunQuery>,
    method: Method,
    headers: HeaderMap,
) -> Result<Response> {
    let below = query.path.as_deref().ok_or_else(|| missing("path"))?;
    let path = ArtifactPath::of_uri(&run_uri(&app, &query).await?)?.join(below)?;
    send(&app, &path, &method, &headers).await
}

async fn download_of_version(
    State(app): State<App>,
    Query(query): Query<VersionQuery>,
    method: Method,
    headers: HeaderMap,
) -> Result<Response> {
    let name = query.name.as_deref().ok_or_else(|| missing("name"))?;
    let version = query.version.as_deref().ok_or_else(|| missing("version"))?;
    let below = query.path.as_deref().ok_or_else(|| missing("path"))?;
    let not_found = || Error::missing(format!("Model Version (name={name}, version={version}) not found"));
    let number: i64 = version.parse().map_err(|_| not_found())?;
    let row = sqlx::query(
        "SELECT v.storage_location FROM model_version v JOIN registered_model m ON m.no = v.model_no
         WHERE m.name = $1 AND v.version = $2",
    )
    .bind(name)
    .bind(number)
    .fetch_optional(app.store.pool())
    .await
    .map_err(Error::database("looking a model version up"))?
    .ok_or_else(not_found)?;
    let uri: String = row.try_get(0).map_err(Error::database("reading a model version"))?;
    send(&app, &ArtifactPath::of_uri(&uri)?.join(below)?, &method, &headers).await
}

async fn upload(
    State(app): State<App>,
    path: Result<Path<String>, PathRejection>,
    request: Request,
) -> Result<Response> {
    let path = artifact(path)?;
    let (bytes, size) = incoming(request)?;
    app.artifacts.write(&path, bytes, size).await?;
    Ok(axum::Json(json!({})).into_response())
}

async fn delete(State(app): State<App>, path: Result<Path<String>, PathRejection>) -> Result<Response> {
    app.artifacts.delete(&artifact(path)?).await?;
    Ok(axum::Json(json!({})).into_response())
}

async fn presigned(State(app): State<App>, path: Result<Path<String>, PathRejection>) -> Result<Response> {
    let path = artifact(path)?;
    let Some((url, size)) = app.artifacts.presign(&path).await? else {
        let message = "Presigned downloads are not supported for the current artifact repository";
        return Err(Error::refused(crate::ErrorCode::NotImplemented, message));
    };
    let headers: serde_json::Map<String, serde_json::Value> =
        url.headers.into_iter().map(|(name, value)| (name, value.into())).collect();
    Ok(axum::Json(json!({ "url": url.url, "headers": headers, "file_size": size })).into_response())
}

/// What the client asks before it up- or downloads large files.
async fn server_info(State(app): State<App>) -> Response {
    // Files in a folder go up and down faster in one stream than in parts.
    let direct = app.artifacts.gives_addresses();
    axum::Json(json!({
        "store_type": "SqlStore",
        "workspaces_enabled": false,
        "trace_archival_enabled": false,
        "multipart_uploads_enabled": direct,
        "multipart_downloads_enabled": direct,
    }))
    .into_response()
}

/// Sends a file, or what a range or a condition makes of it.
async fn send(app: &App, path: &ArtifactPath, method: &Method, headers: &HeaderMap) -> Result<Response> {
    if method == Method::HEAD {
        let meta = app.artifacts.head(path).await?;
        return Ok(answer(StatusCode::OK, path, &meta, meta.size, None, Body::empty()));
    }
    if !ranges::is_conditional(headers) {
        let body = app.artifacts.read(path, None).await?;
        let size = body.meta.size;
        return Ok(answer(StatusCode::OK, path, &body.meta, size, None, Body::from_stream(body.bytes)));
    }
    let meta = app.artifacts.head(path).await?;
    match ranges::wanted(headers, &tag(&meta), meta.size) {
        Wanted::NotModified => Ok(answer(StatusCode::NOT_MODIFIED, path, &meta, 0, None, Body::empty())),
        Wanted::Nothing => {
            let range = format!("bytes */{}", meta.size);
            Ok(answer(StatusCode::RANGE_NOT_SATISFIABLE, path, &meta, 0, Some(range), Body::empty()))
        }
        Wanted::Everything => {
            let body = app.artifacts.read(path, None).await?;
            let size = body.meta.size;
            Ok(answer(StatusCode::OK, path, &body.meta, size, None, Body::from_stream(body.bytes)))
        }
        Wanted::Part(range) => {
            let shown = format!("bytes {}-{}/{}", range.start, range.end - 1, meta.size);
            let length = range.end - range.start;
            let body = app.artifacts.read(path, Some(range)).await?;
            if tag(&body.meta) != tag(&meta) {
                let message = format!("'{path}' was replaced while it was read; ask again");
                return Err(Error::refused(crate::ErrorCode::TemporarilyUnavailable, message));
            }
            let bytes = Body::from_stream(body.bytes);
            Ok(answer(StatusCode::PARTIAL_CONTENT, path, &meta, length, Some(shown), bytes))
        }
    }
}

fn answer(
    status: StatusCode,
    path: &ArtifactPath,
    meta: &ObjectMeta,
    length: u64,
    range: Option<String>,
    body: Body,
) -> Response {
    let mut answer = Response::new(body);
    *answer.status_mut() = status;
    let headers = answer.headers_mut();
    headers.insert(header::ACCEPT_RANGES, HeaderValue::from_static("bytes"));
    headers.insert(header::X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff"));
    let mut put = |name, value: String| {
        // Names of files are encoded; nothing else could hold what a header cannot.
        if let Ok(value) = HeaderValue::try_from(value) {
            headers.insert(name, value);
        }
    };
    put(header::ETAG, tag(meta));
    put(header::LAST_MODIFIED, meta.modified.format("%a, %d %b %Y %H:%M:%S GMT").to_string());
    if status != StatusCode::NOT_MODIFIED {
        put(header::CONTENT_TYPE, content_type(path.name()));
        // As an attachment, so that no page that somebody uploaded runs in this server's name.
        put(header::CONTENT_DISPOSITION, disposition(path.name()));
        put(header::CONTENT_LENGTH, length.to_string());
    }
    if let Some(range) = range {
        put(header::CONTENT_RANGE, range);
    }
    answer
}

pub(super) fn tag(meta: &ObjectMeta) -> String {
    format!("\"{:x}-{}\"", meta.size, meta.version.replace('"', ""))
}

fn content_type(name: &str) -> String {
    let ending = name.rsplit_once('.').map_or(name, |(_, ending)| ending);
    if TEXT.contains(&ending) {
        return "text/plain".to_owned();
    }
    mime_guess::from_path(name).first_or_octet_stream().essence_str().to_owned()
}

/// RFC 6266: names that are not plain get an encoded form as well.
fn disposition(name: &str) -> String {
    let plain: String =
        name.chars().filter(|letter| (' '..='~').contains(letter) && !matches!(letter, '"' | '\\')).collect();
    if plain == name {
        return format!("attachment; filename=\"{name}\"");
    }
    let plain = if plain.is_empty() { "download" } else { &plain };
    let encoded = percent_encoding::utf8_percent_encode(name, percent_encoding::NON_ALPHANUMERIC);
    format!("attachment; filename=\"{plain}\"; filename*=UTF-8''{encoded}")
}

/// The path behind a route.
pub(super) fn artifact(path: Result<Path<String>, PathRejection>) -> Result<ArtifactPath> {
    let Path(path) = path.map_err(|_| Error::invalid("Invalid path"))?;
    ArtifactPath::parse(&path)
}

/// The bytes of a request as they come, and how many were announced.
pub(super) fn incoming(request: Request) -> Result<(Incoming, Option<u64>)> {
    let size = match request.headers().get(header::CONTENT_LENGTH) {
        Some(value) => {
            let read = value.to_str().ok().and_then(|text| text.parse().ok());
            Some(read.ok_or_else(|| Error::invalid("the header Content-Length is no number"))?)
        }
        None => None,
    };
    let bytes = request.into_body().into_data_stream().map(|piece| piece.map_err(std::io::Error::other));
    Ok((bytes.boxed(), size))
}

async fn run_uri(app: &App, query: &RunQuery) -> Result<String> {
    let given = query.run_id.as_deref().or(query.run_uuid.as_deref()).filter(|id| !id.is_empty());
    let id = given.ok_or_else(|| missing("run_id"))?;
    let row = sqlx::query("SELECT artifact_uri FROM run WHERE id = $1")
        .bind(id)
        .fetch_optional(app.store.pool())
        .await
        .map_err(Error::database("looking a run up"))?;
    let row = row.ok_or_else(|| Error::missing(format!("Run with id={id} not found")))?;
    row.try_get(0).map_err(Error::database("reading a run"))
}

fn missing(name: &str) -> Error {
    Error::invalid(format!("Missing value for required parameter '{name}'."))
}

fn info<'a>(entry: &Entry, path: &'a str) -> FileInfo<'a> {
    FileInfo { path, is_dir: entry.is_folder, file_size: entry.size }
}

fn is_zero(size: &u64) -> bool {
    *size == 0
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_of_files_are_given_to_browsers() {
        assert_eq!(disposition("a b.txt"), "attachment; filename=\"a b.txt\"");
        assert_eq!(disposition("ä.txt"), "attachment; filename=\".txt\"; filename*=UTF-8''%C3%A4%2Etxt");
        assert_eq!(disposition("a\"\r\nx"), "attachment; filename=\"ax\"; filename*=UTF-8''a%22%0D%0Ax");
        assert_eq!(content_type("MLmodel"), "text/plain");
        assert_eq!(content_type("x.json"), "text/plain");
        assert_eq!(content_type("x.png"), "image/png");
        assert_eq!(content_type("detector.pt"), "application/octet-stream");
    }
}
