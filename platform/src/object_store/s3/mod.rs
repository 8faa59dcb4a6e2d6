//! Objects in an S3 bucket, Amazon's or another server's.

mod body;
mod error;
mod listing;
mod multipart;
mod parts;
mod streams;

use std::ops::Range;
use std::path::{Path, PathBuf};
use std::time::Duration;

use async_trait::async_trait;
use aws_sdk_s3::Client;
use aws_sdk_s3::config::RequestChecksumCalculation;
use aws_sdk_s3::config::http::HttpResponse;
use aws_sdk_s3::config::retry::RetryConfig;
use aws_sdk_s3::config::timeout::TimeoutConfig;
use aws_sdk_s3::error::{ProvideErrorMetadata, SdkError};
use aws_sdk_s3::operation::get_object::GetObjectOutput;
use aws_sdk_s3::primitives::ByteStream;
use aws_sdk_s3::types::{BucketLocationConstraint, CreateBucketConfiguration};
use bytes::Bytes;
use chrono::{DateTime, Utc};
use futures::stream::{self, BoxStream, StreamExt, TryStreamExt};
use uuid::Uuid;

use self::error::{Target, explain};
use self::listing::{Listing, object_meta};
use super::{
    AwsAccess, Child, DEFAULT_REGION, Incoming, Location, ObjectBody, ObjectMeta, ObjectStore, Part, PresignedUrl, key,
};
use crate::{Error, Result};

/// A server that does not take a connection within this time is not there.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(3);

/// How long the first byte of an answer may take.
const READ_TIMEOUT: Duration = Duration::from_secs(60);

/// How long the first request, which finds out whether the bucket can be used, may take with all its retries.
const OPEN_TIMEOUT: Duration = Duration::from_secs(10);

/// Attempts of that first request.
const OPEN_ATTEMPTS: u32 = 3;

/// Attempts to read a body that breaks off.
const BODY_ATTEMPTS: u32 = 3;

/// Attempts of a conditional write that the server refuses because another one is going on.
const CONFLICT_ATTEMPTS: u32 = 8;

/// Names the writer of a conditional write, so that a repeated request can tell its own success from another's.
const WRITER: &str = "safari-writer";

/// Objects that are deleted at once.
const DELETES_AT_ONCE: usize = 16;

/// A store whose objects are those of a bucket below a prefix.
#[derive(Clone, Debug)]
pub(super) struct S3Store {
    location: Location,
    bucket: String,
    /// Empty, or ends with a slash.
    root: String,
    access: AwsAccess,
    client: Client,
    /// For requests that others complete: it adds no checksum of a body that it does not see.
    plain: Client,
}

impl S3Store {
    pub(super) async fn open(location: &Location, bucket: &str, access: &AwsAccess) -> Result<Self> {
        let prefix = match location {
            Location::S3 { prefix, .. } => prefix.as_str(),
            Location::Local(_) => "",
        };
        let root = if prefix.is_empty() { String::new() } else { format!("{prefix}/") };
        // Asked first, because requests report missing credentials late and in other words.
        access.credentials().await?;
        let store = Self {
            location: location.clone(),
            bucket: bucket.to_owned(),
            root,
            access: access.clone(),
            client: client(access, RequestChecksumCalculation::WhenSupported),
            plain: client(access, RequestChecksumCalculation::WhenRequired),
        };
        store.check_bucket().await?;
        Ok(store)
    }

    async fn check_bucket(&self) -> Result<()> {
        // Fewer attempts than later on, so that the reason of a failure comes before the time is over.
        let retries = RetryConfig::standard().with_max_attempts(OPEN_ATTEMPTS);
        let settings = aws_sdk_s3::config::Builder::new().retry_config(retries);
        let request = self.client.list_objects_v2().bucket(&self.bucket).prefix(&self.root).max_keys(1);
        let request = request.customize().config_override(settings).send();
        match tokio::time::timeout(OPEN_TIMEOUT, request).await {
            Ok(Ok(_)) => Ok(()),
            Ok(Err(error)) => Err(explain(&error, &self.target("", "list"))),
            Err(_) => Err(Error::Unreachable {
                endpoint: self.access.server(),
                reason: format!("it does not answer within {} s", OPEN_TIMEOUT.as_secs()),
            }),
        }
    }

