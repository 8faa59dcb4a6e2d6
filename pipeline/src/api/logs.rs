//! Logs of attempts and of whole runs.

use std::io;

use axum::Extension;
use axum::body::Body;
use axum::extract::State;
use axum::http::{HeaderName, StatusCode, header};
use axum::response::{IntoResponse, Response};
use futures::stream;
use serde::Deserialize;
use tokio::sync::watch;
use tokio::time::timeout;
use utoipa::IntoParams;

use super::Api;
use super::events::{KEEP_ALIVE, ended};
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
    #[param(minimum = 0, maximum = 4_294_967_295_u32)]
    map_index: Option<u32>,
    /// Number of the attempt; the last when not given.
    #[param(minimum = 0, maximum = 4_294_967_295_u32)]
    attempt: Option<u32>,
    /// So many lines are left out at the beginning; a reader that was cut off gives how many it has.
    #[param(value_type = Option<u32>, minimum = 0, maximum = 4_294_967_295_u32)]
    from: Option<u32>,
    /// Whether to wait for more lines until the attempt has ended; false when not given.
    follow: Option<bool>,
}

/// Which lines of a run.
#[derive(Debug, Deserialize, IntoParams)]
#[into_params(parameter_in = Query)]
#[serde(deny_unknown_fields)]
pub(super) struct RunLines {
    /// Only of this task.
    #[param(pattern = r"^[^\u0000]*$")]
    task: Option<String>,
    /// Only of this item of a mapped task; needs `task`.
    #[param(minimum = 0, maximum = 4_294_967_295_u32)]
    map_index: Option<u32>,
    /// Only of this attempt; the last of each task instance when not given. Needs `task`.
    #[param(minimum = 0, maximum = 4_294_967_295_u32)]
    attempt: Option<u32>,
    /// Whether to wait for more lines until what is read has ended; false when not given.
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
    State(Api { store, ending, .. }): State<Api>,
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
    let follow = lines.follow.unwrap_or(false);
    let wanted = Wanted { run, task: Some(task), map_index: lines.map_index, attempt, follow };
    let reader = LogReader::open(&store, &logs, wanted).await?;
    let mut left_out = lines.from.unwrap_or(0);
    let shown = move |line: Option<RunLine>| match line {
        Some(RunLine { line, .. }) if left_out == 0 => line.text(),
        Some(_) => {
            left_out -= 1;
            String::new()
        }
        None => String::new(),
    };
    Ok(answer(reader, follow.then_some(ending), shown))
}

/// The log of a run: the lines of all its tasks, or of one, in the order of time. JSON lines with `task`, `map_index` of
/// an item of a mapped task, `attempt`, and the fields of the lines of one attempt. With `follow` an empty line comes when
/// there was no other for some time. A server that is to end breaks the answer off.
#[utoipa::path(
    get, path = "/api/v1/runs/{id}/logs", operation_id = "readRunLogs",
    params(("id" = String, Path, format = "uuid", description = "the run"), RunLines),
    responses((status = 200, description = "The lines.", body = String, content_type = "application/x-ndjson"), Problems)
)]
pub(super) async fn read_run(
    State(Api { store, ending, .. }): State<Api>,
    logs: Option<Extension<Logs>>,
    Path(run): Path<String>,
    Query(lines): Query<RunLines>,
) -> Result<Response, Problem> {
    let run: RunId = id(&run, "run")?;
    let RunLines { task, map_index, attempt, follow } = lines;
    if task.is_none() && (map_index.is_some() || attempt.is_some()) {
        let detail = "`map_index` and `attempt` belong to a task: give it as `task`";
        return Err(Problem::new("no task", StatusCode::UNPROCESSABLE_ENTITY, detail));
    }
    let Some(Extension(logs)) = logs else { return Err(Error::NoAttempt { run }.into()) };
    let follow = follow.unwrap_or(false);
    let reader = LogReader::open(&store, &logs, Wanted { run, task, map_index, attempt, follow }).await?;
    let shown = |line: Option<RunLine>| {
        // Texts and names only: this cannot fail.
        let mut text = line.map(|line| serde_json::to_string(&line).unwrap_or_default()).unwrap_or_default();
        text.push('\n');
        text
    };
    Ok(answer(reader, follow.then_some(ending), shown))
}

/// The number of the last attempt: a reader that follows stays with it. None before the first.
async fn last_attempt(store: &Store, run: RunId, task: &str, map_index: Option<u32>) -> Result<Option<u32>, Problem> {
    let which = Which { task: Some(task.to_owned()), map_index, attempt: None };
    let found = store.attempt_facts(run, &which).await?;
    if map_index.is_none() && found.iter().any(|facts| facts.map_index.is_some()) {
        let detail = format!("task `{task}` is mapped: say which item with `map_index`");
        return Err(Problem::new("which item", StatusCode::UNPROCESSABLE_ENTITY, detail));
    }
    Ok(found.last().map(|facts| facts.number))
}

/// Lines as they come, as `shown` writes them; it is given nothing when none came for a while. A server that is to end
/// breaks off what follows, so that nobody takes it for the end of the log.
fn answer(
    reader: LogReader,
    following: Option<watch::Receiver<bool>>,
    shown: impl FnMut(Option<RunLine>) -> String + Send + 'static,
) -> Response {
    let lines = stream::unfold(Some((reader, following, shown)), |state| async move {
        let (mut reader, following, mut shown) = state?;
        let next = match following.clone() {
            None => reader.next().await,
            Some(ending) => tokio::select! {
                () = ended(ending) => return Some((Err(io::Error::other("the server ends")), None)),
                next = timeout(KEEP_ALIVE, reader.next()) => match next {
                    Ok(next) => next,
                    Err(_) => return Some((Ok(shown(None)), Some((reader, following, shown)))),
                },
            },
        };
        match next {
            Ok(Some(line)) => Some((Ok(shown(Some(line))), Some((reader, following, shown)))),
            Ok(None) => None,
            Err(error) => {
                tracing::warn!(%error, "a client that reads a log is cut off");
                Some((Err(io::Error::other(error)), None))
            }
        }
    });
    // Gateways that collect answers would hold lines back.
    let headers =
        [(header::CONTENT_TYPE, "application/x-ndjson"), (HeaderName::from_static("x-accel-buffering"), "no")];
    (headers, Body::from_stream(lines)).into_response()
}
