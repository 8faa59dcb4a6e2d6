//! The registry beside MLflow's own server, on the same rows, asked in turns.

mod contestant;
mod files;
mod fill;
mod load;

use std::sync::Arc;
use std::time::Duration;

use serde_json::json;
use tokio::runtime::Runtime;

use crate::error::{Error, Result};
use crate::http::Request;
use crate::results::{Row, median, percentile};
use crate::workplace::Workplace;

use contestant::Contestant;
use files::Rates;
use fill::Filled;
use load::{Ask, Loaded};

/// The peer's name in the table.
const PEER: &str = "mlflow server";
/// How many times MLflow's requests a second reads are to reach.
const READ_GOAL: f64 = 30.0;
/// How many times less of the processor a read is to take.
const PROCESSOR_GOAL: f64 = 20.0;
/// How many times MLflow's requests a second batches are to reach.
const BATCH_GOAL: f64 = 10.0;
/// How many times less memory.
const MEMORY_GOAL: f64 = 10.0;
/// Seconds from the start to the first answer.
const START_GOAL: f64 = 1.0;
/// Part of the bare disk's rate that artifacts are to reach.
const DISK_GOAL: f64 = 0.8;

/// What is asked of both.
struct Workload {
    what: &'static str,
    /// Times the requests a second, and times less of the processor, if there are goals.
    goals: (f64, Option<f64>),
    ask: fn(&Filled) -> Ask,
}

/// Measures the section.
pub(crate) fn run(place: &Workplace) -> Result<Vec<Row>> {
    let runtime = Runtime::new().map_err(Error::io("the runtime"))?;
    runtime.block_on(measure(place))
}

async fn measure(place: &Workplace) -> Result<Vec<Row>> {
    let mut rows = Vec::new();
    let ours = Contestant::ours(place).await?;
    let real = match Contestant::real().await {
        Ok(real) => real,
        Err(reason) => return Ok(vec![Row::skipped("all of these", PEER, "requests/s", &reason.to_string())]),
    };
    rows.push(start(place, &ours, &real).await?);
    let small = Contestant::small(place).await?;
    rows.extend(memory("memory, idle", &ours, small.as_ref(), &real)?);

    let (versions, runs) = (place.pick(1000, 50), place.pick(100_000, 2000));
    eprintln!("  filling both: {versions} versions, {runs} runs");
    let filled = [fill::fill(&ours, true, versions, runs).await?, fill::fill(&real, false, versions, runs).await?];
    let small_filled = match &small {
        Some(small) => Some(fill::fill(small, true, versions, runs).await?),
        None => None,
    };

    let rounds = place.pick(3, 1);
    let seconds = place.pick(4, 1) as f64;
    for workload in workloads() {
        eprintln!("  {}", workload.what);
        let asks = [(workload.ask)(&filled[0]), (workload.ask)(&filled[1])];
        let mut loaded = [Loaded::default(), Loaded::default()];
        for _ in 0..rounds {
            for ((server, ask), loaded) in [&ours, &real].into_iter().zip(&asks).zip(&mut loaded) {
                let first = loaded.count();
                loaded.round(server, ask, first, seconds).await?;
            }
        }
        rows.extend(compared(&workload, &loaded));
        // For its memory.
        if let (Some(small), Some(filled)) = (&small, &small_filled) {
            Loaded::default().round(small, &(workload.ask)(filled), 0, seconds).await?;
        }
    }
    rows.extend(memory("memory, after these requests", &ours, small.as_ref(), &real)?);

    let mebibytes = place.pick(1024, 64);
    eprintln!("  an artifact of {mebibytes} MiB");
    rows.extend(artifacts(&ours, small.as_ref(), &real, mebibytes, place.pick(3, 1)).await?);
    rows.extend(memory("memory, after these artifacts", &ours, small.as_ref(), &real)?);
    Ok(rows)
}

fn workloads() -> Vec<Workload> {
    let read = (READ_GOAL, Some(PROCESSOR_GOAL));
    vec![
        Workload {
            what: "registered-models/get, 1 version",
            goals: read,
            ask: |_| same("registered-models/get?name=one"),
        },
        Workload {
            what: "registered-models/get, 1,000 versions",
            goals: read,
            ask: |_| same("registered-models/get?name=many"),
        },
        Workload {
            what: "get by alias",
            goals: read,
            ask: |_| same("registered-models/alias?name=many&alias=champion"),
        },
        Workload {
            what: "model-versions/search, a page of 100",
            goals: read,
            ask: |_| same("model-versions/search?max_results=100&filter=name%3D%27many%27"),
        },
        Workload { what: "runs/search by metric and tag in 100,000 runs, 20 a page", goals: read, ask: search },
        Workload { what: "runs/search in order of a metric in 100,000 runs, 20 a page", goals: read, ask: order },
        Workload { what: "log-batch of 100 metrics", goals: (BATCH_GOAL, None), ask: batch },
    ]
}

fn same(target: &'static str) -> Ask {
    Arc::new(move |_| Request::get(format!("/api/2.0/mlflow/{target}")))
}

fn search(filled: &Filled) -> Ask {
    let experiment = filled.experiment.clone();
    Arc::new(move |number| {
        let filter = format!("metrics.f1 > 0.9 AND tags.site = 's{}'", number % 50);
        let body = json!({ "experiment_ids": [experiment], "filter": filter, "max_results": 20 });
        Request::post("/api/2.0/mlflow/runs/search", &body)
    })
}

