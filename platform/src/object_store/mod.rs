//! One face over a folder and an S3 prefix: list, read, write, conditional write, delete.
//!
//! A store is rooted at a [`Location`]; its keys are relative to that root, have `/` between their parts and never leave
//! the root. Both kinds of store pass the same tests (`platform/tests/object_store`). Prefixes are folders: listing `a`
//! gives `a/x` and never `ab`.

mod aws;
mod key;
mod local;
mod location;
mod s3;
mod walk;

use std::fmt;
use std::ops::Range;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use async_trait::async_trait;
pub use aws::{AwsAccess, DEFAULT_REGION, aws_credentials};
use bytes::Bytes;
use chrono::{DateTime, Utc};
use futures::stream::BoxStream;
pub use key::TEMPORARY_PREFIX;
pub use location::Location;

use crate::Result;

/// An object's key, size and version.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ObjectMeta {
    /// Relative to the store's root, `/` between its parts.
    pub key: String,
    /// In bytes.
    pub size: u64,
    /// Changes when the content does: the entity tag on S3, the time of the last change (`seconds.nanoseconds`) in a
    /// folder. Compare it together with the size.
    pub version: String,
    /// When the object was last written.
    pub modified: DateTime<Utc>,
}

/// Objects below one [`Location`].
#[async_trait]
pub trait ObjectStore: fmt::Debug + Send + Sync + 'static {
    /// The root of all keys.
    fn location(&self) -> &Location;

    /// Every object in the folder `prefix` and below (`""` is everything). A prefix under which nothing lies gives
    /// nothing.
    ///
    /// The order is the same every time, and what lies in one folder comes together: sorted by key as bytes in a folder
    /// and on Amazon S3, while some other servers (SeaweedFS) sort folder by folder, so that `a/x` comes before `a b`.
    ///
    /// An item is an error when one object or folder cannot be read ([`crate::Error::is_about_one_object`]); the stream
    /// goes on after it. After any other error the stream ends. A store that is rooted at a missing folder gives
    /// [`crate::Error::NotFound`].
    fn list(&self, prefix: &str) -> BoxStream<'static, Result<ObjectMeta>>;

    /// Size and version of one object.
    async fn head(&self, key: &str) -> Result<ObjectMeta>;

    /// The whole object, in memory: ask [`ObjectStore::head`] for its size first where it may be large.
    async fn get(&self, key: &str) -> Result<Bytes>;

    /// The bytes from `range.start` up to and without `range.end`; fewer where the object ends before, none where it
    /// ends before `range.start`.
    async fn get_range(&self, key: &str, range: Range<u64>) -> Result<Bytes>;

    /// Writes the object or replaces it. Readers see the old or the new content, nothing between.
    async fn put(&self, key: &str, bytes: Bytes) -> Result<()>;

    /// Writes the object unless there is one: `true` if this call wrote it. Of many callers at once exactly one gets
    /// `true`.
    async fn put_if_absent(&self, key: &str, bytes: Bytes) -> Result<bool>;

    /// As [`ObjectStore::put`], from a file, with a bounded part of it in memory.
    async fn put_file(&self, key: &str, file: &Path) -> Result<()>;

    /// Writes the object to a local file, with a bounded part of it in memory. The file appears when it is whole.
    async fn download(&self, key: &str, file: &Path) -> Result<()>;

    /// Removes the object. One that does not exist is no error.
    async fn delete(&self, key: &str) -> Result<()>;

    /// The path of an object in a store that is a folder: saves a [`ObjectStore::download`].
    fn local_path(&self, key: &str) -> Option<PathBuf>;

    /// The name of an object for people and for tables: `s3://bucket/prefix/key` or an absolute path.
    fn uri(&self, key: &str) -> String {
        self.location().uri(key)
    }
}

/// Opens a store. For S3, credentials, region and endpoint come from the environment ([`AwsAccess::from_environment`]),
/// and one request is made, so that a wrong bucket, wrong credentials or a dead server show here within about 10 s.
///
/// A folder need not exist: writing makes it, and listing says that it is missing.
///
/// # Errors
/// [`crate::Error::BucketMissing`], [`crate::Error::Denied`] (listing needs the right `s3:ListBucket`),
/// [`crate::Error::Unreachable`].
pub async fn open(location: &Location) -> Result<Arc<dyn ObjectStore>> {
    match location {
        Location::Local(_) => open_local(location),
        Location::S3 { .. } => open_with(location, &aws_credentials().await?).await,
    }
}

/// As [`open`], with credentials, region and endpoint given.
///
/// # Errors
/// As [`open`].
pub async fn open_with(location: &Location, access: &AwsAccess) -> Result<Arc<dyn ObjectStore>> {
    match location {
        Location::Local(_) => open_local(location),
        Location::S3 { bucket, .. } => Ok(Arc::new(s3::S3Store::open(location, bucket, access).await?)),
    }
}

/// Makes the bucket of an S3 location, and nothing else; a bucket that is ours already is no error. A folder needs no
/// making.
///
/// # Errors
/// [`crate::Error::Denied`], [`crate::Error::Unreachable`], or what the server says.
pub async fn create_bucket(location: &Location, access: &AwsAccess) -> Result<()> {
    match location {
        Location::Local(_) => Ok(()),
        Location::S3 { bucket, .. } => s3::create_bucket(bucket, access).await,
    }
}

fn open_local(location: &Location) -> Result<Arc<dyn ObjectStore>> {
    Ok(Arc::new(local::LocalStore::new(location.clone())?))
}
