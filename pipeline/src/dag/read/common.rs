//! Small readers that all rooms of the reader use.

use std::collections::BTreeSet;
use std::time::Duration;

use super::super::duration;
use super::super::mistake::{Collector, Place};
use super::super::yaml::{Node, NodeValue};
use crate::dag::hint;

const LONGEST_NAME: usize = 64;
const LONGEST_ASSET: usize = 256;

/// A length of time that may be nothing.
pub(super) fn read_duration(node: &Node, what: &str, out: &mut Collector) -> Option<Duration> {
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

/// A length of time that is not nothing.
pub(super) fn read_span(node: &Node, what: &str, out: &mut Collector) -> Option<Duration> {
    let span = read_duration(node, what, out)?;
    if span == Duration::ZERO {
        out.add(node.place, format!("{what} must be longer than nothing"));
        return None;
    }
    Some(span)
}

/// A whole number, 1 or more.
pub(super) fn read_positive(node: &Node, what: &str, out: &mut Collector) -> Option<u32> {
    let count = node.count(what, out)?;
    if count == 0 {
        out.add(node.place, format!("{what} must be at least 1"));
        return None;
    }
    Some(count)
}

/// A name of letters, digits and `_`, and with `dashes` also `-`.
pub(super) fn read_name(node: &Node, what: &str, dashes: bool, out: &mut Collector) -> String {
    let Some(name) = node.string(what, out) else { return String::new() };
    check_name(&name, node.place, &format!("{what} `{}`", clip(&name)), dashes, out);
    name
}

/// Names are used in templates, folders and object keys.
pub(super) fn check_name(name: &str, place: Place, what: &str, dashes: bool, out: &mut Collector) {
    let start = name.starts_with(|c: char| c.is_ascii_alphabetic() || c == '_');
    let rest = name.chars().all(|c| c.is_ascii_alphanumeric() || c == '_' || (dashes && c == '-'));
    if !start || !rest || name.len() > LONGEST_NAME {
        let allowed = if dashes { "letters, digits, `_` and `-`" } else { "letters, digits and `_`" };
        out.add(place, format!("{what} must be at most {LONGEST_NAME} {allowed}, the first a letter"));
    }
}

/// A list of texts; one that is no text is told and left out.
pub(super) fn read_texts<'a>(
    node: &'a Node,
    what: &str,
    example: &str,
    out: &mut Collector,
) -> Option<Vec<(&'a Node, String)>> {
    let NodeValue::List(items) = &node.value else {
        out.add(node.place, format!("{what} must be a list such as `{example}`, but is {}", node.kind()));
        return None;
    };
    let item_of = format!("an entry of {what}");
    Some(items.iter().filter_map(|item| item.string(&item_of, out).map(|text| (item, text))).collect())
}

/// A list of at least one of the names that `from_name` knows, each once.
pub(super) fn read_choices<T>(
    node: &Node,
    what: &str,
    names: &[&str],
    from_name: impl Fn(&str) -> Option<T>,
    out: &mut Collector,
) -> Vec<T> {
    let Some(texts) = read_texts(node, what, &format!("[{}]", names[0]), out) else { return Vec::new() };
    if texts.is_empty() {
        out.add(node.place, format!("{what} is empty; give at least one of {}", names.join(", ")));
    }
    let mut chosen = Vec::new();
    let mut seen = BTreeSet::new();
    for (item, text) in texts {
        match from_name(&text) {
            Some(choice) if seen.insert(text.clone()) => chosen.push(choice),
            Some(_) => {}
            None => out.add_with(item.place, || {
                format!("unknown entry `{}` of {what}{}", clip(&text), hint(&text, names.iter().copied()))
            }),
        }
    }
    chosen
}

/// A list of at least one asset, each once. Any text without blanks names one, as a URL does.
pub(super) fn read_assets(node: &Node, what: &str, out: &mut Collector) -> Vec<String> {
    let Some(texts) = read_texts(node, what, "[detections]", out) else { return Vec::new() };
    if texts.is_empty() {
        out.add(node.place, format!("{what} is empty; name at least one asset"));
    }
    let mut assets: Vec<String> = Vec::new();
    for (item, name) in texts {
        if !is_asset(&name) {
            let message = format!(
                "the asset `{}` must be a name or a URL of at most {LONGEST_ASSET} characters without blanks and braces",
                clip(&name)
            );
            out.add(item.place, message);
        } else if !assets.contains(&name) {
            assets.push(name);
        }
    }
    assets
}

/// Whether a DAG could name an asset so.
pub(crate) fn is_asset(name: &str) -> bool {
    let blank = |c: char| c.is_whitespace() || c.is_control() || c == '{' || c == '}';
    !name.is_empty() && name.chars().count() <= LONGEST_ASSET && !name.contains(blank)
}

/// A name short enough for a message.
pub(super) fn clip(name: &str) -> &str {
    name.char_indices().nth(LONGEST_NAME).map_or(name, |(end, _)| &name[..end])
}
