//! A task of a DAG and its settings.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use regex::Regex;
use serde_json::Value;

use super::mistake::Place;
use super::pod::PodSettings;
use super::trigger::TriggerRule;

/// The kind of job that a task with `dag:` has. It is given `{"dag": NAME, "params": {…}, "wait": BOOLEAN}`, starts a
/// run of that DAG, and with `wait` ends when that run has ended.
pub const RUN_DAG_JOB: &str = "run_dag";

/// The pool of a task that names none.
pub const DEFAULT_POOL: &str = "default";

/// Where attempts run.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum ExecutorKind {
    /// In a worker.
    #[default]
    Worker,
    /// In a pod of their own.
    Kubernetes,
}

/// A task of a DAG. What the file leaves out has the value of the DAG's `defaults`, or else the one told here.
#[derive(Clone, Debug)]
pub struct Task {
    /// Its name, unique in the DAG.
    pub id: String,
    /// What it is for, in words.
    pub description: String,
    /// The group that it belongs to.
    pub group: Option<String>,
    /// The kind of job that does it; [`RUN_DAG_JOB`] for a task with `dag:`.
    pub job: String,
    /// What the job is given: a JSON object whose texts may be templates.
    pub with: Value,
    /// Tasks that must end before, as `trigger` says; groups are replaced by their tasks.
    pub needs: Vec<String>,
    /// How the ends of the tasks in `needs` decide whether it goes; all must succeed when not given.
    pub trigger: TriggerRule,
    /// `true`, `false` or a template that gives one; with `false` the task is skipped.
    pub when: Option<Value>,
    /// For a mapped task: a list, or a template that gives one; the task runs once for each item.
    pub map: Option<Value>,
    /// How often a failed attempt is tried again; 0 when not given.
    pub retries: u32,
    /// Wait before the first retry; doubles for each further one. A second when not given.
    pub retry_delay: Duration,
    /// No wait before a retry is longer.
    pub retry_max_delay: Option<Duration>,
    /// Errors that are tried again otherwise; see [`Task::retry_policy`].
    pub retry_on: Vec<RetryRule>,
    /// How long one attempt may take.
    pub timeout: Option<Duration>,
    /// How long all attempts together may take, from the start of the first, waits between them included.
    pub task_timeout: Option<Duration>,
    /// How many items of a mapped task may run at once; the run's own limit holds as well.
    pub parallelism: Option<u32>,
    /// The pool whose slots its attempts take; [`DEFAULT_POOL`] when not given.
    pub pool: String,
    /// How many slots of the pool one attempt takes, at least 1; 1 when not given.
    pub slots: u32,
    /// Which of the tasks that could start goes first, -100 to 100, the greatest first; 0 when not given.
    pub priority: i32,
    /// The queue of the workers that may do it; any when not given.
    pub queue: Option<String>,
    /// Labels that a worker must have to do it.
    pub labels: BTreeMap<String, String>,
    /// What one attempt needs of a machine.
    pub resources: Resources,
    /// Where its attempts run; where the installation says when not given.
    pub executor: Option<ExecutorKind>,
    /// The pod that an attempt has when it runs in one.
    pub pod: PodSettings,
    /// Whether an earlier output may be taken instead of doing it.
    pub cache: Option<Cache>,
    /// Assets that are updated when it succeeds.
    pub produces: Vec<String>,
    /// Names of the secrets that `with` uses: see [`Scope::with_secrets`](crate::template::Scope::with_secrets).
    pub secret_uses: BTreeSet<String>,
    /// Tasks whose outputs `with` uses.
    pub(crate) with_uses: BTreeSet<String>,
    /// Tasks whose outputs `map` uses.
    pub(crate) map_uses: BTreeSet<String>,
    /// Tasks whose outputs `when` uses.
    pub(crate) when_uses: BTreeSet<String>,
    /// Tasks whose outputs `cache.key` uses.
    pub(crate) cache_uses: BTreeSet<String>,
    /// Positions of the tasks that need this one.
    pub(crate) downstream: Vec<usize>,
    pub(crate) places: TaskPlaces,
}

/// Where parts of a task stand in the file.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct TaskPlaces {
    pub(crate) id: Place,
    pub(crate) job: Place,
    pub(crate) with: Place,
    pub(crate) trigger: Place,
}

/// What becomes of an attempt that failed with a certain error: an entry of `retry_on:`.
#[derive(Clone, Debug)]
pub struct RetryRule {
    /// Matches errors in whose message it is found.
    pub error: Regex,
    /// How often such an error is tried again, instead of the task's `retries`.
    pub retries: Option<u32>,
    /// Wait before the first retry, instead of the task's `retry_delay`.
    pub delay: Option<Duration>,
}

/// How a failed attempt is tried again.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RetryPolicy {
    /// How often.
    pub retries: u32,
    /// Wait before the first retry; doubles for each further one.
    pub delay: Duration,
    /// No wait is longer.
    pub max_delay: Option<Duration>,
}

