//! Tests that need the inside: a store that refuses.
#![allow(clippy::unwrap_used)]

use std::fmt;
use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use async_trait::async_trait;
use futures::stream::BoxStream;
use object_store::memory::InMemory;
use object_store::path::Path;
use object_store::{
    CopyOptions, Error as StoreError, GetOptions, GetResult, ListResult, MultipartUpload, ObjectMeta, ObjectStore,
    PutMultipartOptions, PutOptions, PutPayload, PutResult, Result as StoreResult,
};
use url::Url;

use crate::storage::Storage;
use crate::{Appended, Candidate, Category, DetectionRow, Error, Lake, Transaction};

/// A store in memory that refuses to take log files or data files while told so.
#[derive(Debug)]
struct Refusing {
    inner: InMemory,
    data: AtomicBool,
    log: AtomicBool,
    error: fn() -> StoreError,
}

impl Refusing {
    fn check(&self, path: &Path) -> StoreResult<()> {
        let refused = if path.as_ref().contains("_delta_log") { &self.log } else { &self.data };
        if refused.load(Ordering::SeqCst) { Err((self.error)()) } else { Ok(()) }
    }
}

impl fmt::Display for Refusing {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Refusing")
    }
}

#[async_trait]
impl ObjectStore for Refusing {
    async fn put_opts(&self, location: &Path, payload: PutPayload, opts: PutOptions) -> StoreResult<PutResult> {
        self.check(location)?;
        self.inner.put_opts(location, payload, opts).await
    }

    async fn put_multipart_opts(&self, at: &Path, opts: PutMultipartOptions) -> StoreResult<Box<dyn MultipartUpload>> {
        self.check(at)?;
        self.inner.put_multipart_opts(at, opts).await
    }

    async fn get_opts(&self, location: &Path, options: GetOptions) -> StoreResult<GetResult> {
        self.inner.get_opts(location, options).await
    }

    fn delete_stream(&self, locations: BoxStream<'static, StoreResult<Path>>) -> BoxStream<'static, StoreResult<Path>> {
        self.inner.delete_stream(locations)
    }

    fn list(&self, prefix: Option<&Path>) -> BoxStream<'static, StoreResult<ObjectMeta>> {
        self.inner.list(prefix)
    }

    async fn list_with_delimiter(&self, prefix: Option<&Path>) -> StoreResult<ListResult> {
        self.inner.list_with_delimiter(prefix).await
    }

    async fn copy_opts(&self, from: &Path, to: &Path, options: CopyOptions) -> StoreResult<()> {
        self.inner.copy_opts(from, to, options).await
    }
}

fn refusing(error: fn() -> StoreError) -> (Arc<Refusing>, Lake) {
    let store = Arc::new(Refusing { inner: InMemory::new(), data: false.into(), log: false.into(), error });
    let url = Url::parse("memory:///lake/").unwrap();
    let lake = Lake::from_storage(Storage::new(url, Path::from("lake"), store.clone()));
    (store, lake)
}

fn full() -> StoreError {
    StoreError::Generic { store: "folder", source: Box::new(io::Error::from_raw_os_error(28)) }
}

fn denied() -> StoreError {
    let source = Box::new(io::Error::other("AccessDenied"));
    StoreError::PermissionDenied { path: "lake".to_owned(), source }
}

fn boxes(count: usize) -> Vec<DetectionRow> {
    let row = |number: usize| DetectionRow {
        detection_id: number.to_string(),
        media_id: "m".to_owned(),
        uri: "u".to_owned(),
        deployment: "d".to_owned(),
        captured_at: None,
        frame: 0,
        frame_time_s: 0.0,
        burst_id: None,
        track: None,
        x: 0.0,
        y: 0.0,
        width: 1.0,
        height: 1.0,
        category: Category::Animal,
        species: None,
        scientific_name: None,
        rank: None,
        taxonomy: None,
        confidence: 1.0,
        species_confidence: None,
        top5: vec![Candidate { scientific_name: "x".to_owned(), species: None, confidence: 1.0 }],
        model_version: "1".to_owned(),
        run_id: "r".to_owned(),
        task: "t".to_owned(),
        detected_at: "2024-06-01T08:00:00Z".parse().unwrap(),
    };
    (0..count).map(row).collect()
}

async fn count(lake: &Lake) -> usize {
    let rows = lake.sql("select detection_id from detections").await.unwrap();
    let batches: Vec<_> = futures::TryStreamExt::try_collect(rows).await.unwrap();
    batches.iter().map(arrow::array::RecordBatch::num_rows).sum()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_full_disk_gives_one_clear_error_and_nothing_is_seen() {
    let (store, lake) = refusing(full);
    let first = lake.append_detections(&boxes(3), &Transaction::new("a", 1)).await.unwrap();
    assert_eq!(first, Appended::Committed { version: 1, rows: 3 });
    for which in [&store.data, &store.log] {
        which.store(true, Ordering::SeqCst);
        let error = lake.append_detections(&boxes(4), &Transaction::new("b", 1)).await.unwrap_err();
        which.store(false, Ordering::SeqCst);
        assert!(matches!(&error, Error::Full { location } if location.ends_with("lake/detections")), "{error:?}");
        assert!(error.to_string().contains("free some space and run the same command again"), "{error}");
        assert_eq!(count(&lake).await, 3);
    }
    assert!(matches!(
        lake.append_detections(&boxes(4), &Transaction::new("b", 1)).await.unwrap(),
        Appended::Committed { .. }
    ));
    assert_eq!(count(&lake).await, 7);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_full_disk_at_the_first_write_leaves_no_table() {
    let (store, lake) = refusing(full);
    store.log.store(true, Ordering::SeqCst);
    let error = lake.append_detections(&boxes(3), &Transaction::new("a", 1)).await.unwrap_err();
    assert!(matches!(error, Error::Full { .. }), "{error:?}");
    assert_eq!(count(&lake).await, 0);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn refused_access_says_what_to_check() {
    let (store, lake) = refusing(denied);
    store.log.store(true, Ordering::SeqCst);
    let error = lake.append_detections(&boxes(3), &Transaction::new("a", 1)).await.unwrap_err();
    assert!(matches!(error, Error::Storage { .. }), "{error:?}");
    assert!(error.to_string().contains("AWS_ACCESS_KEY_ID"), "{error}");
}
