//! Detections and evaluations of models as tables: Delta tables, SQL over them, and exports.
//!
//! A [`Lake`] is a folder or an `s3://bucket/prefix` that holds Delta tables: `media` (one row a file), `detections` (one
//! row a box) and `evaluation` (how well a model named labelled sequences). Each is created when something is first written. An append names an application
//! [`Transaction`]; whatever number of attempts, threads or machines append under the same name, their rows are in the
//! table once. Everything is readable with any Delta reader while it is being written.
//!
//! # Writing
//! ```no_run
//! use lake::{Appended, DetectionRow, Lake, MediaRow, Transaction};
//!
//! # async fn example(media: Vec<MediaRow>, detections: Vec<DetectionRow>) -> lake::Result<()> {
//! let lake = Lake::open("safari-home/lake").await?;
//! let txn = Transaction::new("018f3c1e-run/infer/3", 1);
//! // Detections first: a medium is known as processed only when its boxes are in.
//! lake.append_detections(&detections, &txn).await?;
//! match lake.append_media(&media, &txn).await? {
//!     Appended::Committed { version, rows } => println!("{rows} media in version {version}"),
//!     Appended::AlreadyThere => println!("an earlier attempt wrote them"),
//! }
//! # Ok(()) }
//! ```
//!
//! # Reading
//! ```no_run
//! use lake::{Lake, OutputFormat};
//!
//! # async fn example() -> lake::Result<()> {
//! let lake = Lake::open("s3://wildlife/lake").await?;
//! let rows = lake.sql("select species, count(*) as seen from observations group by species").await?;
//! lake::format::write(rows, OutputFormat::Table, &mut std::io::stdout()).await?;
//! # Ok(()) }
//! ```

mod append;
mod columns;
mod error;
pub mod evaluation;
pub mod export;
pub mod format;
mod known;
mod query;
pub mod read;
pub mod rows;
pub mod schema;
mod storage;
mod table;

#[cfg(test)]
mod tests;

use std::collections::HashMap;
use std::sync::Arc;

use arrow::record_batch::RecordBatch;
use platform::object_store::AwsAccess;

pub use append::{Appended, Transaction};
pub use datafusion::prelude::SessionContext;
pub use error::{Error, Result, UnknownWord};
pub use evaluation::{EvaluationRow, Role};
pub use format::OutputFormat;
pub use known::{KnownMedia, KnownMedium, Processed};
pub use query::QueryRows;
pub use rows::{Candidate, Category, DetectionRow, MediaRow, MediaType, Rank};
pub use schema::Table;
pub use table::{Optimized, TableFiles};

use table::DeltaHandle;

/// The tables of one place; cheap to clone, safe to share between tasks.
#[derive(Clone)]
pub struct Lake {
    location: Arc<str>,
    media: Arc<DeltaHandle>,
    detections: Arc<DeltaHandle>,
    evaluation: Arc<DeltaHandle>,
}

impl Lake {
    /// Opens the lake at `url`: a folder (made if missing), `file:///folder` or `s3://bucket/prefix`, and writes nothing.
    ///
    /// For a bucket, credentials, region and endpoint are those of [`platform::object_store::aws_credentials`].
    ///
    /// # Errors
    /// [`Error::Place`] for another kind of URL, or when the folder or bucket cannot be entered.
    pub async fn open(url: &str) -> Result<Self> {
        Ok(Self::from_storage(storage::open(url, None).await?))
    }

    /// As [`Lake::open`], with credentials, region and endpoint given.
    ///
    /// # Errors
    /// As [`Lake::open`].
    pub async fn open_with(url: &str, access: &AwsAccess) -> Result<Self> {
        Ok(Self::from_storage(storage::open(url, Some(access)).await?))
    }

    pub(crate) fn from_storage(storage: storage::Storage) -> Self {
        Self {
            location: storage.location().into(),
            media: Arc::new(DeltaHandle::new(Table::Media, &storage)),
            detections: Arc::new(DeltaHandle::new(Table::Detections, &storage)),
            evaluation: Arc::new(DeltaHandle::new(Table::Evaluation, &storage)),
        }
    }

    /// Where the lake is, as an absolute URL without a trailing slash.
    pub fn location(&self) -> &str {
        &self.location
    }

    /// The URL of one table's folder, for other Delta readers.
    pub fn table_location(&self, table: Table) -> String {
        self.handle(table).location().to_owned()
    }

