//! YAML text to a tree in which every node knows its place, so that all mistakes of a file can be told at once.

use std::collections::BTreeSet;
use std::fmt;
use std::ops::Range;

use serde::de::{Deserialize, Deserializer, MapAccess, SeqAccess, Visitor};
use serde_json::{Number, Value};
use serde_saphyr::options::DuplicateKeyPolicy;
use serde_saphyr::{Location, MergeKeyPolicy, Spanned};

use super::mistake::{Collector, Mistake, Place};
use super::nearest::hint;

/// A DAG file may have at most this many bytes (1 MiB).
pub const MAX_YAML_BYTES: usize = 1024 * 1024;

const TOO_LARGE: &str = "the file is nested too deeply, has too many parts, or its aliases (`*name`) grow too large";

/// A YAML node and where it stands.
#[derive(Clone, Debug)]
pub(super) struct Node {
    pub(super) value: NodeValue,
    pub(super) place: Place,
    /// Bytes of the source that the node covers, when the parser tells.
    pub(super) source: Option<Range<usize>>,
}

/// What a node holds.
#[derive(Clone, Debug)]
pub(super) enum NodeValue {
    Null,
    Bool(bool),
    Number(Number),
    String(String),
    List(Vec<Node>),
    Map(Vec<(Node, Node)>),
}

/// Reads one YAML document. Its size, depth and aliases are bounded.
pub(super) fn parse(yaml: &str) -> Result<Node, Mistake> {
    if yaml.len() > MAX_YAML_BYTES {
        let message = format!(
            "the file has {} bytes, more than the {MAX_YAML_BYTES} allowed; move long lists into a job's output or a file that a job reads",
            yaml.len()
        );
        return Err(Mistake { place: Place::default(), message });
    }
    let options = serde_saphyr::options! {
        budget: serde_saphyr::budget! {
            max_depth: 24,
            flow_nesting_limit: 24,
            max_nodes: 200_000,
            max_aliases: 1_000,
            max_anchors: 1_000,
            max_recorded_anchor_events: 50_000,
            max_documents: 2,
        },
        // Told as a mistake with the place of both, together with all other mistakes.
        duplicate_keys: DuplicateKeyPolicy::PassThrough,
        merge_keys: MergeKeyPolicy::Error,
        alias_limits: serde_saphyr::alias_limits! {
            max_total_replayed_events: 50_000,
            max_replay_stack_depth: 2,
        },
        emit_comments: false,
        strict_booleans: true,
        with_snippet: false,
    };
    serde_saphyr::from_str_with_options::<Node>(yaml, options).map_err(|error| {
        let error = error.without_snippet();
        let place = error.location().map(|at| place(&at)).unwrap_or_default();
        Mistake { place, message: format!("not readable as YAML: {}", syntax_message(error)) }
    })
}

