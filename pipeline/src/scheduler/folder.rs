//! The folder of DAG files of a server: what is new or changed there becomes the version of new runs.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::time::SystemTime;

use crate::clock::Timestamp;
use crate::dag::Dag;
use crate::error::{Error, Result};
use crate::job::JobRegistry;
use crate::state::Store;

/// A folder of DAG files, read again when they change.
#[derive(Debug)]
pub struct DagFolder {
    path: PathBuf,
    known: BTreeMap<PathBuf, Known>,
}

#[derive(Debug)]
struct Known {
    changed_at: Option<SystemTime>,
    bytes: u64,
    /// Name of the DAG; none for a file with mistakes.
    dag: Option<String>,
}

/// What came of looking at the folder.
#[derive(Debug, Default)]
pub struct Loaded {
    /// Names of DAGs that are new or have changed.
    pub registered: Vec<String>,
    /// Names of DAGs whose file is gone.
    pub removed: Vec<String>,
    /// What is wrong with files that are new or have changed. The version before stays in use.
    pub mistakes: Vec<Error>,
}

impl DagFolder {
    /// A folder that was not looked at yet.
    pub fn new(path: impl Into<PathBuf>) -> Self {
        Self { path: path.into(), known: BTreeMap::new() }
    }

    /// Looks for files `*.yaml` and `*.yml` that are new, changed or gone, and tells the store.
    ///
    /// # Errors
    /// When the folder cannot be read, or the database fails.
    pub async fn load(&mut self, store: &Store, registry: &JobRegistry, now: Timestamp) -> Result<Loaded> {
        let mut loaded = Loaded::default();
        let files = files_in(&self.path)?;
        let gone: Vec<PathBuf> = self.known.keys().filter(|file| !files.contains_key(*file)).cloned().collect();
        for file in gone {
            if let Some(Known { dag: Some(name), .. }) = self.known.remove(&file)
                && !self.known.values().any(|known| known.dag.as_ref() == Some(&name))
            {
                store.unregister(&name).await?;
                loaded.removed.push(name);
            }
        }
        for (file, (changed_at, bytes)) in files {
            let known = self.known.get(&file);
            if known.is_some_and(|known| known.changed_at == changed_at && known.bytes == bytes) {
                continue;
            }
            let before = known.and_then(|known| known.dag.clone());
            let dag = match self.read(&file, registry) {
                Ok(dag) => {
                    store.register(&dag, now).await?;
                    loaded.registered.push(dag.name.clone());
                    Some(dag.name)
                }
                Err(error) => {
                    loaded.mistakes.push(error);
                    before
                }
            };
            self.known.insert(file, Known { changed_at, bytes, dag });
        }
        Ok(loaded)
    }

    /// Reads a file and checks it as far as this program can.
    fn read(&self, file: &Path, registry: &JobRegistry) -> Result<Dag> {
        let dag = Dag::load(file)?;
        registry.check(&dag, None)?;
        let other = self.known.iter().find(|(path, known)| *path != file && known.dag.as_ref() == Some(&dag.name));
        match other {
            Some((first, _)) => {
                Err(Error::DuplicateDag { name: dag.name, first: first.clone(), second: file.to_owned() })
            }
            None => Ok(dag),
        }
    }
}

/// The DAG of this name in a folder of DAG files. Files with mistakes are passed over.
///
/// # Errors
/// When the folder cannot be read.
pub(crate) fn find_dag(folder: &Path, name: &str) -> Result<Option<Dag>> {
    let dags = files_in(folder)?.into_keys().filter_map(|file| Dag::load(&file).ok());
    Ok(dags.into_iter().find(|dag| dag.name == name))
}

type Stamp = (Option<SystemTime>, u64);

fn files_in(folder: &Path) -> Result<BTreeMap<PathBuf, Stamp>> {
    let failed = |source| Error::home(folder.to_owned(), source);
    let mut files = BTreeMap::new();
    for entry in std::fs::read_dir(folder).map_err(failed)? {
        let path = entry.map_err(failed)?.path();
        let is_dag = path.extension().is_some_and(|extension| extension == "yaml" || extension == "yml");
        // A file that goes away meanwhile is gone.
        let Some(metadata) = is_dag.then(|| std::fs::metadata(&path).ok()).flatten() else { continue };
        if metadata.is_file() {
            files.insert(path, (metadata.modified().ok(), metadata.len()));
        }
    }
    Ok(files)
}
