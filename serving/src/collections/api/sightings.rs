//! Sightings: record, sync, list, show, change, delete; their photographs.

use axum::Json;
use axum::extract::Request;
use axum::http::{HeaderMap, StatusCode, header};
use axum::response::{IntoResponse, Response};
use serde::Deserialize;
use serde_json::Value;
use utoipa::{IntoParams, ToSchema};

use super::extract::{Asking, Body, Limit, Path, Query, bad_token, read_token, token};
use super::problems::Problems;
use super::sent::{self, NewSightingBody, SightingChange};
use super::views::{SightingView, SightingsPage, SyncAnswer, SyncResult};
use crate::batch::Terms;
use crate::collections::place::Place;
use crate::collections::store::{Changes, Filter, Near, Order, Whose};
use crate::collections::{Moment, SightingId, record as recording};
use crate::problem::Problem;
use crate::{Error, Result};

/// Sightings of one sync.
pub const MOST_SYNCED: usize = 500;
/// Kilometres around `near` when nobody says how many.
const USUAL_KM: f64 = 50.0;
/// Half way around the Earth.
const MOST_KM: f64 = 20_100.0;

/// Records a sighting.
///
/// As JSON, as a form with the fields `sighting` (the same JSON) and `picture` (a file), or as a photograph alone. The same
/// `Idempotency-Key` or `client_id` again gives the same sighting, with 200.
#[utoipa::path(
    post, path = "/v1/sightings", operation_id = "recordSighting", tag = "collections",
    params(("Idempotency-Key" = Option<String>, Header, description = "the client's name of this request")),
    request_body(content(
        (NewSightingBody = "application/json"),
        (Vec<u8> = "application/octet-stream"),
        (Vec<u8> = "image/jpeg")
    ), description = "A sighting, or a photograph; or a form of both."),
    responses(
        (status = 201, description = "The sighting was recorded.", body = SightingView),
        (status = 200, description = "It was recorded before.", body = SightingView),
        Problems
    )
)]
pub(super) async fn record(asking: Asking, request: Request) -> Result<(StatusCode, Json<SightingView>)> {
    let terms = asking.terms(request.headers())?;
    let (wanted, _held) = sent::read(request, &asking.app).await?;
    let (status, view) = record_one(&asking, wanted, terms).await?;
    Ok((status, Json(view)))
}

/// Sightings that were made offline.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct SyncBody {
    /// 500 at most, each as `POST /v1/sightings` takes it (NewSightingBody), with a `client_id`. What is no such thing is
    /// refused by itself.
    #[schema(max_items = 500)]
    sightings: Vec<Value>,
}

/// Records sightings that were made offline, each by itself: one that is refused keeps no other back, and what is sent again
/// after a connection broke makes no second sighting.
#[utoipa::path(
    post, path = "/v1/sightings/sync", operation_id = "syncSightings", tag = "collections", request_body = SyncBody,
    responses((status = 200, description = "What came of each.", body = SyncAnswer), Problems)
)]
pub(super) async fn sync(
    asking: Asking,
    headers: HeaderMap,
    Body { value: body, .. }: Body<SyncBody>,
) -> Result<Json<SyncAnswer>> {
    if body.sightings.len() > MOST_SYNCED {
        let reason = format!("a sync has {MOST_SYNCED} sightings at most: send the rest in another");
        return Err(Error::Unmet(reason));
    }
    let terms = asking.terms(&headers)?;
    let mut results = Vec::with_capacity(body.sightings.len());
    for sent in body.sightings {
        let client_id = sent.get("client_id").and_then(Value::as_str).map(str::to_owned);
        results.push(match sync_one(&asking, sent, terms).await {
            Ok((status, view)) => {
                SyncResult { client_id, status: status.as_u16(), sighting: Some(view), problem: None }
            }
            Err(error) => {
                let problem = Problem::of(&error);
                SyncResult { client_id, status: problem.status, sighting: None, problem: Some(problem) }
            }
        });
    }
    Ok(Json(SyncAnswer { results }))
}

async fn sync_one(asking: &Asking, sent: Value, terms: Terms) -> Result<(StatusCode, SightingView)> {
    let body: NewSightingBody = serde_json::from_value(sent)
        .map_err(|error| Error::Invalid(format!("the sighting is not as it should be: {error}")))?;
    if body.client_id.is_none() {
        return Err(Error::Invalid("a sighting of a sync needs a `client_id`, a UUID".to_owned()));
    }
    record_one(asking, body.into_request(None)?, terms).await
}