impl Node {
    /// What the node is, for messages: "a list", "a string", ...
    pub(super) fn kind(&self) -> &'static str {
        match self.value {
            NodeValue::Null => "nothing",
            NodeValue::Bool(_) => "a boolean",
            NodeValue::Number(_) => "a number",
            NodeValue::String(_) => "a string",
            NodeValue::List(_) => "a list",
            NodeValue::Map(_) => "a mapping",
        }
    }

    /// The node as JSON. Keys that are not strings were told as mistakes before and are left out.
    pub(super) fn to_json(&self) -> Value {
        match &self.value {
            NodeValue::Null => Value::Null,
            NodeValue::Bool(value) => Value::Bool(*value),
            NodeValue::Number(value) => Value::Number(value.clone()),
            NodeValue::String(value) => Value::String(value.clone()),
            NodeValue::List(items) => Value::Array(items.iter().map(Node::to_json).collect()),
            NodeValue::Map(entries) => Value::Object(
                entries
                    .iter()
                    .filter_map(|(key, value)| match &key.value {
                        NodeValue::String(key) => Some((key.clone(), value.to_json())),
                        _ => None,
                    })
                    .collect(),
            ),
        }
    }

    /// The string that the node holds; a mistake otherwise.
    pub(super) fn string(&self, what: &str, out: &mut Collector) -> Option<String> {
        match &self.value {
            NodeValue::String(value) => Some(value.clone()),
            NodeValue::Number(_) | NodeValue::Bool(_) => {
                out.add(self.place, format!("{what} must be a string, but is {}; put it in quotes", self.kind()));
                None
            }
            _ => {
                out.add(self.place, format!("{what} must be a string, but is {}", self.kind()));
                None
            }
        }
    }

    /// The boolean that the node holds; a mistake otherwise.
    pub(super) fn boolean(&self, what: &str, out: &mut Collector) -> Option<bool> {
        if let NodeValue::Bool(value) = self.value {
            return Some(value);
        }
        out.add(self.place, format!("{what} must be true or false, but is {}", self.kind()));
        None
    }

    /// The keys of a mapping that are strings; none of anything else.
    pub(super) fn keys(&self) -> BTreeSet<&str> {
        let NodeValue::Map(entries) = &self.value else { return BTreeSet::new() };
        entries
            .iter()
            .filter_map(|(key, _)| match &key.value {
                NodeValue::String(name) => Some(name.as_str()),
                _ => None,
            })
            .collect()
    }

    /// The whole number, 0 or more, that the node holds; a mistake otherwise.
    pub(super) fn count(&self, what: &str, out: &mut Collector) -> Option<u32> {
        let count = match &self.value {
            NodeValue::Number(number) => number.as_u64().and_then(|number| u32::try_from(number).ok()),
            _ => None,
        };
        if count.is_none() {
            out.add(self.place, format!("{what} must be a whole number from 0 to {}", u32::MAX));
        }
        count
    }

    /// The entries of a mapping, its keys strings and each there once; mistakes for the rest.
    pub(super) fn entries<'a>(&'a self, what: &str, out: &mut Collector) -> Vec<(&'a str, Place, &'a Node)> {
        let NodeValue::Map(entries) = &self.value else {
            if !matches!(self.value, NodeValue::Null) {
                out.add(self.place, format!("{what} must be a mapping (`key: value` lines), but is {}", self.kind()));
            }
            return Vec::new();
        };
        let mut first_places = std::collections::HashMap::new();
        let mut read = Vec::with_capacity(entries.len());
        for (key, value) in entries {
            let Some(name) = key.string(&format!("a key of {what}"), out) else { continue };
            if let Some(first) = first_places.insert(name, key.place) {
                let Place { line, column } = first;
                let NodeValue::String(name) = &key.value else { continue };
                out.add(key.place, format!("`{name}` is given twice in {what}; the first is at {line}:{column}"));
                continue;
            }
            let NodeValue::String(name) = &key.value else { continue };
            read.push((name.as_str(), key.place, value));
        }
        read
    }

    /// Like [`Node::entries`], and every key must be one of `known`.
    pub(super) fn fields<'a>(
        &'a self,
        what: &str,
        known: &[&str],
        out: &mut Collector,
    ) -> Vec<(&'a str, Place, &'a Node)> {
        let mut entries = self.entries(what, out);
        entries.retain(|(name, place, _)| {
            if known.contains(name) {
                return true;
            }
            out.add_with(*place, || format!("unknown key `{name}` in {what}{}", hint(name, known.iter().copied())));
            false
        });
        entries
    }

    /// Tells every key below this node that is not a string or is there twice.
    pub(super) fn check_keys(&self, what: &str, out: &mut Collector) {
        match &self.value {
            NodeValue::Map(_) => {
                for (_, _, value) in self.entries(what, out) {
                    value.check_keys(what, out);
                }
            }
            NodeValue::List(items) => items.iter().for_each(|item| item.check_keys(what, out)),
            _ => {}
        }
    }

    /// Calls `visit` for every string below this node, mapping keys left out.
    pub(super) fn each_string(&self, visit: &mut dyn FnMut(&Node, &str)) {
        match &self.value {
            NodeValue::String(text) => visit(self, text),
            NodeValue::List(items) => items.iter().for_each(|item| item.each_string(visit)),
            NodeValue::Map(entries) => entries.iter().for_each(|(_, value)| value.each_string(visit)),
            _ => {}
        }
    }

    /// The place in the file of the bytes `range` of this node's string `text`, as exactly as it can be told.
    pub(super) fn place_of(&self, yaml: &str, text: &str, range: Range<usize>) -> Place {
        let Some(raw) = self.source.clone().and_then(|source| yaml.get(source)) else { return self.place };
        let Some(source) = &self.source else { return self.place };
        let part = text.get(range.clone()).filter(|part| !part.is_empty());
        let offset = match (raw.find(text), part.and_then(|part| raw.find(part))) {
            (Some(whole), _) => whole + range.start,
            (None, Some(part)) => part,
            (None, None) => return self.place,
        };
        place_at(yaml, source.start + offset)
    }
}

