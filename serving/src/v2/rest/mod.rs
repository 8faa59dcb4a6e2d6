//! The protocol over REST, with the extension for binary tensors.

mod answer;
pub mod body;

use std::sync::Arc;

use axum::Router;
use axum::extract::{FromRequestParts, Path, Request, State};
use axum::http::request::Parts;
use axum::http::{HeaderMap, HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Json, Response};
use axum::routing::{get, post};
use serde::Deserialize;
use serde_json::json;
use tracing::error;

use super::backend::{Backend, EXTENSIONS, SERVER_NAME};
use super::limits::Limits;
use super::repository;
use super::terms::{request_timeout, terms};
use crate::v2::Result;
use crate::{Error, retry_seconds};

/// The header that says how long the JSON before binary tensors is, in requests and answers.
pub const HEADER_LENGTH: &str = "inference-header-content-length";

/// The header with the seconds that a request may take.
pub const TIMEOUT: &str = "x-request-timeout";

/// All routes of the protocol over REST, below `/v2`.
pub fn rest_router(backend: Arc<dyn Backend>, limits: Limits) -> Router {
    let model = Router::new()
        .route("/models/{model}", get(model_metadata))
        .route("/models/{model}/versions/{version}", get(model_metadata))
        .route("/models/{model}/ready", get(model_ready))
        .route("/models/{model}/versions/{version}/ready", get(model_ready))
        .route("/models/{model}/infer", post(infer))
        .route("/models/{model}/versions/{version}/infer", post(infer));
    let all = Router::new()
        .route("/", get(server_metadata))
        .route("/health/live", get(live))
        .route("/health/ready", get(ready))
        .merge(model)
        .merge(repository::routes())
        .fallback(unknown)
        .method_not_allowed_fallback(wrong_method)
        .with_state(Face { backend, limits });
    Router::new().nest("/v2", all)
}

/// What the handlers share.
#[derive(Clone)]
pub(super) struct Face {
    pub(super) backend: Arc<dyn Backend>,
    pub(super) limits: Limits,
}

/// An error in the protocol's form: `{"error": …}`.
pub(super) struct Problem(pub(super) Error);

impl From<Error> for Problem {
    fn from(error: Error) -> Self {
        Self(error)
    }
}

/// The answer for a request that is refused before its handler is asked.
pub(crate) fn refused(error: Error) -> Response {
    Problem(error).into_response()
}

impl IntoResponse for Problem {
    fn into_response(self) -> Response {
        let Self(problem) = self;
        let status = problem.status();
        if status == StatusCode::INTERNAL_SERVER_ERROR {
            error!(error = %problem, "a request failed");
        }
        let mut response = (status, Json(json!({ "error": problem.public() }))).into_response();
        if let Some(after) = problem.retry_after() {
            response.headers_mut().insert(header::RETRY_AFTER, HeaderValue::from(retry_seconds(after)));
        }
        response
    }
}

/// The model that a path names.
#[derive(Deserialize)]
struct Named {
    model: String,
    version: Option<String>,
}

impl FromRequestParts<Face> for Named {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, face: &Face) -> Result<Self, Problem> {
        let path = Path::<Self>::from_request_parts(parts, face).await;
        let Path(named) = path.map_err(|error| Error::Invalid(format!("the path cannot be read: {error}")))?;
        Ok(named)
    }
}

async fn server_metadata() -> Response {
    let version = env!("CARGO_PKG_VERSION");
    Json(json!({ "name": SERVER_NAME, "version": version, "extensions": EXTENSIONS })).into_response()
}

async fn live() -> Response {
    Json(json!({ "live": true })).into_response()
}

/// The specification calls the field `live` here as well, KServe's own server and client `ready`. No is a 4xx.
async fn ready(State(face): State<Face>) -> Response {
    let ready = face.backend.ready();
    (yes_or_no(ready), Json(json!({ "live": ready, "ready": ready }))).into_response()
}

async fn model_metadata(State(face): State<Face>, named: Named) -> Result<Response, Problem> {
    Ok(Json(face.backend.metadata(&named.model, named.version.as_deref())?).into_response())
}

async fn model_ready(State(face): State<Face>, named: Named) -> Result<Response, Problem> {
    let ready = face.backend.model_ready(&named.model, named.version.as_deref())?;
    Ok((yes_or_no(ready), Json(json!({ "name": named.model, "ready": ready }))).into_response())
}

async fn infer(State(face): State<Face>, named: Named, request: Request) -> Result<Response, Problem> {
    let headers = Headers::read(request.headers())?;
    let bytes = body::collect(request, face.limits.max_body).await?;
    let mut read = body::read(&bytes, headers.json_length, &face.limits)?;
    let terms = terms(&mut read.parameters, headers.timeout, face.limits.max_time)?;
    let (request, form) = read.for_model(named.model, named.version);
    let response = face.backend.infer(request, terms).await?;
    Ok(answer::write(&response, &form)?)
}

async fn unknown(request: Request) -> Problem {
    let path = super::tensor::shortened(request.uri().path());
    Problem(Error::NotFound(format!("there is nothing at {path}")))
}

async fn wrong_method(request: Request) -> Response {
    let (method, path) = (request.method().clone(), super::tensor::shortened(request.uri().path()));
    (StatusCode::METHOD_NOT_ALLOWED, Json(json!({ "error": format!("{path} does not take {method}") }))).into_response()
}

fn yes_or_no(yes: bool) -> StatusCode {
    if yes { StatusCode::OK } else { StatusCode::BAD_REQUEST }
}

/// What headers of a request say.
struct Headers {
    json_length: Option<usize>,
    timeout: Option<std::time::Duration>,
}

impl Headers {
    fn read(headers: &HeaderMap) -> Result<Self> {
        let text = |name: &str| {
            let value = headers.get(name);
            value
                .map(|value| value.to_str().map_err(|_| Error::Invalid(format!("the header {name} is no text"))))
                .transpose()
        };
        if let Some(encoding) = text("content-encoding")?.filter(|encoding| *encoding != "identity") {
            let encoding = super::tensor::shortened(encoding);
            return Err(Error::Unsupported(format!("bodies with the content encoding `{encoding}` are not read")));
        }
        let json_length = text(HEADER_LENGTH)?.map(|length| {
            length.trim().parse().map_err(|_| {
                let length = super::tensor::shortened(length);
                Error::Invalid(format!("the header {HEADER_LENGTH} is `{length}`, and must be a number of bytes"))
            })
        });
        let timeout = text(TIMEOUT)?.map(request_timeout);
        Ok(Self { json_length: json_length.transpose()?, timeout: timeout.transpose()? })
    }
}
