//! Continuous DAGs: how they stand, and the webhooks that items come in by.

use axum::Json;
use axum::body::Bytes;
use axum::extract::State;
use axum::http::{HeaderMap, StatusCode};
use serde::{Deserialize, Serialize};
use serde_json::Value;
use utoipa::{IntoParams, ToSchema};

use super::extract::{Limit, Path, Query, next};
use super::problem::{Problem, Problems};
use super::views::{StreamView, Streams};
use crate::clock::Timestamp;
use crate::dag::StreamSource;
use crate::state::Store;
use crate::stream::notification;

/// Batches of items that may wait in the state; with more, senders are told to come back.
const MOST_BATCHES_WAITING: u64 = 100;

/// Fewer items than this may always wait.
const FEW_ITEMS: u64 = 10_000;

/// When a sender who was refused may come back, in seconds.
const COME_BACK: u32 = 5;

/// Which continuous DAGs to list.
#[derive(Debug, Deserialize, IntoParams)]
#[into_params(parameter_in = Query)]
#[serde(deny_unknown_fields)]
pub(super) struct Page {
    /// How many; 100 when not given.
    #[param(value_type = Option<u32>, minimum = 1, maximum = 1000)]
    limit: Option<Limit>,
    /// Only continuous DAGs behind this name: the `next` of the page before.
    #[param(pattern = r"^[^\u0000]*$")]
    after: Option<String>,
}

/// What became of what was sent.
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct Accepted {
    /// Items that were not known before, over all DAGs that take them.
    accepted: u64,
}

/// Lists continuous DAGs by name.
#[utoipa::path(
    get, path = "/api/v1/streams", operation_id = "listStreams", params(Page),
    responses((status = 200, description = "A page of continuous DAGs.", body = Streams), Problems)
)]
pub(super) async fn list(State(store): State<Store>, Query(page): Query<Page>) -> Result<Json<Streams>, Problem> {
    let (limit, now) = (Limit::of(page.limit), Timestamp::now());
    let streams = store.streams_after(limit, page.after.as_deref()).await?;
    let next = next(&streams, limit, |stream| stream.dag.clone());
    Ok(Json(Streams { streams: streams.into_iter().map(|stream| StreamView::new(stream, now)).collect(), next }))
}

/// Takes items for the continuous DAGs that have this webhook as their source: S3 event notifications (also in
/// envelopes of SNS, SQS and EventBridge) or any JSON; the elements of a list are items. The answer comes when they are
/// written down. Items that are known already are not taken again: objects are known by name and version, others by
/// their `id` or the header `Idempotency-Key`.
#[utoipa::path(
    post, path = "/api/v1/webhooks/{name}", operation_id = "receive",
    params(
        ("name" = String, Path, pattern = r"^[^\u0000]*$", description = "name of the webhook"),
        ("Idempotency-Key" = Option<String>, Header, description = "the same when a request is sent again")
    ),
    request_body = Value,
    responses((status = 202, description = "They are written down.", body = Accepted), Problems)
)]
pub(super) async fn receive(
    State(store): State<Store>,
    Path(name): Path<String>,
    headers: HeaderMap,
    body: Bytes,
) -> Result<(StatusCode, Json<Accepted>), Problem> {
    // Senders such as SNS give another content type than JSON's.
    let body: Value = serde_json::from_slice(&body)
        .map_err(|error| Problem::bad_request(format!("the body must be JSON ({error})")))?;
    let key = headers.get("idempotency-key").and_then(|value| value.to_str().ok());
    let takers = takers(&store, &name).await?;
    if takers.is_empty() {
        return Err(Problem::not_found(format!("no dag has the webhook `{name}` as its source")));
    }
    for (dag, most) in &takers {
        if store.waiting_items(dag, *most).await? >= *most {
            return Err(Problem::too_many(format!("{most} items wait for dag `{dag}`; send again later"), COME_BACK));
        }
    }
    let items = notification::items(&body, key);
    let mut accepted = 0;
    for (dag, _) in &takers {
        accepted += store.add_items(dag, &items, Timestamp::now()).await?;
    }
    Ok((StatusCode::ACCEPTED, Json(Accepted { accepted })))
}

/// DAGs whose source the webhook is, and how many items may wait for each.
async fn takers(store: &Store, name: &str) -> Result<Vec<(String, u64)>, Problem> {
    let mut found = Vec::new();
    for record in store.dags().await?.into_iter().filter(|record| record.file.is_some()) {
        let dag = store.dag_version(record.version).await?;
        let Some(continuous) = &dag.continuous else { continue };
        if continuous.source == StreamSource::Webhook(name.to_owned()) {
            let most = FEW_ITEMS.max(u64::from(continuous.max_batch) * MOST_BATCHES_WAITING);
            found.push((dag.name.clone(), most));
        }
    }
    Ok(found)
}
