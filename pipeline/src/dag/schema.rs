//! The DAG language as a JSON Schema, so that editors complete, explain and check DAG files while they are written.
//!
//! It says what shape each value has. What a schema cannot say, such as that a need is the name of a task, only
//! [`Dag::parse`](super::Dag::parse) tells.

use serde_json::{Map, Value, json};

use super::TriggerRule;
use super::alert::AlertEvent;
use super::params::ParamType;
use super::task::ExecutorKind;

/// Where editors know the schema by.
const ID: &str = "urn:safari:schema:dag";

/// The JSON Schema (draft 2020-12) of DAG files.
pub fn schema() -> Value {
    let mut schema = object(dag_keys(), &["dag", "tasks"], "A DAG: tasks, what they need, and when they run.");
    schema["$schema"] = json!("https://json-schema.org/draft/2020-12/schema");
    schema["$id"] = json!(ID);
    schema["title"] = json!("Safari DAG");
    schema["not"] = json!({"required": ["schedule", "continuous"]});
    schema["$defs"] = json!({
        "duration": {
            "type": "string",
            "pattern": "^\\s*([0-9]+(ms|s|m|h|d))+\\s*$",
            "examples": ["500ms", "30s", "5m", "2h", "1h30m", "1d"],
        },
        "name": {"type": "string", "pattern": "^[A-Za-z_][A-Za-z0-9_]{0,63}$"},
        "dashed_name": {"type": "string", "pattern": "^[A-Za-z_][A-Za-z0-9_-]{0,63}$"},
        "template": {"type": "string", "pattern": "\\{[{%#]"},
        "assets": {
            "type": "array",
            "minItems": 1,
            "items": {"type": "string", "pattern": "^[^\\s{}]+$", "maxLength": 256},
        },
        "needs": {"type": "array", "items": {"$ref": "#/$defs/name"}},
        "given": {"type": ["object", "null"]},
    });
    schema
}

fn dag_keys() -> Value {
    json!({
        "dag": refer("dashed_name", "Name of the DAG."),
        "description": text("What the DAG is for."),
        "params": nullable(map_of(
            param(),
            "Values that a run is given, by name; templates use them as `params.<name>`.",
        )),
        "schedule": schedule(),
        "continuous": continuous(),
        "max_active_runs": count(1, "Most runs that are active at once; further ones wait. 16 when not given."),
        "timeout": refer("duration", "How long a run may take."),
        "deadline": refer(
            "duration",
            "A run that has not ended this long after the end of its data interval, or after it was made when it has \
             none, raises a `deadline` alert.",
        ),
        "priority": priority("Priority of tasks that have none of their own."),
        "defaults": nullable(object(setting_keys(), &[], "Settings of every task that does not have its own.")),
        "alerts": {
            "description": "Whom to tell about runs.",
            "type": "array",
            "maxItems": 100,
            "items": alert(),
        },
        "groups": nullable(map_of(
            nullable(object(group_keys(), &[], "A group of tasks.")),
            "Groups of tasks, by name. A group's name in `needs` stands for all its tasks.",
        )),
        "tasks": tasks(),
    })
}

fn param() -> Value {
    let keys = json!({
        "type": {"description": "What its values are.", "enum": ParamType::NAMES},
        "description": text("What it is for."),
        "default": {"description": "The value when a run is given none. Without a default it must be given."},
    });
    object(keys, &["type"], "A parameter.")
}

fn schedule() -> Value {
    let bound = |which: &str| text(&format!("{which}: a date, a local date and time, or one with an offset."));
    let keys = json!({
        "cron": text("Five fields: minute, hour, day of the month, month, day of the week; or `@daily` and the like."),
        "every": refer("duration", "Distance between two runs, counted from `start` or from 1970."),
        "assets": refer("assets", "Runs when all of these were updated since the last run."),
        "any_asset": refer("assets", "Runs when any of these was updated."),
        "zone": text("Where local times hold, such as `Europe/Berlin`. UTC when not given."),
        "start": bound("No data interval begins before it"),
        "end": bound("No data interval ends after it"),
        "catch_up": flag("Whether missed runs are made up for. Otherwise only the newest is. False when not given."),
    });
    let mut mapping = object(keys, &[], "When it runs.");
    mapping["oneOf"] = json!([
        {"required": ["cron"]},
        {"required": ["every"]},
        {"required": ["assets"], "maxProperties": 1},
        {"required": ["any_asset"], "maxProperties": 1},
    ]);
    json!({
        "description": "What makes the DAG run by itself: a cron expression, or a mapping.",
        "oneOf": [{"type": "string", "examples": ["0 3 * * *", "@daily"]}, mapping],
    })
}

