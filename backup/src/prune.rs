//! Removes backups that the policy does not keep, and pieces that no backup needs.

use std::collections::HashSet;

use chrono::{DateTime, TimeDelta, Utc};
use futures::TryStreamExt;
use platform::object_store::Child;
use serde::Serialize;
use tracing::{info, warn};

use crate::id::BackupId;
use crate::lock::Lock;
use crate::repository::{Listed, Repository, manifest_key};
use crate::retention::{Candidate, Policy, Verdict, judge};
use crate::write::short_hash;
use crate::{Error, Result};

/// A piece that no backup needs stays for so long: a backup that stood still may be about to name it.
const GRACE: TimeDelta = TimeDelta::days(1);

/// How far the clocks of a place and of what wrote its objects may differ.
const SKEW: TimeDelta = TimeDelta::minutes(10);

/// What was removed, or would be.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
pub struct Pruned {
    /// Whether it only looked.
    pub dry_run: bool,
    /// Backups that went.
    pub removed: Vec<BackupId>,
    /// Backups that stay.
    pub kept: Vec<BackupId>,
    /// Pieces that went.
    pub blobs: u64,
    /// Their bytes.
    pub bytes: u64,
}

/// Removes what the policy does not keep; with `dry_run` it only says what.
///
/// A backup goes with its manifest first, so that there is never half a one. If any manifest cannot be read, no piece is
/// removed: it may need it.
///
/// # Errors
/// [`Error::InUse`], [`Error::ClockWentBack`], or what the place answers. What was removed by then stays removed.
pub async fn prune(repository: &Repository, policy: Policy, dry_run: bool) -> Result<Pruned> {
    let lock = repository.lock("removing old backups").await?;
    let pruned = pruned(repository, policy, dry_run, &lock).await;
    if let Err(error) = lock.release().await {
        warn!(%error, "the place of backups is not given back: others wait until this counts as dead");
    }
    pruned
}

async fn pruned(repository: &Repository, policy: Policy, dry_run: bool, lock: &Lock) -> Result<Pruned> {
    let now = lock.store_time().await?;
    let listed = repository.list().await?;
    check_clock(repository, &listed, now)?;
    let candidates: Vec<Candidate> = listed.iter().map(candidate).collect();
    let verdicts = judge(&candidates, policy, now);
    let mut pruned = Pruned { dry_run, ..Pruned::default() };
    for backup in &listed {
        if verdicts.get(&backup.id) != Some(&Verdict::Removed) {
            pruned.kept.push(backup.id.clone());
            continue;
        }
        if !dry_run {
            lock.check().await?;
            remove(repository, &backup.id).await?;
        }
        pruned.removed.push(backup.id.clone());
    }
    remove_unfinished(repository, &listed, now, dry_run, lock).await?;
    let kept = listed.iter().filter(|backup| pruned.kept.contains(&backup.id));
    remove_blobs(repository, kept.collect(), now, &mut pruned, lock).await?;
    info!(backups = pruned.removed.len(), blobs = pruned.blobs, bytes = pruned.bytes, dry_run, "old backups removed");
    Ok(pruned)
}

fn candidate(backup: &Listed) -> Candidate {
    let what = backup.manifest.as_ref().ok().map(|manifest| manifest.what);
    Candidate { id: backup.id.clone(), what, written_at: backup.written_at, good: backup.is_good() }
}

/// A clock that went back would make everything young: nothing is removed then, and somebody should know.
fn check_clock(repository: &Repository, listed: &[Listed], now: DateTime<Utc>) -> Result<()> {
    match listed.iter().map(|backup| backup.written_at).max() {
        Some(newest) if newest > now + SKEW => {
            Err(Error::ClockWentBack { place: repository.place(), newest: newest.to_rfc3339() })
        }
        _ => Ok(()),
    }
}

async fn remove(repository: &Repository, id: &BackupId) -> Result<()> {
    repository.store().delete(&manifest_key(id)).await?;
    Ok(repository.store().delete_folder(&format!("backups/{id}")).await?)
}

/// Pages of backups that were never ended.
async fn remove_unfinished(
    repository: &Repository,
    listed: &[Listed],
    now: DateTime<Utc>,
    dry_run: bool,
    lock: &Lock,
) -> Result<()> {
    for child in repository.store().children("backups").await? {
        let Child::Folder(folder) = child else { continue };
        let Ok(id) = folder.trim_start_matches("backups/").parse::<BackupId>() else { continue };
        if dry_run || listed.iter().any(|backup| backup.id == id) {
            continue;
        }
        let newest = repository.store().list(&folder).map_ok(|meta| meta.modified);
        let newest = newest.try_fold(DateTime::<Utc>::MIN_UTC, |newest, at| async move { Ok(newest.max(at)) }).await?;
        if now - newest > GRACE {
            lock.check().await?;
            repository.store().delete_folder(&folder).await?;
        }
    }
    Ok(())
}

async fn remove_blobs(
    repository: &Repository,
    kept: Vec<&Listed>,
    now: DateTime<Utc>,
    pruned: &mut Pruned,
    lock: &Lock,
) -> Result<()> {
    let mut needed: HashSet<u128> = HashSet::new();
    for backup in kept {
        let Ok(manifest) = &backup.manifest else {
            warn!(id = %backup.id, "its manifest cannot be read: no piece is removed, as it may need it");
            return Ok(());
        };
        for page in &manifest.blob_pages {
            match repository.blobs(&manifest.id, page).await {
                Ok(blobs) => needed.extend(blobs.iter().map(|blob| short_hash(&[&blob.name]))),
                Err(Error::Damaged { what, .. }) => {
                    warn!(what, "a page is damaged: no piece is removed, as it may name it");
                    return Ok(());
                }
                Err(error) => return Err(error),
            }
        }
    }
    let mut stored = repository.store().list("blobs");
    while let Some(meta) = stored.try_next().await? {
        let name = meta.key.rsplit('/').next().unwrap_or(&meta.key);
        if needed.contains(&short_hash(&[name])) || now - meta.modified <= GRACE {
            continue;
        }
        if !pruned.dry_run {
            if pruned.blobs.is_multiple_of(256) {
                lock.check().await?;
            }
            repository.store().delete(&meta.key).await?;
        }
        pruned.blobs += 1;
        pruned.bytes += meta.size;
    }
    Ok(())
}
