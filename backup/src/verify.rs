//! Reads backups and says whether they are whole.

use chrono::Utc;
use futures::{StreamExt, TryStreamExt, stream};

use crate::id::BackupId;
use crate::manifest::{Blob, Manifest, Verified};
use crate::progress::Progress;
use crate::repository::{Repository, blob_key, blocking, sha256};
use crate::{Error, Result};

/// Objects that are asked for at once.
const AT_ONCE: usize = 8;

/// Right after a backup was written: its manifest and pages are read back, and each of its blobs is there with its size.
/// `read`: how many of these were read back when they were written.
pub(crate) async fn after_writing(repository: &Repository, id: &BackupId, read: u64) -> Result<Verified> {
    let manifest = repository.manifest(id).await?;
    for page in &manifest.file_pages {
        repository.read_page(id, page).await?;
    }
    for page in &manifest.blob_pages {
        let blobs = repository.blobs(id, page).await?;
        let heads = stream::iter(blobs).map(|blob| there(repository, blob)).buffer_unordered(4 * AT_ONCE);
        heads.try_collect::<()>().await?;
    }
    let verified = Verified { at: Utc::now(), read, blobs: manifest.blobs, opened: false };
    repository.record_verified(id, &verified).await?;
    Ok(verified)
}

/// Reads all of a backup, and records that it is whole or that it is not. Where its keys are given, or it is not encrypted,
/// each piece is unpacked and compared with what was backed up.
///
/// # Errors
/// [`Error::Damaged`] with the first object that is; from then on the backup counts as not verified.
pub async fn verify(repository: &Repository, id: &BackupId, progress: &Progress) -> Result<Verified> {
    let checked = match repository.manifest(id).await {
        Ok(manifest) => read_all(repository, &manifest, progress).await,
        Err(error) => Err(error),
    };
    match checked {
        Ok(verified) => {
            repository.record_verified(id, &verified).await?;
            Ok(verified)
        }
        Err(error @ Error::Damaged { .. }) => {
            repository.forget_verified(id).await?;
            Err(error)
        }
        Err(error) => Err(error),
    }
}

async fn read_all(repository: &Repository, manifest: &Manifest, progress: &Progress) -> Result<Verified> {
    progress.doing("verification");
    let mut read = 0;
    for page in &manifest.blob_pages {
        let blobs = repository.blobs(&manifest.id, page).await?;
        read += blobs.len() as u64;
        let whole = stream::iter(blobs).map(|blob| whole(repository, blob, progress)).buffer_unordered(AT_ONCE);
        whole.try_collect::<()>().await?;
    }
    let opened = !manifest.encrypted || repository.keys().decrypt();
    for page in &manifest.file_pages {
        repository.read_page(&manifest.id, page).await?;
        if !opened {
            continue;
        }
        let pieces = repository.files(manifest, page).await?.into_iter().flat_map(|file| file.pieces);
        let opened = stream::iter(pieces)
            .map(|piece| async move { repository.read_piece(&piece, manifest.encrypted).await.map(drop) })
            .buffer_unordered(AT_ONCE);
        opened.try_collect::<()>().await?;
    }
    if read != manifest.blobs {
        return Err(Error::damaged(manifest.id.to_string(), "its pages list another number of pieces"));
    }
    Ok(Verified { at: Utc::now(), read, blobs: manifest.blobs, opened })
}

async fn there(repository: &Repository, blob: Blob) -> Result<()> {
    let key = blob_key(&blob.name);
    match repository.store().head(&key).await {
        Ok(meta) if meta.size == blob.size => Ok(()),
        Ok(_) => Err(Error::damaged(repository.store().uri(&key), "its size is another")),
        Err(platform::Error::NotFound { uri }) => Err(Error::damaged(uri, "it is missing")),
        Err(error) => Err(error.into()),
    }
}

async fn whole(repository: &Repository, blob: Blob, progress: &Progress) -> Result<()> {
    let stored = repository.read_blob(&blob.name).await?;
    let uri = repository.store().uri(&blob_key(&blob.name));
    progress.add(stored.len() as u64);
    blocking(move || {
        if stored.len() as u64 != blob.size || sha256(&stored) != blob.sha256 {
            return Err(Error::damaged(uri, "its checksum is another"));
        }
        Ok(())
    })
    .await
}
