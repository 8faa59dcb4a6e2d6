//! People's collections of species: what one has seen, where and when, with photographs.
//!
//! | module | what it is |
//! |---|---|
//! | [`species`] | the species that the model can name, and their conservation statuses |
//! | `place` | places, and the grid that blurs those of threatened species |
//! | `tokens` | detections that were answered, as texts that prove themselves |
//! | `record` | from what was sent to a sighting that is kept |
//! | `store` | sightings, photographs and profiles in SQLite or PostgreSQL and an object store |
//! | `api` | the routes |
//!
//! Invariants: a key of a person names one sighting, for ever. What others are shown of a blurred place and time is made
//! from the cell and the day alone, also where it decides which rows are found and how they are ordered. An object is removed
//! only when a transaction has said that no picture names it, and its name is never given again.

pub(crate) mod api;
mod ids;
mod person;
mod place;
mod record;
pub mod species;
mod store;
mod time;
mod tokens;

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use chrono::Utc;
use platform::config::Config;
use platform::database::{Address, Database, Pending};
use platform::object_store::{self, Location};
use tokio::sync::watch;
use tracing::{info, warn};

use ids::{Handle, Key, SightingId};
use species::Statuses;
use store::Store;
use time::Moment;
use tokens::Tokens;

use crate::detections::Detections;
use crate::{Error, Result};

/// How often objects are looked for that no picture names.
const TIDY_EVERY: Duration = Duration::from_secs(3600);

/// Where collections are, and what is known of species.
#[derive(Clone, Debug)]
pub struct CollectionsOptions {
    /// The tables.
    pub database: Address,
    /// Photographs of sightings.
    pub pictures: Location,
    /// The operator's table of conservation statuses.
    pub statuses: Option<PathBuf>,
}

/// What the handlers share; clones share it too.
#[derive(Clone, Debug)]
pub struct Collections {
    store: Store,
    statuses: Arc<Statuses>,
    tokens: Tokens,
}

impl CollectionsOptions {
    /// Those of the settings; none where collections are off.
    ///
    /// # Errors
    /// [`Error::Setup`]: `collections.pictures` is no place for objects.
    pub fn of(config: &Config) -> Result<Option<Self>> {
        let settings = &config.collections;
        if !settings.enabled {
            return Ok(None);
        }
        let pictures = Location::parse(&config.pictures_url());
        let pictures = pictures.map_err(|error| Error::Setup(format!("collections.pictures: {error}")))?;
        Ok(Some(Self { database: config.collections_address(), pictures, statuses: settings.statuses.clone() }))
    }
}

impl Collections {
    /// Opens tables, photographs and statuses. SQLite's tables are brought up to date; those of a PostgreSQL server only by
    /// `safari migrate`.
    ///
    /// # Errors
    /// What is wrong with the database, the place of photographs or the table of statuses, and what to do;
    /// [`Error::OldTables`].
    pub async fn open(options: &CollectionsOptions) -> Result<Self> {
        let statuses = match &options.statuses {
            Some(file) => Statuses::read(file)?,
            None => Statuses::default(),
        };
        let store = Store::open_current(&options.database, object_store::open(&options.pictures).await?).await?;
        let tokens = Tokens::new(&store.token_key().await?)?;
        Ok(Self { store, statuses: Arc::new(statuses), tokens })
    }

    /// Names the detections of an answer, so that sightings can be made of them.
    pub(crate) fn sign(&self, found: &mut Detections) {
        let (sha256, version) = (&found.sha256, &found.model.version);
        for one in &mut found.detections {
            one.token = self.tokens.of(one, sha256, version);
        }
    }

    /// Removes objects that were left behind by writers that died, now and every hour, until `stop` is true.
    pub(crate) async fn tidy(self, mut stop: watch::Receiver<bool>) {
        while !*stop.borrow() {
            self.remove_strays(Utc::now().into()).await;
            tokio::select! {
                () = tokio::time::sleep(TIDY_EVERY) => {}
                changed = stop.changed() => if changed.is_err() { return },
            }
        }
    }

    async fn remove_strays(&self, now: Moment) {
        match self.store.remove_strays(now).await {
            Ok(0) => {}
            Ok(objects) => info!(objects, "photographs that belong to no sighting are removed"),
            Err(error) => warn!(%error, "photographs that belong to no sighting cannot be removed"),
        }
    }
}

/// The changes that the tables need to be those of this version, such as `1 collections`.
///
/// # Errors
/// What is wrong with the database and what to do.
pub async fn pending(database: &Database) -> Result<Vec<Pending>> {
    store::pending(database).await
}

/// Makes the tables those of this version.
///
/// # Errors
/// What is wrong with the database and what to do.
pub async fn migrate(database: &Database) -> Result<()> {
    store::migrate(database).await
}
