//! The store against a real S3 server.

use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::Bytes;
use e2e::seaweedfs::Server;
use futures::{StreamExt, TryStreamExt, stream};
use platform::Error;
use platform::object_store::{AwsAccess, DEFAULT_REGION, Location, ObjectStore, open_with};
use tokio::sync::OnceCell;

use crate::suite;

pub async fn server() -> &'static Server {
    static SERVER: OnceCell<Server> = OnceCell::const_new();
    SERVER.get_or_try_init(Server::start).await.unwrap()
}

async fn open_as(location: &str, access_key: &str, secret_key: &str) -> Result<Arc<dyn ObjectStore>, Error> {
    let access = AwsAccess::with_keys(server().await.endpoint(), DEFAULT_REGION, access_key, secret_key)?;
    open_with(&Location::parse(location)?, &access).await
}

#[tokio::test(flavor = "multi_thread")]
async fn a_whole_bucket_passes_the_suite() {
    let server = server().await;
    suite::all(suite::Order::Folders, async |name: &str| {
        let bucket = server.bucket(&format!("suite-{name}")).await.unwrap();
        // The server needs seconds for many first writes to a bucket at once.
        bucket.put("first", Bytes::new()).await.unwrap();
        bucket.delete("first").await.unwrap();
        bucket
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_prefix_passes_the_suite() {
    let server = server().await;
    let bucket = server.bucket("suite").await.unwrap();
    bucket.put("deep/other", Bytes::from_static(b"beside the prefixes")).await.unwrap();
    let access = server.access().unwrap();
    suite::all(suite::Order::Folders, async |name: &str| {
        open_with(&bucket.location().join("deep").join(name), &access).await.unwrap()
    })
    .await;
    assert_eq!(bucket.get("deep/other").await.unwrap(), "beside the prefixes");
    let some: Vec<_> = bucket.list("deep/basics").map_ok(|object| object.key).try_collect().await.unwrap();
    assert_eq!(some, ["deep/basics/empty", "deep/basics/folder/with space/ä+%20&=.jpg"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn long_listings_have_pages() {
    let bucket = server().await.bucket("pages").await.unwrap();
    let keys: Vec<String> = (0..2_100).map(|number| format!("cam{}/IMG_{number:04}.jpg", number / 700)).collect();
    let puts = stream::iter(&keys).map(|key| bucket.put(key, Bytes::from_static(b"x")));
    puts.buffer_unordered(16).try_collect::<Vec<()>>().await.unwrap();
    assert_eq!(suite::keys(&bucket, "").await, keys);
    assert_eq!(suite::keys(&bucket, "cam1").await, keys[700..1400]);
}

#[tokio::test]
async fn a_missing_bucket_is_said_so() {
    let server = server().await;
    let error = open_as("s3://no-such-bucket/photos", server.access_key(), server.secret_key()).await.unwrap_err();
    let text = error.to_string();
    assert!(matches!(error, Error::BucketMissing { .. }), "{error:?}");
    assert!(text.starts_with("the bucket `no-such-bucket` does not exist on http://127.0.0.1:"), "{text}");
    assert!(text.contains("check its name"), "{text}");
}

#[tokio::test]
async fn wrong_keys_are_said_so() {
    let server = server().await;
    server.bucket("keys").await.unwrap();
    let started = Instant::now();
    let error = open_as("s3://keys", "nobody", server.secret_key()).await.unwrap_err();
    assert!(matches!(error, Error::Denied { .. }), "{error:?}");
    assert!(error.to_string().contains("does not know the access key: check AWS_ACCESS_KEY_ID"), "{error}");
    let error = open_as("s3://keys", server.access_key(), "wrong").await.unwrap_err();
    assert!(error.to_string().contains("check AWS_SECRET_ACCESS_KEY"), "{error}");
    assert!(started.elapsed() < Duration::from_secs(5), "refusals are not repeated: {:?}", started.elapsed());
}

#[tokio::test]
async fn making_a_bucket_twice_is_no_error() {
    let server = server().await;
    server.bucket("twice").await.unwrap();
    let again = tokio::spawn(server.bucket("twice"));
    again.await.unwrap().unwrap();
}

#[tokio::test]
async fn versions_are_entity_tags() {
    let bucket = server().await.bucket("tags").await.unwrap();
    bucket.put("x", Bytes::from_static(b"hello")).await.unwrap();
    // The entity tag of a plain upload is the MD5 of its content.
    assert_eq!(bucket.head("x").await.unwrap().version, "5d41402abc4b2a76b9719d911017c592");
    assert_eq!(bucket.local_path("x"), None);
}
