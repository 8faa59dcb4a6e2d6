//! Puts a backup in the place of what is there: all of the old, or all of the new.
//!
//! Everything is fetched, checked and laid beside what it will replace. Then a journal in the home says what is to be
//! exchanged, and it is exchanged by renaming. Who dies before the journal is written has changed nothing; who dies after
//! it is continued by the next command ([`finish_interrupted`]). On buckets nothing can be renamed: files are added, which
//! only rows make visible, and the log of a table is written last.

mod bucket;
mod server;
mod stage;
mod swap;

use std::path::PathBuf;

use chrono::{DateTime, Utc};
use futures::TryStreamExt;
use platform::database::Address;
use platform::object_store::{self, Location};
use tracing::info;

use crate::id::BackupId;
use crate::manifest::{Manifest, Part, PartKind, PartName, What};
use crate::places::{KEY_FILES, Places};
use crate::progress::Progress;
use crate::repository::Repository;
use crate::{Error, Result};

pub(crate) use server::drop_database;
pub use swap::finish_interrupted;

/// Which backup.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Choice {
    /// The newest that was verified.
    Newest,
    /// This one.
    Id(BackupId),
    /// The newest that was verified and begun no later.
    At(DateTime<Utc>),
    /// The oldest that was verified and begun no earlier: it has all files that rows of that moment name, as files are there
    /// before their rows and go after them.
    After(DateTime<Utc>),
}

/// What a restoration would do.
#[derive(Debug, Clone)]
pub struct Plan {
    /// The backup.
    pub manifest: Manifest,
    /// Its parts, in their order.
    pub items: Vec<Item>,
    home: PathBuf,
}

/// A part and where it goes.
#[derive(Debug, Clone)]
pub struct Item {
    /// The part.
    pub part: Part,
    /// Where it goes.
    pub target: Target,
    /// Whether something is there.
    pub replaces: bool,
}

/// Where a part goes.
#[derive(Debug, Clone)]
pub enum Target {
    /// A SQLite file.
    Sqlite(PathBuf),
    /// A database on a server.
    Postgres(Address),
    /// A folder that becomes as the backup has it.
    Folder(PathBuf),
    /// A place in a bucket, to which files are added.
    Bucket(Location),
    /// Files of their own in a folder.
    Files(PathBuf),
}

impl Target {
    /// Its name for people, without passwords.
    pub fn name(&self) -> String {
        match self {
            Self::Sqlite(path) | Self::Folder(path) | Self::Files(path) => path.display().to_string(),
            Self::Postgres(address) => address.to_string(),
            Self::Bucket(location) => location.to_string(),
        }
    }
}

/// Chooses a backup and says what would be done with it.
///
/// # Errors
/// [`Error::NoBackup`], [`Error::NotInBackup`], [`Error::OtherEngine`], and whatever places answer.
pub async fn plan(repository: &Repository, places: &Places, what: What, choice: &Choice) -> Result<Plan> {
    let manifest = choose(repository, what, choice).await?;
    let mut items = Vec::new();
    for part in manifest.parts.iter().filter(|part| what.parts().contains(&part.name)) {
        let target = target(places, part)?;
        let replaces = is_there(&target, part.name).await?;
        items.push(Item { part: part.clone(), target, replaces });
    }
    if items.is_empty() {
        return Err(Error::NotInBackup { id: manifest.id, what: what.to_string() });
    }
    Ok(Plan { manifest, items, home: places.home.clone() })
}

