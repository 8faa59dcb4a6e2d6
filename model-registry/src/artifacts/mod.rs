//! Files of runs and models in a folder or a bucket.

use std::sync::Arc;

use platform::object_store::{self, Location, ObjectStore};

use crate::Result;

/// The store of all files that this server keeps.
#[derive(Debug)]
pub struct Artifacts {
    store: Arc<dyn ObjectStore>,
}

impl Artifacts {
    /// Opens the folder or bucket.
    ///
    /// # Errors
    /// What is wrong with the place and what to do.
    pub async fn open(location: &Location) -> Result<Self> {
        Ok(Self { store: object_store::open(location).await? })
    }

    /// The objects.
    pub fn store(&self) -> &Arc<dyn ObjectStore> {
        &self.store
    }
}
