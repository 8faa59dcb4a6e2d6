//! Changes as webhooks are told of them: the payloads of `mlflow/webhooks/types.py` of mlflow 3.17.2.

use chrono::{SecondsFormat, Utc};
use serde_json::{Map, Value, json};

use super::Event;
use crate::VersionNumber;
use crate::registered::{IS_PROMPT, ModelVersion, Tag};

/// The tag with the text of a prompt.
const PROMPT_TEXT: &str = "mlflow.prompt.text";
/// The tag with the type of a prompt.
const PROMPT_TYPE: &str = "_mlflow_prompt_type";

/// Something that happened.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Change {
    pub(crate) event: Event,
    data: Value,
}

impl Change {
    pub(crate) fn model_created(name: &str, tags: &[Tag], description: &str) -> Self {
        let is_prompt = is_prompt(tags);
        let event = if is_prompt { Event::PromptCreated } else { Event::RegisteredModelCreated };
        let tags = by_key(tags, |key| !is_prompt || (key != IS_PROMPT && key != PROMPT_TYPE));
        Self { event, data: json!({ "name": name, "tags": tags, "description": description }) }
    }

    pub(crate) fn version_created(made: &ModelVersion, is_prompt: bool) -> Self {
        let text = |text: &Option<String>| text.clone().filter(|text| !text.is_empty());
        let (name, version, description) = (&made.name, made.version.to_string(), text(&made.description));
        if !is_prompt {
            let (tags, run_id) = (by_key(&made.tags, |_| true), text(&made.run_id));
            let data = json!({
                "name": name, "version": version, "source": made.source, "run_id": run_id, "tags": tags,
                "description": description,
            });
            return Self { event: Event::ModelVersionCreated, data };
        }
        let template = made.tags.iter().find(|tag| tag.key == PROMPT_TEXT).map(|tag| &tag.value);
        let tags = by_key(&made.tags, |key| ![PROMPT_TEXT, IS_PROMPT, PROMPT_TYPE].contains(&key));
        let data = json!({
            "name": name, "version": version, "template": template, "tags": tags, "description": description,
        });
        Self { event: Event::PromptVersionCreated, data }
    }

    pub(crate) fn prompt_tag_set(name: &str, tag: &Tag) -> Self {
        Self { event: Event::PromptTagSet, data: json!({ "name": name, "key": tag.key, "value": tag.value }) }
    }

    pub(crate) fn prompt_tag_deleted(name: &str, key: &str) -> Self {
        Self { event: Event::PromptTagDeleted, data: json!({ "name": name, "key": key }) }
    }

    pub(crate) fn version_tag_set(name: &str, version: VersionNumber, tag: &Tag, is_prompt: bool) -> Self {
        let event = if is_prompt { Event::PromptVersionTagSet } else { Event::ModelVersionTagSet };
        let data = json!({ "name": name, "version": version.to_string(), "key": tag.key, "value": tag.value });
        Self { event, data }
    }

    pub(crate) fn version_tag_deleted(name: &str, version: VersionNumber, key: &str, is_prompt: bool) -> Self {
        let event = if is_prompt { Event::PromptVersionTagDeleted } else { Event::ModelVersionTagDeleted };
        Self { event, data: json!({ "name": name, "version": version.to_string(), "key": key }) }
    }

    pub(crate) fn alias_set(name: &str, alias: &str, version: VersionNumber, is_prompt: bool) -> Self {
        let event = if is_prompt { Event::PromptAliasCreated } else { Event::ModelVersionAliasCreated };
        Self { event, data: json!({ "name": name, "alias": alias, "version": version.to_string() }) }
    }

    pub(crate) fn alias_deleted(name: &str, alias: &str, is_prompt: bool) -> Self {
        let event = if is_prompt { Event::PromptAliasDeleted } else { Event::ModelVersionAliasDeleted };
        Self { event, data: json!({ "name": name, "alias": alias }) }
    }

    /// What a test of a webhook tells.
    pub(crate) fn example(event: Event) -> Self {
        let (model, prompt) = ("example_model", "example_prompt");
        let (key, value) = ("example_key", "example_value");
        let tags = json!({ key: value });
        let data = match event {
            Event::RegisteredModelCreated => {
                json!({ "name": model, "tags": tags, "description": "An example registered model" })
            }
            Event::ModelVersionCreated => json!({
                "name": model, "version": "1", "source": "models:/123", "run_id": "abcd1234abcd5678", "tags": tags,
                "description": "An example model version",
            }),
            Event::ModelVersionTagSet => json!({ "name": model, "version": "1", "key": key, "value": value }),
            Event::ModelVersionTagDeleted => json!({ "name": model, "version": "1", "key": key }),
            Event::ModelVersionAliasCreated => json!({ "name": model, "alias": "example_alias", "version": "1" }),
            Event::ModelVersionAliasDeleted => json!({ "name": model, "alias": "example_alias" }),
            Event::PromptCreated => json!({ "name": prompt, "tags": tags, "description": "An example prompt" }),
            Event::PromptVersionCreated => json!({
                "name": prompt, "version": "1", "template": "Hello {{name}}!", "tags": tags,
                "description": "An example prompt version",
            }),
            Event::PromptTagSet => json!({ "name": prompt, "key": key, "value": value }),
            Event::PromptTagDeleted => json!({ "name": prompt, "key": key }),
            Event::PromptVersionTagSet => json!({ "name": prompt, "version": "1", "key": key, "value": value }),
            Event::PromptVersionTagDeleted => json!({ "name": prompt, "version": "1", "key": key }),
            Event::PromptAliasCreated => json!({ "name": prompt, "alias": "example_alias", "version": "1" }),
            Event::PromptAliasDeleted => json!({ "name": prompt, "alias": "example_alias" }),
            Event::BudgetPolicyExceeded => json!({
                "budget_policy_id": "bp-abc123", "budget_unit": "USD", "budget_amount": 100.0, "current_spend": 105.5,
                "duration_unit": "MONTHS", "duration_value": 1, "target_scope": "ENDPOINT", "workspace": "default",
                "target_value": "ep-abc123", "window_start": 1_704_067_200_000_i64,
            }),
        };
        Self { event, data }
    }

    /// The body that is sent: entity, action, the time of the change, and what it was.
    pub(crate) fn body(&self) -> String {
        let time = Utc::now().to_rfc3339_opts(SecondsFormat::Micros, false);
        let Self { event, data } = self;
        json!({ "entity": event.entity(), "action": event.action(), "timestamp": time, "data": data }).to_string()
    }
}

fn is_prompt(tags: &[Tag]) -> bool {
    tags.iter().any(|tag| tag.key == IS_PROMPT && tag.value.eq_ignore_ascii_case("true"))
}

fn by_key(tags: &[Tag], keep: impl Fn(&str) -> bool) -> Map<String, Value> {
    let kept = tags.iter().filter(|tag| keep(&tag.key));
    kept.map(|tag| (tag.key.clone(), Value::from(tag.value.as_str()))).collect()
}
