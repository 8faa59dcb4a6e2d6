//! DAG files: YAML to a checked [`Dag`]. All mistakes of a file are told at once, each with file, line and column.
//!
//! ```yaml
//! dag: detect
//! description: Find animals in camera-trap media
//! params:
//!   source: {type: string, description: a folder or s3:// URL}
//! tasks:
//!   ingest: {job: ingest, with: {source: "{{ params.source }}"}}
//!   infer:
//!     job: infer
//!     needs: [ingest]
//!     map: "{{ tasks.ingest.output.shards }}"
//!     with: {shard: "{{ item }}"}
//!     retries: 2
//!     retry_delay: 1s
//!     timeout: 1h
//!     parallelism: 2
//! ```
//!
//! `docs/dags.md` explains every key; [`schema`] is the same for editors.

mod alert;
mod check;
pub(crate) mod duration;
mod graph;
mod links;
mod mistake;
mod nearest;
mod params;
mod pod;
mod read;
mod schema;
mod size;
mod starts;
mod task;
mod times;
mod trigger;
mod yaml;

use std::collections::{BTreeSet, HashMap};
use std::path::Path;
use std::time::Duration;

use sha2::{Digest, Sha256};

pub use alert::{Alert, AlertEvent, AlertTarget};
pub use duration::parse as parse_duration;
pub use mistake::{Mistake, Mistakes, Place};
pub use params::{Param, ParamType, Params};
pub use pod::{PodSettings, SecretKey};
pub use schema::schema;
pub use starts::{Continuous, DagSchedule, Group, StreamSource};
pub use task::{Cache, DEFAULT_POOL, ExecutorKind, RUN_DAG_JOB, Resources, RetryPolicy, RetryRule, Task};
pub use trigger::{Decision, TriggerRule, Upstream};
pub use yaml::MAX_YAML_BYTES;

pub(crate) use mistake::Collector;
pub(crate) use nearest::hint;
pub(crate) use read::is_asset;

use crate::error::{Error, Result};

/// A checked DAG: its tasks depend on one another without a circle, and its templates name only what they can know.
#[derive(Clone, Debug)]
pub struct Dag {
    /// Its name (`dag:`).
    pub name: String,
    /// What it is for, in words.
    pub description: String,
    /// Its parameters, in the order of the file.
    pub params: Vec<Param>,
    /// What makes it run without being asked; nothing does when `continuous` is given.
    pub schedule: DagSchedule,
    /// Where its items come from when it never ends.
    pub continuous: Option<Continuous>,
    /// Most runs of it that are active at once, at least 1; further ones wait. 16 when not given.
    pub max_active_runs: u32,
    /// How long a run may take.
    pub timeout: Option<Duration>,
    /// A run that has not ended this long after the end of its data interval raises an alert; one that has no interval,
    /// this long after it was made.
    pub deadline: Option<Duration>,
    /// Whom to tell about its runs.
    pub alerts: Vec<Alert>,
    /// Its groups of tasks, in the order of the file.
    pub groups: Vec<Group>,
    tasks: Vec<Task>,
    index: HashMap<String, usize>,
    file: String,
    yaml: String,
}

impl Dag {
    /// Reads a DAG from its YAML text; `file` is the name that messages carry.
    pub fn parse(file: &str, yaml: &str) -> Result<Self> {
        let mut out = Collector::default();
        let mut draft = match yaml::parse(yaml) {
            Ok(root) => read::read(&root, yaml, &mut out),
            Err(mistake) => {
                out.add(mistake.place, mistake.message);
                read::Draft::default()
            }
        };
        let mut tasks = std::mem::take(&mut draft.tasks);
        if links::resolve(&mut tasks, &draft.groups, &mut out) {
            check::order(&mut tasks);
            check::uses(&tasks, &draft, &mut out);
            check::triggers(&tasks, &draft, &mut out);
        }
        if let Some(mistakes) = out.into_mistakes(file) {
            return Err(Error::Dag(mistakes));
        }
        let index = tasks.iter().enumerate().map(|(index, task)| (task.id.clone(), index)).collect();
        Ok(Self {
            name: draft.name,
            description: draft.description,
            params: draft.params,
            schedule: draft.schedule,
            continuous: draft.continuous,
            max_active_runs: draft.max_active_runs,
            timeout: draft.timeout,
            deadline: draft.deadline,
            alerts: draft.alerts,
            groups: draft.groups,
            tasks,
            index,
            file: file.to_string(),
            yaml: yaml.to_string(),
        })
    }

    /// Reads a DAG file.
    pub fn load(path: &Path) -> Result<Self> {
        let bytes = std::fs::read(path).map_err(|source| Error::ReadDag { path: path.to_path_buf(), source })?;
        let file = path.display().to_string();
        let yaml = String::from_utf8(bytes).map_err(|error| {
            let bad = error.utf8_error().valid_up_to();
            let message = format!("not readable as YAML: byte {bad} is not UTF-8; save the file as UTF-8");
            Error::Dag(Mistakes { file: file.clone(), list: vec![Mistake { place: Place::default(), message }] })
        })?;
        Self::parse(&file, &yaml)
    }

    /// The same of parameters given as JSON.
    pub fn params_from_json(&self, given: serde_json::Map<String, serde_json::Value>) -> Result<Params> {
        let text = |value| match value {
            serde_json::Value::String(text) => text,
            other => other.to_string(),
        };
        let given: Vec<(String, String)> = given.into_iter().map(|(name, value)| (name, text(value))).collect();
        self.params(&given)
    }

    /// The tasks in topological order: every task after those that it needs.
    pub fn tasks(&self) -> &[Task] {
        &self.tasks
    }

    /// The task of this name.
    pub fn task(&self, id: &str) -> Option<&Task> {
        self.position(id).and_then(|position| self.tasks.get(position))
    }

    /// The tasks of a group, in topological order.
    pub fn tasks_in<'a>(&'a self, group: &'a str) -> impl Iterator<Item = &'a Task> {
        self.tasks.iter().filter(move |task| task.group.as_deref() == Some(group))
    }

    /// Names of all secrets that its tasks and alerts use.
    pub fn secret_uses(&self) -> BTreeSet<String> {
        let tasks = self.tasks.iter().flat_map(|task| &task.secret_uses);
        tasks.chain(self.alerts.iter().flat_map(|alert| &alert.secret_uses)).cloned().collect()
    }

    /// Its shape as a Mermaid flowchart, for people: groups, tasks, and what needs what.
    pub fn graph_text(&self) -> String {
        graph::mermaid(self)
    }

    /// The place of a task in the topological order.
    pub(crate) fn position(&self, id: &str) -> Option<usize> {
        self.index.get(id).copied()
    }

    /// The text that the DAG was read from.
    pub fn yaml(&self) -> &str {
        &self.yaml
    }

    /// SHA-256 of the text, in hexadecimal: names the version of the DAG.
    pub fn sha256(&self) -> String {
        hex::encode(Sha256::digest(self.yaml.as_bytes()))
    }

    /// The name of the file in messages.
    pub fn file(&self) -> &str {
        &self.file
    }

    /// Types parameters given as text and adds defaults. The error names every parameter that is unknown, missing or
    /// does not fit its type.
    pub fn params(&self, given: &[(String, String)]) -> Result<Params> {
        params::resolve(&self.name, &self.params, given)
    }
}
