//! Uploads in parts that others send, and addresses that they are given for it.

use std::time::Duration;

use aws_sdk_s3::error::ProvideErrorMetadata;
use aws_sdk_s3::presigning::{PresignedRequest, PresigningConfig};
use aws_sdk_s3::primitives::ByteStream;
use aws_sdk_s3::types::{CompletedMultipartUpload, CompletedPart};
use chrono::{DateTime, Utc};
use futures::StreamExt;
use tokio::io::AsyncWriteExt;

use super::error::explain;
use super::{S3Store, status};
use crate::error::root_cause;
use crate::object_store::{Incoming, ObjectStore, Part, PresignedUrl};
use crate::{Error, Result};

pub(super) async fn begin(store: &S3Store, key: &str) -> Result<String> {
    let request = store.plain.create_multipart_upload().bucket(&store.bucket).key(store.full_key(key)?);
    let created = request.send().await.map_err(|error| explain(&error, &store.target(key, "write")))?;
    created.upload_id().map(str::to_owned).ok_or_else(|| Error::ObjectStore {
        action: "write",
        uri: store.uri(key),
        reason: "the server gave the upload no id".to_owned(),
        transient: false,
    })
}

/// S3 must know the size of a part before it comes, and may ask for it again: it is written to a file first.
pub(super) async fn write(
    store: &S3Store,
    key: &str,
    upload: &str,
    number: u32,
    mut bytes: Incoming,
    size: Option<u64>,
) -> Result<Part> {
    let uri = store.uri(key);
    let failed = |error: std::io::Error| Error::from_io("write", &std::env::temp_dir(), &error);
    let file = tempfile::NamedTempFile::new().map_err(failed)?;
    let mut writer = tokio::fs::File::from_std(file.reopen().map_err(failed)?);
    let mut written = 0;
    while let Some(piece) = bytes.next().await {
        let piece = piece.map_err(|error| Error::BrokenOff { uri: uri.clone(), reason: root_cause(&error) })?;
        writer.write_all(&piece).await.map_err(failed)?;
        written += piece.len() as u64;
    }
    if let Some(size) = size.filter(|size| *size != written) {
        return Err(Error::BrokenOff { uri, reason: format!("{written} bytes of {size} came") });
    }
    writer.flush().await.map_err(failed)?;
    let body = ByteStream::from_path(file.path()).await.map_err(|error| failed(std::io::Error::other(error)))?;
    let request = store.plain.upload_part().bucket(&store.bucket).key(store.full_key(key)?).upload_id(upload);
    let sent = request.part_number(number as i32).body(body).send().await;
    let sent = sent.map_err(|error| explain(&error, &store.target(key, "write")))?;
    Ok(Part { number, tag: sent.e_tag().unwrap_or_default().to_owned() })
}

pub(super) async fn complete(store: &S3Store, key: &str, upload: &str, parts: &[Part]) -> Result<()> {
    let mut parts = parts.to_vec();
    parts.sort_by_key(|part| part.number);
    let given =
        parts.iter().map(|part| CompletedPart::builder().part_number(part.number as i32).e_tag(&part.tag).build());
    let whole = CompletedMultipartUpload::builder().set_parts(Some(given.collect())).build();
    let request = store.plain.complete_multipart_upload().bucket(&store.bucket).key(store.full_key(key)?);
    match request.upload_id(upload).multipart_upload(whole).send().await {
        Ok(_) => Ok(()),
        Err(error) if matches!(error.code(), Some("InvalidPart" | "InvalidPartOrder")) => {
            Err(Error::UnknownPart { uri: store.uri(key), number: parts.first().map_or(1, |part| part.number) })
        }
        Err(error) if error.code() == Some("NoSuchUpload") => {
            Err(Error::NotFound { uri: format!("the upload in parts of {}", store.uri(key)) })
        }
        Err(error) => Err(explain(&error, &store.target(key, "write"))),
    }
}

pub(super) async fn abort(store: &S3Store, key: &str, upload: &str) -> Result<()> {
    let request = store.plain.abort_multipart_upload().bucket(&store.bucket).key(store.full_key(key)?);
    match request.upload_id(upload).send().await {
        Ok(_) => Ok(()),
        Err(error) if status(&error) == Some(404) => Ok(()),
        Err(error) => Err(explain(&error, &store.target(key, "delete"))),
    }
}

pub(super) async fn remove_old(store: &S3Store, before: DateTime<Utc>) -> Result<u64> {
    let mut removed = 0;
    let (mut key_marker, mut upload_marker) = (None, None);
    loop {
        let request = store.plain.list_multipart_uploads().bucket(&store.bucket).prefix(&store.root);
        let request = request.set_key_marker(key_marker).set_upload_id_marker(upload_marker);
        let answer = request.send().await.map_err(|error| explain(&error, &store.target("", "list")))?;
        for upload in answer.uploads() {
            let (Some(key), Some(id), Some(begun)) = (upload.key(), upload.upload_id(), upload.initiated()) else {
                continue;
            };
            let Some(key) = key.strip_prefix(&store.root) else { continue };
            if begun.secs() < before.timestamp() {
                abort(store, key, id).await?;
                removed += 1;
            }
        }
        if answer.is_truncated() != Some(true) {
            return Ok(removed);
        }
        key_marker = answer.next_key_marker().map(str::to_owned);
        upload_marker = answer.next_upload_id_marker().map(str::to_owned);
        if key_marker.is_none() {
            return Ok(removed);
        }
    }
}

pub(super) async fn presign_get(store: &S3Store, key: &str, lifetime: Duration) -> Result<PresignedUrl> {
    let request = store.plain.get_object().bucket(&store.bucket).key(store.full_key(key)?);
    let signed = request.presigned(for_a_while(store, key, lifetime)?).await;
    signed.map(given).map_err(|error| explain(&error, &store.target(key, "read")))
}

pub(super) async fn presign_part(
    store: &S3Store,
    key: &str,
    upload: &str,
    number: u32,
    lifetime: Duration,
) -> Result<PresignedUrl> {
    let request = store.plain.upload_part().bucket(&store.bucket).key(store.full_key(key)?).upload_id(upload);
    let signed = request.part_number(number as i32).presigned(for_a_while(store, key, lifetime)?).await;
    signed.map(given).map_err(|error| explain(&error, &store.target(key, "write")))
}

fn for_a_while(store: &S3Store, key: &str, lifetime: Duration) -> Result<PresigningConfig> {
    PresigningConfig::expires_in(lifetime).map_err(|error| Error::ObjectStore {
        action: "sign a request for",
        uri: store.uri(key),
        reason: root_cause(&error),
        transient: false,
    })
}

fn given(request: PresignedRequest) -> PresignedUrl {
    PresignedUrl {
        url: request.uri().to_owned(),
        headers: request.headers().map(|(name, value)| (name.to_owned(), value.to_owned())).collect(),
    }
}