    fn target(&self, key: &str, action: &'static str) -> Target<'_> {
        Target { access: &self.access, bucket: &self.bucket, uri: self.location.uri(key), action }
    }

    fn full_key(&self, key: &str) -> Result<String> {
        key::check(&self.location, key)?;
        Ok(format!("{}{key}", self.root))
    }

    fn listing(&self, folder: &str) -> Result<Listing> {
        let prefix = match key::check_prefix(&self.location, folder)? {
            "" => self.root.clone(),
            folder => format!("{}{folder}/", self.root),
        };
        Ok(Listing {
            client: self.client.clone(),
            access: self.access.clone(),
            bucket: self.bucket.clone(),
            location: self.location.clone(),
            root_length: self.root.len(),
            prefix,
        })
    }

    fn upload(&self, key: &str) -> Result<multipart::Upload<'_>> {
        Ok(multipart::Upload {
            client: &self.client,
            bucket: &self.bucket,
            key: self.full_key(key)?,
            target: self.target(key, "write"),
        })
    }

    async fn get_object(&self, key: &str, range: Option<&Range<u64>>) -> Result<Option<GetObjectOutput>> {
        self.get_object_if(key, range, None).await
    }

    /// Only if the object is still the one with this tag.
    async fn get_object_if(
        &self,
        key: &str,
        range: Option<&Range<u64>>,
        tag: Option<String>,
    ) -> Result<Option<GetObjectOutput>> {
        let header = range.map(|range| format!("bytes={}-{}", range.start, range.end.saturating_sub(1)));
        let request = self.client.get_object().bucket(&self.bucket).key(self.full_key(key)?).set_range(header);
        match request.set_if_match(tag).send().await {
            Ok(output) => Ok(Some(output)),
            Err(error) if status(&error) == Some(416) => Ok(None),
            Err(error) => Err(explain(&error, &self.target(key, "read"))),
        }
    }

    async fn read(&self, key: &str, range: Option<Range<u64>>) -> Result<Bytes> {
        let mut attempt = 1;
        loop {
            let Some(output) = self.get_object(key, range.as_ref()).await? else {
                return Ok(Bytes::new());
            };
            let is_part = output.content_range().is_some();
            let reason = match body::collect(output).await {
                Ok(bytes) => return Ok(cut(bytes, range.clone().filter(|_| !is_part))),
                Err(reason) => reason,
            };
            if attempt >= BODY_ATTEMPTS {
                return Err(self.broken_body(key, reason));
            }
            tracing::debug!(uri = self.location.uri(key), reason, attempt, "reading again");
            tokio::time::sleep(pause(attempt)).await;
            attempt += 1;
        }
    }

    async fn delete_listed(self, object: Result<ObjectMeta>) -> Result<()> {
        self.delete(&object?.key).await
    }

    fn broken_body(&self, key: &str, reason: String) -> Error {
        Error::ObjectStore { action: "read", uri: self.location.uri(key), reason, transient: true }
    }

    /// Whether the object that is there was written by `writer`.
    async fn is_written_by(&self, key: &str, writer: &str) -> Result<bool> {
        let request = self.client.head_object().bucket(&self.bucket).key(self.full_key(key)?).send().await;
        match request {
            Ok(head) => {
                Ok(head.metadata().and_then(|metadata| metadata.get(WRITER)).is_some_and(|found| found == writer))
            }
            Err(error) if status(&error) == Some(404) => Ok(false),
            Err(error) => Err(explain(&error, &self.target(key, "read"))),
        }
    }
}

#[async_trait]
impl ObjectStore for S3Store {
    fn location(&self) -> &Location {
        &self.location
    }

