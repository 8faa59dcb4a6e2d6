//! Logs of attempts.

use axum::Extension;
use axum::body::Body;
use axum::extract::State;
use axum::http::header;
use axum::response::{IntoResponse, Response};
use serde::Deserialize;
use utoipa::IntoParams;

use super::extract::{Path, Query, id};
use super::problem::{Problem, Problems};
use crate::error::Error;
use crate::ids::RunId;
use crate::logs::{LogReader, Logs, RunLine, Wanted};
use crate::state::{Store, Which};

/// Which lines of which attempt.
#[derive(Debug, Deserialize, IntoParams)]
#[into_params(parameter_in = Query)]
#[serde(deny_unknown_fields)]
pub(super) struct Lines {
    /// The item of a mapped task, which needs it.
    map_index: Option<u32>,
    /// Number of the attempt; the last when not given.
    attempt: Option<u32>,
    /// So many lines are left out at the beginning; a reader that was cut off gives how many it has.
    from: Option<usize>,
    /// Whether to wait for more lines until the attempt has ended; false when not given.
    follow: Option<bool>,
}

/// The log of an attempt: JSON lines with `time`, `stream` (stdout, stderr, event), `level` where it is known and
/// `message`.
#[utoipa::path(
    get, path = "/api/v1/runs/{id}/tasks/{task}/logs", operation_id = "readLogs",
    params(
        ("id" = String, Path, format = "uuid", description = "the run"),
        ("task" = String, Path, pattern = r"^[^\u0000]*$", description = "the task"),
        Lines
    ),
    responses((status = 200, description = "The lines.", body = String, content_type = "application/x-ndjson"), Problems)
)]
pub(super) async fn read(
    State(store): State<Store>,
    logs: Option<Extension<Logs>>,
    Path((run, task)): Path<(String, String)>,
    Query(lines): Query<Lines>,
) -> Result<Response, Problem> {
    let run: RunId = id(&run, "run")?;
    let Some(Extension(logs)) = logs else { return Err(Error::NoAttempt { run }.into()) };
    let attempt = match lines.attempt {
        Some(attempt) => Some(attempt),
        None => last_attempt(&store, run, &task, lines.map_index).await?,
    };
    let wanted =
        Wanted { run, task: Some(task), map_index: lines.map_index, attempt, follow: lines.follow.unwrap_or(false) };
    let reader = LogReader::open(&store, &logs, wanted).await?;
    let body = futures::stream::try_unfold((reader, lines.from.unwrap_or(0)), next);
    Ok(([(header::CONTENT_TYPE, "application/x-ndjson")], Body::from_stream(body)).into_response())
}

/// The number of the last attempt: a reader that follows stays with it. None before the first.
async fn last_attempt(store: &Store, run: RunId, task: &str, map_index: Option<u32>) -> Result<Option<u32>, Problem> {
    let which = Which { task: Some(task.to_owned()), map_index, attempt: None };
    let found = store.attempt_facts(run, &which).await?;
    if map_index.is_none() && found.iter().any(|facts| facts.map_index.is_some()) {
        return Err(Problem::bad_request(format!("task `{task}` is mapped: say which item with `map_index`")));
    }
    Ok(found.last().map(|facts| facts.number))
}

/// The next line, and the reader for those after it.
async fn next(state: (LogReader, usize)) -> Result<Option<(String, (LogReader, usize))>, Error> {
    let (mut reader, mut left_out) = state;
    while let Some(RunLine { line, .. }) = reader.next().await? {
        if left_out == 0 {
            return Ok(Some((line.text(), (reader, 0))));
        }
        left_out -= 1;
    }
    Ok(None)
}
