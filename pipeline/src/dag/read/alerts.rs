//! Reads `alerts:` of a DAG.

use super::super::alert::{Alert, AlertEvent, AlertTarget};
use super::super::mistake::{Collector, Place};
use super::super::yaml::{Node, NodeValue};
use super::Use;
use super::common::{read_choices, read_texts};
use super::keys;
use super::templates::{Spot, Templates};
use crate::template;

const MOST_ALERTS: usize = 100;
const SPOT: Spot<'static> = Spot { key: "alerts", task: None, item: false, run: true, secrets: true };

pub(super) fn read(node: &Node, templates: &Templates<'_>, out: &mut Collector) -> Vec<Alert> {
    let NodeValue::List(items) = &node.value else {
        out.add(
            node.place,
            format!(
                "`alerts` must be a list of mappings such as `{{on: [failure], webhook: URL}}`, but is {}",
                node.kind()
            ),
        );
        return Vec::new();
    };
    if items.len() > MOST_ALERTS {
        out.add(node.place, format!("{} alerts are more than the {MOST_ALERTS} allowed", items.len()));
        return Vec::new();
    }
    items.iter().filter_map(|item| read_alert(item, templates, out)).collect()
}

fn read_alert(node: &Node, templates: &Templates<'_>, out: &mut Collector) -> Option<Alert> {
    if matches!(node.value, NodeValue::Null) {
        out.add(node.place, "an alert is empty; give `on` and `webhook` or `command`");
        return None;
    }
    let fields = node.fields("an alert", &keys::ALERT, out);
    if !matches!(node.value, NodeValue::Map(_)) {
        return None;
    }
    let field = |name: &str| fields.iter().find(|(key, _, _)| *key == name).map(|(_, place, node)| (*place, *node));
    let names = AlertEvent::ALL.map(AlertEvent::name);
    let on = match field("on") {
        Some((_, node)) => read_choices(node, "`on`", &names, AlertEvent::from_name, out),
        None => {
            out.add(node.place, format!("an alert has no `on`; add a list of {}", names.join(", ")));
            Vec::new()
        }
    };
    let (target, node) = read_target(node.place, field("webhook"), field("command"), out)?;
    let used = templates.check(node, SPOT, &mut Vec::<Use>::new(), out);
    Some(Alert { on, target, secret_uses: used.secrets })
}

fn read_target<'a>(
    place: Place,
    webhook: Option<(Place, &'a Node)>,
    command: Option<(Place, &'a Node)>,
    out: &mut Collector,
) -> Option<(AlertTarget, &'a Node)> {
    match (webhook, command) {
        (Some((_, node)), None) => Some((AlertTarget::Webhook(read_url(node, out)?), node)),
        (None, Some((_, node))) => Some((AlertTarget::Command(read_command(node, out)?), node)),
        (Some(_), Some((place, _))) => {
            out.add(place, "an alert has both `webhook` and `command`; make two alerts of it");
            None
        }
        (None, None) => {
            out.add(place, "an alert tells nobody; add `webhook: URL` or `command: [program, argument]`");
            None
        }
    }
}

fn read_url(node: &Node, out: &mut Collector) -> Option<String> {
    let url = node.string("`webhook`", out)?;
    // Code may give any part of it.
    let known = ["http://", "https://"].iter().any(|start| url.len() > start.len() && url.starts_with(start));
    if !known && !template::is_template(&url) {
        out.add(node.place, "`webhook` must be a URL that starts with `https://` or `http://`");
        return None;
    }
    Some(url)
}

fn read_command(node: &Node, out: &mut Collector) -> Option<Vec<String>> {
    let words = read_texts(node, "`command`", "[notify-send, Safari]", out)?;
    let words: Vec<String> = words.into_iter().map(|(_, word)| word).collect();
    if words.first().is_none_or(|program| program.trim().is_empty()) {
        out.add(node.place, "`command` names no program; give `[program, argument]`");
        return None;
    }
    Some(words)
}
