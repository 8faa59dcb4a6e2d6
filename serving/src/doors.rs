//! What each route needs of who asks, and the guard that stands before all of them, so that nothing of a request's body is
//! read for whoever is refused. A path that is not in the table is not there.

use axum::Json;
use axum::extract::{MatchedPath, Request, State};
use axum::http::Method;
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};
use platform::identity::{Door, Guard, Permission, Refusal, RefusalKind, Route};
use serde_json::json;
use tonic::{Code, Status};

use crate::problem;

use Door::{Needs, Public};
use Permission as P;

/// Calls of gRPC are below this path.
const GRPC: &str = "/inference.GRPCInferenceService/";

/// Every route: its method, its path, and what it needs.
const DOORS: [(Method, &str, Door); 55] = [
    (Method::POST, "/v1/detections", Needs(P::DetectionsAsk)),
    (Method::POST, "/v1/detection-jobs", Needs(P::DetectionsAsk)),
    (Method::GET, "/v1/detection-jobs/{id}", Needs(P::DetectionsAsk)),
    (Method::GET, "/v1/stream", Needs(P::DetectionsAsk)),
    (Method::GET, "/v1/model", Needs(P::ModelsRead)),
    (Method::POST, "/v1/model/refresh", Needs(P::ServingManage)),
    (Method::POST, "/v1/model/rollback", Needs(P::ServingManage)),
    (Method::PUT, "/v1/model/candidate", Needs(P::ServingManage)),
    (Method::DELETE, "/v1/model/candidate", Needs(P::ServingManage)),
    (Method::POST, "/v1/model/promote", Needs(P::ServingManage)),
    (Method::GET, "/v1/species", Needs(P::DetectionsRead)),
    (Method::GET, "/v1/species/{id}", Needs(P::DetectionsRead)),
    (Method::GET, "/v1/sightings", Needs(P::CollectionsOwn)),
    (Method::POST, "/v1/sightings", Needs(P::CollectionsOwn)),
    (Method::POST, "/v1/sightings/sync", Needs(P::CollectionsOwn)),
    (Method::GET, "/v1/sightings/{id}", Needs(P::CollectionsOwn)),
    (Method::PATCH, "/v1/sightings/{id}", Needs(P::CollectionsOwn)),
    (Method::DELETE, "/v1/sightings/{id}", Needs(P::CollectionsOwn)),
    (Method::GET, "/v1/sightings/{id}/picture", Needs(P::CollectionsOwn)),
    (Method::GET, "/v1/collection", Needs(P::CollectionsOwn)),
    (Method::DELETE, "/v1/collection", Needs(P::CollectionsOwn)),
    (Method::GET, "/v1/collection/profile", Needs(P::CollectionsOwn)),
    (Method::PUT, "/v1/collection/profile", Needs(P::CollectionsOwn)),
    (Method::GET, "/v1/collection/export", Needs(P::CollectionsOwn)),
    (Method::GET, "/v1/leaderboard", Needs(P::CollectionsOwn)),
    (Method::GET, "/healthz", Public),
    (Method::GET, "/healthz/live", Public),
    (Method::GET, "/healthz/ready", Public),
    (Method::GET, "/healthz/startup", Public),
    (Method::GET, "/metrics", Needs(P::MetricsRead)),
    (Method::GET, "/openapi.json", Public),
    (Method::GET, "/", Public),
    (Method::GET, "/try.js", Public),
    (Method::GET, "/v2", Public),
    (Method::GET, "/v2/", Public),
    (Method::GET, "/v2/health/live", Public),
    (Method::GET, "/v2/health/ready", Public),
    (Method::GET, "/v2/models/{model}", Needs(P::ModelsRead)),
    (Method::GET, "/v2/models/{model}/versions/{version}", Needs(P::ModelsRead)),
    (Method::GET, "/v2/models/{model}/ready", Needs(P::ModelsRead)),
    (Method::GET, "/v2/models/{model}/versions/{version}/ready", Needs(P::ModelsRead)),
    (Method::POST, "/v2/models/{model}/infer", Needs(P::DetectionsAsk)),
    (Method::POST, "/v2/models/{model}/versions/{version}/infer", Needs(P::DetectionsAsk)),
    (Method::POST, "/v2/repository/index", Needs(P::ModelsRead)),
    (Method::POST, "/v2/repository/models/{model}/load", Needs(P::ServingManage)),
    (Method::POST, "/v2/repository/models/{model}/unload", Needs(P::ServingManage)),
    (Method::POST, "/inference.GRPCInferenceService/ServerLive", Public),
    (Method::POST, "/inference.GRPCInferenceService/ServerReady", Public),
    (Method::POST, "/inference.GRPCInferenceService/ServerMetadata", Public),
    (Method::POST, "/inference.GRPCInferenceService/ModelReady", Needs(P::ModelsRead)),
    (Method::POST, "/inference.GRPCInferenceService/ModelMetadata", Needs(P::ModelsRead)),
    (Method::POST, "/inference.GRPCInferenceService/ModelInfer", Needs(P::DetectionsAsk)),
    (Method::POST, "/inference.GRPCInferenceService/RepositoryIndex", Needs(P::ModelsRead)),
    (Method::POST, "/inference.GRPCInferenceService/RepositoryModelLoad", Needs(P::ServingManage)),
    (Method::POST, "/inference.GRPCInferenceService/RepositoryModelUnload", Needs(P::ServingManage)),
];