fn order(filled: &Filled) -> Ask {
    let experiment = filled.experiment.clone();
    Arc::new(move |number| {
        let filter = format!("tags.site = 's{}'", number % 50);
        let body = json!({ "experiment_ids": [experiment], "filter": filter, "order_by": ["metrics.f1 DESC"], "max_results": 20 });
        Request::post("/api/2.0/mlflow/runs/search", &body)
    })
}

fn batch(filled: &Filled) -> Ask {
    let runs = filled.runs.clone();
    Arc::new(move |number| {
        let metrics: Vec<_> = (0..100)
            .map(|key| json!({ "key": format!("m{key}"), "value": key as f64 / 7.0, "timestamp": number, "step": number }))
            .collect();
        let body = json!({ "run_id": runs[number % runs.len()], "metrics": metrics });
        Request::post("/api/2.0/mlflow/runs/log-batch", &body)
    })
}

/// Requests a second with percentiles, and the server's processor.
fn compared(workload: &Workload, [ours, real]: &[Loaded; 2]) -> Vec<Row> {
    let (rate, processor) = workload.goals;
    let note = |loaded: &Loaded| {
        let at = |part: f64| percentile(&loaded.milliseconds, part);
        format!("p50 {:.2} ms, p99 {:.2} ms of {} requests", at(0.5), at(0.99), loaded.count())
    };
    let rates = (median(&ours.rates), median(&real.rates));
    let spent = (median(&ours.processor), median(&real.processor));
    let row = Row::compare(workload.what, PEER, "requests/s", rates, true).at_least(rate);
    let what = format!("{}, processor a request", workload.what);
    let second = Row::compare(&what, PEER, "ms", spent, false);
    vec![
        row.note(format!("{}; {PEER}: {}", note(ours), note(real))),
        match processor {
            Some(goal) => second.at_least(goal),
            None => second,
        },
    ]
}

/// Medians of several starts of ours; the real one's start is the only one.
async fn start(place: &Workplace, ours: &Contestant, real: &Contestant) -> Result<Row> {
    let mut times = vec![ours.started_in.as_secs_f64()];
    for _ in 0..place.pick(4, 1) {
        times.push(Contestant::ours(place).await?.started_in.as_secs_f64());
    }
    let numbers = (median(&times), real.started_in.as_secs_f64());
    let row = Row::compare("start to first answer, with empty tables made", PEER, "s", numbers, false);
    let met = Some(numbers.0 < START_GOAL);
    Ok(Row { goal: Some(format!("< {START_GOAL} s")), met, ..row }
        .note(format!("{} starts of ours, one of the peer", times.len())))
}

/// The goal is that of the program that servers use, where it was built.
fn memory(what: &str, ours: &Contestant, small: Option<&Contestant>, real: &Contestant) -> Result<Vec<Row>> {
    let theirs = real.mebibytes()?;
    let row = |what: &str, ours: f64| Row::compare(what, PEER, "MiB", (ours, theirs), false);
    let whole = row(what, ours.mebibytes()?);
    let Some(small) = small else { return Ok(vec![whole.at_least(MEMORY_GOAL)]) };
    let small = row(&format!("{what}, without libtorch"), small.mebibytes()?);
    Ok(vec![whole, small.at_least(MEMORY_GOAL)])
}

async fn artifacts(
    ours: &Contestant,
    small: Option<&Contestant>,
    real: &Contestant,
    mebibytes: usize,
    rounds: usize,
) -> Result<Vec<Row>> {
    let folder = tempfile::tempdir().map_err(Error::io(std::env::temp_dir()))?;
    let source = folder.path().join("source");
    files::make(&source, mebibytes)?;
    let (mut bare, mut mine, mut theirs) = (Rates::default(), Rates::default(), Rates::default());
    let mut kernel = Vec::new();
    for round in 0..rounds {
        files::bare(&mut bare, &source, folder.path())?;
        kernel.push(files::sent_by_the_kernel(&source)?);
        files::through(&mut mine, ours, &source, &format!("file{round}")).await?;
        files::through(&mut theirs, real, &source, &format!("file{round}")).await?;
        if let Some(small) = small {
            files::through(&mut Rates::default(), small, &source, &format!("file{round}")).await?;
        }
        // The disk's own cache settles.
        tokio::time::sleep(Duration::from_millis(500)).await;
    }
    let row = |what: &str, against: &str, ours: &[f64], other: &[f64]| {
        Row::compare(&format!("{what} of {mebibytes} MiB"), against, "MiB/s", (median(ours), median(other)), true)
    };
    Ok(vec![
        row("upload", "the bare disk", &mine.up, &bare.up).at_least(DISK_GOAL).note("both flushed to the disk"),
        row("upload", PEER, &mine.up, &theirs.up).note("the peer does not flush"),
        row("download", "the bare disk", &mine.down, &bare.down).at_least(DISK_GOAL).note("not in the system's cache"),
        row("download", "the kernel's sendfile to a bare client", &mine.down, &kernel)
            .note("the most that a connection on these cores carries"),
        row("download", PEER, &mine.down, &theirs.down),
    ])
}
