//! Live detections: what a server costs beyond decoding and the networks, how near it comes to the bare loop, and how far it
//! is ahead of LitServe and MLServer.

mod beside;
mod peers;
mod plain;
mod server;

use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Instant;

use serde_json::Value;
use tokio::runtime::Runtime;

use crate::bare::Tally;
use crate::error::{Error, Result};
use crate::http::{Connection, Request};
use crate::machine::cores;
use crate::photographs::{self, Photographs, jpegs};
use crate::process;
use crate::results::{Row, median};
use crate::workplace::Workplace;

use beside::{Ours, beside};
use peers::{Kind, Peer};
use plain::plain;
use server::Server;

const LOOP: &str = "bare Rust loop";
const WORK: &str = "decoding and the networks";

/// Milliseconds of the server's processor beyond [`WORK`].
const PROCESSOR_GOAL: f64 = 0.3;
/// Milliseconds that are added to the median at one request after the other.
const ADDED_GOAL: f64 = 1.0;
/// Part of the loop's rate.
const LEAST_OF_BARE: f64 = 0.95;

/// Most bytes of a small sample.
const SMALL: u64 = 200_000;

/// Measures the section.
pub(crate) fn run(place: &Workplace) -> Result<Vec<Row>> {
    let count = place.pick(240, 24);
    let photographs = photographs::make(&place.root, count)?;
    Runtime::new().map_err(Error::io("the runtime"))?.block_on(measure(place, &photographs))
}

async fn measure(place: &Workplace, photographs: &Photographs) -> Result<Vec<Row>> {
    let files = jpegs(photographs.folder())?;
    let asks = Arc::new(requests(&files)?);
    let samples = jpegs(&place.root.join("data-samples"))?;
    let small = requests(&samples.into_iter().filter(|path| is_small(path)).collect::<Vec<_>>())?;
    let server = Server::start(place).await?;
    let mut rows = vec![
        Row::alone("from the start to ready", "", "s", server.started_in.as_secs_f64()),
        Row::alone("memory, ready", "", "MiB", server.mebibytes()),
    ];
    eprintln!("  one request after the other");
    let kilobytes = photographs.bytes / files.len() as u64 / 1000;
    rows.extend(one_after_the_other(&server, &small, place.pick(20, 1), "samples up to 200 kB").await?);
    rows.extend(one_after_the_other(&server, &asks, 1, &format!("photographs of {kilobytes} kB")).await?);
    let rounds = place.pick(5, 1);
    let mut rates = (Vec::new(), Vec::new(), Vec::new());
    for round in 1..=rounds {
        let bare = bare(place.bare_loop(photographs.folder()), files.len()).await?;
        let ours = saturated(server.port, &asks, cores() * 2).await?;
        eprintln!("  round {round} of {rounds}: {ours:.1} and {bare:.1} images/s");
        rates.0.push(ours);
        rates.1.push(bare);
        rates.2.push(ours / bare);
    }
    let row = Row::compare("saturated", LOOP, "images/s", (median(&rates.0), median(&rates.1)), true);
    rows.push(Row { ratio: Some(median(&rates.2)), ..row }.at_least(LEAST_OF_BARE).note(format!(
        "{} JPEGs of {kilobytes} kB; the client shares the cores with the server; median of {rounds} ratios, the loop \
         without its loading",
        files.len()
    )));
    let memory = server.mebibytes();
    rows.push(Row::alone("memory, after these requests", "", "MiB", memory));
    eprintln!("  models that do next to nothing");
    let plain = plain(&server, place.pick(20_000, 500)).await?;
    rows.extend(plain.rows());
    let ours = Ours { images: median(&rates.0), started: server.started_in.as_secs_f64(), memory, plain };
    drop(server);
    for kind in Kind::ALL {
        eprintln!("  {}", kind.name());
        match Peer::start(place, kind).await? {
            Ok(peer) => rows.extend(beside(place, &peer, &files, &ours).await?),
            Err(reason) => rows.push(Row::skipped("saturated", kind.name(), "images/s", &reason)),
        }
    }
    Ok(rows)
}

fn requests(files: &[PathBuf]) -> Result<Vec<Request>> {
    let read = |path: &PathBuf| std::fs::read(path).map_err(Error::io(path));
    files.iter().map(|path| Ok(Request::bytes("/v1/detections", read(path)?))).collect()
}

fn is_small(path: &Path) -> bool {
    path.metadata().is_ok_and(|file| file.len() <= SMALL)
}

/// What is added to decoding and the networks, while nobody else asks.
async fn one_after_the_other(server: &Server, asks: &[Request], rounds: usize, what: &str) -> Result<[Row; 2]> {
    let mut connection = Connection::open(server.port).await?;
    for ask in asks.iter().take(4) {
        connection.ask(ask).await?;
    }
    let (mut added, mut work) = (Vec::new(), 0.0);
    let before = server.processor_seconds();
    for ask in asks.iter().cycle().take(asks.len() * rounds) {
        let began = Instant::now();
        let answer = connection.ask(ask).await?;
        let took = began.elapsed().as_secs_f64() * 1e3;
        let answer: Value = serde_json::from_slice(&answer).map_err(Error::json("an answer"))?;
        let part = |name: &str| answer["timings"][name].as_f64().unwrap_or(f64::NAN);
        let own = part("decode_ms") + part("forward_ms");
        added.push(took - own);
        work += own;
    }
    let processor = (server.processor_seconds() - before) * 1e3;
    let count = added.len();
    let beyond = (processor - work) / count as f64;
    let note = format!("{:.1} ms of work a request; {count} requests", work / count as f64);
    Ok([
        Row::alone(&format!("added to the median, {what}"), WORK, "ms", median(&added)).at_most(ADDED_GOAL).note(note),
        Row::alone(&format!("processor beyond it, {what}"), WORK, "ms", beyond)
            .at_most(PROCESSOR_GOAL)
            .note("the kernel counts in hundredths of a second; work is on one thread, so its time is the processor's"),
    ])
}

/// Images a second of the loop, without its loading.
async fn bare(command: Command, count: usize) -> Result<f64> {
    let ended = tokio::task::spawn_blocking(move || process::time(command)).await;
    let ended = ended.map_err(|error| Error::failed("bench bare", error.to_string()))??;
    let tally = Tally::read("bench bare", &ended.stdout)?;
    if tally.images != count {
        return Err(Error::failed("bench bare", format!("it looked at {} of {count} photographs", tally.images)));
    }
    Ok(tally.images as f64 / tally.seconds)
}

/// Requests a second while `clients` connections always ask.
async fn saturated(port: u16, asks: &Arc<Vec<Request>>, clients: usize) -> Result<f64> {
    let next = Arc::new(AtomicUsize::new(0));
    let began = Instant::now();
    let mut asking = Vec::new();
    for _ in 0..clients {
        let (asks, next) = (Arc::clone(asks), Arc::clone(&next));
        asking.push(tokio::spawn(async move {
            let mut connection = Connection::open(port).await?;
            while let Some(ask) = asks.get(next.fetch_add(1, Ordering::Relaxed)) {
                connection.ask(ask).await?;
            }
            Ok::<_, Error>(())
        }));
    }
    for client in asking {
        client.await.map_err(|error| Error::failed("a client", error.to_string()))??;
    }
    Ok(asks.len() as f64 / began.elapsed().as_secs_f64())
}
