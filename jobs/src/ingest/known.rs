//! Which of the listed files have a content that the model has seen, under this name or another.

use std::collections::{HashMap, HashSet};
use std::sync::Arc;

use futures::StreamExt;
use lake::KnownMedia;
use pipeline::JobContext;
use platform::object_store::{ObjectMeta, ObjectStore};

use crate::manifest::{Copied, Entry};
use crate::{Error, Result, media};

/// Files that are hashed at once.
const HASHED_AT_ONCE: usize = 4;

/// Files by what is known of their content.
#[derive(Debug, Default)]
pub(super) struct Sorted {
    /// New content.
    pub(super) media: Vec<ObjectMeta>,
    /// Content that was processed under another name.
    pub(super) copies: Vec<Copied>,
    /// Files that were only touched: content and name are known.
    pub(super) unchanged: u64,
}

/// Reads those files whose size is that of a known one and compares their sha256; the others must be new.
pub(super) async fn sort_out(
    store: &Arc<dyn ObjectStore>,
    listed: Vec<ObjectMeta>,
    known: &KnownMedia,
    context: &JobContext,
) -> Result<Sorted> {
    // What could not be processed is tried again under its new name.
    let usable = || known.iter().filter(|(_, medium)| !medium.failed);
    let sizes: HashSet<i64> = usable().map(|(_, medium)| medium.size_bytes).collect();
    let by_content: HashMap<&str, &String> = usable().map(|(uri, medium)| (medium.media_id.as_str(), uri)).collect();
    let mut sorted = Sorted::default();
    let total = listed.len() as u64;
    let mut hashed = futures::stream::iter(listed.into_iter().map(|object| {
        let alike = i64::try_from(object.size).is_ok_and(|size| sizes.contains(&size));
        let store = Arc::clone(store);
        async move {
            if !alike {
                return Ok((object, None));
            }
            match media::hash(store.as_ref(), &object.key, object.size).await {
                Ok(sha256) => Ok((object, Some(sha256))),
                // It fails later, in its shard, where the failure becomes a row.
                Err(error) if error.is_about_one_object() => Ok((object, None)),
                Err(error) => Err(Error::Store(error)),
            }
        }
    }))
    .buffered(HASHED_AT_ONCE);
    let mut done = 0;
    while let Some(next) = hashed.next().await {
        if context.cancel.is_cancelled() {
            return Err(Error::Interrupted);
        }
        let (object, sha256) = next?;
        done += 1;
        let uri = store.uri(&object.key);
        if let Some(sha256) = &sha256 {
            context.progress(done, total, "comparing contents");
            if known.get(&uri).is_some_and(|medium| !medium.failed && medium.media_id == *sha256) {
                sorted.unchanged += 1;
                continue;
            }
        }
        match sha256.and_then(|sha256| by_content.get(sha256.as_str()).copied()) {
            Some(of) => sorted.copies.push(Copied { entry: entry(object), of: of.clone() }),
            None => sorted.media.push(object),
        }
    }
    Ok(sorted)
}

fn entry(object: ObjectMeta) -> Entry {
    Entry { key: object.key, size: object.size, version: object.version, captured_at: None }
}
