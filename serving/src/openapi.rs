//! The document that describes the API.

use utoipa::OpenApi;

use crate::problem::Problem;
use crate::{collections, detections, health, models};

/// All but collections.
#[derive(OpenApi)]
#[openapi(
    info(
        title = "Safari, live",
        description = "Detections of photographs and bursts while one waits; the models that answer; what people have seen."
    ),
    paths(
        detections::api::detect,
        detections::jobs::start,
        detections::jobs::follow,
        models::api::show,
        models::api::look_again,
        models::api::roll_back,
        models::api::set_candidate,
        models::api::remove_candidate,
        models::api::promote,
        health::live,
        health::ready,
        health::startup,
        health::metrics
    ),
    components(schemas(Problem))
)]
struct Own;

/// `/openapi.json`.
pub(crate) fn document() -> utoipa::openapi::OpenApi {
    Own::openapi().merge_from(collections::api::Document::openapi())
}
