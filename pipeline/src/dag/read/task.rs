//! Reads one task.

use std::collections::BTreeSet;

use regex::{Regex, RegexBuilder};
use serde_json::{Value, json};

use super::super::mistake::{Collector, Place};
use super::super::task::{Cache, RUN_DAG_JOB, RetryRule, Task};
use super::super::trigger::TriggerRule;
use super::super::yaml::{Node, NodeValue};
use super::Use;
use super::common::{check_name, clip, read_assets, read_duration, read_name, read_positive, read_span};
use super::groups::{Names, read_group, read_needs};
use super::keys;
use super::settings::{Settings, read_retries};
use super::templates::{Spot, Templates};
use crate::dag::hint;
use crate::template;

const MOST_RULES: usize = 100;
/// Bytes that a compiled pattern may take: bounds what a slip such as `x{1000}{1000}` costs.
const LARGEST_PATTERN: usize = 1 << 20;

/// What all tasks of a file have in common, and what they give to later checks.
pub(super) struct Tasks<'a> {
    pub(super) templates: &'a Templates<'a>,
    pub(super) names: &'a Names<'a>,
    pub(super) defaults: &'a Settings,
    pub(super) uses: Vec<Use>,
    /// Tasks of which a need is wrong.
    pub(super) lost_needs: BTreeSet<String>,
}

impl Tasks<'_> {
    pub(super) fn read(&mut self, id: &str, place: Place, node: &Node, out: &mut Collector) -> Task {
        let what = format!("task `{}`", clip(id));
        check_name(id, place, &what, false, out);
        let mut task = Task::new(id, place);
        self.defaults.apply(&mut task);
        let mut own = Settings::default();
        let known: Vec<&str> = keys::TASK.into_iter().chain(keys::DEFAULTS).collect();
        let fields = node.fields(&what, &known, out);
        let mapped = fields.iter().any(|(key, _, _)| *key == "map");
        let spot = |key| Spot { key, task: Some(id), item: mapped, run: true, secrets: false };
        for (key, _, node) in &fields {
            match *key {
                "job" => {
                    task.places.job = node.place;
                    task.job = node.string("`job`", out).unwrap_or_default();
                }
                "description" => task.description = node.string("`description`", out).unwrap_or_default(),
                "group" => task.group = read_group(&what, node, self.names, out),
                "with" => {
                    task.places.with = node.place;
                    let with = self.read_given(node, Spot { secrets: true, ..spot("with") }, &mut task, out);
                    task.with = with.unwrap_or(task.with);
                }
                "needs" => match read_needs(&what, id, node, self.names, out) {
                    Some(needs) => task.needs = needs,
                    None => {
                        self.lost_needs.insert(id.to_string());
                    }
                },
                "trigger" => {
                    task.places.trigger = node.place;
                    task.trigger = read_trigger(node, out).unwrap_or_default();
                }
                "when" => {
                    task.when = read_when(node, out);
                    let spot = Spot { item: false, ..spot("when") };
                    task.when_uses = self.templates.check(node, spot, &mut self.uses, out).tasks;
                }
                "map" => self.read_map(node, Spot { item: false, ..spot("map") }, &mut task, out),
                "parallelism" => task.parallelism = read_positive(node, "`parallelism`", out),
                "retry_on" => task.retry_on = read_rules(node, out),
                "task_timeout" => task.task_timeout = read_span(node, "`task_timeout`", out),
                "cache" => {
                    task.cache = read_cache(node, out);
                    task.cache_uses = self.templates.check(node, spot("cache.key"), &mut self.uses, out).tasks;
                }
                "produces" => task.produces = read_assets(node, "`produces`", out),
                // Together, below.
                "dag" | "params" | "wait" => {}
                key => own.read(key, node, out),
            }
        }
        own.apply(&mut task);
        // They become the parameters of a run, which are kept.
        self.read_action(&what, &fields, spot("params"), &mut task, out);
        task
    }

    /// Reads what the task does: `job`, or `dag` with `params` and `wait`.
    fn read_action(
        &mut self,
        what: &str,
        fields: &[(&str, Place, &Node)],
        spot: Spot<'_>,
        task: &mut Task,
        out: &mut Collector,
    ) {
        let field = |name: &str| fields.iter().find(|(key, _, _)| *key == name).map(|(_, place, node)| (*place, *node));
        let Some((place, dag)) = field("dag") else {
            if field("job").is_none() {
                out.add(task.places.id, format!("{what} has no job; add `job: <kind>`"));
            }
            for key in ["params", "wait"] {
                if let Some((place, _)) = field(key) {
                    out.add(place, format!("`{key}` belongs to `dag`; give a job `with`"));
                }
            }
            return;
        };
        if field("job").is_some() {
            out.add(place, format!("{what} has both `job` and `dag`; keep one of them"));
            return;
        }
        if let Some((place, _)) = field("with") {
            out.add(place, "`with` belongs to `job`; give a DAG its `params`");
        }
        let name = read_name(dag, "the DAG's name", true, out);
        let params = field("params").and_then(|(_, node)| self.read_given(node, spot, task, out));
        let wait = field("wait").and_then(|(_, node)| node.boolean("`wait`", out));
        task.places.job = dag.place;
        task.places.with = field("params").map_or(dag.place, |(_, node)| node.place);
        task.job = RUN_DAG_JOB.to_string();
        task.with = json!({"dag": name, "params": params.unwrap_or_else(|| json!({})), "wait": wait.unwrap_or(true)});
    }

    /// A mapping that the job or the DAG is given.
    fn read_given(&mut self, node: &Node, spot: Spot<'_>, task: &mut Task, out: &mut Collector) -> Option<Value> {
        let what = format!("`{}`", spot.key);
        if !matches!(node.value, NodeValue::Map(_) | NodeValue::Null) {
            out.add(node.place, format!("{what} must be a mapping (`key: value` lines), but is {}", node.kind()));
            return None;
        }
        node.check_keys(&what, out);
        let used = self.templates.check(node, spot, &mut self.uses, out);
        (task.with_uses, task.secret_uses) = (used.tasks, used.secrets);
        matches!(node.value, NodeValue::Map(_)).then(|| node.to_json())
    }

    fn read_map(&mut self, node: &Node, spot: Spot<'_>, task: &mut Task, out: &mut Collector) {
        let gives_list = match &node.value {
            NodeValue::List(_) => true,
            NodeValue::String(text) => template::is_template(text),
            _ => false,
        };
        if !gives_list {
            out.add(node.place, format!("`map` must be a list or a template that gives one, but is {}", node.kind()));
            return;
        }
        node.check_keys("`map`", out);
        task.map = Some(node.to_json());
        task.map_uses = self.templates.check(node, spot, &mut self.uses, out).tasks;
    }
}

