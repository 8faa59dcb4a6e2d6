//! A server: runs that wait in its queue, how fast an idle one begins, and what it takes while nothing happens.

use std::process::{Child, Stdio};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use pipeline::clock::Timestamp;
use pipeline::{
    Dag, Job, JobContext, JobError, JobOutput, JobRegistry, Result as PipelineResult, Runner, RunnerOptions, Scheduler,
    Store,
};
use platform::database::{Address, Database};
use serde_json::Value;
use tokio::sync::{mpsc, watch};
use tokio::task::JoinHandle;

use super::flows;
use super::states::State;
use crate::error::{Error, Result};
use crate::machine::{leading_number, value};
use crate::workplace::Workplace;

/// What a process takes.
#[derive(Debug)]
pub(super) struct Idle {
    pub(super) percent: f64,
    pub(super) mebibytes: f64,
}

/// Scheduler and worker in this process, as `safari server` has them.
struct Server {
    runner: Arc<Runner>,
    stop: watch::Sender<bool>,
    scheduling: JoinHandle<()>,
    working: JoinHandle<PipelineResult<()>>,
    watching: JoinHandle<()>,
}

/// As `safari server` has it: work that nobody tells it of is looked for this often.
const POLL: Duration = Duration::from_secs(2);

impl Server {
    fn start(state: &State, registry: JobRegistry) -> Self {
        let options =
            RunnerOptions { parallelism: 32, exclusive: false, poll: POLL, ..RunnerOptions::new(state.home.path()) };
        let scheduler = Scheduler::new(state.store.clone(), options.poll);
        let runner = Arc::new(Runner::new(state.store.clone(), registry, options));
        let (stop, stopped) = watch::channel(false);
        let scheduling = tokio::spawn(async move { scheduler.serve(stopped).await });
        let working = tokio::spawn({
            let runner = Arc::clone(&runner);
            async move { runner.serve(Vec::new()).await }
        });
        let watched = state.store.clone();
        let watching = tokio::spawn(async move { watched.watch_others().await });
        Self { runner, stop, scheduling, working, watching }
    }

    async fn end(self) -> Result<()> {
        self.watching.abort();
        self.runner.drain();
        self.working.await.map_err(|error| Error::failed("the worker", error.to_string()))??;
        self.stop.send_replace(true);
        self.scheduling.await.map_err(|error| Error::failed("the scheduler", error.to_string()))
    }
}

/// Seconds from the start of a server to the end of all the runs that wait for it.
pub(super) async fn queued_runs(state: &State, count: usize) -> Result<f64> {
    let store = &state.store;
    let dag = Dag::parse("one", "dag: one\nmax_active_runs: 64\ntasks:\n  only: {job: nothing}\n")?;
    for _ in 0..count {
        store.create_run(&dag, &dag.params(&[])?, Timestamp::now()).await?;
    }
    let began = Instant::now();
    let server = Server::start(state, flows::registry()?);
    loop {
        let depth = store.depth(Timestamp::now()).await?;
        if depth.queued_runs + depth.running_runs == 0 {
            break;
        }
        tokio::time::sleep(Duration::from_millis(2)).await;
    }
    let took = began.elapsed().as_secs_f64();
    server.end().await?;
    Ok(took)
}

/// Who makes a run.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Trigger {
    /// The server's own process, as its API does.
    Own,
    /// Another process: one that knows the server only by the database.
    Other,
}

/// Milliseconds from the call that makes a run to the first line of its task, one after the other on an idle server.
pub(super) async fn trigger_to_start(state: &State, trigger: Trigger, count: usize) -> Result<Vec<f64>> {
    let store = match trigger {
        Trigger::Own => state.store.clone(),
        Trigger::Other => Store::open(Database::open(&state.address).await?).await?,
    };
    let (sender, mut begun) = mpsc::unbounded_channel();
    let mut registry = JobRegistry::new();
    registry.register(Arc::new(TellsStart(Mutex::new(sender))))?;
    let server = Server::start(state, registry);
    let dag = Dag::parse("one", "dag: one\ntasks:\n  only: {job: tells_start}\n")?;
    let mut times = Vec::new();
    for round in 0..=count {
        // At rest in between, so that every trigger finds an idle server.
        tokio::time::sleep(Duration::from_millis(25 + (round as u64 * 7) % 40)).await;
        let began = Instant::now();
        store.create_run(&dag, &dag.params(&[])?, Timestamp::now()).await?;
        let Some(at) = begun.recv().await else { break };
        if round > 0 {
            times.push(at.duration_since(began).as_secs_f64() * 1e3);
        }
    }
    server.end().await?;
    Ok(times)
}

struct TellsStart(Mutex<mpsc::UnboundedSender<Instant>>);

#[async_trait::async_trait]
impl Job for TellsStart {
    fn kind(&self) -> &'static str {
        "tells_start"
    }

    fn check(&self, _: &Value) -> std::result::Result<(), String> {
        Ok(())
    }

    async fn run(&self, _: JobContext, _: Value) -> std::result::Result<JobOutput, JobError> {
        // Nobody may be listening at the end.
        let _ = self.0.lock().unwrap_or_else(PoisonError::into_inner).send(Instant::now());
        Ok(JobOutput::new(Value::Null))
    }
}

/// A server process ends with its measurement.
struct Process(Child);

impl Drop for Process {
    fn drop(&mut self) {
        // It may have ended by itself.
        drop(self.0.kill());
        drop(self.0.wait());
    }
}

/// What `safari server` takes with the project's DAGs and nothing to do.
pub(super) fn idle(place: &Workplace, state: &State, seconds: u64) -> Result<Idle> {
    let mut command = place.server(state.home.path());
    if let Address::Postgres(url) = &state.address {
        command.env("SAFARI_STATE_URL", url);
    }
    command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
    let process = Process(command.spawn().map_err(Error::io("safari server"))?);
    std::thread::sleep(Duration::from_secs(3));
    let pid = process.0.id();
    let before = processor_ticks(pid)?;
    std::thread::sleep(Duration::from_secs(seconds));
    let ticks = processor_ticks(pid)? - before;
    let kilobytes = value(&format!("/proc/{pid}/status"), "VmRSS").and_then(|text| leading_number(&text)).unwrap_or(0);
    // The kernel counts in hundredths of a second.
    Ok(Idle { percent: ticks as f64 / seconds as f64, mebibytes: kilobytes as f64 / 1024.0 })
}

/// User and system time of a process: fields 14 and 15 of `/proc/PID/stat`.
fn processor_ticks(pid: u32) -> Result<u64> {
    let path = format!("/proc/{pid}/stat");
    let text = std::fs::read_to_string(&path).map_err(Error::io(&path))?;
    // The name in parentheses may hold blanks.
    let rest = text.rsplit_once(')').map_or("", |(_, rest)| rest);
    Ok(rest.split_whitespace().skip(11).take(2).filter_map(|ticks| ticks.parse::<u64>().ok()).sum())
}
