//! Appending exactly once.
//!
//! The commit carries a Delta `txn` action with the caller's name. Before each try the newest snapshot is asked whether
//! the name is taken. When another writer commits in between, the log's put-if-absent refuses our commit, Delta's conflict
//! check reads every commit that came between, and it refuses to rebase ours over one with the same name
//! (`ConcurrentTransaction`); then we look again and find the name taken. So of any number of racing attempts one commits.

use std::time::Duration;

use arrow::record_batch::RecordBatch;
use chrono::Utc;
use deltalake_core::kernel::Transaction as DeltaTransaction;
use deltalake_core::kernel::transaction::{CommitConflictError, CommitProperties, TransactionError};
use deltalake_core::protocol::SaveMode;
use deltalake_core::{DeltaTable, DeltaTableError};

use crate::error::{Error, Result, from_delta};
use crate::schema::Table;
use crate::table::{CHECKPOINT_INTERVAL, DeltaHandle, writer_properties};

/// How often a commit is rebased over commits of other writers before the snapshot is read afresh.
const REBASES: usize = 50;
/// How often the snapshot is read afresh.
const TRIES: u32 = 8;

/// The name under which rows are appended: an application (here a task instance, the same for all its attempts) and a
/// version that only grows. The log keeps the highest version of each name.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Transaction {
    /// Who appends, for instance `<run>/<task>/<index>`.
    pub app_id: String,
    /// Which of its appends this is; 1 for a task that appends once.
    pub version: i64,
}

impl Transaction {
    /// Names a transaction.
    pub fn new(app_id: impl Into<String>, version: i64) -> Self {
        Self { app_id: app_id.into(), version }
    }
}

/// What came of an append.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Appended {
    /// This call's rows are in.
    Committed {
        /// The table's version that has them.
        version: u64,
        /// How many.
        rows: u64,
    },
    /// An earlier append under the same name is in, and this call wrote nothing.
    AlreadyThere,
}

/// See [`crate::Lake::append`].
pub(crate) async fn append(handle: &DeltaHandle, batches: Vec<RecordBatch>, txn: &Transaction) -> Result<Appended> {
    let table = handle.table();
    for batch in &batches {
        check_schema(table, batch)?;
    }
    let rows = batches.iter().map(|batch| batch.num_rows() as u64).sum();

    // One writer at a time in this process, so that conflicts come only from others.
    let mut state = handle.lock().await;
    for attempt in 0..TRIES {
        let current = handle.refresh_or_create(&mut state).await?;
        if committed_version(handle, &current, txn).await? >= Some(txn.version) {
            return Ok(Appended::AlreadyThere);
        }
        match write(current, table, &batches, txn).await {
            Ok(written) => {
                let version = written.version().unwrap_or_default();
                *state = Some(written);
                return Ok(Appended::Committed { version, rows });
            }
            Err(error) if is_conflict(&error) => {
                tracing::debug!(%table, attempt, %error, "append conflicts with another writer, looking again");
                tokio::time::sleep(backoff(attempt)).await;
            }
            Err(error) => return Err(from_delta(table, handle.location(), error)),
        }
    }
    Err(Error::Busy { table, tries: TRIES })
}

async fn write(
    current: DeltaTable,
    table: Table,
    batches: &[RecordBatch],
    txn: &Transaction,
) -> std::result::Result<DeltaTable, DeltaTableError> {
    let next_version = current.version().map_or(0, |version| version + 1);
    let name = DeltaTransaction::new_with_last_update(&txn.app_id, txn.version, Some(Utc::now().timestamp_millis()));
    let commit = CommitProperties::default()
        .with_application_transaction(name)
        .with_max_retries(REBASES)
        // Expired log files can only be dropped behind a checkpoint, and looking for them lists the whole log.
        .with_cleanup_expired_logs(Some((next_version + 1).is_multiple_of(CHECKPOINT_INTERVAL)));
    // A plan over no batch has no schema, an empty batch has one.
    let batches = match batches {
        [] => vec![RecordBatch::new_empty(table.schema())],
        batches => batches.to_vec(),
    };
    current
        .write(batches)
        .with_save_mode(SaveMode::Append)
        .with_writer_properties(writer_properties())
        .with_commit_properties(commit)
        .await
}

async fn committed_version(handle: &DeltaHandle, current: &DeltaTable, txn: &Transaction) -> Result<Option<i64>> {
    let map = |error| from_delta(handle.table(), handle.location(), error);
    let snapshot = current.snapshot().map_err(map)?;
    snapshot.transaction_version(&current.log_store(), &txn.app_id).await.map_err(map)
}

/// Whether looking at the newest version and trying again can help.
fn is_conflict(error: &DeltaTableError) -> bool {
    match error {
        DeltaTableError::VersionAlreadyExists(_) => true,
        DeltaTableError::Transaction { source } => match source {
            TransactionError::VersionAlreadyExists(_) | TransactionError::MaxCommitAttempts(_) => true,
            TransactionError::CommitConflict(conflict) => matches!(
                conflict,
                CommitConflictError::ConcurrentTransaction
                    | CommitConflictError::ConcurrentAppend
                    | CommitConflictError::ConcurrentDeleteRead
                    | CommitConflictError::ConcurrentDeleteDelete
                    | CommitConflictError::MetadataChanged
                    | CommitConflictError::ProtocolChanged(_)
            ),
            _ => false,
        },
        _ => false,
    }
}

fn backoff(attempt: u32) -> Duration {
    Duration::from_millis(10 << attempt.min(6))
}

fn check_schema(table: Table, batch: &RecordBatch) -> Result<()> {
    let (expected, given) = (table.schema(), batch.schema());
    let fail = |reason| Err(Error::Schema { table, reason });
    for field in expected.fields() {
        let Ok(other) = given.field_with_name(field.name()) else {
            return fail(format!("the rows have no column {}", field.name()));
        };
        if other.data_type() != field.data_type() {
            let (is, should) = (other.data_type(), field.data_type());
            return fail(format!("column {} of the rows is {is} and not {should}", field.name()));
        }
    }
    if let Some(extra) = given.fields().iter().find(|field| expected.field_with_name(field.name()).is_err()) {
        return fail(format!("the rows have a column {} that the table has not", extra.name()));
    }
    Ok(())
}
