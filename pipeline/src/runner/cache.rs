//! Earlier outputs that are taken instead of doing a task again.

use std::time::Duration;

use serde_json::Value;
use sha2::{Digest, Sha256};

use crate::dag::{Cache, Task};
use crate::template::{self, Scope};

/// Where the output of an attempt lies in the cache, and how old it may be.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct CacheKey {
    /// SHA-256 in hexadecimal of the kind of job, and of the text of `cache.key` or else of the rendered `with`.
    pub(super) key: String,
    pub(super) ttl: Option<Duration>,
}

/// The key for a task as the scope stands, which knows no secrets: a secret in `with` counts by its name, so that
/// nothing that is kept comes of its value.
pub(super) fn cache_key(task: &Task, cache: &Cache, scope: &Scope) -> Result<CacheKey, String> {
    let (how, text) = match &cache.key {
        Some(key) => match template::render(&Value::String(key.clone()), scope)? {
            Value::String(text) => ("key", text),
            other => ("key", other.to_string()),
        },
        None => {
            let names = scope.with_secrets(&task.secret_uses, &|name| Some(format!("secret {name}")))?;
            ("with", template::render(&task.with, &names)?.to_string())
        }
    };
    let mut hasher = Sha256::new();
    // Lengths keep the parts apart.
    for part in [task.job.as_str(), how, text.as_str()] {
        hasher.update((part.len() as u64).to_le_bytes());
        hasher.update(part);
    }
    Ok(CacheKey { key: hex::encode(hasher.finalize()), ttl: cache.ttl })
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use serde_json::json;

    use super::*;
    use crate::dag::Dag;

    fn key(yaml: &str, params: Value) -> String {
        let dag =
            Dag::parse("test.yaml", &format!("dag: d\nparams: {{n: {{type: integer, default: 1}}}}\n{yaml}")).unwrap();
        let task = &dag.tasks()[0];
        cache_key(task, task.cache.as_ref().unwrap(), &Scope::new(&params, &Value::Null)).unwrap().key
    }

    #[test]
    fn the_kind_of_job_and_what_it_is_given_make_the_key() {
        let one = "tasks: {a: {job: look, cache: true, with: {n: '{{ params.n }}'}}}";
        assert_eq!(key(one, json!({"n": 1})), key(one, json!({"n": 1})));
        assert_ne!(key(one, json!({"n": 1})), key(one, json!({"n": 2})));
        assert_eq!(
            key(one, json!({"n": 1})),
            key("tasks: {b: {job: look, cache: {ttl: 1h}, with: {n: 1}}}", json!({}))
        );
        assert_ne!(key(one, json!({"n": 1})), key("tasks: {a: {job: glance, cache: true, with: {n: 1}}}", json!({})));
    }

    #[test]
    fn a_key_of_ones_own_stands_for_what_it_is_given() {
        let own = "tasks: {a: {job: look, cache: {key: 'n {{ params.n }}'}, with: {run: '{{ run.id }}'}}}";
        assert_eq!(key(own, json!({"n": 1})), key("tasks: {a: {job: look, cache: {key: n 1}}}", json!({})));
        // A `with` that reads like the key is something else.
        assert_ne!(
            key("tasks: {a: {job: look, cache: {key: '{}'}}}", json!({})),
            key("tasks: {a: {job: look, cache: true}}", json!({}))
        );
    }

    #[test]
    fn secrets_count_by_name() {
        let secret = |name: &str| {
            key(
                &format!("tasks: {{a: {{job: look, cache: true, with: {{t: '{{{{ secrets.{name} }}}}'}}}}}}"),
                json!({}),
            )
        };
        assert_eq!(secret("one"), secret("one"));
        assert_ne!(secret("one"), secret("two"));
    }
}
