//! Files of gates: what a version must show before an alias names it.
//!
//! ```yaml
//! gates:
//!   - name: macro F1 does not fall
//!     sql: >
//!       SELECT c.macro_f1 AS found, b.macro_f1 - 0.01 AS wanted
//!       FROM evaluation c JOIN evaluation b USING (dataset_digest, split)
//!       WHERE c.model = {{ model }} AND c.version = {{ challenger }} AND c.label IS NULL
//!         AND b.model = {{ model }} AND b.version = {{ champion }} AND b.label IS NULL
//!       ORDER BY c.evaluated_at DESC, b.evaluated_at DESC LIMIT 1
//!   - name: reviewed
//!     tags: {reviewed: "true"}
//!   - name: two scientists
//!     approvals: {scientist: 2}
//!   - name: it runs
//!     smoke: true
//! ```
//!
//! The SQL gives one row: `found` and `wanted`, of which the former must be at least the latter (or at most, with
//! `compare: at_most`), or `passed`. A gate that compares with the champion passes while there is none.

use std::collections::{BTreeMap, BTreeSet};

use serde::Deserialize;
use serde_json::{Value, json};
use serde_saphyr::Spanned;

use super::SqlTemplate;
use crate::{Error, Result};

/// A file of gates may have at most this many bytes.
const MOST_BYTES: usize = 256 * 1024;
const MOST_GATES: usize = 100;

/// What a version must show.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Gates {
    /// In the order of the file.
    pub list: Vec<Gate>,
}

/// One thing that a version must show.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Gate {
    /// For people; unique in the file.
    pub name: String,
    /// What it looks at.
    pub check: Check,
}

/// What a gate looks at.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Check {
    /// A question to the tables.
    Sql {
        /// The question.
        query: SqlTemplate,
        /// How what it found must be to what it wanted.
        compare: Compare,
    },
    /// Tags that the version must have.
    Tags(BTreeMap<String, String>),
    /// How many people of each role must have approved.
    Approvals(BTreeMap<String, u32>),
    /// An inference on the model's input example.
    Smoke,
}