    fn list(&self, prefix: &str) -> BoxStream<'static, Result<ObjectMeta>> {
        match self.listing(prefix) {
            Ok(listing) => listing.stream(),
            Err(error) => stream::iter([Err(error)]).boxed(),
        }
    }

    async fn head(&self, key: &str) -> Result<ObjectMeta> {
        let request = self.client.head_object().bucket(&self.bucket).key(self.full_key(key)?).send().await;
        let head = request.map_err(|error| match status(&error) {
            // Answers to HEAD have no body, so a 404 has no code.
            Some(404) => Error::NotFound { uri: self.location.uri(key) },
            _ => explain(&error, &self.target(key, "read")),
        })?;
        Ok(object_meta(key.to_owned(), head.content_length(), head.e_tag(), head.last_modified()))
    }

    async fn get(&self, key: &str) -> Result<Bytes> {
        self.read(key, None).await
    }

    async fn get_range(&self, key: &str, range: Range<u64>) -> Result<Bytes> {
        if range.is_empty() {
            return self.head(key).await.map(|_| Bytes::new());
        }
        self.read(key, Some(range)).await
    }

    async fn put(&self, key: &str, bytes: Bytes) -> Result<()> {
        if bytes.len() > multipart::PART_SIZE {
            return self.upload(key)?.bytes(bytes).await;
        }
        let request = self.client.put_object().bucket(&self.bucket).key(self.full_key(key)?);
        let sent = request.body(ByteStream::from(bytes)).send().await;
        sent.map(drop).map_err(|error| explain(&error, &self.target(key, "write")))
    }

    async fn put_if_absent(&self, key: &str, bytes: Bytes) -> Result<bool> {
        let writer = Uuid::new_v4().to_string();
        let full_key = self.full_key(key)?;
        let mut attempt = 1;
        loop {
            let request = self.client.put_object().bucket(&self.bucket).key(&full_key).if_none_match("*");
            let sent = request.metadata(WRITER, &writer).body(ByteStream::from(bytes.clone())).send().await;
            let Err(error) = sent else { return Ok(true) };
            match status(&error) {
                // There is an object. It may be ours, when the answer to an earlier try of this request was lost.
                Some(412) => return self.is_written_by(key, &writer).await,
                Some(409) if attempt < CONFLICT_ATTEMPTS && error.code() != Some("InvalidBucketState") => {
                    tokio::time::sleep(pause(attempt)).await;
                    attempt += 1;
                }
                _ => return Err(explain(&error, &self.target(key, "write"))),
            }
        }
    }

    async fn put_file(&self, key: &str, file: &Path) -> Result<()> {
        let failed = |error| Error::from_io("read", file, &error);
        let size = tokio::fs::metadata(file).await.map_err(failed)?.len();
        if size > multipart::PART_SIZE as u64 {
            return self.upload(key)?.file(file, size).await;
        }
        let bytes = tokio::fs::read(file).await.map_err(failed)?;
        self.put(key, bytes.into()).await
    }

    async fn download(&self, key: &str, file: &Path) -> Result<()> {
        let mut attempt = 1;
        loop {
            let Some(output) = self.get_object(key, None).await? else {
                return Err(Error::NotFound { uri: self.location.uri(key) });
            };
            match body::save(output, file).await? {
                None => return Ok(()),
                Some(reason) if attempt >= BODY_ATTEMPTS => {
                    return Err(self.broken_body(key, reason));
                }
                Some(_) => tokio::time::sleep(pause(attempt)).await,
            }
            attempt += 1;
        }
    }

    async fn delete(&self, key: &str) -> Result<()> {
        let request = self.client.delete_object().bucket(&self.bucket).key(self.full_key(key)?).send().await;
        match request {
            Ok(_) => Ok(()),
            Err(error) if error.code() == Some("NoSuchKey") => Ok(()),
            Err(error) => Err(explain(&error, &self.target(key, "delete"))),
        }
    }

    async fn delete_folder(&self, folder: &str) -> Result<()> {
        let gone = self.list(folder).map(|object| self.clone().delete_listed(object));
        gone.buffer_unordered(DELETES_AT_ONCE).try_collect::<()>().await
    }

    async fn children(&self, folder: &str) -> Result<Vec<Child>> {
        self.listing(folder)?.children().await
    }

    async fn get_stream(&self, key: &str, range: Option<Range<u64>>) -> Result<ObjectBody> {
        streams::read(self, key, range).await
    }

    async fn put_stream(&self, key: &str, bytes: Incoming, size: Option<u64>) -> Result<u64> {
        streams::write(self, key, bytes, size).await
    }

    async fn begin_parts(&self, key: &str) -> Result<String> {
        parts::begin(self, key).await
    }

    async fn put_part(&self, key: &str, upload: &str, number: u32, bytes: Incoming, size: Option<u64>) -> Result<Part> {
        parts::write(self, key, upload, number, bytes, size).await
    }

    async fn complete_parts(&self, key: &str, upload: &str, parts: &[Part]) -> Result<()> {
        parts::complete(self, key, upload, parts).await
    }

    async fn abort_parts(&self, key: &str, upload: &str) -> Result<()> {
        parts::abort(self, key, upload).await
    }

    async fn remove_unfinished(&self, before: DateTime<Utc>) -> Result<u64> {
        parts::remove_old(self, before).await
    }

    async fn presign_get(&self, key: &str, lifetime: Duration) -> Result<Option<PresignedUrl>> {
        parts::presign_get(self, key, lifetime).await.map(Some)
    }

    async fn presign_part(
        &self,
        key: &str,
        upload: &str,
        number: u32,
        lifetime: Duration,
    ) -> Result<Option<PresignedUrl>> {
        parts::presign_part(self, key, upload, number, lifetime).await.map(Some)
    }

    fn local_path(&self, _key: &str) -> Option<PathBuf> {
        None
    }
}

