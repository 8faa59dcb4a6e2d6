//! Reads `schedule:` and `continuous:` of a DAG: what starts its runs.

use std::time::Duration;

use super::super::mistake::{Collector, Place};
use super::super::starts::{Continuous, DagSchedule, StreamSource};
use super::super::yaml::{Node, NodeValue};
use super::Use;
use super::common::{read_assets, read_name, read_positive, read_span};
use super::keys;
use super::templates::{Spot, Templates};
use crate::schedule::{Error, Spec, Timetable};

/// Of these a schedule has one.
const KINDS: [&str; 4] = ["cron", "every", "assets", "any_asset"];
/// Of these a continuous DAG has one.
const SOURCES: [&str; 3] = ["source", "webhook", "nats"];
/// Nothing else in a schedule by assets has a meaning.
const ASSET_KEYS: [&str; 2] = ["assets", "any_asset"];

type Field<'a> = (&'a str, Place, &'a Node);

pub(super) fn read(node: &Node, yaml: &str, out: &mut Collector) -> DagSchedule {
    match &node.value {
        NodeValue::String(cron) => {
            let spec = Spec { cron: Some(cron.clone()), ..Spec::default() };
            read_time(node, &[("cron", node.place, node)], spec, yaml, out)
        }
        NodeValue::Map(_) => read_mapping(node, yaml, out),
        _ => {
            let message = format!(
                "`schedule` must be a cron expression such as `\"0 3 * * *\"`, or a mapping with one of {}, but is {}",
                KINDS.join(", "),
                node.kind()
            );
            out.add(node.place, message);
            DagSchedule::Manual
        }
    }
}

/// Reads `continuous:`; nothing when its source is wrong.
pub(super) fn read_continuous(node: &Node, templates: &Templates<'_>, out: &mut Collector) -> Option<Continuous> {
    let fields = node.fields("`continuous`", &keys::CONTINUOUS, out);
    let mut continuous = Continuous {
        source: StreamSource::Folder(String::new()),
        max_batch: 100,
        max_age: Duration::from_secs(5),
        max_in_flight: 4,
    };
    let known_source = has_one(&fields, &SOURCES, "`continuous`", node.place, out);
    for (key, place, node) in fields {
        match key {
            "max_batch" => set(&mut continuous.max_batch, read_positive(node, "`max_batch`", out)),
            "max_age" => set(&mut continuous.max_age, read_span(node, "`max_age`", out)),
            "max_in_flight" => set(&mut continuous.max_in_flight, read_positive(node, "`max_in_flight`", out)),
            "webhook" => continuous.source = StreamSource::Webhook(read_name(node, "the webhook", true, out)),
            "source" => {
                continuous.source = StreamSource::Folder(read_text(node, "source", templates, out).unwrap_or_default());
            }
            _ => continuous.source = read_nats(place, node, templates, out),
        }
    }
    known_source.then_some(continuous)
}

fn read_mapping(node: &Node, yaml: &str, out: &mut Collector) -> DagSchedule {
    let fields = node.fields("`schedule`", &keys::SCHEDULE, out);
    if !has_one(&fields, &KINDS, "`schedule`", node.place, out) {
        return DagSchedule::Manual;
    }
    let mut schedule = None;
    let mut spec = Spec::default();
    for (key, _, node) in &fields {
        match *key {
            "assets" => schedule = Some(DagSchedule::AllAssets(read_assets(node, "`assets`", out))),
            "any_asset" => schedule = Some(DagSchedule::AnyAsset(read_assets(node, "`any_asset`", out))),
            "cron" => spec.cron = node.string("`cron`", out),
            "every" => spec.every = read_scalar(node, "`every`", out),
            "zone" => spec.zone = node.string("`zone`", out),
            "start" => spec.start = node.string("`start`", out),
            "end" => spec.end = node.string("`end`", out),
            _ => spec.catch_up = node.boolean("`catch_up`", out).unwrap_or_default(),
        }
    }
    if let Some(schedule) = schedule {
        for (key, place, _) in fields.iter().filter(|(key, _, _)| !ASSET_KEYS.contains(key)) {
            out.add(*place, format!("`{key}` has a meaning only with `cron` or `every`; remove it"));
        }
        return schedule;
    }
    if spec.cron.is_none() && spec.every.is_none() {
        // Its value was no text, which was told.
        return DagSchedule::Manual;
    }
    read_time(node, &fields, spec, yaml, out)
}

