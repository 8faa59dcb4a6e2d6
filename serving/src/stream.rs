//! `WS /v1/stream`: frames in as binary messages, detections out as JSON texts, in the frames' order.
//!
//! At most [`IN_FLIGHT`] frames are under way; more are not read from the connection, so that the sender has to wait.

use std::time::Instant;

use axum::extract::State;
use axum::extract::ws::{CloseFrame, Message, WebSocket, WebSocketUpgrade, close_code};
use axum::http::HeaderMap;
use axum::response::Response;
use bytes::Bytes;
use futures::stream::FuturesOrdered;
use futures::{SinkExt, StreamExt};
use serde::Serialize;
use serde_json::json;

use crate::app::App;
use crate::batch::Terms;
use crate::detections::api::{DEPLOYMENT_HEADER, timings};
use crate::detections::{Answer, terms_of};
use crate::{Error, Result};

/// Frames of one connection that are looked at or wait.
pub const IN_FLIGHT: usize = 4;

/// The answer to one frame.
#[derive(Serialize)]
struct FrameAnswer {
    frame: u64,
    #[serde(flatten)]
    answer: Answer,
}

/// Upgrades to a WebSocket. Headers `Safari-Deployment` and `Safari-Priority` hold for all of its frames.
pub(crate) async fn open(State(app): State<App>, headers: HeaderMap, upgrade: WebSocketUpgrade) -> Result<Response> {
    let limits = app.inner.options.limits;
    // Checked before the upgrade, when an answer can still say what is wrong.
    let terms = terms_of(&headers, Instant::now(), limits.request_timeout)?;
    let camera = headers.get(DEPLOYMENT_HEADER).and_then(|name| name.to_str().ok()).map(str::to_owned);
    let upgrade = upgrade.max_message_size(limits.body_bytes).max_frame_size(limits.body_bytes);
    Ok(upgrade.on_upgrade(move |socket| serve(app, socket, terms, camera)))
}

async fn serve(app: App, socket: WebSocket, terms: Terms, camera: Option<String>) {
    // Frames under way are answered before the server ends.
    let _under_way = app.begin();
    let (mut out, mut frames) = socket.split();
    let mut under_way = FuturesOrdered::new();
    let mut ending = app.inner.ending.clone();
    let mut number: u64 = 0;
    let mut open = true;
    let mut close = None;
    while open || !under_way.is_empty() {
        tokio::select! {
            biased;
            Some(text) = under_way.next(), if !under_way.is_empty() => {
                if out.send(Message::Text(String::into(text))).await.is_err() {
                    // Its frames leave the queue with the futures.
                    return;
                }
            }
            () = told(&mut ending), if open => {
                open = false;
                close = Some(CloseFrame { code: close_code::AWAY, reason: "the server is ending".into() });
            }
            message = frames.next(), if open && under_way.len() < IN_FLIGHT => match message {
                Some(Ok(Message::Binary(bytes))) => {
                    under_way.push_back(answer(app.clone(), bytes, number, terms, camera.clone()));
                    number += 1;
                }
                Some(Ok(Message::Text(_))) => {
                    open = false;
                    let reason = "frames are binary messages: whole photographs".into();
                    close = Some(CloseFrame { code: close_code::UNSUPPORTED, reason });
                }
                Some(Ok(Message::Ping(_) | Message::Pong(_))) => {}
                Some(Ok(Message::Close(_)) | Err(_)) | None => open = false,
            }
        }
    }
    // The other side may be gone.
    let _ = out.send(Message::Close(close)).await;
}

/// Waits until the server is to end.
async fn told(ending: &mut tokio::sync::watch::Receiver<bool>) {
    // A server that is gone has ended, too.
    let _ = ending.wait_for(|ending| *ending).await;
}

/// The JSON text for one frame; a failure concerns this frame only.
async fn answer(app: App, bytes: Bytes, number: u64, terms: Terms, camera: Option<String>) -> String {
    let begun = Instant::now();
    let deadline = Some(begun + app.inner.options.limits.request_timeout);
    let terms = Terms { deadline, ..terms };
    let found = match &camera {
        Some(camera) => app.live(camera, bytes, None, terms).await.map(|(found, timing)| (found, Some(timing))),
        None => app.single(bytes, terms, None).await,
    };
    match found {
        Ok((mut found, timing)) => {
            app.sign(&mut found);
            let (burst, timings) = (camera.is_some(), timings(timing, begun));
            let answer = Answer { model: found.model.clone(), burst, media: vec![found], timings };
            // Numbers keep the digits that they have in other answers; in a `Value` they would be made longer.
            serde_json::to_string(&FrameAnswer { frame: number, answer })
                .unwrap_or_else(|error| failure(number, &Error::Model(error.to_string())))
        }
        Err(error) => failure(number, &error),
    }
}

fn failure(number: u64, error: &Error) -> String {
    let retry_after = error.retry_after().map(crate::retry_seconds);
    let problem = json!({ "status": error.status().as_u16(), "detail": error.public(), "retry_after": retry_after });
    json!({ "frame": number, "problem": problem }).to_string()
}
