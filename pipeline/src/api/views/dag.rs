//! DAGs.

use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};
use utoipa::ToSchema;

use crate::clock::Timestamp;
use crate::dag::{Dag, Param, Task};
use crate::ids::DagVersionId;
use crate::state::DagRecord;

/// A DAG.
#[derive(Clone, Debug, Serialize, Deserialize, ToSchema)]
pub struct DagView {
    /// Its name.
    pub name: String,
    /// The version that new runs have.
    pub version: DagVersionId,
    /// The file that a server reads it from.
    pub file: Option<String>,
    /// Runs that are running.
    pub active_runs: u64,
    /// Its schedule rests.
    pub paused: bool,
    /// End of the last data interval that has a run.
    pub done_until: Option<Timestamp>,
}

/// A page of DAGs by name.
#[derive(Clone, Debug, Serialize, Deserialize, ToSchema)]
pub struct Dags {
    /// The DAGs.
    pub dags: Vec<DagView>,
    /// `after` of the next page; none on the last.
    pub next: Option<String>,
}

/// A DAG, its parameters, and its tasks in topological order, as new runs have them.
#[derive(Clone, Debug, Serialize, Deserialize, ToSchema)]
pub struct DagWithTasks {
    /// The DAG.
    pub dag: DagView,
    /// What it is for, in words.
    pub description: String,
    /// Its parameters.
    pub params: Vec<ParamView>,
    /// Its tasks.
    pub tasks: Vec<DagTaskView>,
}

/// A declared parameter.
#[derive(Clone, Debug, Serialize, Deserialize, ToSchema)]
pub struct ParamView {
    /// Its name.
    pub name: String,
    /// string, integer, number or boolean.
    #[serde(rename = "type")]
    pub kind: String,
    /// What it is for, in words.
    pub description: String,
    /// The value when none is given; a parameter without one must be given.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub default: Option<Value>,
}

/// A task of a DAG.
#[derive(Clone, Debug, Serialize, Deserialize, ToSchema)]
pub struct DagTaskView {
    /// Its name.
    pub task: String,
    /// The kind of its job.
    pub job: String,
    /// Whether it is mapped over a list.
    pub mapped: bool,
    /// Tasks that come before it.
    pub needs: Vec<String>,
}

/// A run to be made.
#[derive(Clone, Debug, Default, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct NewRun {
    /// Parameters by name; what is left out has its default. A text is read as the type of its parameter says.
    #[serde(default)]
    #[schema(value_type = Object)]
    pub params: Map<String, Value>,
}

impl From<DagRecord> for DagView {
    fn from(dag: DagRecord) -> Self {
        Self {
            name: dag.name,
            version: dag.version,
            file: dag.file,
            active_runs: dag.active_runs,
            paused: dag.paused,
            done_until: dag.done_until,
        }
    }
}

impl DagWithTasks {
    pub(in crate::api) fn new(record: DagRecord, dag: &Dag) -> Self {
        Self {
            dag: record.into(),
            description: dag.description.clone(),
            params: dag.params.iter().map(ParamView::from).collect(),
            tasks: dag.tasks().iter().map(DagTaskView::from).collect(),
        }
    }
}

impl From<&Param> for ParamView {
    fn from(param: &Param) -> Self {
        Self {
            name: param.name.clone(),
            kind: param.kind.to_string(),
            description: param.description.clone(),
            default: param.default.clone(),
        }
    }
}

impl From<&Task> for DagTaskView {
    fn from(task: &Task) -> Self {
        Self { task: task.id.clone(), job: task.job.clone(), mapped: task.map.is_some(), needs: task.needs.clone() }
    }
}
