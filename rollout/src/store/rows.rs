//! Rows as they are read.

use model_registry::VersionNumber;
use serde::Serialize;
use sqlx::any::AnyRow;
use sqlx::{FromRow, Row as _};

use super::Stored;
use crate::machine::Phase;
use crate::{Error, Result, RolloutId};

/// The columns of a rollout, in the order of [`Row`].
pub(super) const COLUMNS: &str = "id, model, alias, stable, candidate, plan, actor, phase, step, note, revision, holder, \
                                  created_at, updated_at, ended_at";

/// One rollout.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Rollout {
    /// Its id.
    pub id: RolloutId,
    /// The registered model.
    pub model: String,
    /// The alias that moves.
    pub alias: String,
    /// What it named.
    pub stable: VersionNumber,
    /// What it is to name.
    pub candidate: VersionNumber,
    /// What to do, and with which replicas.
    #[serde(flatten)]
    pub stored: Stored,
    /// Who began it.
    pub actor: String,
    /// How it stands.
    pub phase: Phase,
    /// The step, from 0.
    pub step: usize,
    /// Why it is in its phase; may be empty.
    pub note: String,
    /// Greater after each change.
    pub revision: i64,
    /// Who drives it, or did last.
    pub holder: Option<String>,
    /// Milliseconds since 1970-01-01 UTC.
    pub created_at: i64,
    /// Milliseconds since 1970-01-01 UTC.
    pub updated_at: i64,
    /// Milliseconds since 1970-01-01 UTC.
    pub ended_at: Option<i64>,
}

/// Something that happened to a rollout.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Event {
    /// Greater than that of all before.
    pub no: i64,
    /// Milliseconds since 1970-01-01 UTC.
    pub at: i64,
    /// How the rollout stood afterwards.
    pub phase: Phase,
    /// The step afterwards, from 0.
    pub step: usize,
    /// What happened, for people.
    pub text: String,
}

/// `no`, `at`, `phase`, `step` and `text` of an event.
pub(super) type EventRow = (i64, i64, String, i64, String);

/// A row of `rollout`.
pub(super) struct Row {
    id: String,
    model: String,
    alias: String,
    stable: i64,
    candidate: i64,
    plan: String,
    actor: String,
    phase: String,
    step: i64,
    note: String,
    revision: i64,
    holder: Option<String>,
    created_at: i64,
    updated_at: i64,
    ended_at: Option<i64>,
}

impl Rollout {
    /// The percent of its step.
    pub fn percent(&self) -> u8 {
        self.stored.plan.steps.get(self.step).map_or(100, |step| step.percent)
    }
}

impl Event {
    pub(super) fn read((no, at, phase, step, text): EventRow) -> Result<Self> {
        Ok(Self { no, at, phase: phase.parse()?, step: usize::try_from(step).unwrap_or_default(), text })
    }
}

impl FromRow<'_, AnyRow> for Row {
    fn from_row(row: &AnyRow) -> sqlx::Result<Self> {
        Ok(Self {
            id: row.try_get("id")?,
            model: row.try_get("model")?,
            alias: row.try_get("alias")?,
            stable: row.try_get("stable")?,
            candidate: row.try_get("candidate")?,
            plan: row.try_get("plan")?,
            actor: row.try_get("actor")?,
            phase: row.try_get("phase")?,
            step: row.try_get("step")?,
            note: row.try_get("note")?,
            revision: row.try_get("revision")?,
            holder: row.try_get("holder")?,
            created_at: row.try_get("created_at")?,
            updated_at: row.try_get("updated_at")?,
            ended_at: row.try_get("ended_at")?,
        })
    }
}

impl Row {
    pub(super) fn read(self) -> Result<Rollout> {
        let stored = serde_json::from_str(&self.plan)
            .map_err(|error| Error::Unreadable { what: "a plan", found: error.to_string() })?;
        Ok(Rollout {
            id: self.id.parse()?,
            model: self.model,
            alias: self.alias,
            stable: VersionNumber(self.stable),
            candidate: VersionNumber(self.candidate),
            stored,
            actor: self.actor,
            phase: self.phase.parse()?,
            step: usize::try_from(self.step).unwrap_or_default(),
            note: self.note,
            revision: self.revision,
            holder: self.holder,
            created_at: self.created_at,
            updated_at: self.updated_at,
            ended_at: self.ended_at,
        })
    }
}