pub(super) async fn create_bucket(bucket: &str, access: &AwsAccess) -> Result<()> {
    access.credentials().await?;
    // Amazon wants a place for every region but its first.
    let place = (access.endpoint().is_none() && access.region() != DEFAULT_REGION).then(|| {
        let region = BucketLocationConstraint::from(access.region());
        CreateBucketConfiguration::builder().location_constraint(region).build()
    });
    let client = client(access, RequestChecksumCalculation::WhenSupported);
    let request = client.create_bucket().bucket(bucket).set_create_bucket_configuration(place).send().await;
    match request {
        Ok(_) => Ok(()),
        Err(error) if error.code() == Some("BucketAlreadyOwnedByYou") => Ok(()),
        Err(error) => Err(explain(&error, &Target { access, bucket, uri: format!("s3://{bucket}"), action: "make" })),
    }
}

fn client(access: &AwsAccess, checksums: RequestChecksumCalculation) -> Client {
    let timeouts = TimeoutConfig::builder().connect_timeout(CONNECT_TIMEOUT).read_timeout(READ_TIMEOUT).build();
    let mut config = aws_sdk_s3::config::Builder::from(access.sdk()).timeout_config(timeouts);
    config.set_request_checksum_calculation(Some(checksums));
    if let Some(endpoint) = access.endpoint() {
        config = config.endpoint_url(endpoint).force_path_style(true);
    }
    Client::from_conf(config.build())
}

/// The range of a whole object: some servers answer with everything when they are asked for a part.
fn cut(bytes: Bytes, range: Option<Range<u64>>) -> Bytes {
    let Some(range) = range else { return bytes };
    let position = |at: u64| usize::try_from(at).unwrap_or(usize::MAX).min(bytes.len());
    bytes.slice(position(range.start)..position(range.end))
}

fn status<E>(error: &SdkError<E, HttpResponse>) -> Option<u16> {
    error.raw_response().map(|response| response.status().as_u16())
}

/// A growing pause with a random part, so that many who failed together do not come back together.
fn pause(attempt: u32) -> Duration {
    let longest = 100u64 << attempt.min(5);
    let part = Uuid::new_v4().as_u128() % 1000;
    Duration::from_millis(longest / 2 + longest / 2 * part as u64 / 1000)
}
