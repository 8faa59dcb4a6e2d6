//! What the API says and is told, as JSON. Moments are RFC 3339 in UTC. Clients of the API read and write the same types.

mod asset;
mod backfill;
mod dag;
mod run;
mod task;

pub use asset::{AssetUpdateView, AssetUpdates, NewAssetUpdate};
pub use backfill::{BackfillView, Backfills, NewRange};
pub use dag::{DagTaskView, DagView, DagWithTasks, Dags, NewRun, ParamView};
pub use run::{RunChangeView, RunView, RunWithTasks, Runs};
pub use task::{AttemptView, InstanceView, Instances, TaskView};
