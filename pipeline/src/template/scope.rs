//! What the names in a template mean.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;

use chrono::SecondsFormat;
use serde_json::Value;

use crate::schedule::DataInterval;

/// What the names in a template mean. Cheap to clone: the values are shared.
#[derive(Clone, Default)]
pub struct Scope {
    values: BTreeMap<&'static str, minijinja::Value>,
    tasks: BTreeMap<String, minijinja::Value>,
}

impl Scope {
    /// A scope with `params` (a JSON object) and `run` (an object with `id`, `dag`, `started_at`, `logical_date` and
    /// `trigger`).
    pub fn new(params: &Value, run: &Value) -> Self {
        let mut values = BTreeMap::new();
        values.insert("params", engine_value(params));
        values.insert("run", engine_value(run));
        Self { values, tasks: BTreeMap::new() }
    }

    /// Adds `tasks.<task>.output`.
    pub fn add_output(&mut self, task: &str, output: &Value) {
        let fields = minijinja::Value::from_pairs([("output", engine_value(output))]);
        self.tasks.insert(task.to_string(), fields);
    }

    /// Whether `tasks.<task>.output` is known.
    pub fn has_output(&self, task: &str) -> bool {
        self.tasks.contains_key(task)
    }

    /// The same scope with `item` and `index` of a mapped task.
    pub fn with_item(&self, item: &Value, index: u32) -> Self {
        self.with("item", engine_value(item)).with("index", minijinja::Value::from(index))
    }

    /// The same scope with `interval.start` and `interval.end`, as RFC 3339 texts in UTC.
    pub fn with_interval(&self, interval: &DataInterval) -> Self {
        let text = |instant: chrono::DateTime<chrono::Utc>| instant.to_rfc3339_opts(SecondsFormat::AutoSi, true);
        let fields = [("start", text(interval.start)), ("end", text(interval.end))];
        self.with("interval", minijinja::Value::from_pairs(fields))
    }

    /// The same scope with `batch`: an object with `id`, `items` and `number`.
    pub fn with_batch(&self, batch: &Value) -> Self {
        self.with("batch", engine_value(batch))
    }

    /// The same scope with `secrets.<name>` for each of `names`, which are a task's or an alert's `secret_uses`. What is
    /// rendered with it must not be kept. The error names the secrets that `lookup` does not know.
    pub fn with_secrets(
        &self,
        names: &BTreeSet<String>,
        lookup: &dyn Fn(&str) -> Option<String>,
    ) -> Result<Self, String> {
        let mut secrets = Vec::new();
        let mut missing = Vec::new();
        for name in names {
            match lookup(name) {
                Some(secret) => secrets.push((name.clone(), secret)),
                None => missing.push(format!("`{name}`")),
            }
        }
        if missing.is_empty() {
            return Ok(self.with("secrets", minijinja::Value::from_pairs(secrets)));
        }
        Err(format!("secrets that are not set: {}; set each of them", missing.join(", ")))
    }

    pub(super) fn context(&self) -> minijinja::Value {
        let tasks = minijinja::Value::from_pairs(self.tasks.clone());
        minijinja::Value::from_pairs(self.values.clone().into_iter().chain([("tasks", tasks)]))
    }

    fn with(&self, name: &'static str, value: minijinja::Value) -> Self {
        let mut scope = self.clone();
        scope.values.insert(name, value);
        scope
    }
}

/// Shows names only: values may be secrets.
impl fmt::Debug for Scope {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let tasks: Vec<&String> = self.tasks.keys().collect();
        f.debug_struct("Scope").field("values", &self.values.keys()).field("tasks", &tasks).finish()
    }
}

fn engine_value(value: &Value) -> minijinja::Value {
    minijinja::Value::from(minijinja::value::Serde(value))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use serde_json::json;

    use super::super::{render, render_known};
    use super::*;

    fn interval() -> DataInterval {
        DataInterval { start: "2026-01-30T23:00:00Z".parse().unwrap(), end: "2026-01-31T23:00:00.5Z".parse().unwrap() }
    }

    #[test]
    fn a_run_has_an_interval_and_a_batch() {
        let run = json!({"logical_date": "2026-01-30T23:00:00Z", "trigger": "schedule"});
        let batch = json!({"id": "b7", "items": ["a.jpg"], "number": 7});
        let scope = Scope::new(&json!({}), &run).with_interval(&interval()).with_batch(&batch);
        let value = json!([
            "{{ interval.start }}/{{ interval.end }}",
            "{{ run.trigger }}",
            "{{ batch.items }}",
            "{{ batch.number }}"
        ]);
        assert_eq!(
            render(&value, &scope).unwrap(),
            json!(["2026-01-30T23:00:00Z/2026-01-31T23:00:00.500Z", "schedule", ["a.jpg"], 7])
        );
    }

    #[test]
    fn secrets_are_there_only_when_they_are_given() {
        let scope = Scope::new(&json!({}), &json!({}));
        let value = json!("{{ secrets.token }}");
        assert!(render(&value, &scope).is_err());
        let names = BTreeSet::from(["key".to_string(), "token".to_string(), "user".to_string()]);
        let error = scope.with_secrets(&names, &|name| (name == "key").then(String::new)).unwrap_err();
        assert_eq!(error, "secrets that are not set: `token`, `user`; set each of them");
    }

    #[test]
    fn what_is_known_before_a_run_is_parameters_alone() {
        let names = BTreeSet::from(["token".to_string()]);
        let scope = Scope::new(&json!({"a": 1}), &json!({"id": "r"}))
            .with_interval(&interval())
            .with_batch(&json!({"id": "b"}))
            .with_secrets(&names, &|_| Some("hunter2".to_string()))
            .unwrap();
        let kept = json!(["{{ secrets.token }}", "{{ interval.end }}", "{{ batch.id }}", "{{ run.id }}"]);
        assert_eq!(render_known(&kept, &scope).unwrap(), kept);
        assert_eq!(render_known(&json!("{{ params.a }}"), &scope).unwrap(), json!(1));
    }
}
