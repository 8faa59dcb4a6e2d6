//! Where a lake is: a folder or a bucket, as Delta's log stores.
//!
//! Both commit by creating the next log file only if it does not exist yet, so no lock service is needed.

mod folder;
mod s3;

use std::sync::Arc;

use deltalake_core::logstore::{LogStoreRef, StorageConfig, default_logstore};
use object_store::ObjectStore;
use object_store::path::Path;
use object_store::prefix::PrefixStore;
use platform::object_store::{AwsAccess, Location, aws_credentials};
use url::Url;

use crate::error::{Error, Result};

/// An opened place: the store's root and the lake's folder in it.
#[derive(Debug, Clone)]
pub(crate) struct Storage {
    /// Ends with a slash.
    url: Url,
    prefix: Path,
    root: Arc<dyn ObjectStore>,
}

impl Storage {
    pub(crate) fn new(url: Url, prefix: Path, root: Arc<dyn ObjectStore>) -> Self {
        Self { url, prefix, root }
    }

    /// The lake's URL without a trailing slash.
    pub(crate) fn location(&self) -> &str {
        self.url.as_str().trim_end_matches('/')
    }

    /// The log store of the table in the folder `name`.
    pub(crate) fn log_store(&self, name: &str) -> LogStoreRef {
        let mut url = self.url.clone();
        url.set_path(&format!("{}{name}/", self.url.path()));
        let prefixed = PrefixStore::new(self.root.clone(), self.prefix.clone().join(name));
        default_logstore(Arc::new(prefixed), self.root.clone(), &url, &StorageConfig::default())
    }
}

/// Opens a folder or a bucket; `access` is only used for a bucket, and read from the environment when not given.
pub(crate) async fn open(url: &str, access: Option<&AwsAccess>) -> Result<Storage> {
    let location = Location::parse(url)?;
    match (&location, access) {
        (Location::Local(path), _) => folder::open(path),
        (Location::S3 { .. }, Some(access)) => s3::open(&location, access).await,
        (Location::S3 { .. }, None) => s3::open(&location, &aws_credentials().await?).await,
    }
}

fn unusable(location: &str, reason: &str) -> Error {
    Error::Storage { location: location.to_owned(), reason: reason.to_owned() }
}
