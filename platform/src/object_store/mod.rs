//! One face over a folder and an S3 prefix: list, read, write, conditional write, delete; streams and uploads in parts.
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
use std::io;
use std::ops::Range;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

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

/// What lies right in a folder.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Child {
    /// A folder, by its whole key without a slash at the end.
    Folder(String),
    /// An object.
    Object(ObjectMeta),
}

impl Child {
    /// The whole key.
    pub fn key(&self) -> &str {
        match self {
            Self::Folder(key) => key,
            Self::Object(meta) => &meta.key,
        }
    }
}

/// An object that is read piece by piece.
pub struct ObjectBody {
    /// The object, with the size of the whole of it.
    pub meta: ObjectMeta,
    /// Its bytes; a bounded part of them is in memory.
    pub bytes: BoxStream<'static, Result<Bytes>>,
}

/// Bytes that come from elsewhere, such as the body of a request. An error says that they broke off.
pub type Incoming = BoxStream<'static, io::Result<Bytes>>;

/// A part of an object that is written in parts.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Part {
    /// From 1 on.
    pub number: u32,
    /// Changes when the content does.
    pub tag: String,
}

/// An address that lets whoever has it read or write one thing for a while, without credentials.
#[derive(Clone, PartialEq, Eq)]
pub struct PresignedUrl {
    /// With its signature: a secret.
    pub url: String,
    /// Headers that a request must send along.
    pub headers: Vec<(String, String)>,
}

/// Without the signature.
impl fmt::Debug for PresignedUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("PresignedUrl").finish_non_exhaustive()
    }
}

impl fmt::Debug for ObjectBody {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ObjectBody").field("meta", &self.meta).finish_non_exhaustive()
    }
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

    /// Removes everything in the folder `folder` and below. One that does not exist is no error.
    async fn delete_folder(&self, folder: &str) -> Result<()>;

    /// What lies right in a folder (`""` is the root), sorted by key. Nothing for one that does not exist.
    async fn children(&self, folder: &str) -> Result<Vec<Child>>;

    /// As [`ObjectStore::get_range`] (`None` is everything), piece by piece: memory does not grow with the size. On S3 an
    /// answer that breaks off is asked for again from there on.
    async fn get_stream(&self, key: &str, range: Option<Range<u64>>) -> Result<ObjectBody>;

    /// As [`ObjectStore::put`], from bytes that come piece by piece; memory does not grow with their number, which is
    /// given back. `size` is checked if it is known.
    ///
    /// # Errors
    /// [`crate::Error::BrokenOff`] if the bytes end in an error or are not `size`; then nothing is written.
    async fn put_stream(&self, key: &str, bytes: Incoming, size: Option<u64>) -> Result<u64>;

    /// Begins to write an object in parts, which may be sent in any order, at once, and again; gives the upload's name.
    async fn begin_parts(&self, key: &str) -> Result<String>;

    /// Writes or replaces one part, as [`ObjectStore::put_stream`] does an object.
    async fn put_part(&self, key: &str, upload: &str, number: u32, bytes: Incoming, size: Option<u64>) -> Result<Part>;

    /// Makes the object of the parts that are named, in the order of their numbers. Readers see all of it or nothing.
    ///
    /// # Errors
    /// [`crate::Error::UnknownPart`] if a part was not written, or written again since.
    async fn complete_parts(&self, key: &str, upload: &str, parts: &[Part]) -> Result<()>;

    /// Forgets an upload in parts. One that does not exist is no error.
    async fn abort_parts(&self, key: &str, upload: &str) -> Result<()>;

    /// Removes what writers that died left behind before `before`: temporary files, uploads in parts. Gives their number.
    async fn remove_unfinished(&self, before: DateTime<Utc>) -> Result<u64>;

    /// An address from which the object can be read for a while; none in a folder.
    async fn presign_get(&self, key: &str, lifetime: Duration) -> Result<Option<PresignedUrl>>;

    /// An address to which a part can be sent for a while; none in a folder.
    async fn presign_part(
        &self,
        key: &str,
        upload: &str,
        number: u32,
        lifetime: Duration,
    ) -> Result<Option<PresignedUrl>>;

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
