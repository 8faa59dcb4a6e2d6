//! An installation with something in it.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use backup::restore::{self, Choice};
use backup::{Keys, PartName, Places, Progress, Repository, What};
use lake::{Category, Lake, MediaRow, MediaType, Table, Transaction};
use platform::database::open_sqlite;
use platform::object_store::{Location, ObjectStore, open};
use tempfile::TempDir;

pub const LEASE: Duration = Duration::from_millis(800);

/// Databases, files and tables below a folder, and a place for backups beside them.
pub struct House {
    pub folder: TempDir,
    pub places: Places,
}

impl House {
    /// One with runs, registered models and media.
    pub async fn new() -> Self {
        let house = Self::empty();
        house.add_runs(0..500).await;
        house.add_models(0..20).await;
        house.append("first", 30).await;
        std::fs::write(house.home().join("registry.key"), "a key that seals").unwrap();
        house
    }

    /// One in which nothing exists.
    pub fn empty() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let places = Places::in_folder(&folder.path().join("home"));
        Self { folder, places }
    }

    pub fn home(&self) -> PathBuf {
        self.folder.path().join("home")
    }

    pub fn backups(&self) -> PathBuf {
        self.folder.path().join("backups")
    }

    /// The place of backups, with these keys.
    pub async fn repository(&self, keys: Keys) -> Repository {
        let store = open(&Location::Local(self.backups())).await.unwrap();
        Repository::new(store, keys, LEASE)
    }

    pub async fn plain(&self) -> Repository {
        self.repository(Keys::new(&[], None).unwrap()).await
    }

    /// Rows of the state.
    pub async fn add_runs(&self, numbers: std::ops::Range<i64>) {
        let database = open_sqlite(&self.home().join("state.db")).await.unwrap();
        let pool = database.pool();
        for sql in ["CREATE TABLE IF NOT EXISTS run (id INTEGER PRIMARY KEY, text TEXT)"] {
            sqlx::query(sql).execute(pool).await.unwrap();
        }
        for number in numbers {
            let insert = sqlx::query("INSERT INTO run VALUES ($1, $2)").bind(number).bind("x".repeat(500));
            insert.execute(pool).await.unwrap();
        }
        pool.close().await;
    }

    /// Files of the registry, then the rows that name them.
    pub async fn add_models(&self, numbers: std::ops::Range<i64>) {
        let database = open_sqlite(&self.home().join("registry.db")).await.unwrap();
        let sql = "CREATE TABLE IF NOT EXISTS version (id INTEGER PRIMARY KEY, file TEXT)";
        sqlx::query(sql).execute(database.pool()).await.unwrap();
        let files = self.artifacts().await;
        for number in numbers {
            let file = format!("{}/model {number}/weights.pt", number % 3);
            let bytes = content(number, 3_000 + 700_000 * usize::from(number % 7 == 0));
            files.put(&file, bytes.into()).await.unwrap();
            let insert = sqlx::query("INSERT INTO version VALUES ($1, $2)").bind(number).bind(file);
            insert.execute(database.pool()).await.unwrap();
        }
        database.pool().close().await;
    }

    pub async fn artifacts(&self) -> Arc<dyn ObjectStore> {
        open(&self.places.artifacts).await.unwrap()
    }

    /// One commit to the table of media.
    pub async fn append(&self, name: &str, rows: usize) {
        let lake = Lake::open(&self.places.lake).await.unwrap();
        let rows: Vec<MediaRow> = (0..rows).map(|number| medium(name, number)).collect();
        lake.append_media(&rows, &Transaction::new(name, 1)).await.unwrap();
    }

    /// What is there: each database's rows, each file's content, and the tables' versions and rows.
    pub async fn look(&self) -> BTreeMap<String, String> {
        look(&self.places).await
    }

    pub async fn back_up(&self, repository: &Repository, what: What) -> backup::Created {
        backup::create(repository, &self.places, what, &Progress::silent()).await.unwrap()
    }

    /// Restores into the house itself.
    pub async fn restore(&self, repository: &Repository, what: What, choice: Choice) -> backup::Result<()> {
        restore_to(repository, &self.places, what, choice).await
    }
}

