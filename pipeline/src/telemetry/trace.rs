//! The names of spans, which follow from the ids of what they are about: whoever tells them, and however often, they are
//! the same, and an attempt knows the name of its span before anybody has told it.
//!
//! Form: W3C Trace Context, level 1. A run is a trace; its id is the trace's.

use sha2::{Digest, Sha256};

use crate::ids::RunId;

/// Bytes of a span's name.
const SPAN_BYTES: usize = 8;

/// 32 hexadecimal digits.
pub(crate) fn trace_id(run: RunId) -> String {
    run.to_string().replace('-', "")
}

/// The span of a run: from what triggered it to its end.
pub(crate) fn run_span(run: RunId) -> String {
    span_id(&format!("run {run}"))
}

/// The span of a task instance: from the start of its first attempt to the end of its last.
pub(crate) fn instance_span(run: RunId, task: &str, map_index: Option<u32>) -> String {
    span_id(&format!("task {}", idempotency_key(run, task, map_index)))
}

/// The span of an attempt.
pub(crate) fn attempt_span(run: RunId, task: &str, map_index: Option<u32>, number: u32) -> String {
    span_id(&format!("attempt {number} {}", idempotency_key(run, task, map_index)))
}

/// What an attempt hands on, so that spans of programs and services that it calls are part of its own.
pub(crate) fn traceparent(run: RunId, task: &str, map_index: Option<u32>, number: u32) -> String {
    format!("00-{}-{}-01", trace_id(run), attempt_span(run, task, map_index, number))
}

/// The same for all attempts at a task instance.
pub(crate) fn idempotency_key(run: RunId, task: &str, map_index: Option<u32>) -> String {
    match map_index {
        Some(index) => format!("{run}/{task}/{index}"),
        None => format!("{run}/{task}"),
    }
}

fn span_id(what: &str) -> String {
    hex::encode(&Sha256::digest(what)[..SPAN_BYTES])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_have_the_form_of_the_standard_and_differ() {
        let run = RunId::new();
        let parent = traceparent(run, "a", Some(3), 2);
        let parts: Vec<&str> = parent.split('-').collect();
        assert_eq!((parts[0], parts[1].len(), parts[2].len(), parts[3]), ("00", 32, 16, "01"));
        assert_eq!(parts[1], trace_id(run));
        let spans = [
            run_span(run),
            instance_span(run, "a", None),
            instance_span(run, "a", Some(1)),
            attempt_span(run, "a", None, 1),
            attempt_span(run, "a", None, 2),
            attempt_span(run, "b", None, 1),
        ];
        let different: std::collections::BTreeSet<&String> = spans.iter().collect();
        assert_eq!(different.len(), spans.len());
    }
}
