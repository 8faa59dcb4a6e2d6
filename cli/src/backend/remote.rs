//! A server, asked over HTTP.

use std::collections::BTreeSet;
use std::path::Path;

use async_trait::async_trait;
use pipeline::RunId;
use pipeline::api::{
    AssetUpdateView, AssetUpdates, BackfillView, Backfills, DagVersionView, DagVersionWithText, DagVersions, DagView,
    Dags, Forgotten, NewAssetUpdate, NewRange, NewRun, RemovableView, RemovedView, RunView, RunWithTasks, Runs,
    StreamView, Streams,
};
use pipeline::clock::Timestamp;
use pipeline::ids::{BackfillId, DagVersionId};
use pipeline::logs::Wanted;
use pipeline::state::{Again, BackfillFilter, ChangeFilter, RunFilter, Version};
use serde_json::{Map, Value};

use super::events::Events;
use super::http::Http;
use super::lines::RemoteLines;
use super::{Backend, Changes, Lines, Range};
use crate::error::Result;

/// Things that a server gives on one page at most.
const PAGE: u32 = 1000;
/// Runs that a server removes in one call: it answers in time although their logs are in a slow store.
const REMOVED_AT_ONCE: u32 = 50;

pub(super) struct Remote(Http);

impl Remote {
    pub(super) fn new(url: &str, home: &Path) -> Result<Self> {
        Ok(Self(Http::new(url, home)?))
    }
}

/// How much is still wanted, as the size of the next page.
fn limit(most: u32, got: usize) -> u32 {
    most.saturating_sub(u32::try_from(got).unwrap_or(u32::MAX)).min(PAGE)
}

#[async_trait]
impl Backend for Remote {
    async fn runs(&self, filter: &RunFilter, most: u32) -> Result<Vec<RunView>> {
        let (mut runs, mut before) = (Vec::new(), None);
        while limit(most, runs.len()) > 0 {
            let query = [
                ("limit", Some(limit(most, runs.len()).to_string())),
                ("before", before.map(|before: RunId| before.to_string())),
                ("dag", filter.dag.clone()),
                ("state", filter.state.map(|state| state.as_str().to_owned())),
                ("cause", filter.cause.map(|cause| cause.as_str().to_owned())),
            ];
            let page: Runs = self.0.get(&["runs"], &query).await?;
            runs.extend(page.runs);
            before = page.next;
            if before.is_none() {
                break;
            }
        }
        Ok(runs)
    }

    async fn run(&self, run: RunId) -> Result<RunWithTasks> {
        self.0.get(&["runs", &run.to_string()], &[]).await
    }

    async fn trigger(&self, dag: &str, params: &[(String, String)]) -> Result<RunId> {
        let new = NewRun { params: by_name(dag, params)? };
        let run: RunView = self.0.post_json(&["dags", dag, "runs"], &new).await?;
        Ok(run.id)
    }

    async fn cancel(&self, run: RunId) -> Result<RunView> {
        self.0.post(&["runs", &run.to_string(), "cancel"], &[]).await
    }

    async fn reopen(&self, run: RunId, again: Again) -> Result<()> {
        let run = run.to_string();
        match again {
            Again::Failed => self.0.tell(&["runs", &run, "resume"]).await,
            Again::Task { task, downstream } => {
                let query = [("downstream", Some(downstream.to_string()))];
                self.0.post::<RunView>(&["runs", &run, "tasks", &task, "clear"], &query).await.map(drop)
            }
        }
    }

    async fn dags(&self) -> Result<Vec<DagView>> {
        let (mut dags, mut after) = (Vec::new(), None);
        loop {
            let query = [("limit", Some(PAGE.to_string())), ("after", after)];
            let page: Dags = self.0.get(&["dags"], &query).await?;
            dags.extend(page.dags);
            after = page.next;
            if after.is_none() {
                return Ok(dags);
            }
        }
    }

    async fn pause(&self, dag: &str, paused: bool) -> Result<()> {
        self.0.tell(&["dags", dag, if paused { "pause" } else { "resume" }]).await
    }

    async fn dag_versions(&self, dag: &str) -> Result<Vec<DagVersionView>> {
        let (mut versions, mut before) = (Vec::new(), None);
        loop {
            let before_text = before.map(|before: DagVersionId| before.to_string());
            let query = [("limit", Some(PAGE.to_string())), ("before", before_text)];
            let page: DagVersions = self.0.get(&["dags", dag, "versions"], &query).await?;
            versions.extend(page.versions);
            before = page.next;
            if before.is_none() {
                return Ok(versions);
            }
        }
    }

