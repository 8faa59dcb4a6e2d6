//! Checks the names in templates, which depend on where a template stands.

use std::collections::BTreeSet;
use std::ops::Range;

use super::super::mistake::{Collector, Place};
use super::super::params::Param;
use super::super::yaml::Node;
use super::common::clip;
use crate::dag::hint;
use crate::template::{self, Analysis};

/// A place where a template uses the output of a task.
pub(in crate::dag) struct Use {
    pub(in crate::dag) user: String,
    pub(in crate::dag) used: String,
    pub(in crate::dag) place: Place,
}

/// What the templates below a node use.
#[derive(Default)]
pub(super) struct Used {
    pub(super) tasks: BTreeSet<String>,
    pub(super) secrets: BTreeSet<String>,
}

/// What all templates of a file have in common.
pub(super) struct Templates<'a> {
    pub(super) yaml: &'a str,
    pub(super) params: &'a [Param],
    /// Whether the DAG is continuous, so that its runs have a batch.
    pub(super) continuous: bool,
}

/// Where a template stands: what it may use there.
#[derive(Clone, Copy)]
pub(super) struct Spot<'a> {
    /// The key, for messages.
    pub(super) key: &'static str,
    /// The task that uses outputs of others; nothing outside of tasks.
    pub(super) task: Option<&'a str>,
    /// Whether there is an item.
    pub(super) item: bool,
    /// Whether there is a run.
    pub(super) run: bool,
    /// Whether secrets may be used: never where the rendered value is kept in the state.
    pub(super) secrets: bool,
}

impl Templates<'_> {
    /// Checks every template below `node` and gives what they use; outputs are also put into `uses`, to be checked when
    /// all tasks are known.
    pub(super) fn check(&self, node: &Node, spot: Spot<'_>, uses: &mut Vec<Use>, out: &mut Collector) -> Used {
        let mut used = Used::default();
        node.each_string(&mut |node, text| {
            let place_of = |range: Range<usize>| node.place_of(self.yaml, text, range);
            let place = |name: &str| place_of(text.find(name).map_or(0..text.len(), |at| at..at + name.len()));
            let found = match template::analyse(text) {
                Ok(found) => found,
                Err(mistakes) => {
                    for mistake in mistakes {
                        out.add(place_of(mistake.range), mistake.message);
                    }
                    return;
                }
            };
            for name in self.unknown_params(&found) {
                let known = self.params.iter().map(|param| param.name.as_str());
                out.add_with(place(&format!("params.{name}")), || {
                    format!("unknown parameter `{}`{}", clip(name), hint(name, known))
                });
            }
            for (name, message) in self.misplaced(&found, text, spot) {
                out.add(place(name), message);
            }
            if let Some(user) = spot.task {
                uses.extend(found.tasks.iter().map(|name| {
                    let place = place(&format!("tasks.{name}"));
                    Use { user: user.to_string(), used: name.clone(), place }
                }));
            }
            used.tasks.extend(found.tasks);
            used.secrets.extend(found.secrets);
        });
        used
    }

    fn unknown_params<'a>(&self, found: &'a Analysis) -> impl Iterator<Item = &'a String> {
        found.params.iter().filter(|name| !self.params.iter().any(|param| param.name == **name))
    }

    /// Names that are known, but not at this spot.
    fn misplaced(&self, found: &Analysis, text: &str, spot: Spot<'_>) -> Vec<(&'static str, String)> {
        let key = spot.key;
        let mut told = Vec::new();
        let mut tell = |name: &'static str, message: String| told.push((name, message));
        if found.uses_item && !spot.item {
            let name = if text.contains("item") { "item" } else { "index" };
            tell(name, format!("`{name}` is known only in `with` of a task that has `map`"));
        }
        if !found.tasks.is_empty() && spot.task.is_none() {
            tell("tasks", format!("`{key}` belongs to no task and cannot use outputs of tasks"));
        }
        if found.uses_run && !spot.run {
            tell("run", format!("`{key}` holds for all runs and cannot use `run`"));
        }
        if found.uses_interval && !spot.run {
            tell("interval", format!("`{key}` holds for all runs and cannot use `interval`"));
        }
        if found.uses_batch && !(self.continuous && spot.run) {
            tell("batch", "`batch` is known only in tasks and alerts of a DAG with `continuous`".to_string());
        }
        if !found.secrets.is_empty() && !spot.secrets {
            tell("secrets", format!("`{key}` cannot use secrets: its value is kept; use them in `with` or `alerts`"));
        }
        told
    }
}
