//! Reading the logs of a run: of one attempt or of many, in the order of time, to the end or as they come.

use std::collections::{HashSet, VecDeque};
use std::time::Duration;

use serde::{Deserialize, Serialize};
use tracing::Level;

use super::Logs;
use super::key::LogKey;
use super::line::{LogLine, Stream};
use super::stored::Stored;
use crate::error::{Error, Result};
use crate::ids::RunId;
use crate::state::{AttemptFacts, AttemptState, Store, Which};

/// How long a reader that follows waits before it looks again.
const LOOK_AGAIN: Duration = Duration::from_millis(500);

/// What somebody wants to read.
#[derive(Clone, Debug)]
pub struct Wanted {
    /// The run.
    pub run: RunId,
    /// One of its tasks; none: all.
    pub task: Option<String>,
    /// An item of a mapped task; none: all.
    pub map_index: Option<u32>,
    /// An attempt by its number; none: the last of each task instance.
    pub attempt: Option<u32>,
    /// Whether to wait for lines that come, until what is read has ended.
    pub follow: bool,
}

/// A line and whose it is.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct RunLine {
    /// The task.
    pub task: String,
    /// The item of a mapped task.
    pub map_index: Option<u32>,
    /// Number of the attempt.
    pub attempt: u32,
    /// What it says.
    #[serde(flatten)]
    pub line: LogLine,
}

/// Reads the lines of one or more attempts.
pub struct LogReader {
    store: Store,
    logs: Logs,
    wanted: Wanted,
    which: Which,
    dag: String,
    /// Attempts not begun to be read, the oldest first: memory holds lines of those only that ran at the same time.
    coming: VecDeque<AttemptFacts>,
    open: Vec<Source>,
    seen: HashSet<String>,
    /// Nothing comes after what is there.
    is_over: bool,
}

/// One attempt that is read.
struct Source {
    facts: AttemptFacts,
    stored: Stored,
    lines: VecDeque<LogLine>,
    has_ended: bool,
    /// The store has no more for now.
    is_dry: bool,
}

impl LogReader {
    /// A reader of what is wanted.
    ///
    /// # Errors
    /// [`Error::RunNotFound`], [`Error::TaskNotFound`], and [`Error::NoAttempt`] when there is no such attempt and nobody
    /// waits for it.
    pub async fn open(store: &Store, logs: &Logs, wanted: Wanted) -> Result<Self> {
        let plan = store.plan(wanted.run).await?;
        if let Some(task) = wanted.task.as_ref().filter(|task| plan.dag.position(task).is_none()) {
            let names = plan.dag.tasks().iter().map(|task| task.id.as_str()).collect::<Vec<_>>().join(", ");
            return Err(Error::TaskNotFound { run: wanted.run, task: task.clone(), names });
        }
        let which = Which { task: wanted.task.clone(), map_index: wanted.map_index, attempt: wanted.attempt };
        let mut reader = Self {
            store: store.clone(),
            logs: logs.clone(),
            which,
            dag: plan.dag.name.clone(),
            coming: VecDeque::new(),
            open: Vec::new(),
            seen: HashSet::new(),
            is_over: false,
            wanted,
        };
        reader.look().await?;
        if reader.coming.is_empty() && reader.is_over {
            return Err(Error::NoAttempt { run: reader.wanted.run });
        }
        Ok(reader)
    }

    /// The next line; none at the end. A reader that follows waits for it.
    pub async fn next(&mut self) -> Result<Option<RunLine>> {
        loop {
            if let Some(line) = self.earliest().await? {
                return Ok(Some(line));
            }
            if self.is_over {
                return Ok(None);
            }
            tokio::time::sleep(LOOK_AGAIN).await;
            self.look().await?;
        }
    }

