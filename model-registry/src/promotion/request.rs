//! What is asked of the server and what it answers, as JSON.

use std::collections::BTreeMap;
use std::fmt;

use serde::{Deserialize, Deserializer, Serialize, Serializer};

use crate::VersionNumber;

/// Moves an alias: the body of `POST /api/v1/models/{name}/promotions`.
#[derive(Clone, Debug, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
pub struct PromotionRequest {
    /// The alias, such as `champion`.
    pub alias: String,
    /// The version that it is to name.
    pub version: VersionNumber,
    /// What it names now, as far as the caller knows.
    #[serde(default, skip_serializing_if = "Expected::is_as_read")]
    pub expected: Expected,
    /// Why.
    #[serde(default)]
    pub reason: String,
    /// What the gates found that the caller evaluated.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub gates: Vec<GateResult>,
    /// What the server is to look at itself.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub required: Vec<Required>,
    /// A promotion, or a rollback to a version that the caller chose.
    #[serde(default)]
    pub kind: Move,
}

/// Moves an alias back: the body of `POST /api/v1/models/{name}/rollback`.
#[derive(Clone, Debug, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
pub struct RollbackRequest {
    /// The alias; it goes to the version that it named before its last move.
    pub alias: String,
    /// What it names now, as far as the caller knows.
    #[serde(default, skip_serializing_if = "Expected::is_as_read")]
    pub expected: Expected,
    /// Why.
    #[serde(default)]
    pub reason: String,
}

/// Says yes to a version: the body of `POST /api/v1/models/{name}/approvals`.
#[derive(Clone, Debug, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
pub struct ApprovalRequest {
    /// The alias that the version may get.
    pub alias: String,
    /// The version.
    pub version: VersionNumber,
    /// The role in which the caller speaks: one of the caller's own.
    pub role: String,
    /// Anything.
    #[serde(default)]
    pub comment: String,
}

/// A yes to a version.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize, Serialize)]
pub struct Approval {
    /// The registered model.
    pub model: String,
    /// The version.
    pub version: VersionNumber,
    /// The alias that the version may get.
    pub alias: String,
    /// Who.
    pub actor: String,
    /// In which role.
    pub role: String,
    /// Anything.
    pub comment: String,
    /// Milliseconds since 1970-01-01 UTC.
    pub at: i64,
}

/// What an alias must name for it to be moved.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Expected {
    /// What the server reads when the request arrives; absent in JSON.
    #[default]
    AsRead,
    /// This version, or none: the alias does not exist yet. `null` in JSON.
    Is(Option<VersionNumber>),
}

/// A gate that the server looks at in the transaction of the move.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
pub struct Required {
    /// Its name in the file of gates.
    pub name: String,
    /// Tags that the version must have.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub tags: BTreeMap<String, String>,
    /// How many people of each role must have approved of the version for this alias.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub approvals: BTreeMap<String, u32>,
}

/// The two moves that can be asked for.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Move {
    /// To a version that is better.
    #[default]
    Promote,
    /// To a version from before.
    Rollback,
}

/// What became of an alias.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum MoveKind {
    /// Promoted.
    Promote,
    /// Rolled back.
    Rollback,
    /// Set by MLflow's own call, which knows no gates.
    Set,
    /// Deleted by MLflow's own call, or with its version or model.
    Delete,
}

/// How it ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Outcome {
    /// The alias was moved.
    Moved,
    /// A gate refused.
    Refused,
    /// The alias named something else than expected.
    Lost,
}

/// A kind of gate.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum GateKind {
    /// A question to the tables.
    Sql,
    /// An inference on the input example.
    Smoke,
    /// A tag of the version.
    Tags,
    /// Approvals of people.
    Approvals,
}

/// What a gate wanted and found.
#[derive(Clone, Debug, PartialEq, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
pub struct GateResult {
    /// Its name in the file of gates.
    pub name: String,
    /// Its kind.
    pub kind: GateKind,
    /// What it wanted.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub wanted: Option<Measure>,
    /// What it found.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub found: Option<Measure>,
    /// Whether it lets the version pass.
    pub passed: bool,
    /// What else is to say: why it could not be evaluated, or why it need not be.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub note: Option<String>,
}

/// What gates compare.
#[derive(Clone, Debug, PartialEq, Deserialize, Serialize)]
#[serde(untagged)]
pub enum Measure {
    /// Yes or no.
    Flag(bool),
    /// Such as a macro F1.
    Number(f64),
    /// Such as the value of a tag.
    Text(String),
}

