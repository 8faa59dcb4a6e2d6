//! One Delta table: creating it, following its newest version, compacting it.

use std::sync::Arc;

use arrow::datatypes::SchemaRef;
use deltalake_core::kernel::StructType;
use deltalake_core::kernel::engine::arrow_conversion::TryIntoKernel as _;
use deltalake_core::kernel::transaction::CommitProperties;
use deltalake_core::logstore::LogStoreRef;
use deltalake_core::parquet::basic::{Compression, ZstdLevel};
use deltalake_core::parquet::file::properties::WriterProperties;
use deltalake_core::{DeltaTable, DeltaTableError, TableProperty};
use tokio::sync::{Mutex, MutexGuard};

use crate::error::{Error, Result, from_delta};
use crate::schema::Table;
use crate::storage::Storage;

/// A checkpoint every so many commits: readers then parse at most that many small JSON files.
pub(crate) const CHECKPOINT_INTERVAL: u64 = 50;

/// What compaction did to one table.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Optimized {
    /// Which table.
    pub table: Table,
    /// Small files that readers no longer need.
    pub files_removed: u64,
    /// Larger files that replace them.
    pub files_added: u64,
}

/// The files that one version of a table consists of.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TableFiles {
    /// The version.
    pub version: u64,
    /// Its data files, relative to the table's folder. Its log is `_delta_log/` up to the version.
    pub data: Vec<String>,
}

/// A table and the newest version of it that this process has seen.
pub(crate) struct DeltaHandle {
    table: Table,
    location: String,
    log_store: LogStoreRef,
    state: Mutex<Option<DeltaTable>>,
}

impl DeltaHandle {
    pub(crate) fn new(table: Table, storage: &Storage) -> Self {
        let log_store = storage.log_store(table.name());
        let location = log_store.root_url().as_str().trim_end_matches('/').to_owned();
        Self { table, location, log_store, state: Mutex::new(None) }
    }

    pub(crate) fn table(&self) -> Table {
        self.table
    }

    pub(crate) fn location(&self) -> &str {
        &self.location
    }

    pub(crate) async fn lock(&self) -> MutexGuard<'_, Option<DeltaTable>> {
        self.state.lock().await
    }

    /// The newest version; `None` when the table has never been written.
    pub(crate) async fn newest(&self) -> Result<Option<DeltaTable>> {
        let mut state = self.lock().await;
        self.refresh(&mut state).await?;
        Ok(state.clone())
    }

    /// The newest version, after creating the table if there is none.
    pub(crate) async fn refresh_or_create(&self, state: &mut Option<DeltaTable>) -> Result<DeltaTable> {
        self.refresh(state).await?;
        if let Some(table) = state {
            return Ok(table.clone());
        }
        let created = self.create().await;
        // Whoever lost the race to create it finds the winner's table here.
        self.refresh(state).await?;
        match (state, created) {
            (Some(table), _) => Ok(table.clone()),
            (None, Err(error)) => Err(self.error(error)),
            (None, Ok(_)) => Err(self.error(DeltaTableError::NotInitialized)),
        }
    }

    /// What the newest version is made of; `None` when the table has never been written.
    pub(crate) async fn files(&self) -> Result<Option<TableFiles>> {
        let Some(table) = self.newest().await? else { return Ok(None) };
        let Some(version) = table.version() else { return Ok(None) };
        let paths = table.get_files_by_partitions(&[]).await.map_err(|error| self.error(error))?;
        Ok(Some(TableFiles { version, data: paths.into_iter().map(String::from).collect() }))
    }

    /// Compacts small files; `None` when the table has never been written.
    pub(crate) async fn optimize(&self) -> Result<Option<Optimized>> {
        let mut state = self.lock().await;
        self.refresh(&mut state).await?;
        let Some(current) = state.clone() else {
            return Ok(None);
        };
        let (compacted, metrics) =
            current.optimize().with_writer_properties(writer_properties()).await.map_err(|error| self.error(error))?;
        *state = Some(compacted);
        Ok(Some(Optimized {
            table: self.table,
            files_removed: metrics.num_files_removed,
            files_added: metrics.num_files_added,
        }))
    }

    async fn refresh(&self, state: &mut Option<DeltaTable>) -> Result<()> {
        if let Some(table) = state
            && table.update_incremental(None).await.is_ok()
        {
            return Ok(());
        }
        // First use, or the folder was replaced under us: read it from the start.
        *state = None;
        // Loading a table whose folder does not exist is an error of its own kind, so ask first.
        if !self.log_store.is_delta_table_location().await.map_err(|error| self.error(error))? {
            return Ok(());
        }
        let mut table = DeltaTable::new(self.log_store.clone());
        match table.load().await {
            Ok(()) => {}
            Err(DeltaTableError::NotATable(_)) => return Ok(()),
            Err(error) => return Err(self.error(error)),
        }
        self.check_schema(&table)?;
        *state = Some(table);
        Ok(())
    }

    async fn create(&self) -> std::result::Result<DeltaTable, DeltaTableError> {
        let columns = kernel_schema(&self.table.schema())?;
        DeltaTable::new(self.log_store.clone())
            .create()
            .with_table_name(self.table.name())
            .with_comment(self.table.description())
            .with_columns(columns.fields().cloned())
            .with_partition_columns([self.table.partition_column()])
            .with_configuration_property(TableProperty::CheckpointInterval, Some(CHECKPOINT_INTERVAL.to_string()))
            .with_configuration_property(TableProperty::LogRetentionDuration, Some("interval 30 days"))
            // With a retry, the loser of a race would write its definition once more, as version 1.
            .with_commit_properties(CommitProperties::default().with_max_retries(0))
            .await
    }

    fn check_schema(&self, table: &DeltaTable) -> Result<()> {
        let expected = kernel_schema(&self.table.schema()).map_err(|error| self.error(error))?;
        let found = table.snapshot().map_err(|error| self.error(error))?.schema();
        let fail = |reason| Err(Error::Schema { table: self.table, reason });
        for field in expected.fields() {
            let name = field.name();
            match found.field(name) {
                None => return fail(format!("'{}' has no column {name}", self.location)),
                Some(other) if other.data_type() != field.data_type() => {
                    let (is, should) = (other.data_type(), field.data_type());
                    return fail(format!("column {name} of '{}' is {is} and not {should}", self.location));
                }
                Some(_) => {}
            }
        }
        Ok(())
    }

    fn error(&self, error: DeltaTableError) -> Error {
        from_delta(self.table, &self.location, error)
    }
}

/// How data files are written: zstd, which is a third smaller than snappy here and as fast to read.
pub(crate) fn writer_properties() -> WriterProperties {
    let level = ZstdLevel::try_new(3).unwrap_or_default();
    WriterProperties::builder()
        .set_compression(Compression::ZSTD(level))
        .set_created_by(concat!("safari lake ", env!("CARGO_PKG_VERSION")).to_owned())
        .build()
}

fn kernel_schema(schema: &SchemaRef) -> std::result::Result<StructType, DeltaTableError> {
    let schema: StructType = Arc::clone(schema).try_into_kernel()?;
    Ok(schema)
}
