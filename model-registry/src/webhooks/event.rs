//! What webhooks can be told of.

use std::fmt;

use crate::{Error, Result};

/// A kind of change: MLflow's entities and actions, as far as they go together.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Event {
    /// `registered_model.created`
    RegisteredModelCreated,
    /// `model_version.created`
    ModelVersionCreated,
    /// `model_version_tag.set`
    ModelVersionTagSet,
    /// `model_version_tag.deleted`
    ModelVersionTagDeleted,
    /// `model_version_alias.created`: an alias was set, whether or not it was there before.
    ModelVersionAliasCreated,
    /// `model_version_alias.deleted`
    ModelVersionAliasDeleted,
    /// `prompt.created`
    PromptCreated,
    /// `prompt_version.created`
    PromptVersionCreated,
    /// `prompt_tag.set`
    PromptTagSet,
    /// `prompt_tag.deleted`
    PromptTagDeleted,
    /// `prompt_version_tag.set`
    PromptVersionTagSet,
    /// `prompt_version_tag.deleted`
    PromptVersionTagDeleted,
    /// `prompt_alias.created`
    PromptAliasCreated,
    /// `prompt_alias.deleted`
    PromptAliasDeleted,
    /// `budget_policy.exceeded`: kept for clients that ask for it; this server has no budgets.
    BudgetPolicyExceeded,
}

const ENTITIES: [&str; 10] = [
    "registered_model",
    "model_version",
    "model_version_tag",
    "model_version_alias",
    "prompt",
    "prompt_version",
    "prompt_tag",
    "prompt_version_tag",
    "prompt_alias",
    "budget_policy",
];
const ACTIONS: [&str; 5] = ["created", "updated", "deleted", "set", "exceeded"];

impl Event {
    /// All kinds.
    pub const ALL: [Self; 15] = [
        Self::RegisteredModelCreated,
        Self::ModelVersionCreated,
        Self::ModelVersionTagSet,
        Self::ModelVersionTagDeleted,
        Self::ModelVersionAliasCreated,
        Self::ModelVersionAliasDeleted,
        Self::PromptCreated,
        Self::PromptVersionCreated,
        Self::PromptTagSet,
        Self::PromptTagDeleted,
        Self::PromptVersionTagSet,
        Self::PromptVersionTagDeleted,
        Self::PromptAliasCreated,
        Self::PromptAliasDeleted,
        Self::BudgetPolicyExceeded,
    ];

    /// Such as `model_version.created`.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::RegisteredModelCreated => "registered_model.created",
            Self::ModelVersionCreated => "model_version.created",
            Self::ModelVersionTagSet => "model_version_tag.set",
            Self::ModelVersionTagDeleted => "model_version_tag.deleted",
            Self::ModelVersionAliasCreated => "model_version_alias.created",
            Self::ModelVersionAliasDeleted => "model_version_alias.deleted",
            Self::PromptCreated => "prompt.created",
            Self::PromptVersionCreated => "prompt_version.created",
            Self::PromptTagSet => "prompt_tag.set",
            Self::PromptTagDeleted => "prompt_tag.deleted",
            Self::PromptVersionTagSet => "prompt_version_tag.set",
            Self::PromptVersionTagDeleted => "prompt_version_tag.deleted",
            Self::PromptAliasCreated => "prompt_alias.created",
            Self::PromptAliasDeleted => "prompt_alias.deleted",
            Self::BudgetPolicyExceeded => "budget_policy.exceeded",
        }
    }

    /// Such as `model_version`.
    pub fn entity(self) -> &'static str {
        self.as_str().split_once('.').map_or("", |(entity, _)| entity)
    }

    /// Such as `created`.
    pub fn action(self) -> &'static str {
        self.as_str().split_once('.').map_or("", |(_, action)| action)
    }

    /// Reads what is in the tables.
    ///
    /// # Errors
    /// [`Error::Unreadable`] for what no version wrote.
    pub(crate) fn stored(text: &str) -> Result<Self> {
        let unreadable = || Error::Unreadable { what: "webhook_event.event", found: text.to_owned() };
        Self::ALL.into_iter().find(|event| event.as_str() == text).ok_or_else(unreadable)
    }

    /// Reads an entity and an action in letters of any case, as the API has them.
    ///
    /// # Errors
    /// What goes together.
    pub(crate) fn parse(entity: &str, action: &str) -> Result<Self> {
        let (entity, action) = (entity.to_ascii_lowercase(), action.to_ascii_lowercase());
        if !ENTITIES.contains(&entity.as_str()) {
            return Err(Error::invalid(format!(
                "Invalid webhook entity '{entity}'. Valid are: {}",
                ENTITIES.join(", ")
            )));
        }
        if !ACTIONS.contains(&action.as_str()) {
            return Err(Error::invalid(format!(
                "Invalid webhook action '{action}'. Valid are: {}",
                ACTIONS.join(", ")
            )));
        }
        let found = Self::ALL.into_iter().find(|event| event.entity() == entity && event.action() == action);
        found.ok_or_else(|| {
            let of_entity = Self::ALL.into_iter().filter(|event| event.entity() == entity);
            let mut valid: Vec<String> = of_entity.map(|event| format!("'{}'", event.action())).collect();
            valid.sort();
            Error::invalid(format!(
                "Invalid action '{action}' for entity '{entity}'. Valid actions are: [{}]",
                valid.join(", ")
            ))
        })
    }
}

impl fmt::Display for Event {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}
