//! From the YAML tree to tasks and parameters, telling every mistake on the way.

use std::collections::BTreeSet;
use std::ops::Range;
use std::time::Duration;

use serde_json::Value;

use super::mistake::{Collector, Place};
use super::nearest::hint;
use super::params::{Param, ParamType};
use super::yaml::{Node, NodeValue};
use super::{Task, TaskPlaces, duration};
use crate::template;

const DAG_KEYS: [&str; 4] = ["dag", "description", "params", "tasks"];
const PARAM_KEYS: [&str; 3] = ["type", "description", "default"];
const TASK_KEYS: [&str; 9] =
    ["job", "description", "with", "needs", "map", "retries", "retry_delay", "timeout", "parallelism"];

const MOST_TASKS: usize = 5_000;
const MOST_RETRIES: u32 = 1_000;
const LONGEST_NAME: usize = 64;

/// A DAG whose parts are read but not yet checked against one another.
#[derive(Default)]
pub(super) struct Draft {
    pub(super) name: String,
    pub(super) description: String,
    pub(super) params: Vec<Param>,
    pub(super) tasks: Vec<Task>,
    pub(super) uses: Vec<Use>,
    /// Tasks with a need that is not a task: what is upstream of them is not known.
    pub(super) lost_needs: BTreeSet<String>,
}

/// A place where a template uses the output of a task.
pub(super) struct Use {
    pub(super) user: String,
    pub(super) used: String,
    pub(super) place: Place,
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
    let fields = root.fields("the DAG", &DAG_KEYS, out);
    let field = |name: &str| fields.iter().find(|(key, _, _)| *key == name).map(|(_, _, node)| *node);

    match field("dag") {
        Some(node) => draft.name = read_name(node, "the DAG's name", true, out),
        None => out.add(root.place, "the DAG has no name; add `dag: <name>`"),
    }
    if let Some(node) = field("description") {
        draft.description = node.string("`description`", out).unwrap_or_default();
    }
    if let Some(node) = field("params") {
        draft.params = read_params(node, out);
    }
    match field("tasks") {
        Some(node) => read_tasks(node, yaml, &mut draft, out),
        None => out.add(root.place, "the DAG has no tasks; add `tasks:` with at least one"),
    }
    draft
}

fn read_params(node: &Node, out: &mut Collector) -> Vec<Param> {
    let mut params = Vec::new();
    for (name, place, node) in node.entries("`params`", out) {
        check_name(name, place, &format!("parameter `{}`", clip(name)), false, out);
        let what = format!("parameter `{}`", clip(name));
        let mut param =
            Param { name: name.to_string(), kind: ParamType::String, description: String::new(), default: None };
        let mut typed = false;
        let mut default = None;
        for (key, _, node) in node.fields(&what, &PARAM_KEYS, out) {
            match key {
                "type" => {
                    typed = true;
                    let Some(kind) = node.string("`type`", out) else { continue };
                    match ParamType::from_name(&kind) {
                        Some(kind) => param.kind = kind,
                        None => out.add(
                            node.place,
                            format!("unknown type `{}`{}", clip(&kind), hint(&kind, ParamType::NAMES)),
                        ),
                    }
                }
                "description" => param.description = node.string("`description`", out).unwrap_or_default(),
                _ => default = Some(node),
            }
        }
        if !typed {
            out.add(place, format!("{what} has no type; add `type:` with one of {}", ParamType::NAMES.join(", ")));
        }
        if let Some(node) = default {
            let value = node.to_json();
            if typed && !param.kind.fits(&value) {
                out.add(
                    node.place,
                    format!("the default of {what} must be of type {}, but is {}", param.kind, node.kind()),
                );
            }
            param.default = Some(value);
        }
        params.push(param);
    }
    params
}

fn read_tasks(node: &Node, yaml: &str, draft: &mut Draft, out: &mut Collector) {
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
    let ids: BTreeSet<&str> = entries.iter().map(|(id, _, _)| *id).collect();
    for (id, place, node) in entries {
        let task = read_task(id, place, node, &ids, yaml, draft, out);
        draft.tasks.push(task);
    }
}

