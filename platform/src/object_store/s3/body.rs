//! Bodies of answers, which may break off: the SDK repeats requests, and not bodies.

use std::path::Path;

use aws_sdk_s3::operation::get_object::GetObjectOutput;
use bytes::{Bytes, BytesMut};
use tokio::io::AsyncWriteExt;

use crate::error::root_cause;
use crate::object_store::local::{blocking, sync_folder, temporary_beside};
use crate::{Error, Result};

/// Most bytes that are set aside because an answer says that it has so many.
const SET_ASIDE: u64 = 64 << 20;

/// The whole body, or why it broke off. It is written once, and not collected in parts that are then joined.
pub(super) async fn collect(output: GetObjectOutput) -> std::result::Result<Bytes, String> {
    let expected = output.content_length().and_then(|length| u64::try_from(length).ok());
    let capacity = expected.unwrap_or_default().min(SET_ASIDE);
    let mut bytes = BytesMut::with_capacity(usize::try_from(capacity).unwrap_or_default());
    let mut body = output.body;
    while let Some(chunk) = body.try_next().await.map_err(|error| root_cause(&error))? {
        bytes.extend_from_slice(&chunk);
    }
    if expected.is_none_or(|expected| expected == bytes.len() as u64) {
        return Ok(bytes.freeze());
    }
    Err(broke_off(bytes.len() as u64))
}

/// Writes a body to a file: `None` when done, or why the body broke off.
pub(super) async fn save(output: GetObjectOutput, file: &Path) -> Result<Option<String>> {
    let target = file.to_owned();
    let (temporary, folder) = blocking(move || temporary_beside(&target)).await?;
    let failed = |error: std::io::Error| Error::from_io("write", file, &error);
    let handle = temporary.reopen().map_err(failed)?;
    let mut writer = tokio::fs::File::from_std(handle);
    let expected = output.content_length().and_then(|length| u64::try_from(length).ok());
    let mut body = output.body;
    let mut written = 0;
    loop {
        match body.try_next().await {
            Ok(Some(chunk)) => {
                writer.write_all(&chunk).await.map_err(failed)?;
                written += chunk.len() as u64;
            }
            Ok(None) => break,
            Err(error) => return Ok(Some(root_cause(&error))),
        }
    }
    if expected.is_some_and(|expected| expected != written) {
        return Ok(Some(broke_off(written)));
    }
    writer.flush().await.map_err(failed)?;
    writer.sync_all().await.map_err(failed)?;
    let target = file.to_owned();
    blocking(move || {
        temporary.persist(&target).map_err(|failure| Error::from_io("write", &target, &failure.error))?;
        sync_folder(&folder)
    })
    .await?;
    Ok(None)
}

fn broke_off(after: u64) -> String {
    format!("the answer broke off after {after} bytes")
}