    async fn dag_version(&self, dag: &str, version: &Version) -> Result<DagVersionWithText> {
        self.0.get(&["dags", dag, "versions", &version.to_string()], &[]).await
    }

    async fn backfill(&self, dag: &str, range: &Range, params: &[(String, String)]) -> Result<BackfillId> {
        let new = NewRange {
            from: range.start.into(),
            to: range.end.into(),
            rerun: range.rerun,
            max_active: Some(range.max_active),
            params: by_name(dag, params)?,
        };
        let backfill: BackfillView = self.0.post_json(&["dags", dag, "backfills"], &new).await?;
        Ok(backfill.id)
    }

    async fn backfills(&self, filter: &BackfillFilter, most: u32) -> Result<Vec<BackfillView>> {
        let (mut backfills, mut before) = (Vec::new(), None);
        while limit(most, backfills.len()) > 0 {
            let query = [
                ("limit", Some(limit(most, backfills.len()).to_string())),
                ("before", before.map(|before: BackfillId| before.to_string())),
                ("dag", filter.dag.clone()),
                ("state", filter.state.map(|state| state.as_str().to_owned())),
            ];
            let page: Backfills = self.0.get(&["backfills"], &query).await?;
            backfills.extend(page.backfills);
            before = page.next;
            if before.is_none() {
                break;
            }
        }
        Ok(backfills)
    }

    async fn cancel_backfill(&self, backfill: BackfillId) -> Result<BackfillView> {
        self.0.post(&["backfills", &backfill.to_string(), "cancel"], &[]).await
    }

    async fn asset_updates(&self, asset: Option<&str>, most: u32) -> Result<Vec<AssetUpdateView>> {
        let (mut updates, mut before) = (Vec::new(), None);
        while limit(most, updates.len()) > 0 {
            let query = [
                ("limit", Some(limit(most, updates.len()).to_string())),
                ("before", before),
                ("asset", asset.map(str::to_owned)),
            ];
            let page: AssetUpdates = self.0.get(&["asset-updates"], &query).await?;
            updates.extend(page.updates);
            before = page.next.map(|next| next.to_string());
            if before.is_none() {
                break;
            }
        }
        Ok(updates)
    }

    async fn update_asset(&self, asset: &str) -> Result<()> {
        let new = NewAssetUpdate { asset: asset.to_owned() };
        self.0.post_json::<AssetUpdateView>(&["asset-updates"], &new).await.map(drop)
    }

    async fn streams(&self) -> Result<Vec<StreamView>> {
        let (mut streams, mut after) = (Vec::new(), None);
        loop {
            let query = [("limit", Some(PAGE.to_string())), ("after", after)];
            let page: Streams = self.0.get(&["streams"], &query).await?;
            streams.extend(page.streams);
            after = page.next;
            if after.is_none() {
                return Ok(streams);
            }
        }
    }

    async fn clear_cache(&self, dag: Option<&str>) -> Result<u64> {
        let query = [("dag", dag.map(str::to_owned))];
        let forgotten: Forgotten = self.0.post(&["cache", "clear"], &query).await?;
        Ok(forgotten.outputs)
    }

    async fn removable(&self, ended_before: Timestamp) -> Result<RemovableView> {
        self.0.get(&["history", "removable"], &[("ended_before", Some(ended_before.to_string()))]).await
    }

    async fn clean_history(&self, ended_before: Timestamp) -> Result<RemovedView> {
        let query = [("ended_before", Some(ended_before.to_string())), ("limit", Some(REMOVED_AT_ONCE.to_string()))];
        let mut removed = RemovedView::default();
        loop {
            removed = removed.and(self.0.post(&["history", "clean"], &query).await?);
            if !removed.more {
                return Ok(removed);
            }
        }
    }

    async fn logs(&self, wanted: Wanted) -> Result<Box<dyn Lines>> {
        Ok(Box::new(RemoteLines::open(self.0.clone(), wanted).await?))
    }

    async fn follow(&self, filter: ChangeFilter) -> Result<Box<dyn Changes>> {
        Ok(Box::new(Events::open(self.0.clone(), filter).await?))
    }
}

/// Parameters as an object; the server reads each text by the type of its parameter.
fn by_name(dag: &str, params: &[(String, String)]) -> Result<Map<String, Value>> {
    let mut seen = BTreeSet::new();
    // An object would keep the last without a word.
    if let Some((name, _)) = params.iter().find(|(name, _)| !seen.insert(name)) {
        let mistakes = format!("`{name}` is given twice");
        return Err(pipeline::Error::Params { dag: dag.to_owned(), mistakes }.into());
    }
    Ok(params.iter().map(|(name, text)| (name.clone(), Value::from(text.as_str()))).collect())
}
