//! One version of a Delta table: its data files, and its log from the newest checkpoint on.
//!
//! Nothing that a version needs is changed after it was written, so a table is copied while others append to it.
//! `_last_checkpoint` is left out: it may name a later checkpoint, and readers do without it.

use std::collections::HashSet;
use std::sync::Arc;

use futures::stream::{self, BoxStream};
use futures::{StreamExt, TryStreamExt};
use lake::{Lake, Table};
use platform::object_store::{ObjectMeta, ObjectStore};

use super::files::{MayGo, of_metas};
use super::previous::Previous;
use crate::manifest::{Manifest, PartName};
use crate::repository::Repository;
use crate::write::Input;
use crate::{Error, Result};

const LOG: &str = "_delta_log/";

/// Digits of a version in the names of a log.
const DIGITS: usize = 20;

/// The table of a part.
pub(crate) fn table(part: PartName) -> Option<Table> {
    match part {
        PartName::Media => Some(Table::Media),
        PartName::Detections => Some(Table::Detections),
        PartName::Evaluation => Some(Table::Evaluation),
        _ => None,
    }
}

/// A version of a table and the objects that it consists of.
pub(crate) struct Snapshot {
    pub(crate) version: u64,
    store: Arc<dyn ObjectStore>,
    data: HashSet<String>,
}

impl Snapshot {
    /// The newest version; none of a table that was never written. `store` is the table's folder.
    pub(crate) async fn take(lake: &Lake, table: Table, store: Arc<dyn ObjectStore>) -> Result<Option<Self>> {
        let files = lake.files(table).await?;
        Ok(files.map(|files| Self { version: files.version, store, data: files.data.into_iter().collect() }))
    }

    /// Its files, data first: a log that is restored in this order names nothing that is not there.
    pub(crate) async fn inputs(
        &self,
        repository: &Repository,
        before: Option<&Manifest>,
        part: PartName,
    ) -> Result<BoxStream<'_, Result<Input>>> {
        let log = self.log().await?;
        let mut data = self.data.clone();
        let listed = self.store.list("").map_err(Error::from);
        let mine =
            listed.try_filter(move |meta| futures::future::ready(!meta.key.starts_with(LOG) && data.remove(&meta.key)));
        let metas = mine.chain(stream::iter(log.into_iter().map(Ok))).boxed();
        Ok(of_metas(Previous::new(repository, before, part), Arc::clone(&self.store), metas, MayGo::No))
    }

    /// How many files it has, to be compared with how many were written.
    pub(crate) async fn files(&self) -> Result<u64> {
        Ok((self.data.len() + self.log().await?.len()) as u64)
    }

    async fn log(&self) -> Result<Vec<ObjectMeta>> {
        let listed: Vec<ObjectMeta> = self.store.list(LOG).try_collect().await?;
        Ok(needed(listed, self.version))
    }
}

/// Of a log's objects those that a version needs: the newest checkpoint up to it, and the commits from there on.
fn needed(listed: Vec<ObjectMeta>, version: u64) -> Vec<ObjectMeta> {
    let kind = |meta: &ObjectMeta| {
        let name = meta.key.strip_prefix(LOG)?;
        let (digits, rest) = name.split_at_checked(DIGITS)?;
        Some((digits.parse::<u64>().ok()?, rest.to_owned()))
    };
    let is_checkpoint = |rest: &str| rest == ".checkpoint.parquet";
    let checkpoints = listed.iter().filter_map(kind).filter(|(at, rest)| *at <= version && is_checkpoint(rest));
    let base = checkpoints.map(|(at, _)| at).max();
    let keep = |meta: &ObjectMeta| {
        kind(meta).is_some_and(|(at, rest)| match rest.as_str() {
            ".json" => at <= version && base.is_none_or(|base| at >= base),
            rest => is_checkpoint(rest) && Some(at) == base,
        })
    };
    listed.into_iter().filter(keep).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn log(names: &[&str]) -> Vec<ObjectMeta> {
        let meta = |name: &&str| ObjectMeta {
            key: format!("{LOG}{name}"),
            size: 1,
            version: "1".to_owned(),
            modified: chrono::Utc::now(),
        };
        names.iter().map(meta).collect()
    }

    fn kept(names: &[&str], version: u64) -> Vec<String> {
        needed(log(names), version).into_iter().map(|meta| meta.key.replace(LOG, "")).collect()
    }

    #[test]
    fn a_version_needs_its_newest_checkpoint_and_what_comes_after_it() {
        let name = |version: u64, end: &str| format!("{version:020}{end}");
        let (c0, c1, c2, c3) = (name(0, ".json"), name(1, ".json"), name(2, ".json"), name(3, ".json"));
        let (p1, p3) = (name(1, ".checkpoint.parquet"), name(3, ".checkpoint.parquet"));
        let all: Vec<&str> = vec![&c0, &p1, &c1, &c2, &p3, &c3, "_last_checkpoint", "00000000000000000002.crc"];
        assert_eq!(kept(&all, 0), std::slice::from_ref(&c0));
        assert_eq!(kept(&all, 2), [p1.clone(), c1.clone(), c2.clone()]);
        assert_eq!(kept(&all, 3), [p3.clone(), c3.clone()]);
        assert_eq!(kept(&[&c0, &c1, &c2], 1), [c0, c1]);
    }
}