fn read_task(
    id: &str,
    place: Place,
    node: &Node,
    ids: &BTreeSet<&str>,
    yaml: &str,
    draft: &mut Draft,
    out: &mut Collector,
) -> Task {
    check_name(id, place, &format!("task `{}`", clip(id)), false, out);
    let what = format!("task `{}`", clip(id));
    let mut task = Task {
        id: id.to_string(),
        description: String::new(),
        job: String::new(),
        with: Value::Object(serde_json::Map::new()),
        needs: Vec::new(),
        map: None,
        retries: 0,
        retry_delay: Duration::from_secs(1),
        timeout: None,
        parallelism: None,
        with_uses: BTreeSet::new(),
        map_uses: BTreeSet::new(),
        downstream: Vec::new(),
        places: TaskPlaces { id: place, job: place, with: place },
    };
    let fields = node.fields(&what, &TASK_KEYS, out);
    let mapped = fields.iter().any(|(key, _, _)| *key == "map");
    if !fields.iter().any(|(key, _, _)| *key == "job") {
        out.add(place, format!("{what} has no job; add `job: <kind>`"));
    }
    for (key, _, node) in fields {
        match key {
            "job" => {
                task.places.job = node.place;
                task.job = node.string("`job`", out).unwrap_or_default();
            }
            "description" => task.description = node.string("`description`", out).unwrap_or_default(),
            "with" => {
                task.places.with = node.place;
                if !matches!(node.value, NodeValue::Map(_) | NodeValue::Null) {
                    out.add(
                        node.place,
                        format!("`with` must be a mapping (`key: value` lines), but is {}", node.kind()),
                    );
                    continue;
                }
                node.check_keys("`with`", out);
                if let NodeValue::Map(_) = node.value {
                    task.with = node.to_json();
                }
                task.with_uses = read_templates(id, node, mapped, yaml, draft, out);
            }
            "needs" => match read_needs(id, node, ids, out) {
                Some(needs) => task.needs = needs,
                None => {
                    draft.lost_needs.insert(id.to_string());
                }
            },
            "map" => {
                let literal = match &node.value {
                    NodeValue::List(_) => true,
                    NodeValue::String(text) => template::is_template(text),
                    _ => false,
                };
                if !literal {
                    let message = format!("`map` must be a list or a template that gives one, but is {}", node.kind());
                    out.add(node.place, message);
                    continue;
                }
                node.check_keys("`map`", out);
                task.map = Some(node.to_json());
                task.map_uses = read_templates(id, node, false, yaml, draft, out);
            }
            "retries" => {
                task.retries = node.count("`retries`", out).unwrap_or_default();
                if task.retries > MOST_RETRIES {
                    out.add(node.place, format!("`retries` may be at most {MOST_RETRIES}"));
                }
            }
            "retry_delay" => task.retry_delay = read_duration(node, "`retry_delay`", out).unwrap_or_default(),
            "timeout" => {
                task.timeout = read_duration(node, "`timeout`", out);
                if task.timeout == Some(Duration::ZERO) {
                    out.add(node.place, "`timeout` must be longer than nothing");
                }
            }
            _ => {
                task.parallelism = node.count("`parallelism`", out);
                if task.parallelism == Some(0) {
                    out.add(node.place, "`parallelism` must be at least 1");
                }
            }
        }
    }
    task
}

