//! What the API says and is told, as JSON. Moments are RFC 3339 in UTC. Clients of the API read and write the same types.

mod asset;
mod backfill;
mod dag;
mod history;
mod run;
mod stream;
mod task;
mod version;

pub use asset::{AssetUpdateView, AssetUpdates, NewAssetUpdate};
pub use backfill::{BackfillView, Backfills, NewRange};
pub use dag::{DagTaskView, DagView, DagWithTasks, Dags, NewRun, ParamView};
pub use history::{Forgotten, RemovableView, RemovedView};
pub use run::{RunChangeView, RunView, RunWithTasks, Runs};
pub use stream::{StreamView, Streams};
pub use task::{AttemptView, InstanceView, Instances, TaskView};
pub use version::{DagVersionView, DagVersionWithText, DagVersions};
