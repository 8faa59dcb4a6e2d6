//! The versions of a DAG: texts that runs have had, or that a server has read.

use super::Store;
use super::writer::read_id;
use crate::clock::Timestamp;
use crate::error::{Error, Result};
use crate::ids::DagVersionId;

const DOING: &str = "looking at the versions of a DAG";

/// A version of a DAG.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DagVersionRecord {
    /// Its id.
    pub id: DagVersionId,
    /// SHA-256 of its text, in hexadecimal.
    pub sha256: String,
    /// When it was first seen.
    pub created_at: Timestamp,
    /// Runs that began with it.
    pub runs: u64,
    /// When the newest of these was made.
    pub last_run_at: Option<Timestamp>,
    /// Whether new runs have it.
    pub current: bool,
}

/// Which version of a DAG is meant.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Version {
    /// The one that new runs have.
    Current,
    /// The one that was seen last before the current one.
    Previous,
    /// The one whose SHA-256 begins like this.
    Sha256(String),
}

impl Store {
    /// The versions of a DAG, the newest first.
    ///
    /// # Errors
    /// [`Error::DagNotFound`], and those of the database.
    pub async fn dag_versions(&self, dag: &str) -> Result<Vec<DagVersionRecord>> {
        type Row = (String, String, i64, i64, Option<i64>, i64);
        let rows: Vec<Row> = sqlx::query_as(
            "SELECT version.id, version.sha256, version.created_at, COALESCE(used.runs, 0), used.last,
                    CAST(CASE WHEN version.id = dag.dag_version_id THEN 1 ELSE 0 END AS BIGINT)
             FROM dag_version version
             JOIN dag ON dag.name = version.dag
             LEFT JOIN (SELECT dag_version_id, COUNT(*) AS runs, MAX(created_at) AS last
                        FROM run WHERE dag = $1 GROUP BY dag_version_id) used ON used.dag_version_id = version.id
             WHERE version.dag = $1
             ORDER BY version.created_at DESC, version.id DESC",
        )
        .bind(dag)
        .fetch_all(self.pool())
        .await
        .map_err(|error| Error::database(DOING, error))?;
        if rows.is_empty() {
            return Err(Error::DagNotFound(dag.to_owned()));
        }
        let record = |(id, sha256, created_at, runs, last_run_at, current): Row| {
            Ok(DagVersionRecord {
                id: read_id(&id)?,
                sha256,
                created_at: Timestamp::from_millis(created_at),
                runs: u64::try_from(runs).unwrap_or(0),
                last_run_at: last_run_at.map(Timestamp::from_millis),
                current: current != 0,
            })
        };
        rows.into_iter().map(record).collect()
    }

    /// One version of a DAG and its text.
    ///
    /// # Errors
    /// [`Error::DagNotFound`], [`Error::DagVersionNotFound`] when there is none or more than one that is meant, and those
    /// of the database.
    pub async fn dag_version_text(&self, dag: &str, version: &Version) -> Result<(DagVersionRecord, String)> {
        let versions = self.dag_versions(dag).await?;
        let found: Vec<&DagVersionRecord> = match version {
            Version::Current => versions.iter().filter(|record| record.current).collect(),
            Version::Previous => versions.iter().skip_while(|record| !record.current).skip(1).take(1).collect(),
            Version::Sha256(start) => versions.iter().filter(|record| record.sha256.starts_with(start)).collect(),
        };
        let [record] = found.as_slice() else {
            let reason = match (version, found.len()) {
                (Version::Previous, _) => "there is none before the current one".to_owned(),
                (Version::Current, _) => "none is current".to_owned(),
                (Version::Sha256(start), 0) => format!("none begins with `{start}`"),
                (Version::Sha256(start), count) => format!("{count} begin with `{start}`; give more of it"),
            };
            return Err(Error::DagVersionNotFound { dag: dag.to_owned(), reason });
        };
        let (yaml,): (String,) = sqlx::query_as("SELECT yaml FROM dag_version WHERE id = $1")
            .bind(record.id.to_string())
            .fetch_one(self.pool())
            .await
            .map_err(|error| Error::database(DOING, error))?;
        Ok(((*record).clone(), yaml))
    }
}

impl DagVersionRecord {
    /// The beginning of its SHA-256, as people name it.
    pub fn short(&self) -> &str {
        self.sha256.get(..8).unwrap_or(&self.sha256)
    }
}
