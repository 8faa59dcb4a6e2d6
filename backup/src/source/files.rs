//! Files of a folder or a bucket.

use std::collections::HashSet;
use std::sync::Arc;

use futures::stream::{self, BoxStream};
use futures::{FutureExt, StreamExt, TryStreamExt};
use platform::object_store::{ObjectMeta, ObjectStore};

use super::previous::Previous;
use crate::manifest::{Manifest, PartName};
use crate::repository::Repository;
use crate::write::{Body, Input, short_hash};
use crate::{Error, Result};

/// Files in the version in which they have been seen, so that a second look finds what came after the first.
pub(crate) type Seen = HashSet<u128>;

/// Every file of a store that is not in `seen`, where it is put. The backup before is asked for each.
pub(crate) fn inputs<'a>(
    repository: &Repository,
    before: Option<&Manifest>,
    part: PartName,
    store: &'a Arc<dyn ObjectStore>,
    seen: &'a mut Seen,
) -> BoxStream<'a, Result<Input>> {
    let listing = store.list("").map_err(Error::from);
    let fresh = listing.try_filter(move |meta| {
        let is_new = seen.insert(short_hash(&[&meta.key, &meta.version, &meta.size.to_string()]));
        futures::future::ready(is_new)
    });
    of_metas(Previous::new(repository, before, part), Arc::clone(store), fresh.boxed(), MayGo::Yes)
}

/// Whether a file may go between its listing and its reading.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum MayGo {
    /// It was removed with the rows that named it.
    Yes,
    /// Then something is wrong.
    No,
}

/// Each of these files, unchanged or to be read.
pub(crate) fn of_metas<'a>(
    previous: Previous,
    store: Arc<dyn ObjectStore>,
    metas: BoxStream<'a, Result<ObjectMeta>>,
    may_go: MayGo,
) -> BoxStream<'a, Result<Input>> {
    let start = (previous, store, metas);
    let inputs = stream::try_unfold(start, move |(mut previous, store, mut metas)| async move {
        let meta = match metas.try_next().await {
            Ok(None) | Err(Error::Platform(platform::Error::NotFound { .. })) => return Ok(None),
            Ok(Some(meta)) => meta,
            Err(error) => return Err(error),
        };
        let entry = previous.find(&meta.key).await?;
        let same =
            entry.filter(|entry| entry.size == meta.size && entry.version.as_deref() == Some(meta.version.as_str()));
        let input = match same {
            Some(entry) => Input::Unchanged(entry),
            None => to_read(Arc::clone(&store), meta, may_go),
        };
        Ok(Some((input, (previous, store, metas))))
    });
    inputs.boxed()
}

fn to_read(store: Arc<dyn ObjectStore>, meta: ObjectMeta, may_go: MayGo) -> Input {
    let key = meta.key.clone();
    let body = async move {
        match store.get_stream(&key, None).await {
            Ok(body) => Ok(Some(body.bytes.map_err(Error::from).boxed() as Body)),
            Err(platform::Error::NotFound { .. }) if may_go == MayGo::Yes => Ok(None),
            Err(error) => Err(error.into()),
        }
    };
    Input::File { path: meta.key, version: Some(meta.version), body: body.boxed() }
}
