//! The state database, asked in this process.

use async_trait::async_trait;
use pipeline::api::{
    AssetUpdateView, BackfillView, DagVersionView, DagVersionWithText, DagView, RemovableView, RemovedView,
    RunChangeView, RunView, RunWithTasks, StreamView, TaskView,
};
use pipeline::clock::Timestamp;
use pipeline::ids::BackfillId;
use pipeline::logs::{LogReader, RunLine, Wanted};
use pipeline::schedule::DataInterval;
use pipeline::state::{Again, BackfillFilter, ChangeFilter, NewBackfill, RunFilter, Version};
use pipeline::{ChangeFeed, Follower, History, RunId, Store};
use platform::config::Config;
use platform::database::Database;

use super::{Backend, Changes, Lines, Range};
use crate::error::{Error, Result};
use crate::registry::logs;

/// The store of the configured database.
pub(crate) async fn open_store(config: &Config) -> Result<Store> {
    let address = config.state_address();
    let database = Database::open(&address).await?;
    Store::open(database).await.map_err(|error| Error::from(error).about_state(&address))
}

pub(super) struct Local {
    store: Store,
    config: Config,
}

impl Local {
    pub(super) async fn open(config: &Config) -> Result<Self> {
        Ok(Self { store: open_store(config).await?, config: config.clone() })
    }

    fn history(&self) -> Result<History> {
        Ok(History::new(self.store.clone(), logs(&self.config)?, &self.config.home))
    }
}

#[async_trait]
impl Backend for Local {
    async fn runs(&self, filter: &RunFilter, most: u32) -> Result<Vec<RunView>> {
        Ok(self.store.runs_before(most, None, filter).await?.into_iter().map(RunView::from).collect())
    }

    async fn run(&self, run: RunId) -> Result<RunWithTasks> {
        let tasks = self.store.tasks(run).await?.into_iter().map(TaskView::from).collect();
        Ok(RunWithTasks { run: self.store.run(run).await?.into(), tasks })
    }

    async fn trigger(&self, dag: &str, params: &[(String, String)]) -> Result<RunId> {
        let dag = self.store.current_dag(dag).await?;
        Ok(self.store.create_run(&dag, &dag.params(params)?, Timestamp::now()).await?)
    }

    async fn cancel(&self, run: RunId) -> Result<RunView> {
        self.store.cancel(run, Timestamp::now()).await?;
        Ok(self.store.run(run).await?.into())
    }

    async fn reopen(&self, run: RunId, again: Again) -> Result<()> {
        self.store.reopen(run, again, Timestamp::now()).await?;
        Ok(())
    }

    async fn dags(&self) -> Result<Vec<DagView>> {
        Ok(self.store.dags().await?.into_iter().map(DagView::from).collect())
    }

    async fn pause(&self, dag: &str, paused: bool) -> Result<()> {
        Ok(self.store.pause(dag, paused).await?)
    }

    async fn dag_versions(&self, dag: &str) -> Result<Vec<DagVersionView>> {
        Ok(self.store.dag_versions(dag).await?.into_iter().map(DagVersionView::from).collect())
    }

    async fn dag_version(&self, dag: &str, version: &Version) -> Result<DagVersionWithText> {
        Ok(self.store.dag_version_text(dag, version).await?.into())
    }

    async fn backfill(&self, dag: &str, range: &Range, params: &[(String, String)]) -> Result<BackfillId> {
        let Range { start, end, rerun, max_active } = *range;
        let params = self.store.current_dag(dag).await?.params(params)?;
        let new = NewBackfill { range: DataInterval { start, end }, params, rerun, max_active };
        Ok(self.store.backfill(dag, &new, Timestamp::now()).await?)
    }

    async fn backfills(&self, filter: &BackfillFilter, most: u32) -> Result<Vec<BackfillView>> {
        Ok(self.store.backfills(most, None, filter).await?.into_iter().map(BackfillView::from).collect())
    }

    async fn cancel_backfill(&self, backfill: BackfillId) -> Result<BackfillView> {
        Ok(self.store.cancel_backfill(backfill, Timestamp::now()).await?.into())
    }

    async fn asset_updates(&self, asset: Option<&str>, most: u32) -> Result<Vec<AssetUpdateView>> {
        Ok(self.store.asset_events(most, None, asset).await?.into_iter().map(AssetUpdateView::from).collect())
    }

    async fn update_asset(&self, asset: &str) -> Result<()> {
        self.store.update_asset(asset, Timestamp::now()).await?;
        Ok(())
    }

    async fn streams(&self) -> Result<Vec<StreamView>> {
        let now = Timestamp::now();
        Ok(self.store.streams().await?.into_iter().map(|stream| StreamView::new(stream, now)).collect())
    }

    async fn clear_cache(&self, dag: Option<&str>) -> Result<u64> {
        Ok(self.store.forget_cached_outputs(dag).await?)
    }

    async fn removable(&self, ended_before: Timestamp) -> Result<RemovableView> {
        Ok(self.history()?.removable(ended_before).await?.into())
    }

    async fn clean_history(&self, ended_before: Timestamp) -> Result<RemovedView> {
        Ok(RemovedView::new(self.history()?.clean_before(ended_before).await?, false))
    }

    async fn logs(&self, wanted: Wanted) -> Result<Box<dyn Lines>> {
        Ok(Box::new(LogReader::open(&self.store, &logs(&self.config)?, wanted).await?))
    }

    async fn follow(&self, filter: ChangeFilter) -> Result<Box<dyn Changes>> {
        if let Some(run) = filter.run {
            self.store.run(run).await?;
        }
        Ok(Box::new(ChangeFeed::new(self.store.clone()).follow(filter, None).await?))
    }
}

#[async_trait]
impl Changes for Follower {
    async fn next(&mut self) -> Result<RunChangeView> {
        Ok(Follower::next(self).await?.into())
    }
}

#[async_trait]
impl Lines for LogReader {
    async fn next(&mut self) -> Result<Option<RunLine>> {
        Ok(LogReader::next(self).await?)
    }
}
