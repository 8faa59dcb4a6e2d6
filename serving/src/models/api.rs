//! `/v1/model`: how the models stand, and what operators do with them.

use std::time::{Duration, Instant};

use axum::Json;
use axum::extract::State;
use axum::extract::rejection::JsonRejection;
use serde::Deserialize;
use utoipa::ToSchema;

use super::{Candidate, CandidateMode, ModelSource, ModelStatus, refresh};
use crate::app::App;
use crate::problem::Problem;
use crate::{Error, Result};

/// A second model.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct CandidateRequest {
    /// `models:/NAME@ALIAS` or `models:/NAME/VERSION`.
    pub model: String,
    /// What it is asked for.
    pub mode: CandidateMode,
    /// Share of the requests, 0 to 100.
    #[schema(maximum = 100)]
    pub percent: u8,
    /// It goes away by itself after so many seconds, unless it is asked for again; left out, it stays.
    #[serde(default)]
    pub for_seconds: Option<u32>,
}

/// How the models stand.
#[utoipa::path(get, path = "/v1/model", tag = "model", responses((status = 200, body = ModelStatus)))]
pub(crate) async fn show(State(app): State<App>) -> Json<ModelStatus> {
    Json(app.inner.slot.status())
}

/// Looks at what the alias names now, and switches to it. What was refused or rolled back from is tried again.
#[utoipa::path(post, path = "/v1/model/refresh", tag = "model", responses(
    (status = 200, body = ModelStatus),
    (status = 422, description = "The model is refused; the one before goes on.", body = Problem, content_type = "application/problem+json"),
    (status = 501, description = "The model is no detection model.", body = Problem, content_type = "application/problem+json"),
    (status = 502, description = "The registry does not answer.", body = Problem, content_type = "application/problem+json")
))]
pub(crate) async fn look_again(State(app): State<App>) -> Result<Json<ModelStatus>> {
    // It goes on if the caller leaves.
    let task = app.clone();
    let done = tokio::spawn(async move { refresh(&task, true).await });
    done.await.map_err(|error| Error::Model(error.to_string()))?.map_err(told)?;
    Ok(Json(app.inner.slot.status()))
}

/// Lets the model before answer again, at once.
#[utoipa::path(post, path = "/v1/model/rollback", tag = "model", responses(
    (status = 200, body = ModelStatus),
    (status = 409, description = "There is none.", body = Problem, content_type = "application/problem+json")
))]
pub(crate) async fn roll_back(State(app): State<App>) -> Result<Json<ModelStatus>> {
    app.inner.slot.roll_back()?;
    Ok(Json(app.inner.slot.status()))
}

/// Loads a second model, to answer a share of the requests (`canary`) or to look besides (`shadow`). A version that is the
/// second model already gets its new share at once.
#[utoipa::path(put, path = "/v1/model/candidate", tag = "model", request_body = CandidateRequest, responses(
    (status = 200, body = ModelStatus),
    (status = 400, description = "The body cannot be used.", body = Problem, content_type = "application/problem+json"),
    (status = 413, description = "The body is too large.", body = Problem, content_type = "application/problem+json"),
    (status = 415, description = "The body is not JSON.", body = Problem, content_type = "application/problem+json"),
    (status = 422, description = "The model is refused.", body = Problem, content_type = "application/problem+json"),
    (status = 502, description = "The registry does not answer.", body = Problem, content_type = "application/problem+json")
))]
pub(crate) async fn set_candidate(
    State(app): State<App>,
    body: std::result::Result<Json<CandidateRequest>, JsonRejection>,
) -> Result<Json<ModelStatus>> {
    let Json(asked) = body?;
    if asked.percent > 100 {
        return Err(Error::Invalid("percent is a number from 0 to 100".to_owned()));
    }
    // Any folder of this machine would be too much to ask for over the network.
    let source: ModelSource = asked.model.parse().map_err(|error: Error| Error::Invalid(error.to_string()))?;
    if !matches!(source, ModelSource::Registry(_)) {
        return Err(Error::Invalid(
            "a candidate comes from the registry: models:/NAME@ALIAS or models:/NAME/VERSION".to_owned(),
        ));
    }
    let stays = asked.for_seconds.map(|seconds| Duration::from_secs(seconds.into()));
    let slot = &app.inner.slot;
    if slot.set_share(&asked.model, asked.mode, asked.percent, stays) {
        forget_after(&app, stays);
        return Ok(Json(slot.status()));
    }
    let task = app.clone();
    let loaded = tokio::spawn(async move {
        let _guard = task.inner.loading.lock().await;
        let fetched = source.fetch(&task.inner.config).await?;
        task.inner.loader.load(&fetched).await
    });
    let model = loaded.await.map_err(|error| Error::Model(error.to_string()))?.map_err(told)?;
    let until = stays.map(|stays| Instant::now() + stays);
    slot.set_candidate(Some(Candidate { model, mode: asked.mode, percent: asked.percent, until }));
    forget_after(&app, stays);
    Ok(Json(slot.status()))
}

/// Removes the second model.
#[utoipa::path(delete, path = "/v1/model/candidate", tag = "model", responses((status = 200, body = ModelStatus)))]
pub(crate) async fn remove_candidate(State(app): State<App>) -> Json<ModelStatus> {
    app.inner.slot.set_candidate(None);
    Json(app.inner.slot.status())
}

/// Lets the second model answer everything.
#[utoipa::path(post, path = "/v1/model/promote", tag = "model", responses(
    (status = 200, body = ModelStatus),
    (status = 409, description = "There is none.", body = Problem, content_type = "application/problem+json")
))]
pub(crate) async fn promote(State(app): State<App>) -> Result<Json<ModelStatus>> {
    app.inner.slot.promote()?;
    Ok(Json(app.inner.slot.status()))
}

/// Frees the memory of a candidate when its time is over, unless it was asked for again.
fn forget_after(app: &App, stays: Option<Duration>) {
    let Some(stays) = stays else { return };
    let app = app.clone();
    tokio::spawn(async move {
        tokio::time::sleep(stays + Duration::from_millis(1)).await;
        app.inner.slot.forget_candidate();
    });
}

/// An operator may know why a model is refused.
fn told(error: Error) -> Error {
    match error {
        Error::Setup(reason) | Error::Model(reason) => Error::Media(format!("the model is refused: {reason}")),
        other => other,
    }
}