/// A row of the audit.
#[derive(Clone, Debug, PartialEq, Deserialize, Serialize)]
pub struct Promotion {
    /// Greater than that of all rows before.
    pub id: i64,
    /// The registered model.
    pub model: String,
    /// The alias.
    pub alias: String,
    /// What was asked.
    pub kind: MoveKind,
    /// What the alias named before.
    pub from: Option<VersionNumber>,
    /// What it was to name.
    pub to: Option<VersionNumber>,
    /// Who.
    pub actor: String,
    /// Why.
    pub reason: String,
    /// What the gates wanted and found.
    pub gates: Vec<GateResult>,
    /// How it ended.
    pub outcome: Outcome,
    /// Milliseconds since 1970-01-01 UTC.
    pub at: i64,
    /// For one that came too late: the move that was faster, when there was one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub winner: Option<Box<Promotion>>,
}

impl Expected {
    /// Whether the server is to read it.
    pub fn is_as_read(&self) -> bool {
        *self == Self::AsRead
    }
}

impl MoveKind {
    pub(crate) fn as_str(self) -> &'static str {
        match self {
            Self::Promote => "promote",
            Self::Rollback => "rollback",
            Self::Set => "set",
            Self::Delete => "delete",
        }
    }

    pub(crate) fn stored(text: &str) -> Option<Self> {
        [Self::Promote, Self::Rollback, Self::Set, Self::Delete].into_iter().find(|kind| kind.as_str() == text)
    }
}

impl Outcome {
    pub(crate) fn as_str(self) -> &'static str {
        match self {
            Self::Moved => "moved",
            Self::Refused => "refused",
            Self::Lost => "lost",
        }
    }

    pub(crate) fn stored(text: &str) -> Option<Self> {
        [Self::Moved, Self::Refused, Self::Lost].into_iter().find(|outcome| outcome.as_str() == text)
    }
}

impl From<Move> for MoveKind {
    fn from(kind: Move) -> Self {
        match kind {
            Move::Promote => Self::Promote,
            Move::Rollback => Self::Rollback,
        }
    }
}

impl Promotion {
    /// Why the alias was not moved, for people: each gate that refused with its numbers, or who was faster.
    pub fn refusal(&self) -> String {
        let Self { model, alias, .. } = self;
        let to = shown(self.to);
        match self.outcome {
            Outcome::Moved => format!("alias `{alias}` of {model} names {to}"),
            Outcome::Refused => {
                let refused: Vec<String> =
                    self.gates.iter().filter(|gate| !gate.passed).map(GateResult::to_string).collect();
                format!("alias `{alias}` of {model} is not moved to {to}: {}", refused.join("; "))
            }
            Outcome::Lost => {
                let now = shown(self.from);
                let by = match &self.winner {
                    Some(winner) => format!(", moved there by {} ({})", winner.actor, winner.reason_or_none()),
                    None => String::new(),
                };
                format!("alias `{alias}` of {model} is not moved to {to}: it names {now} by now{by}; look again")
            }
        }
    }

    fn reason_or_none(&self) -> &str {
        if self.reason.is_empty() { "no reason given" } else { &self.reason }
    }
}

fn shown(version: Option<VersionNumber>) -> String {
    version.map_or_else(|| "no version".to_owned(), |version| format!("version {version}"))
}

impl fmt::Display for GateResult {
    /// Such as ``gate `macro F1` found 0.81, wanted 0.84``.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "gate `{}`", self.name)?;
        match (&self.found, &self.wanted) {
            (Some(found), Some(wanted)) => write!(f, " found {found}, wanted {wanted}")?,
            (None, Some(wanted)) => write!(f, " found nothing, wanted {wanted}")?,
            (Some(found), None) => write!(f, " found {found}")?,
            (None, None) if self.passed => f.write_str(" passed")?,
            (None, None) => f.write_str(" refused")?,
        }
        match &self.note {
            Some(note) => write!(f, " ({note})"),
            None => Ok(()),
        }
    }
}

impl fmt::Display for Measure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Flag(value) => value.fmt(f),
            Self::Number(value) => value.fmt(f),
            Self::Text(value) => write!(f, "`{value}`"),
        }
    }
}

impl Serialize for Expected {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        match self {
            Self::AsRead => serializer.serialize_none(),
            Self::Is(version) => version.serialize(serializer),
        }
    }
}

impl<'de> Deserialize<'de> for Expected {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        Option::deserialize(deserializer).map(Self::Is)
    }
}
