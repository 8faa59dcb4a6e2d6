//! The bare server: receives a picture, decodes it, shows it to the networks on a thread of its own, and answers with boxes. It
//! has axum, the networks, the reduced decoding and one picture a thread in common with Safari, and lacks all else: no names, no
//! hashes, no cache, no admission, no deadlines, no metrics, no identity. It is what a request costs at least with this stack.

use std::sync::mpsc::{Receiver, Sender, channel};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread;
use std::time::Instant;

use axum::body::Bytes;
use axum::extract::{DefaultBodyLimit, State};
use axum::http::StatusCode;
use axum::response::IntoResponse;
use axum::routing::{get, post};
use axum::{Json, Router};
use detector::decode::decode;
use detector::engine::EngineOptions;
use detector::exif;
use detector::look::look_at_batch;
use detector::media::MediaType;
use detector::model::{self, Model};
use detector::preprocess::{DETECTOR_SIDE, Preprocessor};
use serde_json::{Value, json};
use tokio::runtime::Runtime;
use tokio::sync::oneshot;

use crate::error::{Error, Result};
use crate::machine::cores;

/// Most bytes of a picture, as with Safari.
const LARGEST: usize = 64 << 20;

/// A picture and who asked for it.
type Asked = (Bytes, oneshot::Sender<Result<Value>>);

/// Serves until it is killed.
pub(crate) fn run(port: u16) -> Result<()> {
    let model = Arc::new(Model::load(&model::locate(None)?, tch::Device::Cpu)?);
    let (ask, asked) = channel();
    let asked = Arc::new(Mutex::new(asked));
    for _ in 0..cores() {
        let (model, asked) = (Arc::clone(&model), Arc::clone(&asked));
        thread::spawn(move || work(&model, &asked));
    }
    let routes = Router::new()
        .route("/v1/detections", post(detect))
        .route("/healthz/ready", get(async || ""))
        .layer(DefaultBodyLimit::max(LARGEST))
        .with_state(ask);
    Runtime::new().map_err(Error::io("the runtime"))?.block_on(async {
        let listener = tokio::net::TcpListener::bind(("127.0.0.1", port)).await.map_err(Error::io("a port"))?;
        axum::serve(listener, routes).await.map_err(Error::io("the bare server"))
    })
}

async fn detect(State(ask): State<Sender<Asked>>, picture: Bytes) -> axum::response::Response {
    let (answer, answered) = oneshot::channel();
    if ask.send((picture, answer)).is_err() {
        return StatusCode::INTERNAL_SERVER_ERROR.into_response();
    }
    match answered.await {
        Ok(Ok(found)) => Json(found).into_response(),
        Ok(Err(error)) => (StatusCode::UNPROCESSABLE_ENTITY, error.to_string()).into_response(),
        Err(_) => StatusCode::INTERNAL_SERVER_ERROR.into_response(),
    }
}

fn work(model: &Model, asked: &Mutex<Receiver<Asked>>) {
    tch::set_num_threads(1);
    let mut preprocessor = Preprocessor::new();
    loop {
        let next = asked.lock().unwrap_or_else(PoisonError::into_inner).recv();
        let Ok((picture, answer)) = next else { return };
        // Who asked may be gone.
        drop(answer.send(look(model, &mut preprocessor, &picture)));
    }
}

fn look(model: &Model, preprocessor: &mut Preprocessor, bytes: &[u8]) -> Result<Value> {
    let options = EngineOptions::default();
    let began = Instant::now();
    let orientation = exif::read(bytes).orientation;
    let picture = decode(bytes, MediaType::Jpeg, orientation, options.min_side, &options.limits)?;
    let input = preprocessor.whole(&picture, DETECTOR_SIDE);
    let decoded = began.elapsed();
    let found = look_at_batch(&model.networks, &model.taxonomy, preprocessor, &[&picture], &[input], &options.look)?;
    let forward = began.elapsed() - decoded;
    let boxes = found.iter().flatten().map(|sighting| {
        let bounds = &sighting.scored.bounds;
        json!({"bbox": [bounds.xmin, bounds.ymin, bounds.xmax, bounds.ymax], "confidence": sighting.scored.score})
    });
    let milliseconds = |took: std::time::Duration| took.as_secs_f64() * 1e3;
    Ok(json!({
        "detections": boxes.collect::<Vec<_>>(),
        "timings": {"decode_ms": milliseconds(decoded), "forward_ms": milliseconds(forward)},
    }))
}
