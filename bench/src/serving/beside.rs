//! What LitServe and MLServer do with the same.

use std::path::PathBuf;
use std::sync::Arc;

use super::peers::{Kind, Peer};
use super::plain::{CLIENTS, PAYLOAD, Plain, one_by_one};
use super::saturated;
use crate::error::{Error, Result};
use crate::http::Request;
use crate::machine::cores;
use crate::results::{Row, median, percentile};
use crate::workplace::Workplace;

/// Of LitServe's requests a second with a model that does next to nothing.
const PLAIN_GOAL: f64 = 10.0;

/// What ours did.
pub(super) struct Ours {
    /// A second.
    pub(super) images: f64,
    /// Seconds until it was ready.
    pub(super) started: f64,
    /// MiB.
    pub(super) memory: f64,
    pub(super) plain: Plain,
}

/// A peer, asked for the same.
pub(super) async fn beside(place: &Workplace, peer: &Peer, files: &[PathBuf], ours: &Ours) -> Result<Vec<Row>> {
    let plain = &ours.plain;
    let name = peer.kind.name();
    let read = |path: &PathBuf| std::fs::read(path).map(|jpeg| peer.picture(&jpeg)).map_err(Error::io(path));
    let pictures = files.iter().map(read).collect::<Result<Vec<_>>>()?;
    let cores = cores();
    // Each of its processes has seen a picture.
    saturated(peer.port, &Arc::new(pictures.iter().take(cores * 4).cloned().collect()), cores * 2).await?;
    let pictures = Arc::new(pictures);
    let mut rates = Vec::new();
    for _ in 0..place.pick(3, 1) {
        rates.push(saturated(peer.port, &pictures, cores * 2).await?);
    }
    let count = place.pick(2000, 100);
    let (rate, processor) = peer_loaded(peer, peer.row(), count).await?;
    let median_of_one = percentile(&one_by_one(peer.port, &peer.row(), count / 10).await?, 0.5);
    let (large_rate, large_processor) = peer_loaded(peer, peer.length(&vec![7; PAYLOAD]), count / 4).await?;
    let row =
        |what: &str, unit: &str, numbers: (f64, f64), is_rate: bool| Row::compare(what, name, unit, numbers, is_rate);
    let small = row("a plain model, 8 clients", "requests/s", (plain.rate, rate), true);
    let small = if peer.kind == Kind::LitServe { small.at_least(PLAIN_GOAL) } else { small };
    let large = format!("{} kB to a model that counts them", PAYLOAD / 1000);
    Ok(vec![
        row("saturated", "images/s", (ours.images, median(&rates)), true)
            .at_least(1.0)
            .note(format!("the same TorchScript files in {cores} processes of one thread; pictures as base64 in JSON")),
        small,
        row("its processor, a request", "ms", (plain.processor, processor), false),
        row("its median, one after the other", "ms", (plain.median, median_of_one), false),
        row(&large, "requests/s", (plain.large_rate, large_rate), true).note("as base64 in JSON; ours as they are"),
        row("its processor, a request", "ms", (plain.large_processor, large_processor), false),
        row("from the start to ready", "s", (ours.started, peer.started_in.as_secs_f64()), false),
        row("memory, after these requests", "MiB", (ours.memory, peer.mebibytes()?), false),
    ])
}

async fn peer_loaded(peer: &Peer, ask: Request, count: usize) -> Result<(f64, f64)> {
    let before = peer.processor_seconds()?;
    let rate = saturated(peer.port, &Arc::new(vec![ask; count]), CLIENTS).await?;
    Ok((rate, (peer.processor_seconds()? - before) * 1e3 / count as f64))
}