async fn record_one(asking: &Asking, wanted: recording::Request, terms: Terms) -> Result<(StatusCode, SightingView)> {
    let recorded = recording::record(asking, wanted, terms).await?;
    let status = if recorded.is_new { StatusCode::CREATED } else { StatusCode::OK };
    Ok((status, SightingView::of(asking, &recorded.seen)))
}

/// Which sightings to list.
#[derive(Debug, Deserialize, IntoParams)]
#[into_params(parameter_in = Query)]
#[serde(deny_unknown_fields)]
pub(super) struct Wanted {
    /// Only of this taxon.
    species: Option<String>,
    /// Only near this place: latitude and longitude with a comma between.
    #[param(example = "51.5,-0.12")]
    near: Option<String>,
    /// How far from `near`; 50 when not given.
    #[param(minimum = 0, maximum = 20_100)]
    within_km: Option<f64>,
    /// Whose: `me`, or the id of a collector; all that may be seen when not given.
    person: Option<String>,
    /// How many; 100 when not given.
    #[param(value_type = Option<u32>, minimum = 1, maximum = 1000)]
    limit: Option<Limit>,
    /// `next_page_token` of the page before.
    page_token: Option<String>,
}

/// Lists one's own sightings and those that others show, the latest first.
///
/// Of threatened species others show the cell of a grid and the day only; so they are found and ordered, too.
#[utoipa::path(
    get, path = "/v1/sightings", operation_id = "listSightings", params(Wanted), tag = "collections",
    responses((status = 200, description = "A page of sightings.", body = SightingsPage), Problems)
)]
pub(super) async fn list(asking: Asking, Query(wanted): Query<Wanted>) -> Result<Json<SightingsPage>> {
    let whose = match wanted.person.as_deref() {
        None => Whose::Anybodys,
        Some("me") => Whose::Mine,
        Some(handle) => Whose::Of(handle.parse()?),
    };
    let species = wanted.species.as_deref().map(|id| recording::species(&asking.catalogue, id)).transpose()?;
    let limit = Limit::of(wanted.limit);
    let statuses = &asking.collections.statuses;
    let open = asking.catalogue.all().filter(|species| !statuses.blurs(species)).map(|species| species.id.as_str());
    let open: Vec<&str> = open.collect();
    let filter = Filter {
        whose: whose.clone(),
        species: species.map(|species| species.id.as_str()),
        near: near(wanted.near.as_deref(), wanted.within_km)?,
        open: &open,
        after: wanted.page_token.as_deref().map(read_order).transpose()?,
        limit: limit as i64 + 1,
    };
    let mut found = asking.collections.store.sightings(&asking.person, &filter).await?;
    let more = found.len() > limit;
    found.truncate(limit);
    let next = found.last().filter(|_| more).map(|last| whose.order_of(last));
    let next_page_token = next.map(|order| token(&format!("{} {}", order.sorted, order.id)));
    let sightings = found.iter().map(|seen| SightingView::of(&asking, seen)).collect();
    Ok(Json(SightingsPage { sightings, next_page_token }))
}

/// Shows a sighting: one's own, or one that another person shows.
#[utoipa::path(
    get, path = "/v1/sightings/{id}", operation_id = "showSighting", tag = "collections",
    params(("id" = String, Path, format = "uuid", description = "the sighting")),
    responses((status = 200, description = "The sighting.", body = SightingView), Problems)
)]
pub(super) async fn show(asking: Asking, Path(id): Path<String>) -> Result<Json<SightingView>> {
    let id: SightingId = id.parse()?;
    let seen = asking.collections.store.sighting(&asking.person.id, id).await?.ok_or_else(|| missing(id))?;
    Ok(Json(SightingView::of(&asking, &seen)))
}

