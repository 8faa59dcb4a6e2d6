//! Where the things are that are backed up, and where they are restored to.

use std::path::{Path, PathBuf};

use platform::config::Config;
use platform::database::Address;
use platform::object_store::Location;

use crate::Result;
use crate::manifest::PartName;

/// Databases, files and tables of one installation.
#[derive(Debug, Clone)]
pub struct Places {
    /// The folder of keys, and of what a restoration notes.
    pub home: PathBuf,
    /// Databases; those that share an address are one part, named after the first.
    pub databases: Vec<(PartName, Address)>,
    /// The registry's files.
    pub artifacts: Location,
    /// Photographs of collections.
    pub pictures: Location,
    /// The tables.
    pub lake: String,
}

/// The files in a home that hold keys which seal secrets in databases.
pub(crate) const KEY_FILES: [&str; 2] = ["identity.key", "registry.key"];

impl Places {
    /// Those of the settings.
    ///
    /// # Errors
    /// A setting that is no place.
    pub fn of(config: &Config) -> Result<Self> {
        let all = [
            (PartName::State, config.state_address()),
            (PartName::Registry, config.registry_address()),
            (PartName::Identity, config.identity_address()),
            (PartName::Collections, config.collections_address()),
        ];
        let mut databases: Vec<(PartName, Address)> = Vec::new();
        for (name, address) in all {
            if databases.iter().all(|(_, known)| *known != address) {
                databases.push((name, address));
            }
        }
        Ok(Self {
            home: config.home.clone(),
            databases,
            artifacts: Location::parse(&config.artifacts_url())?,
            pictures: Location::parse(&config.pictures_url())?,
            lake: config.lake_url(),
        })
    }

    /// A home of its own in a folder: databases as SQLite files, all else as folders.
    pub fn in_folder(folder: &Path) -> Self {
        let database = |part: PartName| (part, Address::Sqlite(folder.join(format!("{part}.db"))));
        let databases = [PartName::State, PartName::Registry, PartName::Identity, PartName::Collections];
        Self {
            home: folder.to_owned(),
            databases: databases.map(database).to_vec(),
            artifacts: Location::Local(folder.join("artifacts")),
            pictures: Location::Local(folder.join("collections")),
            lake: folder.join("lake").to_string_lossy().into_owned(),
        }
    }

    /// The database of a part; that of the part which shares its address has the data.
    pub fn database(&self, part: PartName) -> Option<&Address> {
        self.databases.iter().find(|(name, _)| *name == part).map(|(_, address)| address)
    }

    /// The place of a part's files.
    pub(crate) fn files(&self, part: PartName) -> Result<Option<Location>> {
        Ok(match part {
            PartName::Artifacts => Some(self.artifacts.clone()),
            PartName::Pictures => Some(self.pictures.clone()),
            PartName::Keys => Some(Location::from(self.home.as_path())),
            PartName::Media | PartName::Detections | PartName::Evaluation => {
                Some(Location::parse(&self.lake)?.join(part.name()))
            }
            PartName::State | PartName::Registry | PartName::Identity | PartName::Collections => None,
        })
    }
}