/// Line and column of a byte offset.
fn place_at(yaml: &str, offset: usize) -> Place {
    let Some(before) = yaml.get(..offset) else { return Place::default() };
    let line_start = before.rfind('\n').map_or(0, |at| at + 1);
    let line = before.bytes().filter(|byte| *byte == b'\n').count() + 1;
    let column = before[line_start..].chars().count() + 1;
    Place { line: u32::try_from(line).unwrap_or(u32::MAX), column: u32::try_from(column).unwrap_or(u32::MAX) }
}

fn place(at: &Location) -> Place {
    Place { line: u32::try_from(at.line()).unwrap_or(u32::MAX), column: u32::try_from(at.column()).unwrap_or(u32::MAX) }
}

/// The parser's message without the place that it appends, with our words where it speaks of its own options.
fn syntax_message(error: &serde_saphyr::Error) -> String {
    match error {
        serde_saphyr::Error::MultipleDocuments { .. } => {
            "the file holds more than one document; keep one DAG a file".to_string()
        }
        serde_saphyr::Error::MergeKeyNotAllowed { .. } => {
            "merge keys (`<<`) are not supported; repeat the lines".to_string()
        }
        serde_saphyr::Error::NonFiniteFloat { value, .. } => format!("`{value}` is not a finite number"),
        serde_saphyr::Error::AliasError { error, .. } => syntax_message(error),
        serde_saphyr::Error::Budget { .. }
        | serde_saphyr::Error::AliasReplayLimitExceeded { .. }
        | serde_saphyr::Error::AliasExpansionLimitExceeded { .. }
        | serde_saphyr::Error::AliasReplayStackDepthExceeded { .. } => TOO_LARGE.to_string(),
        _ => {
            let text = error.to_string();
            let line = text.lines().next().unwrap_or_default();
            // The parser's own words for a limit that was passed while it recorded an alias.
            if line.contains("budget breached") {
                return TOO_LARGE.to_string();
            }
            line.split(" at line ").next().unwrap_or(line).to_string()
        }
    }
}

impl<'de> Deserialize<'de> for Node {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let spanned = Spanned::<NodeValue>::deserialize(deserializer)?;
        let span = spanned.referenced.span();
        let source = match (span.byte_offset(), span.byte_len()) {
            // An alias covers the text `*name`, not its value.
            (Some(start), Some(len)) if spanned.referenced == spanned.defined => {
                usize::try_from(start).ok().zip(usize::try_from(len).ok()).map(|(start, len)| start..start + len)
            }
            _ => None,
        };
        Ok(Self { value: spanned.value, place: place(&spanned.referenced), source })
    }
}

impl<'de> Deserialize<'de> for NodeValue {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(NodeVisitor)
    }
}

struct NodeVisitor;

impl<'de> Visitor<'de> for NodeVisitor {
    type Value = NodeValue;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a YAML value")
    }

    fn visit_unit<E>(self) -> Result<NodeValue, E> {
        Ok(NodeValue::Null)
    }

    fn visit_none<E>(self) -> Result<NodeValue, E> {
        Ok(NodeValue::Null)
    }

    fn visit_bool<E>(self, value: bool) -> Result<NodeValue, E> {
        Ok(NodeValue::Bool(value))
    }

    fn visit_i64<E>(self, value: i64) -> Result<NodeValue, E> {
        Ok(NodeValue::Number(value.into()))
    }

    fn visit_u64<E>(self, value: u64) -> Result<NodeValue, E> {
        Ok(NodeValue::Number(value.into()))
    }

    fn visit_f64<E: serde::de::Error>(self, value: f64) -> Result<NodeValue, E> {
        Number::from_f64(value).map(NodeValue::Number).ok_or_else(|| E::custom("a number must be finite"))
    }

    fn visit_str<E>(self, value: &str) -> Result<NodeValue, E> {
        Ok(NodeValue::String(value.to_string()))
    }

    fn visit_string<E>(self, value: String) -> Result<NodeValue, E> {
        Ok(NodeValue::String(value))
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut seq: A) -> Result<NodeValue, A::Error> {
        let mut items = Vec::new();
        while let Some(item) = seq.next_element::<Node>()? {
            items.push(item);
        }
        Ok(NodeValue::List(items))
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<NodeValue, A::Error> {
        let mut entries = Vec::new();
        while let Some(key) = map.next_key::<Node>()? {
            entries.push((key, map.next_value::<Node>()?));
        }
        Ok(NodeValue::Map(entries))
    }
}
