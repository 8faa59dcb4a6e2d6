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

mod check;
mod duration;
mod mistake;
mod nearest;
mod params;
mod read;
mod yaml;

use std::collections::{BTreeSet, HashMap};
use std::path::Path;
use std::time::Duration;

use serde_json::Value;
use sha2::{Digest, Sha256};

pub use mistake::{Mistake, Mistakes, Place};
pub use params::{Param, ParamType, Params};
pub use yaml::MAX_YAML_BYTES;

pub(crate) use mistake::Collector;
pub(crate) use nearest::hint;

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
    tasks: Vec<Task>,
    index: HashMap<String, usize>,
    file: String,
    yaml: String,
}

/// A task of a DAG.
#[derive(Clone, Debug)]
pub struct Task {
    /// Its name, unique in the DAG.
    pub id: String,
    /// What it is for, in words.
    pub description: String,
    /// The kind of job that does it.
    pub job: String,
    /// What the job is given: a JSON object whose texts may be templates.
    pub with: Value,
    /// Tasks that must succeed before.
    pub needs: Vec<String>,
    /// For a mapped task: a list, or a template that gives one; the task runs once for each item.
    pub map: Option<Value>,
    /// How often a failed attempt is tried again.
    pub retries: u32,
    /// Wait before the first retry; doubles for each further one.
    pub retry_delay: Duration,
    /// How long one attempt may take.
    pub timeout: Option<Duration>,
    /// How many items of a mapped task may run at once; the run's own limit holds as well.
    pub parallelism: Option<u32>,
    /// Tasks whose outputs `with` uses.
    pub(crate) with_uses: BTreeSet<String>,
    /// Tasks whose outputs `map` uses.
    pub(crate) map_uses: BTreeSet<String>,
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
        check::order(&mut tasks, &mut out);
        check::uses(&tasks, &draft, &mut out);
        if let Some(mistakes) = out.into_mistakes(file) {
            return Err(Error::Dag(mistakes));
        }
        let index = tasks.iter().enumerate().map(|(index, task)| (task.id.clone(), index)).collect();
        Ok(Self {
            name: draft.name,
            description: draft.description,
            params: draft.params,
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

    /// The tasks in topological order: every task after those that it needs.
    pub fn tasks(&self) -> &[Task] {
        &self.tasks
    }

    /// The task of this name.
    pub fn task(&self, id: &str) -> Option<&Task> {
        self.position(id).and_then(|position| self.tasks.get(position))
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