    /// Appends `batches` in one commit under the name `txn`, and creates the table if it does not exist.
    ///
    /// When `txn.app_id` has already committed `txn.version` or a later one to this table, nothing is written and the
    /// answer is [`Appended::AlreadyThere`]. No rows still make a commit, so that a later attempt finds the name taken.
    ///
    /// # Errors
    /// [`Error::Schema`] for batches (or a table on disk) of another shape, [`Error::Full`] when the place is full,
    /// [`Error::Busy`] when other writers kept winning, [`Error::Storage`] and [`Error::Delta`] otherwise. After an
    /// error the rows are not visible, or are visible whole; the same call may be repeated.
    pub async fn append(&self, table: Table, batches: Vec<RecordBatch>, txn: &Transaction) -> Result<Appended> {
        append::append(self.handle(table), batches, txn).await
    }

    /// [`Lake::append`] for rows of `media`.
    ///
    /// # Errors
    /// As [`Lake::append`].
    pub async fn append_media(&self, rows: &[MediaRow], txn: &Transaction) -> Result<Appended> {
        self.append(Table::Media, vec![rows::media_batch(rows)?], txn).await
    }

    /// [`Lake::append`] for rows of `detections`.
    ///
    /// # Errors
    /// As [`Lake::append`].
    pub async fn append_detections(&self, rows: &[DetectionRow], txn: &Transaction) -> Result<Appended> {
        self.append(Table::Detections, vec![rows::detections_batch(rows)?], txn).await
    }

    /// [`Lake::append`] for rows of `evaluation`.
    ///
    /// # Errors
    /// As [`Lake::append`].
    pub async fn append_evaluation(&self, rows: &[EvaluationRow], txn: &Transaction) -> Result<Appended> {
        self.append(Table::Evaluation, vec![evaluation::evaluation_batch(rows)?], txn).await
    }

    /// The newest version of a table; `None` if it was never written.
    ///
    /// # Errors
    /// [`Error::Storage`] and [`Error::Delta`] when the table cannot be read.
    pub async fn version(&self, table: Table) -> Result<Option<u64>> {
        Ok(self.handle(table).newest().await?.and_then(|newest| newest.version()))
    }

    /// The files of a table's newest version, for backups; `None` if it was never written.
    ///
    /// # Errors
    /// As [`Lake::version`].
    pub async fn files(&self, table: Table) -> Result<Option<TableFiles>> {
        self.handle(table).files().await
    }

    /// A DataFusion session over the newest versions: the tables `media`, `detections` and `evaluation` (empty if never
    /// written) and the view `observations`, one row for every box of category `animal` from the newest processing of each file.
    ///
    /// # Errors
    /// [`Error::Storage`] and [`Error::Delta`] when the tables cannot be read.
    pub async fn session(&self) -> Result<SessionContext> {
        query::session(self).await
    }

    /// Runs one reading statement (`select`, `with`, `show`, `describe`, `explain`) and streams its rows.
    ///
    /// # Errors
    /// [`Error::Sql`], in words and with the nearest table or column name, for a query that cannot run or that would
    /// change something; otherwise as [`Lake::session`].
    pub async fn sql(&self, query: &str) -> Result<QueryRows> {
        query::sql(self, query).await
    }

    /// As [`Lake::sql`], with further views, a name and a reading statement each, that the query may name. A view with the
    /// name of a table takes its place.
    ///
    /// # Errors
    /// As [`Lake::sql`].
    pub async fn sql_with_views(&self, query: &str, views: &[(&str, &str)]) -> Result<QueryRows> {
        query::sql_with_views(self, query, views).await
    }

    /// What is already known of each file that the model `model_version` has processed, by uri (newest processing).
    ///
    /// # Errors
    /// As [`Lake::session`].
    pub async fn known_media(&self, model_version: &str) -> Result<KnownMedia> {
        known::known_media(self, model_version).await
    }

    /// The newest processing by `model_version` of each of the files `uris`, with its boxes; absent if there is none.
    ///
    /// # Errors
    /// As [`Lake::session`].
    pub async fn processed(&self, model_version: &str, uris: &[String]) -> Result<HashMap<String, Processed>> {
        known::processed(self, model_version, uris).await
    }

    /// Rewrites the small files that many appends leave into larger ones; no row changes, readers and writers go on.
    ///
    /// # Errors
    /// As [`Lake::append`].
    pub async fn optimize(&self) -> Result<Vec<Optimized>> {
        let mut done = Vec::new();
        for table in Table::ALL {
            if let Some(optimized) = self.handle(table).optimize().await? {
                done.push(optimized);
            }
        }
        Ok(done)
    }

    pub(crate) fn handle(&self, table: Table) -> &DeltaHandle {
        match table {
            Table::Media => &self.media,
            Table::Detections => &self.detections,
            Table::Evaluation => &self.evaluation,
        }
    }
}

impl std::fmt::Debug for Lake {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Lake({})", self.location)
    }
}
