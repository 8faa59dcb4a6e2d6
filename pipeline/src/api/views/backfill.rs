//! Backfills.

use serde::{Deserialize, Deserializer, Serialize, de};
use serde_json::{Map, Number, Value};
use utoipa::ToSchema;

use crate::clock::Timestamp;
use crate::ids::{BackfillId, DagVersionId};
use crate::schedule::DataInterval;
use crate::state::{BackfillRecord, BackfillState, Rerun};

/// Runs of a DAG over a range of the past.
#[derive(Clone, Debug, Serialize, Deserialize, ToSchema)]
pub struct BackfillView {
    /// Its id.
    pub id: BackfillId,
    /// Name of its DAG.
    pub dag: String,
    /// The version of the DAG that its runs have.
    pub dag_version: DagVersionId,
    /// Where it stands.
    pub state: BackfillState,
    /// First moment of its range.
    pub from: Timestamp,
    /// The moment after the last of its range.
    pub to: Timestamp,
    /// Which intervals get a run.
    pub rerun: Rerun,
    /// Most runs of it that are queued or running at once.
    pub max_active: u64,
    /// Parameters of its runs by name.
    #[schema(value_type = Object)]
    pub params: Value,
    /// End of the last data interval that was looked at.
    pub done_until: Timestamp,
    /// All its runs.
    pub runs: u64,
    /// Runs that are queued or running.
    pub active: u64,
    /// Runs that failed.
    pub failed: u64,
    /// Intervals left out because of the runs that they had.
    pub skipped: u64,
    /// When it was made.
    pub created_at: Timestamp,
    /// When it ended or was cancelled.
    pub finished_at: Option<Timestamp>,
}

/// A page of backfills, the newest first.
#[derive(Clone, Debug, Serialize, Deserialize, ToSchema)]
pub struct Backfills {
    /// The backfills.
    pub backfills: Vec<BackfillView>,
    /// `before` of the next page; none on the last.
    pub next: Option<BackfillId>,
}

/// A backfill to be made.
#[derive(Clone, Debug, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct NewRange {
    /// Data intervals that begin at or after this moment.
    pub from: Timestamp,
    /// Data intervals that end at or before this moment.
    pub to: Timestamp,
    /// Which intervals get a run.
    #[serde(default)]
    pub rerun: Rerun,
    /// Most runs that are queued or running at once; 2 when not given.
    #[serde(default, deserialize_with = "whole")]
    #[schema(minimum = 1, maximum = 1000)]
    pub max_active: Option<u32>,
    /// Parameters by name; what is left out has its default. A text is read as the type of its parameter says.
    #[serde(default)]
    #[schema(value_type = Object)]
    pub params: Map<String, Value>,
}

/// A whole number as JSON Schema has it: 2.0 is one.
fn whole<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<u32>, D::Error> {
    let Some(number) = Option::<Number>::deserialize(deserializer)? else { return Ok(None) };
    let float = number.as_f64().filter(|float| float.fract() == 0.0 && (0.0..=f64::from(u32::MAX)).contains(float));
    // In the range of the type, as was just seen.
    float.map(|float| Some(float as u32)).ok_or_else(|| de::Error::custom(format!("{number} is no whole number")))
}

impl BackfillView {
    /// The range that it covers.
    pub fn range(&self) -> DataInterval {
        DataInterval { start: self.from.time(), end: self.to.time() }
    }
}

impl From<BackfillRecord> for BackfillView {
    fn from(backfill: BackfillRecord) -> Self {
        Self {
            id: backfill.id,
            dag: backfill.dag,
            dag_version: backfill.version,
            state: backfill.state,
            from: backfill.range.start.into(),
            to: backfill.range.end.into(),
            rerun: backfill.rerun,
            max_active: backfill.max_active,
            params: backfill.params.to_json(),
            done_until: backfill.done_until,
            runs: backfill.runs,
            active: backfill.active,
            failed: backfill.failed,
            skipped: backfill.skipped,
            created_at: backfill.created_at,
            finished_at: backfill.finished_at,
        }
    }
}
