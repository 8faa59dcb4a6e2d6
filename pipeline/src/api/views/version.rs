//! Versions of DAGs.

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use crate::clock::Timestamp;
use crate::ids::DagVersionId;
use crate::state::DagVersionRecord;

/// A version of a DAG: a text that runs have had, or that a server has read.
#[derive(Clone, Debug, Serialize, Deserialize, ToSchema)]
pub struct DagVersionView {
    /// Its id.
    pub id: DagVersionId,
    /// SHA-256 of its text, in hexadecimal.
    pub sha256: String,
    /// When it was first seen.
    pub created_at: Timestamp,
    /// Runs that began with it.
    pub runs: u64,
    /// When the newest of these was made.
    pub last_run_at: Option<Timestamp>,
    /// Whether new runs have it.
    pub current: bool,
}

/// A page of versions of a DAG, the newest first.
#[derive(Clone, Debug, Serialize, Deserialize, ToSchema)]
pub struct DagVersions {
    /// The versions.
    pub versions: Vec<DagVersionView>,
    /// `before` of the next page; none on the last.
    pub next: Option<DagVersionId>,
}

/// A version of a DAG and its text.
#[derive(Clone, Debug, Serialize, Deserialize, ToSchema)]
pub struct DagVersionWithText {
    /// The version.
    pub version: DagVersionView,
    /// The DAG file as it was read.
    pub text: String,
}

impl DagVersionView {
    /// The beginning of its SHA-256, as people name it.
    pub fn short(&self) -> &str {
        self.sha256.get(..8).unwrap_or(&self.sha256)
    }
}

impl From<DagVersionRecord> for DagVersionView {
    fn from(version: DagVersionRecord) -> Self {
        let DagVersionRecord { id, sha256, created_at, runs, last_run_at, current } = version;
        Self { id, sha256, created_at, runs, last_run_at, current }
    }
}

impl From<(DagVersionRecord, String)> for DagVersionWithText {
    fn from((version, text): (DagVersionRecord, String)) -> Self {
        Self { version: version.into(), text }
    }
}
