//! Contexts, logs and a look at the processes of this machine.

use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

use jobs::{CommandJob, Masker};
use pipeline::logs::{AttemptLog, Stream};
use pipeline::{Cancel, Job, JobContext, JobError, JobOutput, ProgressSink, RunId};
use serde_json::Value;
use tempfile::TempDir;
use tokio::sync::watch;

/// Nothing here takes longer unless it hangs.
pub const PATIENCE: Duration = Duration::from_secs(15);

/// Keeps the lines of an attempt and tells of new ones.
#[derive(Debug)]
pub struct Recorder(watch::Sender<Vec<(Stream, String)>>);

impl Recorder {
    pub fn new() -> Arc<Self> {
        Arc::new(Self(watch::Sender::new(Vec::new())))
    }

    pub fn lines(&self, stream: Stream) -> Vec<String> {
        let lines = self.0.borrow();
        lines.iter().filter(|(of, _)| *of == stream).map(|(_, text)| text.clone()).collect()
    }

    /// Waits for a line that starts so and gives the rest of it.
    pub async fn line(&self, start: &str) -> String {
        let mut lines = self.0.subscribe();
        let found = lines.wait_for(|lines| lines.iter().any(|(_, text)| text.starts_with(start)));
        let found = tokio::time::timeout(PATIENCE, found).await.expect("the line comes").unwrap();
        let line = found.iter().find_map(|(_, text)| text.strip_prefix(start));
        line.unwrap().trim().to_owned()
    }
}

impl AttemptLog for Recorder {
    fn line(&self, stream: Stream, text: &str) {
        self.0.send_modify(|lines| lines.push((stream, text.to_owned())));
    }
}

/// An attempt of a command: its log, its folder and the switch that stops it.
pub struct Attempt {
    pub log: Arc<Recorder>,
    pub home: TempDir,
    pub stop: watch::Sender<bool>,
    context: JobContext,
    masker: Masker,
}

impl Attempt {
    pub fn new() -> Self {
        Self::with_secrets(&[])
    }

    pub fn with_secrets(secrets: &[&str]) -> Self {
        let home = tempfile::tempdir().unwrap();
        let log = Recorder::new();
        let (stop, context) = logged_context(home.path(), log.clone());
        let masker = Masker::new(secrets.iter().map(|secret| (*secret).to_owned()));
        Self { log, home, stop, context, masker }
    }

    /// Runs the job; it must end in time.
    pub async fn run(&self, with: Value) -> Result<JobOutput, JobError> {
        let job = CommandJob::new(self.masker.clone());
        job.check(&with).unwrap();
        let running = job.run(self.context.clone(), with);
        tokio::time::timeout(PATIENCE, running).await.expect("the attempt does not hang")
    }
}

/// Runs a command in a fresh folder.
pub async fn command(with: Value) -> Result<JobOutput, JobError> {
    Attempt::new().run(with).await
}

/// A context in this folder and the switch that stops it.
pub fn context(home: &Path) -> (watch::Sender<bool>, JobContext) {
    logged_context(home, Recorder::new())
}

/// As [`context`], with a log that is looked at.
pub fn logged_context(home: &Path, log: Arc<dyn AttemptLog>) -> (watch::Sender<bool>, JobContext) {
    let (stop, cancel) = Cancel::new();
    let context = JobContext {
        run_id: RunId::new(),
        dag: "test".to_owned(),
        task: "work".to_owned(),
        map_index: None,
        attempt: 3,
        idempotency_key: "run-1/work".to_owned(),
        traceparent: "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01".to_owned(),
        cancel,
        progress: ProgressSink::default(),
        work_dir: home.to_owned(),
        log,
        masker: Masker::default(),
    };
    (stop, context)
}

/// The living processes of a group. Zombies that wait for this container's init are dead.
pub fn living(group: &str) -> Vec<String> {
    let processes = std::fs::read_dir("/proc").unwrap();
    let stats = processes.filter_map(|process| std::fs::read_to_string(process.ok()?.path().join("stat")).ok());
    stats.filter(|stat| is_alive_in(stat, group)).collect()
}

/// Asserts that nothing of a process group is left. A killed process dies by itself and tells only its parent, so this
/// looks until it has.
pub fn assert_gone(group: &str) {
    assert!(group.parse::<u32>().is_ok_and(|group| group > 1), "{group} is no process group");
    let began = Instant::now();
    while !living(group).is_empty() {
        assert!(began.elapsed() < PATIENCE, "still alive: {:?}", living(group));
        std::thread::yield_now();
    }
}

/// `pid (name) state parent group …`
fn is_alive_in(stat: &str, group: &str) -> bool {
    let fields: Vec<&str> = stat.rsplit(')').next().unwrap_or_default().split_whitespace().collect();
    fields.get(2) == Some(&group) && !matches!(fields.first(), Some(&"Z" | &"X"))
}
