//! One's own profile and data: shown, changed, exported, deleted.

use axum::Json;
use axum::body::{Body as Answer, Bytes};
use axum::http::{StatusCode, header};
use axum::response::{IntoResponse, Response};
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use futures::stream::{self, Stream};
use serde::Deserialize;
use serde_json::{Value, json};
use utoipa::IntoParams;

use super::extract::{Asking, Body, Query};
use super::problems::Problems;
use super::views::{ProfileChange, ProfileView, SightingView, Visibility};
use crate::collections::store::{LONGEST_NAME, Pages};
use crate::{Error, Result};

/// Shows what others are shown of oneself.
#[utoipa::path(
    get, path = "/v1/collection/profile", operation_id = "showProfile", tag = "collections",
    responses((status = 200, description = "The profile.", body = ProfileView), Problems)
)]
pub(super) async fn profile(asking: Asking) -> Result<Json<ProfileView>> {
    let profile = asking.collections.store.profile(&asking.person.id).await?;
    Ok(Json(ProfileView::of(&asking.person, profile)))
}

/// Changes the name that others are shown, and whether they are shown anything.
#[utoipa::path(
    put, path = "/v1/collection/profile", operation_id = "setProfile", tag = "collections", request_body = ProfileChange,
    responses((status = 200, description = "The profile as it is now.", body = ProfileView), Problems)
)]
pub(super) async fn set_profile(asking: Asking, Body(change): Body<ProfileChange>) -> Result<Json<ProfileView>> {
    let name = change.name.trim();
    if name.is_empty() || name.chars().count() > LONGEST_NAME || name.chars().any(char::is_control) {
        let reason = format!("`name` must be 1 to {LONGEST_NAME} characters without control characters");
        return Err(Error::Unmet(reason));
    }
    let hidden = change.visibility == Visibility::Hidden;
    let profile = asking.collections.store.set_profile(&asking.person, name, hidden).await?;
    Ok(Json(ProfileView::of(&asking.person, Some(profile))))
}

/// What is exported.
#[derive(Debug, Deserialize, IntoParams)]
#[into_params(parameter_in = Query)]
#[serde(deny_unknown_fields)]
pub(super) struct Wanted {
    /// Whether photographs are given too; true when not given.
    pictures: Option<bool>,
}

/// Gives all of one's data as lines of JSON: `profile`, each `sighting` and each `deleted` key, each `picture` in base64, and
/// `end` with their numbers. An answer without `end` broke off.
#[utoipa::path(
    get, path = "/v1/collection/export", operation_id = "exportCollection", params(Wanted), tag = "collections",
    responses((status = 200, description = "One's data.", content_type = "application/x-ndjson"), Problems)
)]
pub(super) async fn export(asking: Asking, Query(wanted): Query<Wanted>) -> Result<Response> {
    let profile = asking.collections.store.profile(&asking.person.id).await?;
    let first = line(json!({
        "kind": "profile",
        "person": asking.person.id.as_str(),
        "profile": ProfileView::of(&asking.person, profile),
    }));
    let export = Export {
        asking,
        pages: Pages::default(),
        step: Step::Profile(first),
        pictures: wanted.pictures.unwrap_or(true),
        counts: (0, 0),
    };
    let headers = [
        (header::CONTENT_TYPE, "application/x-ndjson"),
        (header::CONTENT_DISPOSITION, "attachment; filename=\"safari-collection.jsonl\""),
        (header::CACHE_CONTROL, "private, no-store"),
    ];
    Ok((headers, Answer::from_stream(lines(export))).into_response())
}

/// The confirmation of a deletion.
#[derive(Debug, Deserialize, IntoParams)]
#[into_params(parameter_in = Query)]
#[serde(deny_unknown_fields)]
pub(super) struct Confirmation {
    /// Must be `true`.
    confirm: Option<bool>,
}

/// Deletes one's whole collection: profile, sightings, keys, and photographs that nobody else's sighting shows. There is no way
/// back. One who has nothing gets the same answer.
#[utoipa::path(
    delete, path = "/v1/collection", operation_id = "deleteCollection", params(Confirmation), tag = "collections",
    responses((status = 204, description = "Nothing is left."), Problems)
)]
pub(super) async fn delete(asking: Asking, Query(confirmation): Query<Confirmation>) -> Result<StatusCode> {
    if confirmation.confirm != Some(true) {
        let reason = "this deletes your whole collection for ever; say so with `?confirm=true`";
        return Err(Error::Invalid(reason.to_owned()));
    }
    asking.collections.store.delete_everything(&asking.person.id).await?;
    Ok(StatusCode::NO_CONTENT)
}

/// How far an export is.
struct Export {
    asking: Asking,
    pages: Pages,
    step: Step,
    pictures: bool,
    /// Sightings and photographs that were given.
    counts: (u64, u64),
}

enum Step {
    Profile(Bytes),
    Sightings,
    Pictures,
    Over,
}

fn lines(export: Export) -> impl Stream<Item = Result<Bytes>> {
    stream::try_unfold(export, |mut export| async move {
        let bytes = export.next().await?;
        Ok(bytes.map(|bytes| (bytes, export)))
    })
}

impl Export {
    async fn next(&mut self) -> Result<Option<Bytes>> {
        loop {
            match std::mem::replace(&mut self.step, Step::Over) {
                Step::Profile(line) => {
                    self.step = Step::Sightings;
                    return Ok(Some(line));
                }
                Step::Sightings => {
                    let page =
                        self.asking.collections.store.next_sightings(&self.asking.person.id, &mut self.pages).await?;
                    if page.is_empty() {
                        self.step = Step::Pictures;
                        continue;
                    }
                    self.step = Step::Sightings;
                    let mut text = Vec::new();
                    for seen in page {
                        if seen.is_deleted {
                            text.extend(line(
                                json!({"kind": "deleted", "key": seen.key, "deleted_at": seen.updated_at}),
                            ));
                            continue;
                        }
                        self.counts.0 += 1;
                        let view = SightingView::of(&self.asking, &seen);
                        text.extend(line(json!({"kind": "sighting", "sighting": view, "sha256": seen.picture})));
                    }
                    return Ok(Some(text.into()));
                }
                Step::Pictures => {
                    let next = match self.pictures {
                        true => {
                            self.asking.collections.store.next_picture(&self.asking.person.id, &mut self.pages).await?
                        }
                        false => None,
                    };
                    let Some(picture) = next else {
                        let (sightings, pictures) = self.counts;
                        return Ok(Some(line(json!({"kind": "end", "sightings": sightings, "pictures": pictures}))));
                    };
                    self.step = Step::Pictures;
                    self.counts.1 += 1;
                    let bytes = self.asking.collections.store.picture_bytes(&picture).await?;
                    return Ok(Some(line(json!({
                        "kind": "picture",
                        "sha256": picture.sha256,
                        "media_type": picture.media_type,
                        "data": STANDARD.encode(bytes),
                    }))));
                }
                Step::Over => return Ok(None),
            }
        }
    }
}

fn line(value: Value) -> Bytes {
    format!("{value}\n").into()
}
