//! Registered models and their versions, as the API writes them: the fields and their order are those of MLflow's
//! `model_registry.proto`; lists that hold nothing are left out.

use serde::{Deserialize, Deserializer, Serialize};

use crate::VersionNumber;

/// The tag that makes a registered model a prompt.
pub const IS_PROMPT: &str = "mlflow.prompt.is_prompt";

/// A registered model.
#[derive(Clone, Debug, PartialEq, Deserialize, Serialize)]
pub struct RegisteredModel {
    /// Unique.
    pub name: String,
    /// Milliseconds since 1970-01-01 UTC.
    pub creation_timestamp: i64,
    /// Milliseconds since 1970-01-01 UTC.
    #[serde(default)]
    pub last_updated_timestamp: i64,
    /// Free text.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub description: Option<String>,
    /// The latest version of each stage that has one; without their aliases.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub latest_versions: Vec<ModelVersion>,
    /// By key.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub tags: Vec<Tag>,
    /// By name.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub aliases: Vec<Alias>,
}

/// A version of a registered model.
#[derive(Clone, Debug, PartialEq, Deserialize, Serialize)]
pub struct ModelVersion {
    /// The registered model.
    pub name: String,
    /// Its number, from 1 on.
    pub version: VersionNumber,
    /// Milliseconds since 1970-01-01 UTC.
    pub creation_timestamp: i64,
    /// Milliseconds since 1970-01-01 UTC.
    #[serde(default)]
    pub last_updated_timestamp: i64,
    /// Who made it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub user_id: Option<String>,
    /// `None`, `Staging`, `Production` or `Archived`.
    #[serde(default)]
    pub current_stage: String,
    /// Free text.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub description: Option<String>,
    /// What it was made of, as the client named it.
    #[serde(default)]
    pub source: String,
    /// The run that made it; may be an empty text.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub run_id: Option<String>,
    /// `READY`, `PENDING_REGISTRATION` or `FAILED_REGISTRATION`.
    #[serde(default)]
    pub status: String,
    /// Why it is not ready.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub status_message: Option<String>,
    /// By key.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub tags: Vec<Tag>,
    /// Where the run can be looked at.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub run_link: Option<String>,
    /// Aliases that name it, by name. Searches and `latest_versions` leave them out, as MLflow does.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub aliases: Vec<String>,
}

/// A key and its value.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize, Serialize)]
pub struct Tag {
    /// 250 characters at most.
    #[serde(default, deserialize_with = "text_or_null")]
    pub key: String,
    /// 100,000 characters at most.
    #[serde(default, deserialize_with = "text_or_null")]
    pub value: String,
}

/// A name of a version that can be moved.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize, Serialize)]
pub struct Alias {
    /// Such as `champion`.
    pub alias: String,
    /// The version that it names.
    pub version: VersionNumber,
}

/// `null` is an empty text, as a field that is left out is.
fn text_or_null<'de, D: Deserializer<'de>>(deserializer: D) -> Result<String, D::Error> {
    Option::deserialize(deserializer).map(Option::unwrap_or_default)
}
