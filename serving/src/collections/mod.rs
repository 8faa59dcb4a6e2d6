//! People's collections of species: what one has seen, where and when, with photographs.
//!
//! | module | what it is |
//! |---|---|
//! | [`person`] | who asks |
//! | [`species`] | the species that can be seen, with their conservation status |
//! | [`place`] | places, and the grid that blurs those of threatened species |
//! | [`recognise`] | what the rest of the server tells of detections and photographs |
//! | [`store`] | sightings, photographs and profiles in SQLite or PostgreSQL and an object store |
//! | [`api`] | the routes |
//!
//! Invariants: a key of a person names one sighting, for ever. What others are shown of a threatened species' place and
//! time is made from the cell and the day alone, also where it decides which rows are found and how they are ordered. An
//! object is removed only when a transaction has said that no picture names it, and its name is never given again.

pub mod api;
mod error;
mod ids;
pub mod person;
pub mod place;
pub mod recognise;
mod record;
pub mod species;
pub mod store;
mod time;

use std::sync::Arc;
use std::time::Duration;

use chrono::Utc;
use platform::database::Address;
use platform::object_store::{self, Location};
use tokio::sync::watch;
use tracing::{info, warn};

pub use api::{openapi, router};
pub use error::{Error, Result};
pub use ids::{Handle, Key, SightingId};
pub use time::Moment;

use recognise::{Detect, Detections};
use species::Catalogue;
use store::Store;

/// How often objects are looked for that no picture names.
const TIDY_EVERY: Duration = Duration::from_secs(3600);

/// What the handlers share; clones share it too.
#[derive(Clone)]
pub struct Collections {
    store: Store,
    catalogue: Arc<Catalogue>,
    detections: Arc<dyn Detections>,
    detect: Arc<dyn Detect>,
}

impl Collections {
    /// Opens tables and the place of photographs. SQLite's tables are brought up to date; those of a PostgreSQL server only by
    /// `safari migrate`.
    ///
    /// # Errors
    /// What is wrong with the database or the place of photographs, and what to do; [`Error::OldTables`].
    pub async fn open(
        database: &Address,
        pictures: &Location,
        catalogue: Catalogue,
        detections: Arc<dyn Detections>,
        detect: Arc<dyn Detect>,
    ) -> Result<Self> {
        let store = Store::open_current(database, object_store::open(pictures).await?).await?;
        Ok(Self::new(store, catalogue, detections, detect))
    }

    /// On tables that are open already.
    pub fn new(store: Store, catalogue: Catalogue, detections: Arc<dyn Detections>, detect: Arc<dyn Detect>) -> Self {
        Self { store, catalogue: Arc::new(catalogue), detections, detect }
    }

    /// The changes that the tables need to be those of this version, such as `1 collections`. A SQLite file that does not
    /// exist is made.
    ///
    /// # Errors
    /// What is wrong with the database and what to do.
    pub async fn pending(database: &Address) -> Result<Vec<String>> {
        Store::pending(database).await
    }

    /// Makes the tables those of this version.
    ///
    /// # Errors
    /// What is wrong with the database and what to do.
    pub async fn migrate(database: &Address) -> Result<()> {
        Store::migrate(database).await
    }

    /// The tables and photographs.
    pub fn store(&self) -> &Store {
        &self.store
    }

    /// The species that can be seen.
    pub fn catalogue(&self) -> &Catalogue {
        &self.catalogue
    }

    /// Removes objects that were left behind by writers that died, now and every hour, until `stop` is true.
    pub async fn tidy(&self, mut stop: watch::Receiver<bool>) {
        while !*stop.borrow() {
            match self.store.remove_strays(Moment::from(Utc::now() - store::UPLOAD_TIME)).await {
                Ok(0) => {}
                Ok(objects) => info!(objects, "photographs that belong to no sighting are removed"),
                Err(error) => warn!(%error, "photographs that belong to no sighting cannot be removed"),
            }
            tokio::select! {
                () = tokio::time::sleep(TIDY_EVERY) => {}
                changed = stop.changed() => if changed.is_err() { return },
            }
        }
    }
}
