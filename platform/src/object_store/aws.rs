//! How to reach S3: credentials, region and endpoint, from the usual AWS variables, profiles and roles.

use std::sync::Arc;
use std::time::{Duration, SystemTime};

use aws_config::default_provider::credentials::DefaultCredentialsChain;
use aws_config::environment::EnvironmentVariableRegionProvider;
use aws_config::meta::region::RegionProviderChain;
use aws_config::profile::ProfileFileRegionProvider;
use aws_config::retry::RetryConfig;
use aws_config::{BehaviorVersion, Region, SdkConfig};
use aws_credential_types::Credentials;
use aws_credential_types::provider::error::CredentialsError;
use aws_credential_types::provider::{self, ProvideCredentials, SharedCredentialsProvider};
use tokio::sync::Mutex;

use crate::error::root_cause;
use crate::{Error, Result};

/// The region when none is configured.
pub const DEFAULT_REGION: &str = "us-east-1";

/// Credentials that expire sooner than this are fetched anew.
const REFRESH_BEFORE: Duration = Duration::from_secs(300);

/// How long the search for credentials may take: the last place that is asked is the metadata service of a cloud
/// machine, which on other machines answers with silence.
const CREDENTIALS_TIMEOUT: Duration = Duration::from_secs(8);

/// Attempts of a request where `AWS_MAX_ATTEMPTS` does not say otherwise; delays grow and are random.
const ATTEMPTS: u32 = 5;

/// How to reach S3. Cheap to clone; clones share the fetched credentials.
#[derive(Debug, Clone)]
pub struct AwsAccess {
    sdk: SdkConfig,
    region: String,
    endpoint: Option<String>,
    credentials: Option<Arc<CachedCredentials>>,
}

impl AwsAccess {
    /// Reads the environment: `AWS_ACCESS_KEY_ID`, `AWS_SECRET_ACCESS_KEY`, `AWS_SESSION_TOKEN`, `AWS_REGION`,
    /// `AWS_PROFILE` and the files it names, web identities, container and machine roles; `AWS_ENDPOINT_URL_S3` or
    /// `AWS_ENDPOINT_URL` for other servers than Amazon's; `AWS_SKIP_SIGNATURE=true` for public buckets.
    ///
    /// No credentials are fetched yet. Without a region it is `us-east-1`.
    ///
    /// # Errors
    /// [`Error::InvalidSetting`] when the endpoint is no `http://` or `https://` address.
    pub async fn from_environment() -> Result<Self> {
        let region = RegionProviderChain::first_try(EnvironmentVariableRegionProvider::new())
            .or_else(ProfileFileRegionProvider::new())
            .or_else(Region::new(DEFAULT_REGION))
            .region()
            .await
            .unwrap_or_else(|| Region::new(DEFAULT_REGION));
        let mut loader = aws_config::defaults(BehaviorVersion::latest()).region(region.clone());
        if std::env::var_os("AWS_MAX_ATTEMPTS").is_none() {
            loader = loader.retry_config(RetryConfig::standard().with_max_attempts(ATTEMPTS));
        }
        let credentials = if is_true("AWS_SKIP_SIGNATURE") {
            loader = loader.no_credentials();
            None
        } else {
            let metadata_service = aws_config::imds::Client::builder().max_attempts(2).build();
            let chain = DefaultCredentialsChain::builder().region(region.clone()).imds_client(metadata_service);
            let cached = Arc::new(CachedCredentials::new(chain.build().await));
            loader = loader.credentials_provider(Shared(Arc::clone(&cached)));
            Some(cached)
        };
        let sdk = loader.load().await;
        let endpoint = environment_endpoint().or_else(|| sdk.endpoint_url().map(str::to_owned));
        if let Some(endpoint) = &endpoint {
            check_endpoint(endpoint)?;
        }
        Ok(Self { sdk, region: region.to_string(), endpoint, credentials })
    }

