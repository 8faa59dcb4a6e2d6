//! `/v1/detection-jobs`: videos and large sets are looked at by runs of the batch DAG, which a Safari API starts.

use std::time::Duration;

use axum::extract::rejection::JsonRejection;
use axum::extract::{Path, State};
use axum::http::{StatusCode, header};
use axum::response::{IntoResponse, Response};
use axum::{Extension, Json};
use platform::identity::Secret;
use serde::Deserialize;
use serde_json::{Value, json};
use url::Url;
use utoipa::ToSchema;
use uuid::Uuid;

use crate::app::App;
use crate::problem::Problem;
use crate::traces::TraceContext;
use crate::{Error, Result};

const TIMEOUT: Duration = Duration::from_secs(20);

/// The API that runs DAGs. Cheap to clone.
#[derive(Debug, Clone)]
pub struct JobServer {
    client: reqwest::Client,
    url: Url,
    dag: String,
    token: Option<Secret>,
}

/// A set of media.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct JobRequest {
    /// A place that the batch job reads, such as `s3://camera-traps/2026`.
    pub source: String,
}

impl JobServer {
    /// The API at `url`, where `token` says who this server is. Nothing is asked yet.
    ///
    /// # Errors
    /// No client can be made.
    pub fn new(url: Url, dag: String, token: Option<Secret>) -> Result<Self> {
        let client = reqwest::Client::builder().timeout(TIMEOUT).no_proxy().redirect(reqwest::redirect::Policy::none());
        let client = client.build().map_err(|error| Error::Setup(format!("no client for serve.pipeline: {error}")))?;
        Ok(Self { client, url, dag, token })
    }

    async fn ask(&self, parts: &[&str], body: Option<Value>, context: &TraceContext) -> Result<(StatusCode, Value)> {
        let mut url = self.url.clone();
        url.path_segments_mut()
            .map_err(|()| Error::Setup("serve.pipeline is no address of a server".to_owned()))?
            .pop_if_empty()
            .extend(parts);
        let request = match body {
            Some(body) => self.client.post(url).header(header::CONTENT_TYPE, "application/json").body(body.to_string()),
            None => self.client.get(url),
        };
        let request = match &self.token {
            Some(token) => request.bearer_auth(token.expose()),
            None => request,
        };
        let failed = |error: reqwest::Error| {
            Error::Upstream(format!("the server of runs does not answer: {}", error.without_url()))
        };
        let answer = request.header("traceparent", context.header()).send().await.map_err(failed)?;
        let status = answer.status();
        let bytes = answer.bytes().await.map_err(failed)?;
        let value = serde_json::from_slice(&bytes)
            .map_err(|_| Error::Upstream("the server of runs answers no JSON".to_owned()))?;
        Ok((status, value))
    }
}

/// Starts a run of the batch DAG over a set of media.
#[utoipa::path(post, path = "/v1/detection-jobs", tag = "detections", request_body = JobRequest, responses(
    (status = 202, description = "The run; follow it at `Location`.", body = Value),
    (status = 400, description = "The body cannot be used.", body = Problem, content_type = "application/problem+json"),
    (status = 413, description = "The body is too large.", body = Problem, content_type = "application/problem+json"),
    (status = 415, description = "The body is not JSON.", body = Problem, content_type = "application/problem+json"),
    (status = 501, description = "No server of runs is configured.", body = Problem, content_type = "application/problem+json"),
    (status = 502, description = "The server of runs does not answer.", body = Problem, content_type = "application/problem+json")
))]
pub(crate) async fn start(
    State(app): State<App>,
    Extension(context): Extension<TraceContext>,
    body: std::result::Result<Json<JobRequest>, JsonRejection>,
) -> Result<Response> {
    let server = server(&app)?;
    let Json(asked) = body?;
    if asked.source.trim().is_empty() {
        return Err(Error::Invalid("source is empty; give the place of the media".to_owned()));
    }
    let body = json!({ "params": { "source": asked.source } });
    let (status, run) = server.ask(&["api", "v1", "dags", &server.dag, "runs"], Some(body), &context).await?;
    if !status.is_success() {
        return Err(refused(status, &run));
    }
    let id = run.get("id").and_then(Value::as_str).unwrap_or_default();
    let place = [(header::LOCATION, format!("/v1/detection-jobs/{id}"))];
    Ok((StatusCode::ACCEPTED, place, Json(run)).into_response())
}

/// Shows a run and its tasks.
#[utoipa::path(get, path = "/v1/detection-jobs/{id}", tag = "detections",
    params(("id" = String, Path, format = "uuid", description = "The run.")),
    responses(
        (status = 200, description = "The run and its tasks.", body = Value),
        (status = 400, description = "That is no id of a run.", body = Problem, content_type = "application/problem+json"),
        (status = 404, description = "There is no such run.", body = Problem, content_type = "application/problem+json"),
        (status = 501, description = "No server of runs is configured.", body = Problem, content_type = "application/problem+json"),
        (status = 502, description = "The server of runs does not answer.", body = Problem, content_type = "application/problem+json")
    ))]
pub(crate) async fn follow(
    State(app): State<App>,
    Extension(context): Extension<TraceContext>,
    Path(id): Path<String>,
) -> Result<Json<Value>> {
    let server = server(&app)?;
    let id = Uuid::parse_str(&id).map_err(|_| Error::Invalid("a run is named by a UUID".to_owned()))?;
    let (status, run) = server.ask(&["api", "v1", "runs", &id.to_string()], None, &context).await?;
    if status.is_success() { Ok(Json(run)) } else { Err(refused(status, &run)) }
}

fn server(app: &App) -> Result<JobServer> {
    app.inner.jobs.clone().ok_or_else(|| {
        Error::NotConfigured(
            "this server starts no runs; set serve.pipeline to the address of safari server".to_owned(),
        )
    })
}

fn refused(status: StatusCode, answer: &Value) -> Error {
    let detail = answer.get("detail").and_then(Value::as_str).unwrap_or("no reason given").to_owned();
    match status {
        StatusCode::NOT_FOUND => Error::NotFound(detail),
        // It is not the caller who is unknown there, but this server.
        StatusCode::UNAUTHORIZED | StatusCode::FORBIDDEN => Error::Upstream(format!(
            "the server of runs does not let this server in: {detail}; give it a token of a scientist in SAFARI_TOKEN"
        )),
        status if status.is_client_error() => Error::Invalid(detail),
        status => Error::Upstream(format!("the server of runs answers {}: {detail}", status.as_u16())),
    }
}
