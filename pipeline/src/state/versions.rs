//! The versions of a DAG: texts that runs have had, or that a server has read.

use std::fmt;

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

impl Version {
    /// The version that a person names: `current`, `previous`, or the beginning of its SHA-256.
    pub fn named(text: &str) -> Self {
        match text {
            "current" => Self::Current,
            "previous" => Self::Previous,
            start => Self::Sha256(start.to_ascii_lowercase()),
        }
    }
}

/// As [`Version::named`] reads it.
impl fmt::Display for Version {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Current => "current",
            Self::Previous => "previous",
            Self::Sha256(start) => start,
        })
    }
}

impl Store {
    /// The versions of a DAG, the newest first.
    ///
    /// # Errors
    /// [`Error::DagNotFound`], and those of the database.
    pub async fn dag_versions(&self, dag: &str) -> Result<Vec<DagVersionRecord>> {
        self.dag_versions_before(dag, u32::MAX, None).await
    }

    /// At most so many versions of a DAG, the newest first: all, or those that were seen before another version.
    ///
    /// # Errors
    /// [`Error::DagNotFound`], and those of the database.
    pub async fn dag_versions_before(
        &self,
        dag: &str,
        most: u32,
        before: Option<DagVersionId>,
    ) -> Result<Vec<DagVersionRecord>> {
        // A page may be empty although there is such a DAG.
        self.dag_record(dag).await?;
        type Row = (String, String, i64, i64, Option<i64>, i64);
        let rows: Vec<Row> = sqlx::query_as(
            "SELECT version.id, version.sha256, version.created_at, COALESCE(used.runs, 0), used.last,
                    CAST(CASE WHEN version.id = dag.dag_version_id THEN 1 ELSE 0 END AS BIGINT)
             FROM dag_version version
             JOIN dag ON dag.name = version.dag
             LEFT JOIN (SELECT dag_version_id, COUNT(*) AS runs, MAX(created_at) AS last
                        FROM run WHERE dag = $1 GROUP BY dag_version_id) used ON used.dag_version_id = version.id
             WHERE version.dag = $1
               AND ($2 = '' OR (version.created_at, version.id) < (SELECT created_at, id FROM dag_version WHERE id = $2))
             ORDER BY version.created_at DESC, version.id DESC LIMIT $3",
        )
        .bind(dag)
        .bind(before.map(|before| before.to_string()).unwrap_or_default())
        .bind(i64::from(most))
        .fetch_all(self.pool())
        .await
        .map_err(|error| Error::database(DOING, error))?;
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