fn continuous() -> Value {
    let full = |description: &str| json!({"description": description, "type": "string", "pattern": "\\S"});
    let nats = json!({
        "url": full("The server, such as `nats://localhost:4222`."),
        "stream": full("The JetStream stream."),
        "subject": full("Subject of the messages; wildcards are allowed."),
        "consumer": full("Name of the durable consumer."),
    });
    let keys = json!({
        "source": full("A folder or an S3 URL prefix in which new objects appear."),
        "webhook": refer("dashed_name", "Name of the webhook that items are sent to."),
        "nats": object(nats, &["url", "stream", "subject", "consumer"], "Messages of a NATS JetStream consumer."),
        "max_batch": count(1, "Most items of a batch. 100 when not given."),
        "max_age": refer("duration", "A batch that is not full starts when its first item waited this long. `5s`."),
        "max_in_flight": count(1, "Most batches that run at once. 4 when not given."),
    });
    let mut mapping = object(keys, &[], "A DAG that never ends: each batch of items that come in is a run.");
    mapping["oneOf"] = json!([{"required": ["source"]}, {"required": ["webhook"]}, {"required": ["nats"]}]);
    mapping
}

fn alert() -> Value {
    let keys = json!({
        "on": {
            "description": "What to tell of.",
            "type": "array",
            "minItems": 1,
            "items": {"enum": AlertEvent::ALL.map(AlertEvent::name)},
        },
        "webhook": {
            "description": "URL that is called with POST.",
            "type": "string",
            "pattern": "^https?://.|\\{[{%#]",
        },
        "command": {
            "description": "Program and arguments, run without a shell.",
            "type": "array",
            "minItems": 1,
            "items": {"type": "string"},
        },
    });
    let mut alert = object(keys, &["on"], "An alert.");
    alert["oneOf"] = json!([{"required": ["webhook"]}, {"required": ["command"]}]);
    alert
}

fn group_keys() -> Value {
    json!({
        "description": text("What the group is for."),
        "needs": refer("needs", "Tasks and groups that each of its tasks needs."),
    })
}

fn tasks() -> Value {
    let mut task = object(merge(own_keys(), setting_keys()), &[], "A task.");
    task["oneOf"] = json!([
        {"required": ["job"], "properties": {"params": false, "wait": false}},
        {"required": ["dag"], "properties": {"with": false}},
    ]);
    let mut tasks = map_of(task, "The tasks, by name.");
    tasks["minProperties"] = json!(1);
    tasks["maxProperties"] = json!(5_000);
    tasks
}

/// Keys that only a task has.
fn own_keys() -> Value {
    json!({
        "job": text("Kind of job that does it."),
        "dag": refer("dashed_name", "DAG that it runs, instead of a job."),
        "params": refer("given", "Parameters of the DAG that it runs; texts may be templates."),
        "wait": flag("Whether it ends when the DAG's run has ended, instead of at once. True when not given."),
        "description": text("What the task is for."),
        "group": refer("name", "Group that it belongs to."),
        "with": refer("given", "What the job is given; texts may be templates."),
        "needs": refer("needs", "Tasks and groups before it."),
        "trigger": {
            "description": "How the tasks in `needs` must end for it to go. `all_success` when not given.",
            "enum": TriggerRule::ALL.map(TriggerRule::name),
        },
        "when": {
            "description": "True, false, or a template that gives one. With false the task is skipped.",
            "oneOf": [{"type": "boolean"}, {"$ref": "#/$defs/template"}],
        },
        "map": {
            "description": "A list, or a template that gives one: the task runs once for each `item`.",
            "oneOf": [{"type": "array"}, {"$ref": "#/$defs/template"}],
        },
        "parallelism": count(1, "Most items of a mapped task that run at once."),
        "retry_on": {
            "description": "What becomes of certain errors: the first rule whose `error` is found in the message.",
            "type": "array",
            "maxItems": 100,
            "items": retry_rule(),
        },
        "task_timeout": refer("duration", "How long all attempts together may take, waits included."),
        "cache": cache(),
        "produces": refer("assets", "Assets that are updated when it succeeds."),
    })
}