/// All routes but those of identity itself, for whoever compares them with the table of roles.
pub fn routes() -> Vec<Route> {
    let route = |(method, path, door): (Method, &str, Door)| Route { method, path: path.to_owned(), door };
    DOORS.into_iter().map(route).collect()
}

/// Lets a request pass, or not.
pub(crate) async fn pass(State(guard): State<Guard>, request: Request, next: Next) -> Response {
    // What matches no route is answered by whoever says so.
    let Some(matched) = request.extensions().get::<MatchedPath>().map(|path| path.as_str().to_owned()) else {
        return next.run(request).await;
    };
    // All calls of gRPC match one path.
    let path = if matched.starts_with(GRPC) { request.uri().path().to_owned() } else { matched };
    let method = if request.method() == Method::HEAD { &Method::GET } else { request.method() };
    let Some(door) = door(method, &path) else {
        // Another method of a route that is there is refused as such.
        return match DOORS.iter().any(|(_, known, _)| *known == path) || path.starts_with(GRPC) {
            true => next.run(request).await,
            false => problem::no_route().await.into_response(),
        };
    };
    let (mut parts, body) = request.into_parts();
    match guard.admit(&mut parts, door).await {
        Ok(()) => next.run(Request::from_parts(parts, body)).await,
        Err(refusal) => refuse(&path, refusal),
    }
}

fn door(method: &Method, path: &str) -> Option<Door> {
    DOORS.iter().find(|(known, at, _)| known == method && *at == path).map(|(_, _, door)| *door)
}

/// In the form of what was asked.
fn refuse(path: &str, refusal: Refusal) -> Response {
    if path.starts_with(GRPC) {
        return Status::new(code(refusal.kind), refusal.detail).into_http();
    }
    if path.starts_with("/v2") {
        let answer = (refusal.status(), Json(json!({ "error": refusal.detail }))).into_response();
        return refusal.decorate(answer);
    }
    refusal.into_response()
}

fn code(kind: RefusalKind) -> Code {
    match kind {
        RefusalKind::Malformed => Code::InvalidArgument,
        RefusalKind::Unauthenticated | RefusalKind::BadCredentials => Code::Unauthenticated,
        RefusalKind::Forbidden => Code::PermissionDenied,
        RefusalKind::TooMany { .. } => Code::ResourceExhausted,
        RefusalKind::Unavailable => Code::Unavailable,
    }
}