fn read_trigger(node: &Node, out: &mut Collector) -> Option<TriggerRule> {
    let name = node.string("`trigger`", out)?;
    let rule = TriggerRule::from_name(&name);
    if rule.is_none() {
        out.add_with(node.place, || {
            format!("unknown trigger `{}`{}", clip(&name), hint(&name, TriggerRule::ALL.map(TriggerRule::name)))
        });
    }
    rule
}

fn read_when(node: &Node, out: &mut Collector) -> Option<Value> {
    match &node.value {
        NodeValue::Bool(_) => return Some(node.to_json()),
        NodeValue::String(text) if template::is_expression(text) => return Some(node.to_json()),
        NodeValue::String(text) if template::is_template(text) => {
            // What stands around an expression makes a text of it; a broken one is told with the template.
            if template::analyse(text).is_ok() {
                out.add(node.place, "`when` must be one whole expression `{{ … }}`; this gives a text");
            }
        }
        _ => {
            let message = format!("`when` must be true, false or a template that gives one, but is {}", node.kind());
            out.add(node.place, message);
        }
    }
    None
}

fn read_rules(node: &Node, out: &mut Collector) -> Vec<RetryRule> {
    let NodeValue::List(items) = &node.value else {
        let message = format!(
            "`retry_on` must be a list of rules such as `{{error: \"timed out\", retries: 5}}`, but is {}",
            node.kind()
        );
        out.add(node.place, message);
        return Vec::new();
    };
    if items.len() > MOST_RULES {
        out.add(node.place, format!("{} rules are more than the {MOST_RULES} allowed", items.len()));
        return Vec::new();
    }
    items.iter().filter_map(|item| read_rule(item, out)).collect()
}

fn read_rule(node: &Node, out: &mut Collector) -> Option<RetryRule> {
    let what = "a rule of `retry_on`";
    let fields = node.fields(what, &keys::RETRY, out);
    if !matches!(node.value, NodeValue::Map(_) | NodeValue::Null) {
        return None;
    }
    let (mut error, mut retries, mut delay) = (None, None, None);
    for (key, _, node) in &fields {
        match *key {
            "error" => error = read_pattern(node, out),
            "retries" => retries = read_retries(node, out),
            _ => delay = read_duration(node, "`delay`", out),
        }
    }
    let given = |name: &str| fields.iter().any(|(key, _, _)| *key == name);
    if !given("error") {
        out.add(node.place, format!("{what} has no `error`; add a text or pattern that is found in the message"));
    } else if !given("retries") && !given("delay") {
        out.add(node.place, format!("{what} changes nothing; add `retries` or `delay`"));
    }
    Some(RetryRule { error: error?, retries, delay })
}

fn read_pattern(node: &Node, out: &mut Collector) -> Option<Regex> {
    let text = node.string("`error`", out)?;
    if text.is_empty() {
        out.add(node.place, "`error` is empty; write `.` for any error");
        return None;
    }
    match RegexBuilder::new(&text).size_limit(LARGEST_PATTERN).build() {
        Ok(pattern) => Some(pattern),
        Err(error) => {
            out.add(node.place, format!("`error` is not a readable pattern: {}", pattern_message(&error)));
            None
        }
    }
}

/// The engine's message shows the pattern with a mark below; the last line tells what is wrong.
fn pattern_message(error: &regex::Error) -> String {
    let text = match error {
        regex::Error::CompiledTooBig(_) => return "it is too large; repeat fewer times".to_string(),
        error => error.to_string(),
    };
    let line = text.lines().last().unwrap_or_default();
    format!("{}; put `\\` before a sign that stands for itself", line.trim_start_matches("error: "))
}

fn read_cache(node: &Node, out: &mut Collector) -> Option<Cache> {
    let mut cache = Cache { key: None, ttl: None };
    match &node.value {
        NodeValue::Bool(cached) => return cached.then_some(cache),
        NodeValue::Map(_) => {}
        _ => {
            let message =
                format!("`cache` must be true, false or a mapping with `key` and `ttl`, but is {}", node.kind());
            out.add(node.place, message);
            return None;
        }
    }
    for (key, _, node) in node.fields("`cache`", &keys::CACHE, out) {
        match key {
            "key" => cache.key = node.string("`key`", out),
            _ => cache.ttl = read_span(node, "`ttl`", out),
        }
    }
    Some(cache)
}