/// How a number must be to another.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Compare {
    /// As large or larger.
    #[default]
    AtLeast,
    /// As small or smaller.
    AtMost,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct File {
    gates: Vec<Spanned<Entry>>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Entry {
    name: String,
    sql: Option<String>,
    compare: Option<Compare>,
    tags: Option<BTreeMap<String, String>>,
    approvals: Option<BTreeMap<String, u32>>,
    smoke: Option<bool>,
}

impl Compare {
    /// Whether it is so; never with something that is no number.
    pub fn holds(self, found: f64, wanted: f64) -> bool {
        match self {
            Self::AtLeast => found >= wanted,
            Self::AtMost => found <= wanted,
        }
    }
}

impl Gates {
    /// Reads a file; `file` is its name for messages.
    ///
    /// # Errors
    /// [`Error::Gates`] with all mistakes and their places.
    pub fn parse(file: &str, yaml: &str) -> Result<Self> {
        let at = |line: u64, column: u64, message: String| format!("{file}:{line}:{column}: {message}");
        if yaml.len() > MOST_BYTES {
            return Err(Error::Gates(format!("{file}: the file has more than the {MOST_BYTES} bytes allowed")));
        }
        let options = serde_saphyr::options! {
            budget: serde_saphyr::budget! { max_depth: 16, max_nodes: 20_000, max_aliases: 100, max_anchors: 100, },
            strict_booleans: true,
            with_snippet: false,
        };
        let read: File = serde_saphyr::from_str_with_options(yaml, options).map_err(|error| {
            let error = error.without_snippet();
            let (line, column) = error.location().map_or((1, 1), |place| (place.line(), place.column()));
            let text = error.to_string();
            let message = text.lines().next().unwrap_or_default();
            let message = message.split(" at line ").next().unwrap_or(message).to_owned();
            Error::Gates(at(line, column, message))
        })?;
        let entries = read.gates.into_iter().map(|entry| {
            let place = entry.referenced;
            (entry.value, move |message: String| at(place.line(), place.column(), message))
        });
        gather(entries)
    }

    /// Reads the list of gates of a task's settings; `what` names it in messages.
    ///
    /// # Errors
    /// [`Error::Gates`] with all mistakes.
    pub fn from_value(what: &str, value: &Value) -> Result<Self> {
        let entries: Vec<Entry> =
            serde::Deserialize::deserialize(value).map_err(|error| Error::Gates(format!("{what}: {error}")))?;
        let entries = entries
            .into_iter()
            .enumerate()
            .map(|(index, entry)| (entry, move |message: String| format!("{what}: gate {}: {message}", index + 1)));
        gather(entries)
    }

    /// The JSON Schema (draft 2020-12) of a list of gates.
    pub fn schema() -> Value {
        json!({
            "type": "array",
            "maxItems": MOST_GATES,
            "items": {
                "type": "object",
                "additionalProperties": false,
                "required": ["name"],
                "oneOf": [
                    {"required": ["sql"]}, {"required": ["tags"]}, {"required": ["approvals"]}, {"required": ["smoke"]},
                ],
                "dependentRequired": {"compare": ["sql"]},
                "properties": {
                    "name": {"type": "string", "minLength": 1, "description": "For people; unique."},
                    "sql": {
                        "type": "string",
                        "description": "Gives one row of `found` and `wanted`, or of `passed`; may use {{ model }}, \
                            {{ challenger }} and {{ champion }}.",
                    },
                    "compare": {"enum": ["at_least", "at_most"], "description": "How `found` must be to `wanted`."},
                    "tags": {
                        "type": "object",
                        "minProperties": 1,
                        "additionalProperties": {"type": "string"},
                        "description": "Tags that the version must have.",
                    },
                    "approvals": {
                        "type": "object",
                        "minProperties": 1,
                        "additionalProperties": {"type": "integer", "minimum": 1},
                        "description": "How many people of each role must have approved.",
                    },
                    "smoke": {"const": true, "description": "The model runs on its input example."},
                },
            },
        })
    }
}

fn gather<M: Fn(String) -> String>(entries: impl Iterator<Item = (Entry, M)>) -> Result<Gates> {
    let (mut list, mut mistakes, mut names) = (Vec::new(), Vec::new(), BTreeSet::new());
    for (entry, at) in entries {
        if list.len() == MOST_GATES {
            mistakes.push(at(format!("more than {MOST_GATES} gates; join some")));
            break;
        }
        let name = entry.name.trim().to_owned();
        if name.is_empty() {
            mistakes.push(at("the gate has no name; say in a few words what it is about".to_owned()));
        } else if !names.insert(name.clone()) {
            mistakes.push(at(format!("two gates are named `{name}`; give each its own name")));
        }
        match check(entry) {
            Ok(check) => list.push(Gate { name, check }),
            Err(message) => mistakes.push(at(format!("gate `{name}`: {message}"))),
        }
    }
    if mistakes.is_empty() { Ok(Gates { list }) } else { Err(Error::Gates(mistakes.join("\n"))) }
}

fn check(entry: Entry) -> Result<Check, String> {
    let Entry { name: _, sql, compare, tags, approvals, smoke } = entry;
    if compare.is_some() && sql.is_none() {
        return Err("`compare` goes with `sql`".to_owned());
    }
    match (sql, tags, approvals, smoke) {
        (Some(sql), None, None, None) => {
            Ok(Check::Sql { query: SqlTemplate::parse(&sql)?, compare: compare.unwrap_or_default() })
        }
        (None, Some(tags), None, None) if tags.is_empty() => Err("`tags` is empty; name at least one".to_owned()),
        (None, Some(tags), None, None) => Ok(Check::Tags(tags)),
        (None, None, Some(approvals), None) => match approvals.iter().find(|(_, count)| **count == 0) {
            Some((role, _)) => Err(format!("0 approvals of `{role}` are none; leave the role out")),
            None if approvals.is_empty() => Err("`approvals` is empty; name at least one role".to_owned()),
            None => Ok(Check::Approvals(approvals)),
        },
        (None, None, None, Some(true)) => Ok(Check::Smoke),
        (None, None, None, Some(false)) => Err("`smoke: false` looks at nothing; leave the gate out".to_owned()),
        (None, None, None, None) => Err("it looks at nothing; give `sql`, `tags`, `approvals` or `smoke`".to_owned()),
        _ => Err("it looks at more than one thing; make a gate of each".to_owned()),
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    fn mistake(yaml: &str) -> String {
        Gates::parse("gates.yaml", yaml).unwrap_err().to_string()
    }

    #[test]
    fn all_mistakes_are_told_with_their_places() {
        let message = mistake(
            "gates:\n  - name: a\n    sql: SELECT {{ x }}\n  - name: a\n    smoke: true\n  - name: c\n  - {name: d, smoke: true, tags: {a: b}}\n",
        );
        let lines: Vec<&str> = message.lines().collect();
        assert!(lines[0].starts_with("gates.yaml:2:5: gate `a`: there is no value `x`"), "{message}");
        assert!(lines[1].starts_with("gates.yaml:4:5: two gates are named `a`"), "{message}");
        assert!(lines[2].starts_with("gates.yaml:6:5: gate `c`: it looks at nothing"), "{message}");
        assert!(lines[3].starts_with("gates.yaml:7:5: gate `d`: it looks at more than one thing"), "{message}");
    }

    #[test]
    fn unknown_keys_and_wrong_types_have_places_too() {
        let message = mistake("gates:\n  - name: a\n    smok: true\n");
        assert!(message.starts_with("gates.yaml:3:"), "{message}");
        assert!(message.contains("smok"), "{message}");
        let message = mistake("gates:\n  - name: a\n    approvals: {scientist: many}\n");
        assert!(message.starts_with("gates.yaml:3:"), "{message}");
        let message = mistake("gates:\n  - name: a\n    compare: at_most\n    smoke: true\n");
        assert!(message.contains("`compare` goes with `sql`"), "{message}");
    }

    #[test]
    fn a_list_in_settings_is_read_alike() {
        let value = json!([{"name": "a", "smoke": true}, {"name": "b", "approvals": {"scientist": 1}}]);
        let gates = Gates::from_value("gates", &value).unwrap();
        let yaml = "gates:\n  - {name: a, smoke: true}\n  - {name: b, approvals: {scientist: 1}}\n";
        assert_eq!(gates, Gates::parse("gates.yaml", yaml).unwrap());
        let message = Gates::from_value("gates", &json!([{"name": "a"}])).unwrap_err().to_string();
        assert!(message.starts_with("gates: gate 1: gate `a`: it looks at nothing"), "{message}");
    }
}