/// Keys that a task and `defaults` have.
fn setting_keys() -> Value {
    let resources = json!({
        "cpu": {"description": "Processor cores.", "type": "number", "minimum": 0.001, "maximum": 10_000},
        "memory": {
            "description": "Memory, such as `512MiB` or `2GiB`.",
            "type": "string",
            "pattern": "^[0-9]+(\\.[0-9]{1,3})?\\s*([KMGT]i?B|B)$",
        },
        "gpu": count(0, "Whole GPUs."),
    });
    json!({
        "retries": retries("How often a failed attempt is tried again. 0 when not given."),
        "retry_delay": refer("duration", "Wait before the first retry; doubles for each further one. `1s`."),
        "retry_max_delay": refer("duration", "No wait before a retry is longer."),
        "timeout": refer("duration", "How long one attempt may take."),
        "pool": refer("dashed_name", "Pool whose slots its attempts take. `default` when not given."),
        "slots": count(1, "Slots of the pool that one attempt takes. 1 when not given."),
        "priority": priority("Which of the tasks that could start goes first: the greatest. 0 when not given."),
        "queue": refer("dashed_name", "Queue of the workers that may do it."),
        "labels": {
            "description": "Labels that a worker must have.",
            "type": ["object", "null"],
            "propertyNames": {"pattern": "^[A-Za-z0-9_./-]{1,253}$"},
            "additionalProperties": {"type": "string", "pattern": "^[A-Za-z0-9_./-]{1,253}$"},
        },
        "resources": nullable(object(resources, &[], "What one attempt needs of a machine.")),
        "executor": {
            "description": "Where attempts run. Where the installation says when not given.",
            "enum": ExecutorKind::ALL.map(ExecutorKind::name),
        },
        "kubernetes": nullable(object(pod_keys(), &[], "The pod of an attempt.")),
    })
}

/// Keys that describe a pod. Where Kubernetes has a shape of its own, that is taken.
fn pod_keys() -> Value {
    let texts = |description: &str| {
        json!({
            "description": description,
            "type": ["object", "null"],
            "additionalProperties": {"type": "string"},
        })
    };
    let list = |description: &str| {
        json!({
            "description": description,
            "type": "array",
            "items": {"description": "As in Kubernetes.", "type": "object"},
        })
    };
    json!({
        "image": text("Image of the container."),
        "service_account": text("Service account of the pod."),
        "node_selector": texts("Labels that a node must have."),
        "tolerations": list("Taints of nodes that do not keep it away, as in Kubernetes."),
        "affinity": {"description": "Which nodes and which pods it wants beside it, as in Kubernetes.", "type": "object"},
        "volumes": list("Volumes of the pod, as in Kubernetes."),
        "volume_mounts": list("Where the container has them, as in Kubernetes."),
        "env": texts("Variables of the container, by name."),
        "secrets": texts("Variables of the container by name, each with the `SECRET/KEY` that it is read from."),
        "labels": texts("More labels of the pod."),
        "annotations": texts("More annotations of the pod."),
        "priority_class": text("Priority class of the pod."),
    })
}

fn retry_rule() -> Value {
    let keys = json!({
        "error": {"description": "Text or regular expression.", "type": "string", "minLength": 1, "format": "regex"},
        "retries": retries("How often it is tried again, instead of the task's `retries`."),
        "delay": refer("duration", "Wait before the first retry, instead of the task's `retry_delay`."),
    });
    let mut rule = object(keys, &["error"], "A rule.");
    rule["minProperties"] = json!(2);
    rule
}

fn cache() -> Value {
    let keys = json!({
        "key": text("Template for the text that names the output. Without it, the job and its `with` do."),
        "ttl": refer("duration", "How long an output may be taken. For good when not given."),
    });
    json!({
        "description": "Whether an earlier output may be taken instead of doing the task.",
        "oneOf": [{"type": "boolean"}, object(keys, &[], "How outputs are found.")],
    })
}