/// The tasks in `needs`; nothing when one of them is wrong.
fn read_needs(id: &str, node: &Node, ids: &BTreeSet<&str>, out: &mut Collector) -> Option<Vec<String>> {
    let NodeValue::List(items) = &node.value else {
        out.add(
            node.place,
            format!("`needs` must be a list of tasks such as `[{}]`", ids.first().unwrap_or(&"ingest")),
        );
        return None;
    };
    let mut needs: Vec<String> = Vec::new();
    let mut seen = BTreeSet::new();
    let mut wrong = false;
    for item in items {
        let Some(need) = item.string("a task in `needs`", out) else {
            wrong = true;
            continue;
        };
        if need == id {
            wrong = true;
            out.add(item.place, format!("task `{}` needs itself", clip(id)));
        } else if !ids.contains(need.as_str()) {
            wrong = true;
            out.add_with(item.place, || {
                let near = hint(&need, ids.iter().copied().filter(|other| *other != id));
                format!("task `{}` needs unknown task `{}`{near}", clip(id), clip(&need))
            });
        } else if seen.insert(need.clone()) {
            needs.push(need);
        }
    }
    (!wrong).then_some(needs)
}

/// Checks every template below `node`; gives the tasks whose outputs they use.
fn read_templates(
    id: &str,
    node: &Node,
    mapped: bool,
    yaml: &str,
    draft: &mut Draft,
    out: &mut Collector,
) -> BTreeSet<String> {
    let mut used_tasks = BTreeSet::new();
    let mut uses = Vec::new();
    node.each_string(&mut |node, text| {
        let place_of = |range: Range<usize>| node.place_of(yaml, text, range);
        let found = match template::analyse(text) {
            Ok(found) => found,
            Err(mistakes) => {
                for mistake in mistakes {
                    out.add(place_of(mistake.range), mistake.message);
                }
                return;
            }
        };
        let find = |name: &str| text.find(name).map_or(0..text.len(), |at| at..at + name.len());
        for name in &found.params {
            if !draft.params.iter().any(|param| param.name == *name) {
                let known = draft.params.iter().map(|param| param.name.as_str());
                let place = place_of(find(&format!("params.{name}")));
                out.add_with(place, || format!("unknown parameter `{}`{}", clip(name), hint(name, known)));
            }
        }
        if found.uses_item && !mapped {
            let name = if text.contains("item") { "item" } else { "index" };
            let message = format!("`{name}` is known only in `with` of a task that has `map`");
            out.add(place_of(find(name)), message);
        }
        for used in found.tasks {
            let place = place_of(find(&format!("tasks.{used}")));
            uses.push(Use { user: id.to_string(), used: used.clone(), place });
            used_tasks.insert(used);
        }
    });
    draft.uses.extend(uses);
    used_tasks
}

fn read_duration(node: &Node, what: &str, out: &mut Collector) -> Option<Duration> {
    let text = match &node.value {
        NodeValue::String(text) => text.clone(),
        NodeValue::Number(number) => number.to_string(),
        _ => {
            out.add(node.place, format!("{what} must be a length of time such as `30s`, but is {}", node.kind()));
            return None;
        }
    };
    match duration::parse(&text) {
        Ok(duration) => Some(duration),
        Err(message) => {
            out.add(node.place, format!("{what}: {message}"));
            None
        }
    }
}

fn read_name(node: &Node, what: &str, dashes: bool, out: &mut Collector) -> String {
    let Some(name) = node.string(what, out) else { return String::new() };
    check_name(&name, node.place, &format!("{what} `{}`", clip(&name)), dashes, out);
    name
}

/// Names are used in templates, folders and object keys.
fn check_name(name: &str, place: Place, what: &str, dashes: bool, out: &mut Collector) {
    let start = name.starts_with(|c: char| c.is_ascii_alphabetic() || c == '_');
    let rest = name.chars().all(|c| c.is_ascii_alphanumeric() || c == '_' || (dashes && c == '-'));
    if !start || !rest || name.len() > LONGEST_NAME {
        let allowed = if dashes { "letters, digits, `_` and `-`" } else { "letters, digits and `_`" };
        out.add(place, format!("{what} must be at most {LONGEST_NAME} {allowed}, the first a letter"));
    }
}

/// A name short enough for a message.
fn clip(name: &str) -> &str {
    name.char_indices().nth(LONGEST_NAME).map_or(name, |(end, _)| &name[..end])
}