pub async fn restore_to(repository: &Repository, places: &Places, what: What, choice: Choice) -> backup::Result<()> {
    let plan = restore::plan(repository, places, what, &choice).await?;
    restore::restore(repository, places, &plan, true, &Progress::silent()).await
}

pub async fn look(places: &Places) -> BTreeMap<String, String> {
    let mut found = BTreeMap::new();
    for (part, sql) in [
        (PartName::State, "SELECT CAST(COUNT(*) AS TEXT) || ' ' || CAST(COALESCE(SUM(id), 0) AS TEXT) FROM run"),
        (PartName::Registry, "SELECT CAST(COUNT(*) AS TEXT) || ' ' || COALESCE(MAX(file), '') FROM version"),
    ] {
        let path = places.home.join(format!("{part}.db"));
        if path.is_file() {
            let database = open_sqlite(&path).await.unwrap();
            let text: String = sqlx::query_scalar(sql).fetch_one(database.pool()).await.unwrap();
            database.pool().close().await;
            found.insert(part.to_string(), text);
        }
    }
    if let Location::Local(folder) = &places.artifacts {
        files(folder, folder, &mut found);
    }
    let lake = Lake::open(&places.lake).await.unwrap();
    for table in Table::ALL {
        let Some(version) = lake.version(table).await.unwrap() else { continue };
        let rows = lake.sql(&format!("select count(*) as n from {table}")).await.unwrap();
        let mut text = Vec::new();
        lake::format::write(rows, lake::OutputFormat::Csv, &mut text).await.unwrap();
        found.insert(table.to_string(), format!("{version} {}", String::from_utf8(text).unwrap().replace('\n', " ")));
    }
    found
}

fn files(root: &Path, folder: &Path, found: &mut BTreeMap<String, String>) {
    let Ok(entries) = std::fs::read_dir(folder) else { return };
    for entry in entries.flatten() {
        let path = entry.path();
        if path.is_dir() {
            files(root, &path, found);
            continue;
        }
        let bytes = std::fs::read(&path).unwrap();
        let name = path.strip_prefix(root).unwrap().to_string_lossy().into_owned();
        let sum = bytes.iter().fold(0_u64, |sum, byte| sum.wrapping_mul(31).wrapping_add(u64::from(*byte)));
        found.insert(name, format!("{} {sum}", bytes.len()));
    }
}

/// Bytes that do not get smaller, the same for the same number.
pub fn content(number: i64, size: usize) -> Vec<u8> {
    let mut state = (number as u64).wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1;
    let mut bytes = Vec::with_capacity(size);
    while bytes.len() < size {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        bytes.push(state as u8);
    }
    bytes
}

fn medium(name: &str, number: usize) -> MediaRow {
    let now = chrono::Utc::now();
    MediaRow {
        media_id: format!("{name}-{number}"),
        uri: format!("/media/{name}/{number}.jpg"),
        sha256: None,
        size_bytes: 1,
        version: "1".to_owned(),
        media_type: MediaType::Jpeg,
        captured_at: Some(now),
        captured_offset_minutes: None,
        clock_wrong: false,
        deployment: "waterhole".to_owned(),
        camera: None,
        width: Some(1),
        height: Some(1),
        frames: Some(1),
        duration_s: None,
        frame_rate: None,
        burst_id: None,
        category: Some(Category::Animal),
        failure: None,
        model_version: "m".to_owned(),
        run_id: name.to_owned(),
        task: "infer/0".to_owned(),
        processed_at: now,
    }
}

/// Every object of a place of backups below `folder`, sorted.
pub fn stored(house: &House, folder: &str) -> Vec<PathBuf> {
    let mut found = BTreeMap::new();
    let root = house.backups();
    files(&root, &root.join(folder), &mut found);
    found.into_keys().map(|name| root.join(name)).collect()
}
