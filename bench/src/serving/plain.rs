//! Models that do next to nothing: what a server costs by itself.

use std::sync::Arc;
use std::time::Instant;

use serde_json::json;

use super::server::Server;
use super::{PROCESSOR_GOAL, saturated};
use crate::error::Result;
use crate::http::{Connection, Request};
use crate::results::{Row, percentile};

/// Connections that ask at the same time.
pub(super) const CLIENTS: usize = 8;

/// Bytes that are sent to a model that only counts them.
pub(super) const PAYLOAD: usize = 150_000;

/// What models cost that do next to nothing.
pub(super) struct Plain {
    pub(super) rate: f64,
    pub(super) processor: f64,
    pub(super) median: f64,
    /// With a body of [`PAYLOAD`].
    pub(super) large_rate: f64,
    pub(super) large_processor: f64,
}

impl Plain {
    pub(super) fn rows(&self) -> [Row; 5] {
        [
            Row::alone("a plain model, 8 clients", "", "requests/s", self.rate),
            Row::alone("its processor, a request", "", "ms", self.processor).at_most(PROCESSOR_GOAL),
            Row::alone("its median, one after the other", "", "ms", self.median),
            Row::alone(
                &format!("{} kB to a model that counts them", PAYLOAD / 1000),
                "",
                "requests/s",
                self.large_rate,
            ),
            Row::alone("its processor, a request", "", "ms", self.large_processor).at_most(PROCESSOR_GOAL),
        ]
    }
}

/// Under the Open Inference Protocol.
pub(super) async fn plain(server: &Server, count: usize) -> Result<Plain> {
    let input = json!({ "name": "index", "shape": [1], "datatype": "INT64", "data": [2] });
    let ask = Request::post("/v2/models/plain/infer", &json!({ "inputs": [input] }));
    let times = one_by_one(server.port, &ask, count / 10).await?;
    let (rate, processor) = loaded(server, ask, count).await?;
    let (large_rate, large_processor) = loaded(server, counted(&vec![7; PAYLOAD]), count / 4).await?;
    Ok(Plain { rate, processor, median: percentile(&times, 0.5), large_rate, large_processor })
}

/// Bytes as they are, behind a JSON that describes them.
fn counted(payload: &[u8]) -> Request {
    let parameters = json!({ "binary_data_size": payload.len() });
    let input = json!({ "name": "payload", "shape": [payload.len()], "datatype": "UINT8", "parameters": parameters });
    let mut body = json!({ "inputs": [input] }).to_string().into_bytes();
    let head = body.len();
    body.extend_from_slice(payload);
    Request::bytes("/v2/models/length/infer", body).with_json(head)
}

/// Requests a second, and milliseconds of the processor for each.
async fn loaded(server: &Server, ask: Request, count: usize) -> Result<(f64, f64)> {
    let before = server.processor_seconds();
    let rate = saturated(server.port, &Arc::new(vec![ask; count]), CLIENTS).await?;
    Ok((rate, (server.processor_seconds() - before) * 1e3 / count as f64))
}

/// Milliseconds of each request.
pub(super) async fn one_by_one(port: u16, ask: &Request, count: usize) -> Result<Vec<f64>> {
    let mut connection = Connection::open(port).await?;
    let mut times = Vec::new();
    for _ in 0..count {
        let began = Instant::now();
        connection.ask(ask).await?;
        times.push(began.elapsed().as_secs_f64() * 1e3);
    }
    Ok(times)
}
