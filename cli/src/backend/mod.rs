//! Where commands about runs ask: the state database, or with `server.url` a server that has it.

mod events;
mod http;
mod lines;
mod local;
mod remote;

use async_trait::async_trait;
use chrono::{DateTime, Utc};
use pipeline::RunId;
use pipeline::api::{
    AssetUpdateView, BackfillView, DagVersionView, DagVersionWithText, DagView, RemovableView, RemovedView,
    RunChangeView, RunView, RunWithTasks, StreamView,
};
use pipeline::clock::Timestamp;
use pipeline::ids::BackfillId;
use pipeline::logs::{RunLine, Wanted};
use pipeline::state::{Again, BackfillFilter, ChangeFilter, Rerun, RunFilter, Version};
use platform::config::Config;

pub(crate) use local::open_store;

use crate::error::Result;

/// A range of the past that a DAG is to be run over.
pub(crate) struct Range {
    pub(crate) start: DateTime<Utc>,
    pub(crate) end: DateTime<Utc>,
    pub(crate) rerun: Rerun,
    pub(crate) max_active: u32,
}

/// What commands ask for. Lists are the newest first, but for DAGs and continuous DAGs, which are by name. Parameters are
/// texts.
#[async_trait]
pub(crate) trait Backend: Send + Sync {
    async fn runs(&self, filter: &RunFilter, most: u32) -> Result<Vec<RunView>>;
    async fn run(&self, run: RunId) -> Result<RunWithTasks>;
    async fn trigger(&self, dag: &str, params: &[(String, String)]) -> Result<RunId>;
    async fn cancel(&self, run: RunId) -> Result<RunView>;
    async fn reopen(&self, run: RunId, again: Again) -> Result<()>;
    async fn dags(&self) -> Result<Vec<DagView>>;
    async fn pause(&self, dag: &str, paused: bool) -> Result<()>;
    async fn dag_versions(&self, dag: &str) -> Result<Vec<DagVersionView>>;
    async fn dag_version(&self, dag: &str, version: &Version) -> Result<DagVersionWithText>;
    async fn backfill(&self, dag: &str, range: &Range, params: &[(String, String)]) -> Result<BackfillId>;
    async fn backfills(&self, filter: &BackfillFilter, most: u32) -> Result<Vec<BackfillView>>;
    async fn cancel_backfill(&self, backfill: BackfillId) -> Result<BackfillView>;
    async fn asset_updates(&self, asset: Option<&str>, most: u32) -> Result<Vec<AssetUpdateView>>;
    async fn update_asset(&self, asset: &str) -> Result<()>;
    async fn streams(&self) -> Result<Vec<StreamView>>;
    /// Forgets outputs that tasks with `cache` would take; gives how many there were.
    async fn clear_cache(&self, dag: Option<&str>) -> Result<u64>;
    /// What [`Backend::clean_history`] would remove.
    async fn removable(&self, ended_before: Timestamp) -> Result<RemovableView>;
    /// Removes all runs that ended before a moment and that nothing needs any more.
    async fn clean_history(&self, ended_before: Timestamp) -> Result<RemovedView>;
    /// Lines of the logs of a run.
    async fn logs(&self, wanted: Wanted) -> Result<Box<dyn Lines>>;
    /// Changes of runs from now on.
    async fn follow(&self, filter: ChangeFilter) -> Result<Box<dyn Changes>>;
}

/// Changes of runs as they happen.
#[async_trait]
pub(crate) trait Changes: Send {
    async fn next(&mut self) -> Result<RunChangeView>;
}

/// Lines of logs in their order.
#[async_trait]
pub(crate) trait Lines: Send {
    /// The next line; none at the end.
    async fn next(&mut self) -> Result<Option<RunLine>>;
}

/// The server of the configuration if one is named, else the state database.
pub(crate) async fn open(config: &Config) -> Result<Box<dyn Backend>> {
    if config.server.url.is_empty() {
        return Ok(Box::new(local::Local::open(config).await?));
    }
    Ok(Box::new(remote::Remote::new(&config.server.url, &config.home)?))
}
