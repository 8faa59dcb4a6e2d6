//! The state database, asked in this process.

use async_trait::async_trait;
use pipeline::api::{AssetUpdateView, BackfillView, DagView, RunChangeView, RunView, RunWithTasks, TaskView};
use pipeline::clock::Timestamp;
use pipeline::ids::BackfillId;
use pipeline::schedule::DataInterval;
use pipeline::state::{Again, BackfillFilter, ChangeFilter, NewBackfill, RunFilter};
use pipeline::{ChangeFeed, Follower, RunId, Store};
use platform::config::Config;
use platform::database::Database;

use super::{Backend, Changes, Range};
use crate::error::{Error, Result};

/// The store of the configured database.
pub(crate) async fn open_store(config: &Config) -> Result<Store> {
    let address = config.state_address();
    let database = Database::open(&address).await?;
    Store::open(database).await.map_err(|error| Error::from(error).about_state(&address))
}

pub(super) struct Local(Store);

impl Local {
    pub(super) async fn open(config: &Config) -> Result<Self> {
        Ok(Self(open_store(config).await?))
    }
}

#[async_trait]
impl Backend for Local {
    async fn runs(&self, filter: &RunFilter, most: u32) -> Result<Vec<RunView>> {
        Ok(self.0.runs_before(most, None, filter).await?.into_iter().map(RunView::from).collect())
    }

    async fn run(&self, run: RunId) -> Result<RunWithTasks> {
        let tasks = self.0.tasks(run).await?.into_iter().map(TaskView::from).collect();
        Ok(RunWithTasks { run: self.0.run(run).await?.into(), tasks })
    }

    async fn trigger(&self, dag: &str, params: &[(String, String)]) -> Result<RunId> {
        let dag = self.0.current_dag(dag).await?;
        Ok(self.0.create_run(&dag, &dag.params(params)?, Timestamp::now()).await?)
    }

    async fn cancel(&self, run: RunId) -> Result<RunView> {
        self.0.cancel(run, Timestamp::now()).await?;
        Ok(self.0.run(run).await?.into())
    }

    async fn reopen(&self, run: RunId, again: Again) -> Result<()> {
        self.0.reopen(run, again, Timestamp::now()).await?;
        Ok(())
    }

    async fn dags(&self) -> Result<Vec<DagView>> {
        Ok(self.0.dags().await?.into_iter().map(DagView::from).collect())
    }

    async fn pause(&self, dag: &str, paused: bool) -> Result<()> {
        Ok(self.0.pause(dag, paused).await?)
    }

    async fn backfill(&self, dag: &str, range: &Range, params: &[(String, String)]) -> Result<BackfillId> {
        let Range { start, end, rerun, max_active } = *range;
        let params = self.0.current_dag(dag).await?.params(params)?;
        let new = NewBackfill { range: DataInterval { start, end }, params, rerun, max_active };
        Ok(self.0.backfill(dag, &new, Timestamp::now()).await?)
    }

    async fn backfills(&self, filter: &BackfillFilter, most: u32) -> Result<Vec<BackfillView>> {
        Ok(self.0.backfills(most, None, filter).await?.into_iter().map(BackfillView::from).collect())
    }

    async fn cancel_backfill(&self, backfill: BackfillId) -> Result<BackfillView> {
        Ok(self.0.cancel_backfill(backfill, Timestamp::now()).await?.into())
    }

    async fn asset_updates(&self, asset: Option<&str>, most: u32) -> Result<Vec<AssetUpdateView>> {
        Ok(self.0.asset_events(most, None, asset).await?.into_iter().map(AssetUpdateView::from).collect())
    }

    async fn update_asset(&self, asset: &str) -> Result<()> {
        self.0.update_asset(asset, Timestamp::now()).await?;
        Ok(())
    }

    async fn follow(&self, filter: ChangeFilter) -> Result<Box<dyn Changes>> {
        if let Some(run) = filter.run {
            self.0.run(run).await?;
        }
        Ok(Box::new(ChangeFeed::new(self.0.clone()).follow(filter, None).await?))
    }
}

#[async_trait]
impl Changes for Follower {
    async fn next(&mut self) -> Result<RunChangeView> {
        Ok(Follower::next(self).await?.into())
    }
}
