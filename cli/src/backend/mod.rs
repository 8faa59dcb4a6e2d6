//! Where commands about runs ask: the state database, or with `server.url` a server that has it.

mod events;
mod http;
mod local;
mod remote;

use async_trait::async_trait;
use chrono::{DateTime, Utc};
use pipeline::api::{AssetUpdateView, BackfillView, DagView, RunChangeView, RunView, RunWithTasks};
use pipeline::ids::BackfillId;
use pipeline::state::{Again, BackfillFilter, ChangeFilter, Rerun, RunFilter};
use pipeline::{RunId, Store};
use platform::config::Config;

pub(crate) use local::open_store;

use crate::error::{Error, Result};

/// A range of the past that a DAG is to be run over.
pub(crate) struct Range {
    pub(crate) start: DateTime<Utc>,
    pub(crate) end: DateTime<Utc>,
    pub(crate) rerun: Rerun,
    pub(crate) max_active: u32,
}

/// What commands ask for. Lists are the newest first, but for DAGs, which are by name. Parameters are texts.
#[async_trait]
pub(crate) trait Backend: Send + Sync {
    async fn runs(&self, filter: &RunFilter, most: u32) -> Result<Vec<RunView>>;
    async fn run(&self, run: RunId) -> Result<RunWithTasks>;
    async fn trigger(&self, dag: &str, params: &[(String, String)]) -> Result<RunId>;
    async fn cancel(&self, run: RunId) -> Result<RunView>;
    async fn reopen(&self, run: RunId, again: Again) -> Result<()>;
    async fn dags(&self) -> Result<Vec<DagView>>;
    async fn pause(&self, dag: &str, paused: bool) -> Result<()>;
    async fn backfill(&self, dag: &str, range: &Range, params: &[(String, String)]) -> Result<BackfillId>;
    async fn backfills(&self, filter: &BackfillFilter, most: u32) -> Result<Vec<BackfillView>>;
    async fn cancel_backfill(&self, backfill: BackfillId) -> Result<BackfillView>;
    async fn asset_updates(&self, asset: Option<&str>, most: u32) -> Result<Vec<AssetUpdateView>>;
    async fn update_asset(&self, asset: &str) -> Result<()>;
    /// Changes of runs from now on.
    async fn follow(&self, filter: ChangeFilter) -> Result<Box<dyn Changes>>;
}

/// Changes of runs as they happen.
#[async_trait]
pub(crate) trait Changes: Send {
    async fn next(&mut self) -> Result<RunChangeView>;
}

/// The state database, for a command that cannot ask a server: one that is named would be passed over in silence.
pub(crate) async fn open_here(config: &Config) -> Result<Store> {
    if config.server.url.is_empty() {
        return open_store(config).await;
    }
    Err(Error::NotByServer)
}

/// The server of the configuration if one is named, else the state database.
pub(crate) async fn open(config: &Config) -> Result<Box<dyn Backend>> {
    if config.server.url.is_empty() {
        return Ok(Box::new(local::Local::open(config).await?));
    }
    Ok(Box::new(remote::Remote::new(&config.server.url)?))
}
