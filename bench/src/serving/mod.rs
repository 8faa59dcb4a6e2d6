//! Live detections: what a server costs beyond decoding and the networks, how near it comes to the bare loop, and how far it
//! is ahead of LitServe and MLServer.

pub(crate) mod bare;
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
use crate::machine::{self, cores};
use crate::photographs::{self, Photographs, jpegs};
use crate::process;
use crate::results::{Row, median};
use crate::workplace::Workplace;

use beside::{Ours, beside};
use peers::{Kind, Peer};
use plain::plain;
use server::Server;

const LOOP: &str = "bare Rust loop";
const BARE_SERVER: &str = "a bare axum server";
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
    let plainest = Server::start_bare(place).await?;
    let pair = [&server, &plainest];
    let samples: Vec<Request> = small.iter().cycle().take(small.len() * place.pick(5, 1)).cloned().collect();
    rows.extend(one_after_the_other(pair, &samples, place.pick(4, 1), "samples up to 200 kB").await?);
    rows.extend(one_after_the_other(pair, &asks, 1, &format!("photographs of {kilobytes} kB")).await?);
    drop(plainest);
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

/// What Safari and the bare server add to decoding and the networks, while nobody else asks. They take turns, all pictures at a
/// time.
async fn one_after_the_other(servers: [&Server; 2], asks: &[Request], turns: usize, what: &str) -> Result<Vec<Row>> {
    let mut seen = [Added::default(), Added::default()];
    for _ in 0..turns {
        for (server, seen) in servers.into_iter().zip(&mut seen) {
            seen.ask(server, asks).await?;
        }
    }
    let [ours, bare] = seen;
    let note =
        format!("{:.1} ms of work a request; {} requests", ours.work / ours.times.len() as f64, ours.times.len());
    let (latency, processor) = (format!("added to the median, {what}"), format!("processor beyond it, {what}"));
    let medians = (median(&ours.times), median(&bare.times));
    let mut rows = vec![
        Row::alone(&latency, WORK, "ms", medians.0).at_most(ADDED_GOAL).note(note),
        Row::compare(&latency, BARE_SERVER, "ms", medians, false),
    ];
    let beyond = (ours.beyond(), bare.beyond());
    let stolen = format!("other machines took {:.2} and {:.2} ms a request", ours.stolen(), bare.stolen());
    // The clock of the work goes on meanwhile: what is left is too little by up to what others took.
    if beyond.0 <= ours.stolen() || beyond.1 <= bare.stolen() {
        rows.push(Row::skipped(
            &processor,
            WORK,
            "ms",
            &format!("not told: the clock of the work went on while others had the processor; {stolen}"),
        ));
        return Ok(rows);
    }
    let note = format!("work is on one thread, so its time is the processor's; {stolen}");
    let goal = Row::alone(&processor, WORK, "ms", beyond.0).at_most(PROCESSOR_GOAL).note(note);
    rows.push(Row { met: Some(beyond.0 + ours.stolen() <= PROCESSOR_GOAL), ..goal });
    rows.push(Row::compare(&processor, BARE_SERVER, "ms", beyond, false));
    Ok(rows)
}

/// What a server adds to decoding and the networks, as the timings of its answers tell. In milliseconds.
#[derive(Default)]
struct Added {
    /// Of each request.
    times: Vec<f64>,
    /// Decoding and the networks, of all.
    work: f64,
    /// The server's processor, of all.
    processor: f64,
    /// What other machines had of this one's processor meanwhile.
    stolen: f64,
}

impl Added {
    async fn ask(&mut self, server: &Server, asks: &[Request]) -> Result<()> {
        let mut connection = Connection::open(server.port).await?;
        for ask in asks.iter().take(4) {
            connection.ask(ask).await?;
        }
        let (before, stolen) = (server.processor_seconds(), machine::stolen_seconds());
        for ask in asks {
            let began = Instant::now();
            let answer = connection.ask(ask).await?;
            let took = began.elapsed().as_secs_f64() * 1e3;
            let answer: Value = serde_json::from_slice(&answer).map_err(Error::json("an answer"))?;
            let part = |name: &str| answer["timings"][name].as_f64().unwrap_or(f64::NAN);
            let own = part("decode_ms") + part("forward_ms");
            self.times.push(took - own);
            self.work += own;
        }
        self.processor += (server.processor_seconds() - before) * 1e3;
        self.stolen += (machine::stolen_seconds() - stolen) * 1e3;
        Ok(())
    }

    /// The server's processor beyond the work, of a request.
    fn beyond(&self) -> f64 {
        (self.processor - self.work) / self.times.len() as f64
    }

    /// The same of what others took.
    fn stolen(&self) -> f64 {
        self.stolen / self.times.len() as f64
    }
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
