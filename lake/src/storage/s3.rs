//! A prefix in a bucket, with the same credentials, region and endpoint as every other object of Safari.

use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use object_store::aws::{AmazonS3Builder, AwsCredential, S3ConditionalPut};
use object_store::path::Path;
use object_store::{CredentialProvider, Error as StoreError, Result as StoreResult, RetryConfig};
use platform::object_store::{AwsAccess, Location, open_with};
use url::Url;

use super::{Storage, unusable};
use crate::error::{Result, storage_error};

/// How long a request is tried again before it fails.
const RETRY_FOR: Duration = Duration::from_secs(60);

/// Opens `location`, which is in a bucket; one request shows whether the bucket is there and can be entered.
pub(super) async fn open(location: &Location, access: &AwsAccess) -> Result<Storage> {
    let Location::S3 { bucket, prefix } = location else {
        return Err(unusable(&location.to_string(), "it is not in a bucket"));
    };
    open_with(location, access).await?;
    let place = location.to_string();
    let retries = RetryConfig { retry_timeout: RETRY_FOR, ..RetryConfig::default() };
    let mut builder = AmazonS3Builder::new()
        .with_bucket_name(bucket)
        .with_region(access.region())
        // The next log file is created with If-None-Match, so that of two writers one is told that it lost.
        .with_conditional_put(S3ConditionalPut::ETagMatch)
        .with_retry(retries);
    if let Some(endpoint) = access.endpoint() {
        builder = builder.with_endpoint(endpoint).with_allow_http(endpoint.starts_with("http://"));
    }
    builder = if access.is_anonymous() {
        builder.with_skip_signature(true)
    } else {
        builder.with_credentials(Arc::new(Credentials { access: access.clone() }))
    };
    let store = builder
        .build()
        .map_err(|error| storage_error(&place, &error).unwrap_or_else(|| unusable(&place, &error.to_string())))?;
    let url =
        folder_url(bucket, prefix).ok_or_else(|| unusable(&place, "the bucket's name cannot be part of a URL"))?;
    let prefix = Path::from_url_path(url.path()).map_err(|error| unusable(&place, &error.to_string()))?;
    Ok(Storage::new(url, prefix, Arc::new(store)))
}

/// `s3://bucket/prefix/` with whatever is special in URLs escaped.
fn folder_url(bucket: &str, prefix: &str) -> Option<Url> {
    let mut url = Url::parse(&format!("s3://{bucket}/")).ok()?;
    url.path_segments_mut().ok()?.pop_if_empty().extend(prefix.split('/').filter(|part| !part.is_empty())).push("");
    Some(url)
}

/// Asks the platform for each request, so that keys of roles are renewed before they expire.
#[derive(Debug)]
struct Credentials {
    access: AwsAccess,
}

#[async_trait]
impl CredentialProvider for Credentials {
    type Credential = AwsCredential;

    async fn get_credential(&self) -> StoreResult<Arc<AwsCredential>> {
        let failed = |source: Box<dyn std::error::Error + Send + Sync>| StoreError::Generic { store: "S3", source };
        let keys = self.access.credentials().await.map_err(|error| failed(error.into()))?;
        let keys = keys.ok_or_else(|| failed("there are no credentials".into()))?;
        Ok(Arc::new(AwsCredential {
            key_id: keys.access_key_id().to_owned(),
            secret_key: keys.secret_access_key().to_owned(),
            token: keys.session_token().map(str::to_owned),
        }))
    }
}
