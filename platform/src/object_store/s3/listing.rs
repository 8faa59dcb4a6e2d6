//! Listings of a bucket, page by page.

use aws_sdk_s3::Client;
use aws_sdk_s3::primitives::DateTime as S3Time;
use chrono::{DateTime, Utc};
use futures::stream::{self, BoxStream, StreamExt, TryStreamExt};

use super::error::{Target, explain};
use crate::object_store::{AwsAccess, Child, Location, ObjectMeta, key};
use crate::{Error, Result};

/// One walk through a listing, a thousand keys a page.
pub(super) struct Listing {
    pub client: Client,
    pub access: AwsAccess,
    pub bucket: String,
    pub location: Location,
    /// What is cut off the front of every key.
    pub root_length: usize,
    /// Empty, or ends with a slash.
    pub prefix: String,
}

enum Page {
    First,
    Next(String),
    End,
}

impl Listing {
    pub(super) fn stream(self) -> BoxStream<'static, Result<ObjectMeta>> {
        stream::try_unfold((self, Page::First), |(listing, page)| async move {
            let token = match page {
                Page::First => None,
                Page::Next(token) => Some(token),
                Page::End => return Ok(None),
            };
            let (items, next) = listing.page(token).await?;
            Ok(Some((stream::iter(items), (listing, next))))
        })
        .try_flatten()
        .boxed()
    }

    /// Only what lies right in the folder.
    pub(super) async fn children(self) -> Result<Vec<Child>> {
        let mut found = Vec::new();
        let mut token = None;
        loop {
            let request = self.client.list_objects_v2().bucket(&self.bucket).prefix(&self.prefix).delimiter("/");
            let answer = request.set_continuation_token(token).send().await.map_err(|error| {
                let uri = format!("s3://{}/{}", self.bucket, self.prefix);
                explain(&error, &Target { access: &self.access, bucket: &self.bucket, uri, action: "list" })
            })?;
            for folder in answer.common_prefixes() {
                let key = folder.prefix().and_then(|prefix| prefix.get(self.root_length..)).unwrap_or_default();
                let key = key.trim_end_matches('/');
                if key::check(&self.location, key).is_ok() {
                    found.push(Child::Folder(key.to_owned()));
                }
            }
            for object in answer.contents() {
                let key = object.key().and_then(|key| key.get(self.root_length..)).unwrap_or_default();
                if key::check(&self.location, key).is_ok() {
                    let meta = object_meta(key.to_owned(), object.size(), object.e_tag(), object.last_modified());
                    found.push(Child::Object(meta));
                }
            }
            match answer.next_continuation_token() {
                Some(next) if answer.is_truncated() == Some(true) => token = Some(next.to_owned()),
                _ => break,
            }
        }
        found.sort_by(|one, other| one.key().cmp(other.key()));
        Ok(found)
    }

    async fn page(&self, token: Option<String>) -> Result<(Vec<Result<ObjectMeta>>, Page)> {
        let request = self.client.list_objects_v2().bucket(&self.bucket).prefix(&self.prefix);
        let answer = request.set_continuation_token(token).send().await.map_err(|error| {
            let uri = format!("s3://{}/{}", self.bucket, self.prefix);
            explain(&error, &Target { access: &self.access, bucket: &self.bucket, uri, action: "list" })
        })?;
        let items = answer.contents().iter().filter_map(|object| {
            let key = object.key()?.get(self.root_length..)?;
            // Empty objects that end with a slash are how some tools draw folders.
            if key.is_empty() || key.ends_with('/') {
                return None;
            }
            if let Err(error) = key::check(&self.location, key) {
                return Some(Err(Error::Unreadable { uri: self.location.uri(key), reason: error.to_string() }));
            }
            Some(Ok(object_meta(key.to_owned(), object.size(), object.e_tag(), object.last_modified())))
        });
        let next = match answer.next_continuation_token() {
            Some(token) if answer.is_truncated() == Some(true) => Page::Next(token.to_owned()),
            _ => Page::End,
        };
        Ok((items.collect(), next))
    }
}

/// Puts what S3 says of an object into our words.
pub(super) fn object_meta(key: String, size: Option<i64>, tag: Option<&str>, modified: Option<&S3Time>) -> ObjectMeta {
    let modified = modified.and_then(|time| DateTime::<Utc>::from_timestamp(time.secs(), time.subsec_nanos()));
    ObjectMeta {
        key,
        size: size.and_then(|size| u64::try_from(size).ok()).unwrap_or(0),
        version: tag.unwrap_or_default().trim_matches('"').to_owned(),
        modified: modified.unwrap_or(DateTime::UNIX_EPOCH),
    }
}
