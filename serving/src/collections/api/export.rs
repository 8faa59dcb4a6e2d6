//! Everything of oneself, to take along.

use axum::body::{Body, Bytes};
use axum::http::header;
use axum::response::{IntoResponse, Response};
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use futures::channel::mpsc::{self, Sender};
use futures::{SinkExt, StreamExt};
use serde::Deserialize;
use serde_json::{Value, json};
use utoipa::IntoParams;

use super::extract::{Asking, Query};
use super::problems::Problems;
use super::views::{ProfileView, SightingView};
use crate::collections::store::{Pages, Picture};
use crate::{Error, Result};

/// Pieces of an export that wait for whoever reads it.
const WAITING: usize = 2;

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
    let (lines, written) = mpsc::channel(WAITING);
    let mut export = Export { asking, lines };
    export.profile().await?;
    tokio::spawn(async move {
        if let Err(error) = export.rest(wanted.pictures.unwrap_or(true)).await {
            tracing::warn!(%error, "an export broke off");
            // The answer has begun: it can only end without its last line. Nobody may be there any more.
            let _ = export.lines.send(Err(error)).await;
        }
    });
    let headers = [
        (header::CONTENT_TYPE, "application/x-ndjson"),
        (header::CONTENT_DISPOSITION, "attachment; filename=\"safari-collection.jsonl\""),
        (header::CACHE_CONTROL, "private, no-store"),
    ];
    Ok((headers, Body::from_stream(written)).into_response())
}

/// Writes as fast as somebody reads; a few pieces are in memory.
struct Export {
    asking: Asking,
    lines: Sender<Result<Bytes>>,
}

impl Export {
    async fn profile(&mut self) -> Result<()> {
        let person = &self.asking.person;
        let profile = self.asking.collections.store.profile(&person.id).await?;
        let profile = ProfileView::of(person, profile);
        self.line(json!({ "kind": "profile", "person": person.id.as_str(), "profile": profile })).await
    }

    async fn rest(&mut self, with_pictures: bool) -> Result<()> {
        let (mut pages, mut sightings, mut pictures) = (Pages::default(), 0_u64, 0_u64);
        let store = self.asking.collections.store.clone();
        let person = self.asking.person.id.clone();
        loop {
            let page = store.next_sightings(&person, &mut pages).await?;
            if page.is_empty() {
                break;
            }
            for seen in page {
                if seen.is_deleted {
                    self.line(json!({ "kind": "deleted", "key": seen.key, "deleted_at": seen.updated_at })).await?;
                    continue;
                }
                sightings += 1;
                let view = SightingView::of(&self.asking, &seen);
                self.line(json!({ "kind": "sighting", "sighting": view, "sha256": seen.picture })).await?;
            }
        }
        while with_pictures && let Some(picture) = store.next_picture(&person, &mut pages).await? {
            pictures += 1;
            self.picture(&picture).await?;
        }
        self.line(json!({ "kind": "end", "sightings": sightings, "pictures": pictures })).await
    }

    /// The line of a photograph, piece by piece.
    async fn picture(&mut self, picture: &Picture) -> Result<()> {
        let mut bytes = self.asking.collections.store.picture_stream(picture).await?;
        let (sha256, media_type) = (Value::from(picture.sha256.as_str()), Value::from(picture.media_type.as_str()));
        let head = format!("{{\"kind\":\"picture\",\"sha256\":{sha256},\"media_type\":{media_type},\"data\":\"");
        self.send(head.into()).await?;
        let mut rest = Vec::new();
        while let Some(piece) = bytes.next().await {
            rest.extend_from_slice(&piece?);
            // Three bytes are four letters.
            let whole = rest.len() / 3 * 3;
            self.send(STANDARD.encode(&rest[..whole]).into()).await?;
            rest.drain(..whole);
        }
        self.send(format!("{}\"}}\n", STANDARD.encode(rest)).into()).await
    }

    async fn line(&mut self, value: Value) -> Result<()> {
        self.send(format!("{value}\n").into()).await
    }

    async fn send(&mut self, bytes: Bytes) -> Result<()> {
        self.lines.send(Ok(bytes)).await.map_err(|_| Error::Invalid("whoever asked has gone".to_owned()))
    }
}