    /// A server, region and keys that are given, whatever the environment says.
    ///
    /// # Errors
    /// [`Error::InvalidSetting`] when the endpoint is no `http://` or `https://` address.
    pub fn with_keys(endpoint: &str, region: &str, access_key_id: &str, secret_access_key: &str) -> Result<Self> {
        check_endpoint(endpoint)?;
        let keys = Credentials::new(access_key_id, secret_access_key, None, None, "given");
        let credentials = Arc::new(CachedCredentials::new(keys));
        let sdk = SdkConfig::builder()
            .behavior_version(BehaviorVersion::latest())
            .region(Region::new(region.to_owned()))
            .retry_config(RetryConfig::standard().with_max_attempts(ATTEMPTS))
            .credentials_provider(SharedCredentialsProvider::new(Shared(Arc::clone(&credentials))))
            .build();
        Ok(Self { sdk, region: region.to_owned(), endpoint: Some(endpoint.to_owned()), credentials: Some(credentials) })
    }

    /// The region, never empty.
    pub fn region(&self) -> &str {
        &self.region
    }

    /// The address of a server other than Amazon's, such as `http://127.0.0.1:8333`. Buckets are then part of the path,
    /// not of the host name.
    pub fn endpoint(&self) -> Option<&str> {
        self.endpoint.as_deref()
    }

    /// Whether requests go unsigned (`AWS_SKIP_SIGNATURE=true`).
    pub fn is_anonymous(&self) -> bool {
        self.credentials.is_none()
    }

    /// The credentials, fetched at most once until shortly before they expire; `None` when requests go unsigned.
    ///
    /// # Errors
    /// [`Error::Denied`] when none are found or the source of credentials refuses or does not answer.
    pub async fn credentials(&self) -> Result<Option<Credentials>> {
        let Some(cached) = &self.credentials else {
            return Ok(None);
        };
        cached.get().await.map(Some).map_err(|error| self.explain_credentials(&error))
    }

    pub(super) fn sdk(&self) -> &SdkConfig {
        &self.sdk
    }

    /// The server's address for messages.
    pub(super) fn server(&self) -> String {
        match &self.endpoint {
            Some(endpoint) => endpoint.clone(),
            None => format!("https://s3.{}.amazonaws.com", self.region),
        }
    }

    pub(super) fn explain_credentials(&self, error: &CredentialsError) -> Error {
        if let CredentialsError::InvalidConfiguration(_) = error {
            return Error::Denied {
                uri: self.server(),
                reason: format!("the configuration of credentials is wrong ({})", root_cause(error)),
                advice: "correct the AWS variables or the files in ~/.aws".to_owned(),
            };
        }
        // The chain ends at the metadata service of cloud machines, whose failure elsewhere only means that nothing
        // before it had credentials.
        let cause = match error {
            CredentialsError::CredentialsNotLoaded(_) => String::new(),
            other => format!(" ({})", root_cause(other)),
        };
        Error::Denied {
            uri: self.server(),
            reason: format!("no credentials were found{cause}"),
            advice:
                "set AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY, or AWS_PROFILE, or AWS_SKIP_SIGNATURE=true for a \
                     public bucket"
                    .to_owned(),
        }
    }
}

/// The environment's [`AwsAccess`]: what [`super::open`] uses, for other libraries that speak to the same buckets.
///
/// # Errors
/// As [`AwsAccess::from_environment`].
pub async fn aws_credentials() -> Result<AwsAccess> {
    AwsAccess::from_environment().await
}

/// The provider chain with what it last answered.
#[derive(Debug)]
struct CachedCredentials {
    chain: SharedCredentialsProvider,
    last: Mutex<Option<Credentials>>,
}

impl CachedCredentials {
    fn new(chain: impl ProvideCredentials + 'static) -> Self {
        Self { chain: SharedCredentialsProvider::new(chain), last: Mutex::new(None) }
    }

    async fn get(&self) -> provider::Result {
        let mut last = self.last.lock().await;
        if let Some(credentials) = last.as_ref().filter(|credentials| stays_valid(credentials)) {
            return Ok(credentials.clone());
        }
        let fetched = tokio::time::timeout(CREDENTIALS_TIMEOUT, self.chain.provide_credentials()).await;
        let credentials = fetched.map_err(|_| CredentialsError::provider_timed_out(CREDENTIALS_TIMEOUT))??;
        *last = Some(credentials.clone());
        Ok(credentials)
    }
}