/// Carries a plan out. `force`: what is there may be replaced.
///
/// # Errors
/// [`Error::WouldReplace`] without `force`, [`Error::DatabaseInUse`], [`Error::Damaged`], [`Error::Differs`]: then nothing
/// was replaced.
pub async fn restore(
    repository: &Repository,
    places: &Places,
    plan: &Plan,
    force: bool,
    progress: &Progress,
) -> Result<()> {
    let there: Vec<String> = plan.items.iter().filter(|item| item.replaces).map(|item| item.target.name()).collect();
    if !there.is_empty() && !force {
        return Err(Error::WouldReplace { targets: there.join(", ") });
    }
    let _alone = swap::lock(&plan.home)?;
    let mut staged = Vec::new();
    for item in &plan.items {
        progress.doing(item.part.name.name());
        match stage::stage(repository, plan, item, progress).await {
            Ok(one) => staged.push((item, one)),
            Err(error) => {
                for (_, one) in &staged {
                    stage::discard(one).await;
                }
                return Err(error);
            }
        }
    }
    progress.doing("exchange");
    swap::exchange(places, staged).await?;
    info!(id = %plan.manifest.id, "restored");
    Ok(())
}

async fn choose(repository: &Repository, what: What, choice: &Choice) -> Result<Manifest> {
    if let Choice::Id(id) = choice {
        return repository.manifest(id).await;
    }
    let good = repository.good().await?.into_iter();
    let mut fitting = good.filter(|manifest| covers(manifest.what, what)).filter(|manifest| match choice {
        Choice::At(at) => manifest.began_at <= *at,
        Choice::After(at) => manifest.began_at >= *at,
        Choice::Newest | Choice::Id(_) => true,
    });
    let wanted = match choice {
        Choice::At(at) => format!("of {what} that was verified and begun by {at}"),
        Choice::After(at) => format!("of {what} that was verified and begun at {at} or later"),
        Choice::Newest | Choice::Id(_) => format!("of {what} that was verified"),
    };
    // The newest come first.
    let chosen = match choice {
        Choice::After(_) => fitting.next_back(),
        Choice::At(_) | Choice::Newest | Choice::Id(_) => fitting.next(),
    };
    chosen.ok_or_else(|| Error::NoBackup { wanted, place: repository.place() })
}

fn covers(made: What, wanted: What) -> bool {
    wanted.parts().iter().all(|part| made.parts().contains(part))
}

fn target(places: &Places, part: &Part) -> Result<Target> {
    match part.kind {
        PartKind::Sqlite => match places.database(part.name) {
            Some(Address::Sqlite(path)) => Ok(Target::Sqlite(path.clone())),
            Some(other) => Err(other_engine(part.name, "SQLite", other)),
            None => Err(Error::SharedDatabase { part: part.name.name() }),
        },
        PartKind::Postgres => match places.database(part.name) {
            Some(address @ Address::Postgres(_)) => Ok(Target::Postgres(address.clone())),
            Some(other) => Err(other_engine(part.name, "PostgreSQL", other)),
            None => Err(Error::SharedDatabase { part: part.name.name() }),
        },
        PartKind::Files if part.name == PartName::Keys => Ok(Target::Files(places.home.clone())),
        PartKind::Files | PartKind::Delta => match places.files(part.name)? {
            Some(Location::Local(path)) => Ok(Target::Folder(path)),
            Some(location) => Ok(Target::Bucket(location)),
            None => Err(Error::SharedDatabase { part: part.name.name() }),
        },
    }
}

fn other_engine(part: PartName, from: &'static str, to: &Address) -> Error {
    Error::OtherEngine { part: part.name(), from, to: to.clone() }
}

async fn is_there(target: &Target, part: PartName) -> Result<bool> {
    match target {
        Target::Sqlite(path) => Ok(path.exists()),
        Target::Postgres(address) => server::has_tables(address).await,
        Target::Folder(path) => Ok(std::fs::read_dir(path).is_ok_and(|mut entries| entries.any(|entry| entry.is_ok()))),
        Target::Files(folder) => Ok(KEY_FILES.iter().any(|name| folder.join(name).exists())),
        Target::Bucket(location) => {
            let store = object_store::open(location).await?;
            // Files of artifacts and pictures are added, and only rows make them visible.
            let is_table = crate::source::delta::table(part).is_some();
            // Some servers go on to list folders from which everything was removed.
            Ok(is_table && store.list("").try_next().await?.is_some())
        }
    }
}
