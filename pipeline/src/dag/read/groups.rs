//! Reads `groups:` of a DAG, and `needs` of tasks and groups.

use std::collections::BTreeSet;

use super::super::mistake::Collector;
use super::super::starts::Group;
use super::super::yaml::{Node, NodeValue};
use super::common::{check_name, clip};
use super::keys;
use crate::dag::hint;

/// The names that `needs` and `group` may use; tasks and groups share one namespace.
pub(super) struct Names<'a> {
    pub(super) tasks: BTreeSet<&'a str>,
    pub(super) groups: BTreeSet<&'a str>,
}

impl<'a> Names<'a> {
    fn contains(&self, name: &str) -> bool {
        self.tasks.contains(name) || self.groups.contains(name)
    }

    fn all(&self) -> impl Iterator<Item = &'a str> {
        self.tasks.iter().chain(&self.groups).copied()
    }
}

/// The groups, and the names of those of which a need is wrong.
pub(super) fn read(node: &Node, names: &Names<'_>, out: &mut Collector) -> (Vec<Group>, BTreeSet<String>) {
    let mut groups = Vec::new();
    let mut lost = BTreeSet::new();
    for (name, place, node) in node.entries("`groups`", out) {
        let what = format!("group `{}`", clip(name));
        check_name(name, place, &what, false, out);
        if names.tasks.contains(name) {
            out.add(place, format!("{what} has the name of a task; give it another"));
        }
        let mut group = Group { name: name.to_string(), description: String::new(), needs: Vec::new(), place };
        for (key, _, node) in node.fields(&what, &keys::GROUP, out) {
            match key {
                "description" => group.description = node.string("`description`", out).unwrap_or_default(),
                _ => match read_needs(&what, name, node, names, out) {
                    Some(needs) => group.needs = needs,
                    None => {
                        lost.insert(name.to_string());
                    }
                },
            }
        }
        groups.push(group);
    }
    (groups, lost)
}

/// The tasks and groups in `needs` of `what`; nothing when one of them is wrong.
pub(super) fn read_needs(
    what: &str,
    own: &str,
    node: &Node,
    names: &Names<'_>,
    out: &mut Collector,
) -> Option<Vec<String>> {
    let NodeValue::List(items) = &node.value else {
        let example = names.tasks.first().unwrap_or(&"ingest");
        out.add(node.place, format!("`needs` must be a list of tasks such as `[{example}]`"));
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
        if need == own {
            wrong = true;
            out.add(item.place, format!("{what} needs itself"));
        } else if !names.contains(&need) {
            wrong = true;
            out.add_with(item.place, || {
                let near = hint(&need, names.all().filter(|other| *other != own));
                format!("{what} needs unknown task `{}`{near}", clip(&need))
            });
        } else if seen.insert(need.clone()) {
            needs.push(need);
        }
    }
    (!wrong).then_some(needs)
}

/// The group that a task names.
pub(super) fn read_group(what: &str, node: &Node, names: &Names<'_>, out: &mut Collector) -> Option<String> {
    let name = node.string("`group`", out)?;
    if names.groups.contains(name.as_str()) {
        return Some(name);
    }
    out.add_with(node.place, || {
        let near = match names.groups.is_empty() {
            true => format!("; add `groups: {{{}: {{}}}}` to the DAG", clip(&name)),
            false => hint(&name, names.groups.iter().copied()),
        };
        format!("{what} is in unknown group `{}`{near}", clip(&name))
    });
    None
}