    /// Looks what has begun and what has ended; what has ended then has all its lines in the store.
    async fn look(&mut self) -> Result<()> {
        // Asked first: what begins afterwards is seen by the next look.
        let ended = match self.wanted.task {
            Some(_) => self.store.have_ended(self.wanted.run, &self.which).await?,
            None => self.store.run(self.wanted.run).await?.state.is_finished(),
        };
        for facts in self.store.attempt_facts(self.wanted.run, &self.which).await? {
            if self.seen.insert(facts.id.clone()) {
                self.coming.push_back(facts);
            }
        }
        let mut all_ended = self.coming.iter().all(|facts| facts.finished_at.is_some());
        for source in &mut self.open {
            source.is_dry = false;
            if let Some(now) = self.store.attempt_now(&source.facts).await? {
                source.has_ended = now.finished_at.is_some();
                source.facts = now;
            } else {
                source.has_ended = true;
            }
            all_ended &= source.has_ended;
        }
        let that_attempt = self.wanted.attempt.is_some() && self.seen.len() == 1 && all_ended;
        self.is_over = !self.wanted.follow || ended && all_ended || that_attempt;
        Ok(())
    }

    /// The earliest line that is there.
    async fn earliest(&mut self) -> Result<Option<RunLine>> {
        loop {
            for source in &mut self.open {
                source.fill().await?;
            }
            let ended = |source: &Source| source.has_ended && source.is_dry && source.lines.is_empty();
            self.open.retain(|source| !ended(source));
            let heads = self.open.iter().enumerate();
            let heads = heads.filter_map(|(place, source)| Some((source.lines.front()?.time.clone(), place)));
            let first = heads.min();
            let next = self.coming.front().map(|facts| facts.started_at.to_string());
            match (first, next) {
                (Some((time, place)), next) if next.as_ref().is_none_or(|next| time <= *next) => {
                    return Ok(self.open[place].take());
                }
                (_, Some(_)) => {
                    let Some(facts) = self.coming.pop_front() else { return Ok(None) };
                    let source = Source::new(&self.logs, &self.dag, self.wanted.run, facts);
                    self.open.push(source);
                }
                _ => return Ok(None),
            }
        }
    }
}

impl Source {
    fn new(logs: &Logs, dag: &str, run: RunId, facts: AttemptFacts) -> Self {
        let key = LogKey {
            dag: dag.to_owned(),
            run,
            task: facts.task.clone(),
            map_index: facts.map_index,
            attempt: facts.number,
        };
        Self {
            lines: VecDeque::from([first_line(&facts)]),
            has_ended: facts.finished_at.is_some(),
            stored: Stored::new(logs.clone(), key),
            is_dry: false,
            facts,
        }
    }

    /// Reads on when nothing is left; after the last line comes how the attempt ended.
    async fn fill(&mut self) -> Result<()> {
        if !self.lines.is_empty() || self.is_dry {
            return Ok(());
        }
        self.lines.extend(self.stored.next().await?);
        if self.lines.is_empty() {
            self.is_dry = true;
            self.lines.extend(last_line(&self.facts).filter(|_| self.has_ended));
        }
        Ok(())
    }

    fn take(&mut self) -> Option<RunLine> {
        let line = self.lines.pop_front()?;
        let AttemptFacts { task, map_index, number, .. } = &self.facts;
        Some(RunLine { task: task.clone(), map_index: *map_index, attempt: *number, line })
    }
}

/// Names no process of another attempt: the number tells them apart.
fn first_line(facts: &AttemptFacts) -> LogLine {
    let AttemptFacts { number, host, process, .. } = facts;
    let message = format!("attempt {number} begins on {host}, process {process}");
    LogLine::new(facts.started_at, Stream::Event, Some(Level::INFO), &message)
}

fn last_line(facts: &AttemptFacts) -> Option<LogLine> {
    let (level, how) = match facts.state {
        AttemptState::Running => return None,
        AttemptState::Succeeded => (Level::INFO, "succeeded"),
        AttemptState::Failed => (Level::ERROR, "failed"),
        AttemptState::Lost => (Level::WARN, "was lost"),
        AttemptState::Cancelled => (Level::WARN, "was cancelled"),
    };
    let why = facts.error.as_ref().map(|error| format!(": {error}")).unwrap_or_default();
    let message = format!("attempt {} {how}{why}", facts.number);
    Some(LogLine::new(facts.finished_at?, Stream::Event, Some(level), &message))
}