/// Gives the SDK the same cache that [`AwsAccess::credentials`] reads.
#[derive(Debug)]
struct Shared(Arc<CachedCredentials>);

impl ProvideCredentials for Shared {
    fn provide_credentials<'a>(&'a self) -> provider::future::ProvideCredentials<'a>
    where
        Self: 'a,
    {
        provider::future::ProvideCredentials::new(self.0.get())
    }
}

fn stays_valid(credentials: &Credentials) -> bool {
    credentials.expiry().is_none_or(|expiry| expiry > SystemTime::now() + REFRESH_BEFORE)
}

fn environment_endpoint() -> Option<String> {
    if is_true("AWS_IGNORE_CONFIGURED_ENDPOINT_URLS") {
        return None;
    }
    ["AWS_ENDPOINT_URL_S3", "AWS_ENDPOINT_URL"]
        .iter()
        .filter_map(|name| std::env::var(name).ok())
        .find(|value| !value.is_empty())
}

fn is_true(name: &str) -> bool {
    std::env::var(name).is_ok_and(|value| value.eq_ignore_ascii_case("true") || value == "1")
}

fn check_endpoint(endpoint: &str) -> Result<()> {
    let url = url::Url::parse(endpoint).ok();
    if url.is_some_and(|url| matches!(url.scheme(), "http" | "https") && url.has_host()) {
        return Ok(());
    }
    Err(Error::InvalidSetting {
        key: "AWS_ENDPOINT_URL".to_owned(),
        value: endpoint.to_owned(),
        origin: "the environment".to_owned(),
        allowed: "an address such as http://127.0.0.1:8333".to_owned(),
    })
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use std::sync::atomic::{AtomicU32, Ordering};

    use super::*;

    #[derive(Debug)]
    struct Counting {
        calls: AtomicU32,
        lifetime: Duration,
    }

    impl ProvideCredentials for Counting {
        fn provide_credentials<'a>(&'a self) -> provider::future::ProvideCredentials<'a>
        where
            Self: 'a,
        {
            let call = self.calls.fetch_add(1, Ordering::SeqCst);
            let expiry = SystemTime::now() + self.lifetime;
            provider::future::ProvideCredentials::ready(Ok(Credentials::new(
                format!("key{call}"),
                "secret",
                None,
                Some(expiry),
                "test",
            )))
        }
    }

    #[tokio::test]
    async fn credentials_are_fetched_anew_shortly_before_they_expire() {
        let long = CachedCredentials::new(Counting { calls: AtomicU32::new(0), lifetime: Duration::from_secs(3600) });
        assert_eq!(long.get().await.unwrap().access_key_id(), "key0");
        assert_eq!(long.get().await.unwrap().access_key_id(), "key0");
        let short = CachedCredentials::new(Counting { calls: AtomicU32::new(0), lifetime: Duration::from_secs(299) });
        assert_eq!(short.get().await.unwrap().access_key_id(), "key0");
        assert_eq!(short.get().await.unwrap().access_key_id(), "key1");
    }

    #[tokio::test]
    async fn given_keys_are_what_others_see() {
        let access = AwsAccess::with_keys("http://127.0.0.1:1", "eu-north-1", "key", "secret").unwrap();
        let keys = access.credentials().await.unwrap().unwrap();
        assert_eq!((keys.access_key_id(), keys.secret_access_key()), ("key", "secret"));
        assert_eq!((access.region(), access.endpoint()), ("eu-north-1", Some("http://127.0.0.1:1")));
        assert!(!access.is_anonymous());
    }

    #[test]
    fn endpoints_need_a_scheme_and_a_host() {
        for bad in ["localhost:8333", "127.0.0.1", "ftp://host", "http://", ""] {
            let error = AwsAccess::with_keys(bad, "x", "key", "secret").unwrap_err();
            assert!(error.to_string().contains("not allowed for AWS_ENDPOINT_URL"), "{bad}: {error}");
        }
    }
}
