//! Updates of assets.

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use crate::clock::Timestamp;
use crate::ids::{AssetEventId, RunId};
use crate::state::AssetEvent;

/// An update of an asset.
#[derive(Clone, Debug, Serialize, Deserialize, ToSchema)]
pub struct AssetUpdateView {
    /// Its id.
    pub id: AssetEventId,
    /// The asset.
    pub asset: String,
    /// The run whose task updated it; none when a person or another program did.
    pub run: Option<RunId>,
    /// The task.
    pub task: Option<String>,
    /// When.
    pub updated_at: Timestamp,
}

/// A page of updates of assets, the newest first.
#[derive(Clone, Debug, Serialize, Deserialize, ToSchema)]
pub struct AssetUpdates {
    /// The updates.
    pub updates: Vec<AssetUpdateView>,
    /// `before` of the next page; none on the last.
    pub next: Option<AssetEventId>,
}

/// An update to be noted.
#[derive(Clone, Debug, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct NewAssetUpdate {
    /// The asset: a name or a URL without blanks and braces.
    #[schema(min_length = 1, max_length = 256)]
    pub asset: String,
}

impl From<AssetEvent> for AssetUpdateView {
    fn from(event: AssetEvent) -> Self {
        let AssetEvent { id, asset, run, task, created_at } = event;
        Self { id, asset, run, task, updated_at: created_at }
    }
}