/// Changes one's own sighting.
#[utoipa::path(
    patch, path = "/v1/sightings/{id}", operation_id = "changeSighting", tag = "collections",
    params(("id" = String, Path, format = "uuid", description = "the sighting")), request_body = SightingChange,
    responses((status = 200, description = "The sighting as it is now.", body = SightingView), Problems)
)]
pub(super) async fn change(
    asking: Asking,
    Path(id): Path<String>,
    Body { value: change, .. }: Body<SightingChange>,
) -> Result<Json<SightingView>> {
    let id: SightingId = id.parse()?;
    let species = change.species.as_deref().map(|id| recording::species(&asking.catalogue, id)).transpose()?;
    let read_time = |time: Option<String>| time.map(|time| Moment::read_past(&time, Moment::now())).transpose();
    let changes = Changes {
        species: species.map(|species| (species.id.clone(), species.is_leaf)),
        seen_at: change.time.map(read_time).transpose()?,
        place: change.place.map(|place| place.map(Place::check).transpose()).transpose()?,
    };
    let seen =
        asking.collections.store.change_sighting(&asking.person.id, id, &changes).await?.ok_or_else(|| missing(id))?;
    Ok(Json(SightingView::of(&asking, &seen)))
}

/// Deletes one's own sighting with its photograph. Its key is not free again.
#[utoipa::path(
    delete, path = "/v1/sightings/{id}", operation_id = "deleteSighting", tag = "collections",
    params(("id" = String, Path, format = "uuid", description = "the sighting")),
    responses((status = 204, description = "It is gone."), Problems)
)]
pub(super) async fn delete(asking: Asking, Path(id): Path<String>) -> Result<StatusCode> {
    let id: SightingId = id.parse()?;
    if asking.collections.store.delete_sighting(&asking.person.id, id).await? {
        return Ok(StatusCode::NO_CONTENT);
    }
    Err(missing(id))
}

/// Gives the photograph of one's own sighting. It may tell the exact place, so nobody else gets it.
#[utoipa::path(
    get, path = "/v1/sightings/{id}/picture", operation_id = "showPicture", tag = "collections",
    params(("id" = String, Path, format = "uuid", description = "the sighting")),
    responses((status = 200, description = "The photograph.", content_type = "image/*"), Problems)
)]
pub(super) async fn picture(asking: Asking, Path(id): Path<String>) -> Result<Response> {
    let id: SightingId = id.parse()?;
    let none = || Error::NotFound(format!("there is no sighting {id} of yours with a photograph"));
    let picture = asking.collections.store.picture_of(id, &asking.person.id).await?.ok_or_else(none)?;
    let bytes = asking.collections.store.picture_stream(&picture).await?;
    let headers = [
        (header::CONTENT_TYPE, picture.media_type.as_str()),
        (header::CACHE_CONTROL, "private, no-store"),
        // It is what somebody sent: a browser must take it for nothing else.
        (header::X_CONTENT_TYPE_OPTIONS, "nosniff"),
        (header::CONTENT_SECURITY_POLICY, "sandbox; default-src 'none'"),
    ];
    Ok((headers, axum::body::Body::from_stream(bytes)).into_response())
}

fn missing(id: SightingId) -> Error {
    Error::NotFound(format!("there is no sighting {id} for you: /v1/sightings lists them"))
}

fn near(text: Option<&str>, within_km: Option<f64>) -> Result<Option<Near>> {
    let invalid = |reason: &str| Error::Invalid(reason.to_owned());
    let Some(text) = text else {
        let alone = within_km.map(|_| invalid("`within_km` needs `near`"));
        return alone.map_or(Ok(None), Err);
    };
    let numbers = text.split_once(',').and_then(|(a, b)| Some((a.trim().parse().ok()?, b.trim().parse().ok()?)));
    let (latitude, longitude) = numbers.ok_or_else(|| invalid("`near` is no place: give latitude,longitude"))?;
    let place = Place { latitude, longitude, accuracy_m: None }.check()?;
    let km = within_km.unwrap_or(USUAL_KM);
    if !(0.0..=MOST_KM).contains(&km) {
        return Err(invalid("`within_km` must be a number of kilometres from 0 to 20100"));
    }
    Ok(Some(Near { place, metres: km * 1000.0 }))
}

fn read_order(text: &str) -> Result<Order> {
    let text = read_token(text)?;
    let read = text
        .split_once(' ')
        .and_then(|(sorted, id)| Some(Order { sorted: sorted.parse().ok()?, id: id.parse().ok()? }));
    read.ok_or_else(bad_token)
}