/// Makes the timetable. After a mistake the value is replaced by one that is right, so that the next one is found.
fn read_time(node: &Node, fields: &[Field<'_>], mut spec: Spec, yaml: &str, out: &mut Collector) -> DagSchedule {
    for _ in 0..keys::SCHEDULE.len() {
        let error = match Timetable::from_spec(&spec) {
            Ok(timetable) => return DagSchedule::Time(timetable),
            Err(error) => error,
        };
        let wrong = fields.iter().find(|(key, _, _)| *key == error.key()).map_or(node, |(_, _, node)| node);
        out.add(place_of(wrong, &error, yaml), error.to_string());
        match error.key() {
            "cron" => spec.cron = Some("@daily".to_string()),
            "every" => spec.every = Some("1d".to_string()),
            "zone" => spec.zone = None,
            "start" => spec.start = None,
            "end" => spec.end = None,
            _ => break,
        }
    }
    DagSchedule::Manual
}

/// The place of the sign that the error is about.
fn place_of(node: &Node, error: &Error, yaml: &str) -> Place {
    let NodeValue::String(text) = &node.value else { return node.place };
    let sign = text.char_indices().nth(error.column() - 1);
    sign.map_or(node.place, |(at, c)| node.place_of(yaml, text, at..at + c.len_utf8()))
}

/// Whether exactly one of `kinds` is given.
fn has_one(fields: &[Field<'_>], kinds: &[&str], what: &str, place: Place, out: &mut Collector) -> bool {
    let given: Vec<&Field<'_>> = fields.iter().filter(|(key, _, _)| kinds.contains(key)).collect();
    match given[..] {
        [_] => true,
        [] => {
            out.add(place, format!("{what} must have one of {}", kinds.join(", ")));
            false
        }
        [(first, _, _), (second, place, _), ..] => {
            out.add(*place, format!("{what} has both `{first}` and `{second}`; keep one of them"));
            false
        }
    }
}

fn read_nats(place: Place, node: &Node, templates: &Templates<'_>, out: &mut Collector) -> StreamSource {
    let fields = node.fields("`nats`", &keys::NATS, out);
    let mut read = |key: &'static str| {
        let field = fields.iter().find(|(name, _, _)| *name == key);
        if field.is_none() {
            out.add(place, format!("`nats` has no `{key}`; add it"));
        }
        field.and_then(|(_, _, node)| read_text(node, key, templates, out)).unwrap_or_default()
    };
    StreamSource::Nats {
        url: read("url"),
        stream: read("stream"),
        subject: read("subject"),
        consumer: read("consumer"),
    }
}

/// A text that is not empty; its templates may use parameters.
fn read_text(node: &Node, key: &'static str, templates: &Templates<'_>, out: &mut Collector) -> Option<String> {
    let text = node.string(&format!("`{key}`"), out)?;
    if text.trim().is_empty() {
        out.add(node.place, format!("`{key}` is empty"));
        return None;
    }
    let spot = Spot { key, task: None, item: false, run: false, secrets: false };
    templates.check(node, spot, &mut Vec::<Use>::new(), out);
    Some(text)
}

/// The text of a string or a number.
fn read_scalar(node: &Node, what: &str, out: &mut Collector) -> Option<String> {
    match &node.value {
        NodeValue::Number(number) => Some(number.to_string()),
        _ => node.string(what, out),
    }
}

fn set<T>(field: &mut T, given: Option<T>) {
    if let Some(given) = given {
        *field = given;
    }
}
