//! Restores the newest backup into a scratch place and looks at it.

use std::path::Path;
use std::time::{Duration, Instant};

use lake::{Lake, OutputFormat};
use platform::database::Address;
use serde::Serialize;
use tracing::warn;

use crate::Result;
use crate::id::BackupId;
use crate::manifest::{PartKind, PartName, What};
use crate::places::Places;
use crate::progress::Progress;
use crate::repository::Repository;
use crate::restore::{self, Choice, Plan, Target};
use crate::source::postgres::{database_name, with_database};

/// What a drill found.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Drill {
    /// The backup.
    pub id: BackupId,
    /// How old it was, in seconds.
    pub age_seconds: i64,
    /// How long the restoration took, in seconds.
    pub restore_seconds: f64,
    /// Bytes that were restored.
    pub bytes: u64,
    /// Files that were restored.
    pub files: u64,
    /// Rows of databases, each table counted and compared with the backup.
    pub rows: u64,
    /// Rows of the tables by the query that was run on them; none if the backup has no tables.
    pub query: Option<String>,
}

/// The question that a drill asks the restored tables.
const QUERY: &str = "select 'media' as name, count(*) as n from media \
    union all select 'detections', count(*) from detections order by name";

/// A restored backup that nobody uses.
#[derive(Debug)]
pub struct Scratch {
    /// Where its things are.
    pub places: Places,
    plan: Plan,
    took: Duration,
}

/// Restores the newest verified backup of `what` into `folder`, which is empty, and databases of servers into databases of
/// their own; everything is compared with the manifest. The folder is the caller's.
///
/// # Errors
/// Whatever shows that the backup cannot be relied on.
pub async fn begin(
    repository: &Repository,
    places: &Places,
    what: What,
    folder: &Path,
    progress: &Progress,
) -> Result<Scratch> {
    let places = scratch(places, folder);
    let began = Instant::now();
    let plan = restore::plan(repository, &places, what, &Choice::Newest).await?;
    if let Err(error) = restore::restore(repository, &places, &plan, false, progress).await {
        remove_databases(&plan).await;
        return Err(error);
    }
    Ok(Scratch { places, plan, took: began.elapsed() })
}

impl Scratch {
    /// Asks the tables a question, and says what was restored.
    ///
    /// # Errors
    /// The tables do not answer.
    pub async fn look(&self) -> Result<Drill> {
        look(&self.places, &self.plan, self.took).await
    }

    /// Whether the backup has this part.
    pub fn has(&self, part: PartName) -> bool {
        self.plan.manifest.part(part).is_some()
    }

    /// Removes the databases that were made on servers.
    pub async fn remove(self) {
        remove_databases(&self.plan).await;
    }
}

/// Places of which nothing is there yet.
fn scratch(places: &Places, folder: &Path) -> Places {
    let mut scratch = Places::in_folder(folder);
    for (part, address) in &mut scratch.databases {
        if let Some(Address::Postgres(url)) = places.database(*part) {
            let random = uuid::Uuid::new_v4().simple().to_string();
            *address = Address::Postgres(with_database(url, &format!("safari_drill_{}_{part}", &random[..8])));
        }
    }
    scratch
}

async fn look(scratch: &Places, plan: &Plan, took: Duration) -> Result<Drill> {
    let parts = plan.items.iter().map(|item| &item.part);
    let has_tables = plan.items.iter().any(|item| item.part.kind == PartKind::Delta);
    let query = if has_tables { Some(ask(&scratch.lake).await?) } else { None };
    Ok(Drill {
        id: plan.manifest.id.clone(),
        age_seconds: (chrono::Utc::now() - plan.manifest.began_at).num_seconds(),
        restore_seconds: took.as_secs_f64(),
        bytes: parts.clone().map(|part| part.bytes).sum(),
        files: parts.clone().map(|part| part.files).sum(),
        rows: parts.flat_map(|part| part.rows.values()).sum(),
        query,
    })
}

async fn ask(lake: &str) -> Result<String> {
    let lake = Lake::open(lake).await?;
    let rows = lake.sql(QUERY).await?;
    let mut answer = Vec::new();
    lake::format::write(rows, OutputFormat::Csv, &mut answer).await?;
    Ok(String::from_utf8_lossy(&answer).trim().lines().skip(1).collect::<Vec<_>>().join(" "))
}

async fn remove_databases(plan: &Plan) {
    for item in &plan.items {
        let Target::Postgres(Address::Postgres(url)) = &item.target else { continue };
        if let Err(error) = restore::drop_database(url, &database_name(url)).await {
            warn!(%error, part = %item.part.name, "the database of a drill is still there");
        }
    }
}
