//! A run that has ended as spans of a trace: the run, its task instances, their attempts.
//!
//! Form: the JSON encoding of OpenTelemetry's protocol (OTLP 1.x, `ExportTraceServiceRequest`), in which ids are
//! hexadecimal and 64-bit numbers are texts.

use serde_json::{Value, json};

use super::trace::{attempt_span, instance_span, run_span, trace_id};
use crate::clock::Timestamp;
use crate::state::{AttemptState, InstanceAttempt, InstanceFacts, RunRecord, RunState, TaskState};

/// `SPAN_KIND_INTERNAL`.
const INTERNAL: u8 = 1;

/// `STATUS_CODE_OK` and `STATUS_CODE_ERROR`.
const OK: u8 = 1;
const ERROR: u8 = 2;

/// The span of the run itself, from its making on; before its start it was queued.
pub(super) fn of_run(run: &RunRecord, at: Timestamp) -> Value {
    let queued = run.started_at.unwrap_or(at).since(run.created_at);
    let attributes = [
        text("safari.dag", &run.dag),
        text("safari.run_id", &run.id.to_string()),
        text("safari.cause", run.cause.as_str()),
        text("safari.state", run.state.as_str()),
        number("safari.queued_milliseconds", queued.as_millis()),
    ];
    let failed = matches!(run.state, RunState::Failed | RunState::Cancelled);
    json!({
        "traceId": trace_id(run.id),
        "spanId": run_span(run.id),
        "name": format!("run {}", run.dag),
        "kind": INTERNAL,
        "startTimeUnixNano": nanoseconds(run.created_at),
        "endTimeUnixNano": nanoseconds(run.finished_at.unwrap_or(at)),
        "attributes": attributes,
        "status": status(failed, run.error.as_deref()),
    })
}

/// The span of a task instance and those of its attempts.
pub(super) fn of_instance(run: &RunRecord, instance: &InstanceFacts) -> Vec<Value> {
    let own = instance_span(run.id, &instance.task, instance.map_index);
    let mut attributes = named(run, instance);
    attributes.push(text("safari.state", instance.state.as_str()));
    let mut spans = vec![json!({
        "traceId": trace_id(run.id),
        "spanId": own,
        "parentSpanId": run_span(run.id),
        "name": format!("task {}", instance.task),
        "kind": INTERNAL,
        "startTimeUnixNano": nanoseconds(instance.started_at),
        "endTimeUnixNano": nanoseconds(instance.finished_at),
        "attributes": attributes,
        "status": status(instance.state == TaskState::Failed, instance.error.as_deref()),
    })];
    spans.extend(instance.attempts.iter().map(|attempt| of_attempt(run, instance, attempt, &own)));
    spans
}

/// What is sent: all spans of one call.
pub(super) fn request(spans: &[Value]) -> Value {
    json!({"resourceSpans": [{
        "resource": {"attributes": [text("service.name", "safari"), text("service.version", env!("CARGO_PKG_VERSION"))]},
        "scopeSpans": [{
            "scope": {"name": "safari.pipeline", "version": env!("CARGO_PKG_VERSION")},
            "spans": spans,
        }],
    }]})
}

fn of_attempt(run: &RunRecord, instance: &InstanceFacts, attempt: &InstanceAttempt, parent: &str) -> Value {
    let mut attributes = named(run, instance);
    attributes.extend([
        number("safari.attempt", u128::from(attempt.number)),
        text("safari.state", attempt.state.as_str()),
        text("host.name", &attempt.host),
        number("process.pid", u128::try_from(attempt.process).unwrap_or(0)),
    ]);
    let failed = matches!(attempt.state, AttemptState::Failed | AttemptState::Lost);
    json!({
        "traceId": trace_id(run.id),
        "spanId": attempt_span(run.id, &instance.task, instance.map_index, attempt.number),
        "parentSpanId": parent,
        "name": format!("attempt {}", instance.task),
        "kind": INTERNAL,
        "startTimeUnixNano": nanoseconds(attempt.started_at),
        "endTimeUnixNano": nanoseconds(attempt.finished_at),
        "attributes": attributes,
        "status": status(failed, attempt.error.as_deref()),
    })
}

fn named(run: &RunRecord, instance: &InstanceFacts) -> Vec<Value> {
    let mut attributes = vec![text("safari.dag", &run.dag), text("safari.task", &instance.task)];
    attributes.extend(instance.map_index.map(|index| number("safari.map_index", u128::from(index))));
    attributes
}

fn status(failed: bool, error: Option<&str>) -> Value {
    match failed {
        true => json!({"code": ERROR, "message": error.unwrap_or_default()}),
        false => json!({"code": OK}),
    }
}

fn text(key: &str, value: &str) -> Value {
    json!({"key": key, "value": {"stringValue": value}})
}

fn number(key: &str, value: u128) -> Value {
    json!({"key": key, "value": {"intValue": value.to_string()}})
}

fn nanoseconds(at: Timestamp) -> String {
    format!("{}000000", at.millis().max(0))
}