fn object(keys: Value, required: &[&str], description: &str) -> Value {
    let mut object = json!({
        "description": description,
        "type": "object",
        "properties": keys,
        "additionalProperties": false,
    });
    if !required.is_empty() {
        object["required"] = json!(required);
    }
    object
}

/// Any names, each with a value of this shape.
fn map_of(value: Value, description: &str) -> Value {
    json!({
        "description": description,
        "type": "object",
        "propertyNames": {"$ref": "#/$defs/name"},
        "additionalProperties": value,
    })
}

/// The same, or nothing: `prepare:` is a group without settings.
fn nullable(mut object: Value) -> Value {
    object["type"] = json!(["object", "null"]);
    object
}

fn refer(definition: &str, description: &str) -> Value {
    json!({"description": description, "$ref": format!("#/$defs/{definition}")})
}

fn text(description: &str) -> Value {
    json!({"description": description, "type": "string"})
}

fn flag(description: &str) -> Value {
    json!({"description": description, "type": "boolean"})
}

fn count(least: u32, description: &str) -> Value {
    json!({"description": description, "type": "integer", "minimum": least, "maximum": u32::MAX})
}

fn retries(description: &str) -> Value {
    json!({"description": description, "type": "integer", "minimum": 0, "maximum": 1_000})
}

fn priority(description: &str) -> Value {
    json!({"description": description, "type": "integer", "minimum": -100, "maximum": 100})
}

fn merge(first: Value, second: Value) -> Value {
    let mut all = Map::new();
    for keys in [first, second] {
        if let Value::Object(keys) = keys {
            all.extend(keys);
        }
    }
    Value::Object(all)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use std::collections::BTreeSet;

    use super::super::read::keys;
    use super::*;

    #[track_caller]
    fn same_keys<'a>(pointer: &str, keys: impl IntoIterator<Item = &'a str>) {
        let schema = schema();
        let node = schema.pointer(pointer).unwrap_or_else(|| panic!("nothing at {pointer}"));
        let found: BTreeSet<&str> = node["properties"].as_object().unwrap().keys().map(String::as_str).collect();
        assert_eq!(found, keys.into_iter().collect(), "{pointer}");
        assert_eq!(node["additionalProperties"], json!(false), "{pointer}");
    }

    #[test]
    fn the_schema_has_the_keys_that_the_reader_accepts() {
        let task = "/properties/tasks/additionalProperties";
        same_keys("", keys::DAG);
        same_keys("/properties/params/additionalProperties", keys::PARAM);
        same_keys("/properties/schedule/oneOf/1", keys::SCHEDULE);
        same_keys("/properties/continuous", keys::CONTINUOUS);
        same_keys("/properties/continuous/properties/nats", keys::NATS);
        same_keys("/properties/defaults", keys::DEFAULTS);
        same_keys("/properties/defaults/properties/resources", keys::RESOURCES);
        same_keys("/properties/defaults/properties/kubernetes", keys::KUBERNETES);
        same_keys("/properties/alerts/items", keys::ALERT);
        same_keys("/properties/groups/additionalProperties", keys::GROUP);
        same_keys(task, keys::TASK.into_iter().chain(keys::DEFAULTS));
        same_keys(&format!("{task}/properties/retry_on/items"), keys::RETRY);
        same_keys(&format!("{task}/properties/cache/oneOf/1"), keys::CACHE);
    }

    #[test]
    fn every_key_is_described() {
        fn check(node: &Value, path: &str) {
            for (key, value) in node["properties"].as_object().into_iter().flatten() {
                let described = value["description"].as_str().is_some_and(|text| text.ends_with('.'));
                // The alternatives of a task only forbid keys.
                assert!(described || value == &json!(false), "{path}/{key}");
                check(value, &format!("{path}/{key}"));
            }
            for inner in ["items", "additionalProperties"].iter().filter_map(|inner| node.get(inner)) {
                check(inner, path);
            }
            node["oneOf"].as_array().into_iter().flatten().for_each(|node| check(node, path));
        }
        check(&schema(), "");
    }
}
