//! From the YAML tree to tasks and parameters, telling every mistake on the way.

mod alerts;
mod common;
mod groups;
pub(super) mod keys;
mod params;
mod pod;
mod schedule;
mod settings;
mod task;
mod templates;

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use super::alert::Alert;
use super::mistake::{Collector, Place};
use super::params::Param;
use super::starts::{Continuous, DagSchedule, Group};
use super::task::Task;
use super::yaml::{Node, NodeValue};

pub(crate) use common::is_asset;
pub(super) use templates::Use;

use common::{read_name, read_positive, read_span};
use groups::Names;
use settings::{Settings, read_defaults, read_priority};
use task::Tasks;
use templates::Templates;

const MOST_TASKS: usize = 5_000;

/// Runs of a DAG that may be active at once when the file does not say.
const MAX_ACTIVE_RUNS: u32 = 16;

/// A DAG whose parts are read but not yet checked against one another.
pub(super) struct Draft {
    pub(super) name: String,
    pub(super) description: String,
    pub(super) params: Vec<Param>,
    pub(super) schedule: DagSchedule,
    pub(super) continuous: Option<Continuous>,
    pub(super) max_active_runs: u32,
    pub(super) timeout: Option<Duration>,
    pub(super) deadline: Option<Duration>,
    pub(super) alerts: Vec<Alert>,
    pub(super) groups: Vec<Group>,
    pub(super) tasks: Vec<Task>,
    pub(super) uses: Vec<Use>,
    /// Tasks with a need that is not a task: what is upstream of them is not known.
    pub(super) lost_needs: BTreeSet<String>,
}

impl Default for Draft {
    fn default() -> Self {
        Self {
            name: String::new(),
            description: String::new(),
            params: Vec::new(),
            schedule: DagSchedule::Manual,
            continuous: None,
            max_active_runs: MAX_ACTIVE_RUNS,
            timeout: None,
            deadline: None,
            alerts: Vec::new(),
            groups: Vec::new(),
            tasks: Vec::new(),
            uses: Vec::new(),
            lost_needs: BTreeSet::new(),
        }
    }
}

/// Reads the whole file.
pub(super) fn read(root: &Node, yaml: &str, out: &mut Collector) -> Draft {
    let mut draft = Draft::default();
    if !matches!(root.value, NodeValue::Map(_)) {
        let message = match root.value {
            NodeValue::Null => "the file is empty; a DAG starts with `dag: <name>`".to_string(),
            _ => format!("a DAG is a mapping that starts with `dag: <name>`, but this is {}", root.kind()),
        };
        out.add(root.place, message);
        return draft;
    }
    let fields: BTreeMap<&str, (Place, &Node)> =
        root.fields("the DAG", &keys::DAG, out).into_iter().map(|(key, place, node)| (key, (place, node))).collect();
    let field = |name: &str| fields.get(name).map(|(_, node)| *node);

    match field("dag") {
        Some(node) => draft.name = read_name(node, "the DAG's name", true, out),
        None => out.add(root.place, "the DAG has no name; add `dag: <name>`"),
    }
    if let Some(node) = field("description") {
        draft.description = node.string("`description`", out).unwrap_or_default();
    }
    let params = field("params").map_or_else(Vec::new, |node| params::read(node, out));
    let templates = Templates { yaml, params: &params, continuous: fields.contains_key("continuous") };
    read_starts(&fields, &templates, &mut draft, out);
    read_limits(&fields, &mut draft, out);
    if let Some(node) = field("alerts") {
        draft.alerts = alerts::read(node, &templates, out);
    }
    let priority = field("priority").and_then(|node| read_priority(node, out));
    let mut defaults = Settings::with_priority(priority);
    if let Some(node) = field("defaults") {
        defaults = read_defaults(node, defaults, out);
    }
    match field("tasks") {
        Some(node) => read_tasks(node, field("groups"), &defaults, &templates, &mut draft, out),
        None => out.add(root.place, "the DAG has no tasks; add `tasks:` with at least one"),
    }
    draft.params = params;
    draft
}

/// Reads what starts runs: `schedule` or `continuous`.
fn read_starts(
    fields: &BTreeMap<&str, (Place, &Node)>,
    templates: &Templates<'_>,
    draft: &mut Draft,
    out: &mut Collector,
) {
    if let Some((place, node)) = fields.get("schedule") {
        draft.schedule = schedule::read(node, templates.yaml, out);
        check_defaults(*place, "a schedule", templates, out);
    }
    if let Some((place, node)) = fields.get("continuous") {
        check_defaults(*place, "a source", templates, out);
        if fields.contains_key("schedule") {
            out.add(*place, "the DAG has both `schedule` and `continuous`; keep one of them");
        }
        draft.continuous = schedule::read_continuous(node, templates, out);
    }
}

/// Reads what bounds runs.
fn read_limits(fields: &BTreeMap<&str, (Place, &Node)>, draft: &mut Draft, out: &mut Collector) {
    if let Some((_, node)) = fields.get("max_active_runs") {
        draft.max_active_runs = read_positive(node, "`max_active_runs`", out).unwrap_or(MAX_ACTIVE_RUNS);
    }
    if let Some((_, node)) = fields.get("timeout") {
        draft.timeout = read_span(node, "`timeout`", out);
    }
    if let Some((_, node)) = fields.get("deadline") {
        draft.deadline = read_span(node, "`deadline`", out);
    }
}

fn read_tasks(
    node: &Node,
    groups_node: Option<&Node>,
    defaults: &Settings,
    templates: &Templates<'_>,
    draft: &mut Draft,
    out: &mut Collector,
) {
    let entries = node.entries("`tasks`", out);
    if entries.is_empty() {
        out.add(node.place, "the DAG has no tasks; add at least one under `tasks:`");
    }
    if entries.len() > MOST_TASKS {
        out.add(
            node.place,
            format!("{} tasks are more than the {MOST_TASKS} allowed; use `map` for many alike", entries.len()),
        );
        return;
    }
    let names = Names {
        tasks: entries.iter().map(|(id, _, _)| *id).collect(),
        groups: groups_node.map(Node::keys).unwrap_or_default(),
    };
    let mut lost_groups = BTreeSet::new();
    if let Some(node) = groups_node {
        (draft.groups, lost_groups) = groups::read(node, &names, out);
    }
    let mut tasks = Tasks { templates, names: &names, defaults, uses: Vec::new(), lost_needs: BTreeSet::new() };
    for (id, place, node) in entries {
        let task = tasks.read(id, place, node, out);
        if task.group.as_ref().is_some_and(|group| lost_groups.contains(group)) {
            tasks.lost_needs.insert(id.to_string());
        }
        draft.tasks.push(task);
    }
    (draft.uses, draft.lost_needs) = (tasks.uses, tasks.lost_needs);
}

/// What starts runs by itself gives them no parameters.
fn check_defaults(place: Place, what: &str, templates: &Templates<'_>, out: &mut Collector) {
    for param in templates.params.iter().filter(|param| param.default.is_none()) {
        let name = &param.name;
        out.add(place, format!("{what} gives no parameters; add a default to parameter `{name}`"));
    }
}
