//! Settings that a task may have and that `defaults:` may give to all tasks.

use std::collections::BTreeMap;
use std::time::Duration;

use super::super::mistake::Collector;
use super::super::pod::PodSettings;
use super::super::size;
use super::super::task::{ExecutorKind, Resources, Task};
use super::super::yaml::{Node, NodeValue};
use super::common::{clip, read_duration, read_name, read_positive, read_span};
use super::keys;
use super::pod;
use crate::dag::hint;

const MOST_RETRIES: u32 = 1_000;
const MOST_CORES: f64 = 10_000.0;
const LONGEST_LABEL: usize = 253;
const PRIORITIES: std::ops::RangeInclusive<i64> = -100..=100;

/// Settings as far as they are given.
#[derive(Clone, Debug, Default)]
pub(super) struct Settings {
    retries: Option<u32>,
    retry_delay: Option<Duration>,
    retry_max_delay: Option<Duration>,
    timeout: Option<Duration>,
    pool: Option<String>,
    slots: Option<u32>,
    priority: Option<i32>,
    queue: Option<String>,
    labels: Option<BTreeMap<String, String>>,
    resources: Option<Resources>,
    executor: Option<ExecutorKind>,
    pod: Option<PodSettings>,
}

impl Settings {
    /// Settings in which only the priority is given.
    pub(super) fn with_priority(priority: Option<i32>) -> Self {
        Self { priority, ..Self::default() }
    }

    /// Reads one of [`keys::DEFAULTS`].
    pub(super) fn read(&mut self, key: &str, node: &Node, out: &mut Collector) {
        match key {
            "retries" => self.retries = read_retries(node, out),
            "retry_delay" => self.retry_delay = read_duration(node, "`retry_delay`", out),
            "retry_max_delay" => self.retry_max_delay = read_span(node, "`retry_max_delay`", out),
            "timeout" => self.timeout = read_span(node, "`timeout`", out),
            "pool" => self.pool = Some(read_name(node, "the pool", true, out)),
            "slots" => self.slots = read_positive(node, "`slots`", out),
            "priority" => self.priority = read_priority(node, out),
            "queue" => self.queue = Some(read_name(node, "the queue", true, out)),
            "labels" => self.labels = Some(read_labels(node, out)),
            "resources" => self.resources = Some(read_resources(node, out)),
            "executor" => self.executor = read_executor(node, out),
            _ => self.pod = Some(pod::read(node, out)),
        }
    }

    /// Gives a task what is given here.
    pub(super) fn apply(&self, task: &mut Task) {
        set(&mut task.retries, &self.retries);
        set(&mut task.retry_delay, &self.retry_delay);
        set(&mut task.pool, &self.pool);
        set(&mut task.slots, &self.slots);
        set(&mut task.priority, &self.priority);
        set(&mut task.labels, &self.labels);
        set(&mut task.resources, &self.resources);
        task.retry_max_delay = self.retry_max_delay.or(task.retry_max_delay);
        task.timeout = self.timeout.or(task.timeout);
        if self.queue.is_some() {
            task.queue.clone_from(&self.queue);
        }
        // Whoever describes a pod wants one, unless they say otherwise.
        task.executor = self.executor.or(self.pod.as_ref().map(|_| ExecutorKind::Kubernetes)).or(task.executor);
        if let Some(pod) = &self.pod {
            task.pod.put(pod);
        }
    }
}

/// Reads `defaults:` on top of what the DAG itself gives.
pub(super) fn read_defaults(node: &Node, mut settings: Settings, out: &mut Collector) -> Settings {
    for (key, _, node) in node.fields("`defaults`", &keys::DEFAULTS, out) {
        settings.read(key, node, out);
    }
    settings
}

/// How often to try again.
pub(super) fn read_retries(node: &Node, out: &mut Collector) -> Option<u32> {
    let retries = node.count("`retries`", out)?;
    if retries > MOST_RETRIES {
        out.add(node.place, format!("`retries` may be at most {MOST_RETRIES}"));
        return None;
    }
    Some(retries)
}

/// A priority, of a task or of a DAG.
pub(super) fn read_priority(node: &Node, out: &mut Collector) -> Option<i32> {
    let number = match &node.value {
        NodeValue::Number(number) => number.as_i64().filter(|number| PRIORITIES.contains(number)),
        _ => None,
    };
    if number.is_none() {
        out.add(node.place, "`priority` must be a whole number from -100 to 100; the greatest goes first");
    }
    number.and_then(|number| i32::try_from(number).ok())
}

fn read_executor(node: &Node, out: &mut Collector) -> Option<ExecutorKind> {
    let name = node.string("`executor`", out)?;
    let executor = ExecutorKind::from_name(&name);
    if executor.is_none() {
        let names = ExecutorKind::ALL.map(ExecutorKind::name);
        out.add_with(node.place, || format!("unknown executor `{}`{}", clip(&name), hint(&name, names)));
    }
    executor
}

fn set<T: Clone>(field: &mut T, given: &Option<T>) {
    if let Some(given) = given {
        field.clone_from(given);
    }
}

fn read_labels(node: &Node, out: &mut Collector) -> BTreeMap<String, String> {
    let mut labels = BTreeMap::new();
    for (name, place, node) in node.entries("`labels`", out) {
        let Some(value) = node.string(&format!("label `{}`", clip(name)), out) else { continue };
        let fits = |text: &str| {
            let sign = |c: char| c.is_ascii_alphanumeric() || matches!(c, '_' | '-' | '.' | '/');
            !text.is_empty() && text.len() <= LONGEST_LABEL && text.chars().all(sign)
        };
        if !fits(name) || !fits(&value) {
            let message = format!(
                "label `{}: {}` must have a name and a value of letters, digits, `_`, `-`, `.` and `/`",
                clip(name),
                clip(&value)
            );
            out.add(place, message);
            continue;
        }
        labels.insert(name.to_string(), value);
    }
    labels
}

fn read_resources(node: &Node, out: &mut Collector) -> Resources {
    let mut resources = Resources::default();
    for (key, _, node) in node.fields("`resources`", &keys::RESOURCES, out) {
        match key {
            "cpu" => resources.cpu_millis = read_cores(node, out).unwrap_or_default(),
            "memory" => {
                let Some(text) = node.string("`memory`", out) else { continue };
                match size::parse(&text) {
                    Ok(bytes) => resources.memory_bytes = bytes,
                    Err(message) => out.add(node.place, format!("`memory`: {message}")),
                }
            }
            _ => resources.gpus = node.count("`gpu`", out).unwrap_or_default(),
        }
    }
    resources
}

/// Cores in thousandths.
fn read_cores(node: &Node, out: &mut Collector) -> Option<u32> {
    let cores = match &node.value {
        NodeValue::Number(number) => number.as_f64().filter(|cores| (0.001..=MOST_CORES).contains(cores)),
        _ => None,
    };
    if cores.is_none() {
        out.add(node.place, "`cpu` must be a number of cores from 0.001 to 10000, such as `0.5`");
    }
    // In range: at most ten million.
    cores.map(|cores| (cores * 1_000.0).round() as u32)
}
