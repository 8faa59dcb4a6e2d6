//! New objects in a folder or under an S3 prefix.

use std::time::Duration;

use chrono::SecondsFormat;
use futures::StreamExt;
use platform::object_store::{self, Location, ObjectMeta, ObjectStore};
use serde_json::json;
use tracing::warn;

use super::{LEASE, most_waiting};
use crate::clock::Timestamp;
use crate::dag::Continuous;
use crate::state::{NewItem, Store};

/// Objects that are looked up together.
const TOGETHER: usize = 200;

/// How often it looks whether there is room again.
const WAIT_FOR_ROOM: Duration = Duration::from_millis(500);

/// A file in a folder that was changed a moment ago may still be written. Objects on S3 appear whole, and a time in the
/// future is a wrong clock's, as cameras have them.
const SETTLED: Duration = Duration::from_secs(2);

/// Lists the source once and writes down what is new. While too much waits it stands still: the source is not read
/// faster than batches are done.
pub(super) async fn read(store: &Store, dag: &str, continuous: &Continuous, source: &str) -> Result<(), String> {
    let location = Location::parse(source).map_err(|error| error.to_string())?;
    // An empty listing would hide a wrong path.
    if let Location::Local(folder) = &location
        && !folder.is_dir()
    {
        return Err(format!("{}: there is no such folder", folder.display()));
    }
    let objects = object_store::open(&location).await.map_err(|error| error.to_string())?;
    let most = most_waiting(continuous);
    let mut chunk = Vec::with_capacity(TOGETHER);
    let mut listing = objects.list("");
    while let Some(object) = listing.next().await {
        match object {
            Ok(object) if is_settled(&location, object.modified.into(), Timestamp::now()) => {
                chunk.push(item(objects.as_ref(), object))
            }
            Ok(_) => {}
            Err(error) if error.is_about_one_object() => warn!(dag, %error, "left out until it can be read"),
            Err(error) => return Err(error.to_string()),
        }
        if chunk.len() == TOGETHER {
            keep(store, dag, &chunk).await?;
            chunk.clear();
            wait_for_room(store, dag, most).await?;
        }
    }
    keep(store, dag, &chunk).await
}

async fn keep(store: &Store, dag: &str, items: &[NewItem]) -> Result<(), String> {
    store.add_items(dag, items, Timestamp::now()).await.map(drop).map_err(|error| error.to_string())
}

async fn wait_for_room(store: &Store, dag: &str, most: u64) -> Result<(), String> {
    let told = |error: crate::Error| error.to_string();
    store.set_reading(dag, Timestamp::now().plus(LEASE), None).await.map_err(told)?;
    while store.waiting_items(dag, most).await.map_err(told)? >= most {
        tokio::time::sleep(WAIT_FOR_ROOM).await;
        store.set_reading(dag, Timestamp::now().plus(LEASE), None).await.map_err(told)?;
    }
    Ok(())
}

fn is_settled(location: &Location, modified: Timestamp, now: Timestamp) -> bool {
    match location {
        Location::S3 { .. } => true,
        Location::Local(_) => now.since(modified) >= SETTLED || modified > now.plus(SETTLED),
    }
}

/// An object as `batch.items` shows it. Its name and version are its identity: a changed object comes in again.
fn item(objects: &dyn ObjectStore, object: ObjectMeta) -> NewItem {
    let uri = objects.uri(&object.key);
    NewItem {
        id: format!("{uri}@{}/{}", object.version, object.size),
        item: json!({
            "uri": uri,
            "key": object.key,
            "size": object.size,
            "modified": object.modified.to_rfc3339_opts(SecondsFormat::Millis, true),
        }),
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn a_file_that_may_still_be_written_waits_and_a_wrong_clock_does_not() {
        let (folder, bucket) = (Location::parse("/media").unwrap(), Location::parse("s3://media").unwrap());
        let now = Timestamp::now();
        let (second, year) = (Duration::from_secs(1), Duration::from_secs(365 * 24 * 3600));
        for (modified, settled) in [
            (now, false),
            (now.minus(second), false),
            (now.plus(second), false),
            (now.minus(SETTLED), true),
            (now.minus(year), true),
            (now.plus(year), true),
        ] {
            assert_eq!(is_settled(&folder, modified, now), settled, "{modified} at {now}");
            assert!(is_settled(&bucket, modified, now));
        }
    }
}