/// When an earlier output of a task is taken instead of doing it again.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Cache {
    /// A template for the text that names the output. Without it, the job's kind and its rendered `with` do. Secrets
    /// are no part of a key: render `with` for it with a lookup that gives their names.
    pub key: Option<String>,
    /// How long an output may be taken; for good when not given.
    pub ttl: Option<Duration>,
}

/// What one attempt needs of a machine; 0 where it asks for nothing.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Resources {
    /// Thousandths of a processor core.
    pub cpu_millis: u32,
    /// Memory in bytes.
    pub memory_bytes: u64,
    /// Whole GPUs.
    pub gpus: u32,
}

impl ExecutorKind {
    /// All of them.
    pub const ALL: [Self; 2] = [Self::Worker, Self::Kubernetes];

    /// Its name in DAG files, settings and the state.
    pub fn name(self) -> &'static str {
        match self {
            Self::Worker => "worker",
            Self::Kubernetes => "kubernetes",
        }
    }

    /// The executor of this name.
    pub fn from_name(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|executor| executor.name() == name)
    }
}

impl Resources {
    /// What is left when `other` is taken; nothing when there is too little of anything.
    pub(crate) fn less(self, other: Self) -> Option<Self> {
        Some(Self {
            cpu_millis: self.cpu_millis.checked_sub(other.cpu_millis)?,
            memory_bytes: self.memory_bytes.checked_sub(other.memory_bytes)?,
            gpus: self.gpus.checked_sub(other.gpus)?,
        })
    }
}

impl Task {
    /// A task that leaves everything out.
    pub(super) fn new(id: &str, place: Place) -> Self {
        Self {
            id: id.to_string(),
            description: String::new(),
            group: None,
            job: String::new(),
            with: Value::Object(serde_json::Map::new()),
            needs: Vec::new(),
            trigger: TriggerRule::default(),
            when: None,
            map: None,
            retries: 0,
            retry_delay: Duration::from_secs(1),
            retry_max_delay: None,
            retry_on: Vec::new(),
            timeout: None,
            task_timeout: None,
            parallelism: None,
            pool: DEFAULT_POOL.to_string(),
            slots: 1,
            priority: 0,
            queue: None,
            labels: BTreeMap::new(),
            resources: Resources::default(),
            executor: None,
            pod: PodSettings::default(),
            cache: None,
            produces: Vec::new(),
            secret_uses: BTreeSet::new(),
            with_uses: BTreeSet::new(),
            map_uses: BTreeSet::new(),
            when_uses: BTreeSet::new(),
            cache_uses: BTreeSet::new(),
            downstream: Vec::new(),
            places: TaskPlaces { id: place, job: place, with: place, trigger: place },
        }
    }

    /// Its labels as text, the same for equal labels; nothing when it has none.
    pub(crate) fn labels_text(&self) -> Option<String> {
        let labels = || self.labels.iter().map(|(name, value)| (name.clone(), Value::String(value.clone())));
        (!self.labels.is_empty()).then(|| Value::Object(labels().collect()).to_string())
    }

    /// Its executor as the state keeps it. A task that runs another DAG waits most of the time, and needs no pod for that.
    pub(crate) fn executor_text(&self) -> Option<&'static str> {
        if self.runs_dag() {
            return Some(ExecutorKind::Worker.name());
        }
        self.executor.map(ExecutorKind::name)
    }

    /// Whether it may go when a run begins, whatever other tasks do.
    pub(crate) fn may_go_first(&self) -> bool {
        self.needs.is_empty() || self.trigger == TriggerRule::Always
    }

    /// Whether it starts a run of another DAG.
    pub fn runs_dag(&self) -> bool {
        self.job == RUN_DAG_JOB
    }

    /// How an attempt that failed with this message is tried again: as the first rule of `retry_on` that matches says,
    /// and as the task says where that rule is silent or none matches.
    pub fn retry_policy(&self, message: &str) -> RetryPolicy {
        let rule = self.retry_on.iter().find(|rule| rule.error.is_match(message));
        RetryPolicy {
            retries: rule.and_then(|rule| rule.retries).unwrap_or(self.retries),
            delay: rule.and_then(|rule| rule.delay).unwrap_or(self.retry_delay),
            max_delay: self.retry_max_delay,
        }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn the_first_rule_that_matches_decides() {
        let seconds = Duration::from_secs;
        let rule = |error: &str, retries, delay| RetryRule { error: Regex::new(error).unwrap(), retries, delay };
        let mut task = Task::new("a", Place::default());
        task.retries = 3;
        task.retry_max_delay = Some(seconds(60));
        task.retry_on = vec![
            rule("(?i)no such key", Some(0), None),
            rule("5[0-9]{2}", None, Some(seconds(30))),
            rule("key", Some(9), Some(seconds(9))),
        ];
        let policy = |message: &str| {
            let policy = task.retry_policy(message);
            (policy.retries, policy.delay.as_secs(), policy.max_delay)
        };
        let most = Some(seconds(60));
        assert_eq!(policy("No such key: a.jpg"), (0, 1, most));
        assert_eq!(policy("the store answered 503"), (3, 30, most));
        assert_eq!(policy("a broken key"), (9, 9, most));
        assert_eq!(policy("the disk is full"), (3, 1, most));
    }
}
