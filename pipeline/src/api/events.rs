//! Changes of runs as Server-Sent Events: <https://html.spec.whatwg.org/multipage/server-sent-events.html>.

use std::convert::Infallible;
use std::time::Duration;

use axum::extract::State;
use axum::http::{HeaderMap, HeaderName};
use axum::response::IntoResponse;
use axum::response::sse::{Event, KeepAlive, Sse};
use futures::{StreamExt, stream};
use serde::Deserialize;
use tokio::sync::watch;
use utoipa::IntoParams;

use super::Api;
use super::extract::{Query, id};
use super::problem::{Problem, Problems};
use super::views::RunChangeView;
use crate::changes::Follower;
use crate::state::{ChangeFilter, RunChange};

/// The name of the events.
pub const RUN_EVENT: &str = "run";
/// Where a client goes on that was cut off.
pub const LAST_EVENT_ID: &str = "last-event-id";
/// How often a comment is sent when nothing happens, so that nobody on the way takes the connection for dead.
pub const KEEP_ALIVE: Duration = Duration::from_secs(15);

/// When a client that was cut off comes again.
const RETRY: Duration = Duration::from_secs(1);

/// Which changes to tell.
#[derive(Debug, Deserialize, IntoParams)]
#[into_params(parameter_in = Query)]
#[serde(deny_unknown_fields)]
pub(super) struct Wanted {
    /// Only of this run.
    #[param(value_type = Option<String>, format = "uuid")]
    run: Option<String>,
    /// Only of runs of this DAG.
    #[param(pattern = r"^[^\u0000]*$")]
    dag: Option<String>,
}

/// Tells changes of runs from now on, as Server-Sent Events: event `run`, its data a `RunChangeView`. A client that was
/// cut off sends the last `id` it has seen in `Last-Event-ID` and misses nothing; an event may come twice.
#[utoipa::path(
    get, path = "/api/v1/events", operation_id = "followRuns",
    params(Wanted, ("Last-Event-ID" = Option<u64>, Header, description = "go on behind this event")),
    responses((status = 200, description = "The events.", content_type = "text/event-stream", body = String), Problems)
)]
pub(super) async fn follow(
    State(Api { store, feed, ending }): State<Api>,
    Query(wanted): Query<Wanted>,
    headers: HeaderMap,
) -> Result<impl IntoResponse, Problem> {
    let run = wanted.run.map(|run| id(&run, "run")).transpose()?;
    if let Some(run) = run {
        store.run(run).await?;
    }
    let follower = feed.follow(ChangeFilter { run, dag: wanted.dag }, last_event(&headers)?).await?;
    // Sent at once: a client that is cut off before the first change knows where to go on.
    let begin = Event::default().id(follower.position().to_string()).retry(RETRY);
    let events = stream::once(async { begin }).chain(stream::unfold(follower, next)).take_until(ended(ending));
    let events = Sse::new(events.map(Ok::<_, Infallible>));
    // Gateways that collect answers would hold the events back.
    let unbuffered = [(HeaderName::from_static("x-accel-buffering"), "no")];
    Ok((unbuffered, events.keep_alive(KeepAlive::new().interval(KEEP_ALIVE).text("keep-alive"))))
}

/// Ends the stream when the database fails; the client comes again.
async fn next(mut follower: Follower) -> Option<(Event, Follower)> {
    match follower.next().await {
        Ok(change) => Some((event(change), follower)),
        Err(error) => {
            tracing::warn!(%error, "a client that follows runs is cut off");
            None
        }
    }
}

fn event(change: RunChange) -> Event {
    let event = Event::default().event(RUN_EVENT).id(change.position.to_string());
    // Text and numbers always become JSON.
    let data = serde_json::to_string(&RunChangeView::from(change)).unwrap_or_default();
    event.data(data)
}

fn last_event(headers: &HeaderMap) -> Result<Option<i64>, Problem> {
    let Some(given) = headers.get(LAST_EVENT_ID) else { return Ok(None) };
    let position = given.to_str().ok().and_then(|text| text.parse::<i64>().ok()).filter(|position| *position >= 0);
    match position {
        Some(position) => Ok(Some(position)),
        None => Err(Problem::bad_request("`Last-Event-ID` is no id of an event; give the last that came, or none")),
    }
}

/// Streams end with the server, which waits for all answers.
pub(super) async fn ended(mut ending: watch::Receiver<bool>) {
    if ending.wait_for(|ending| *ending).await.is_err() {
        // Nobody will ever say so.
        std::future::pending::<()>().await;
    }
}
