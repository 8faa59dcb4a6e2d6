//! SQL over the newest versions of the tables; reading only.

use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use arrow::datatypes::SchemaRef;
use arrow::record_batch::RecordBatch;
use datafusion::common::SchemaError;
use datafusion::datasource::MemTable;
use datafusion::error::DataFusionError;
use datafusion::execution::context::SQLOptions;
use datafusion::prelude::{DataFrame, SessionConfig, SessionContext};
use futures::stream::{BoxStream, Stream, StreamExt as _};

use crate::error::{Error, Result, from_delta, one_line, storage_error};
use crate::{Lake, Table};

/// The view of animals that most questions are about.
const OBSERVATIONS: &str = "observations";

/// The newest processing of each file; `where` clauses go in place of `{filter}`.
pub(crate) const NEWEST_MEDIA: &str = "select * from (select *, row_number() over (partition by uri \
     order by processed_at desc, run_id desc, task desc) as newest from media {filter}) where newest = 1";

/// The rows of a query, as they come: a stream of record batches.
pub struct QueryRows {
    schema: SchemaRef,
    batches: BoxStream<'static, Result<RecordBatch>>,
}

impl QueryRows {
    /// The columns, known before the first row.
    pub fn schema(&self) -> SchemaRef {
        self.schema.clone()
    }
}

impl Stream for QueryRows {
    type Item = Result<RecordBatch>;

    fn poll_next(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        self.batches.poll_next_unpin(context)
    }
}

/// See [`Lake::session`].
pub(crate) async fn session(lake: &Lake) -> Result<SessionContext> {
    let config = SessionConfig::new()
        .with_information_schema(true)
        // Partition columns are dictionaries, and a join that pushes a list of dictionary keys down panics in this version.
        .set_usize("datafusion.optimizer.hash_join_inlist_pushdown_max_size", 0)
        .set_usize("datafusion.optimizer.hash_join_inlist_pushdown_max_distinct_values", 0);
    let session = SessionContext::new_with_config(config);
    // Media first: a medium is appended after its detections, so every medium in this view has all of its boxes.
    for table in Table::ALL {
        register(lake, &session, table).await?;
    }
    let newest = NEWEST_MEDIA.replace("{filter}", "");
    let observations = format!(
        "select d.uri, d.captured_at, d.deployment, d.burst_id, d.track, d.frame, d.species, d.scientific_name, d.rank, \
         d.species_confidence, d.confidence, d.detection_id, d.media_id, d.model_version, d.detected_at \
         from detections d join ({newest}) m on d.uri = m.uri and d.run_id = m.run_id and d.task = m.task \
         where d.category = 'animal'"
    );
    add_view(lake, &session, OBSERVATIONS, &observations).await?;
    Ok(session)
}

/// See [`Lake::sql_with_views`].
pub(crate) async fn sql_with_views(lake: &Lake, query: &str, views: &[(&str, &str)]) -> Result<QueryRows> {
    let session = session(lake).await?;
    for (name, statement) in views {
        add_view(lake, &session, name, statement).await?;
    }
    run(lake, &session, query).await
}

/// See [`Lake::sql`].
pub(crate) async fn sql(lake: &Lake, query: &str) -> Result<QueryRows> {
    let session = session(lake).await?;
    run(lake, &session, query).await
}

/// Runs one reading statement in a session that may be used again.
pub(crate) async fn run(lake: &Lake, session: &SessionContext, query: &str) -> Result<QueryRows> {
    let reading = SQLOptions::new().with_allow_ddl(false).with_allow_dml(false).with_allow_statements(false);
    let frame = session.sql_with_options(query, reading).await;
    stream(lake, frame.map_err(|error| sql_error(lake.location(), error))?).await
}

/// Runs what `frame` describes.
pub(crate) async fn stream(lake: &Lake, frame: DataFrame) -> Result<QueryRows> {
    let location = lake.location().to_owned();
    let batches = frame.execute_stream().await.map_err(|error| sql_error(&location, error))?;
    let schema = batches.schema();
    let batches = batches.map(move |batch| batch.map_err(|error| sql_error(&location, error))).boxed();
    Ok(QueryRows { schema, batches })
}

/// Turns an error of DataFusion into one line for the person who wrote the query, or into the storage's error.
pub(crate) fn sql_error(location: &str, error: DataFusionError) -> Error {
    if let Some(error) = storage_error(location, &error) {
        return error;
    }
    let message = match error.find_root() {
        DataFusionError::SchemaError(schema, _) => match schema.as_ref() {
            SchemaError::FieldNotFound { field, valid_fields } => {
                let columns: Vec<&str> = valid_fields.iter().map(|column| column.name.as_str()).collect();
                unknown("column", field.name(), &columns)
            }
            other => one_line(&other.to_string()),
        },
        DataFusionError::Plan(text) => planning_message(text),
        DataFusionError::SQL(parser, _) => format!("the query cannot be parsed: {}", one_line(&parser.to_string())),
        DataFusionError::NotImplemented(text) => format!("the query cannot be run: {}", one_line(text)),
        other => {
            let text = other.strip_backtrace();
            format!("the query failed: {}", one_line(&text))
        }
    };
    Error::Sql { message }
}

async fn add_view(lake: &Lake, session: &SessionContext, name: &str, statement: &str) -> Result<()> {
    let sql_error = |error| sql_error(lake.location(), error);
    let view = session.sql(statement).await.map_err(sql_error)?;
    // The statement was planned already, so that a view may take the name of the table that it reads.
    session.deregister_table(name).map_err(sql_error)?;
    session.register_table(name, view.into_view()).map_err(sql_error)?;
    Ok(())
}

async fn register(lake: &Lake, session: &SessionContext, table: Table) -> Result<()> {
    let handle = lake.handle(table);
    let sql_error = |error| sql_error(handle.location(), error);
    let Some(newest) = handle.newest().await? else {
        let empty = MemTable::try_new(table.schema(), vec![vec![]]).map_err(sql_error)?;
        session.register_table(table.name(), Arc::new(empty)).map_err(sql_error)?;
        return Ok(());
    };
    newest.update_datafusion_session(&session.state()).map_err(|error| from_delta(table, handle.location(), error))?;
    let provider = newest.table_provider().await.map_err(sql_error)?;
    session.register_table(table.name(), provider).map_err(sql_error)?;
    Ok(())
}

fn planning_message(text: &str) -> String {
    if let Some(name) = text.strip_prefix("table '").and_then(|rest| rest.split('\'').next()) {
        let name = name.rsplit('.').next().unwrap_or(name);
        let known: Vec<&str> = Table::ALL.map(Table::name).into_iter().chain([OBSERVATIONS]).collect();
        return unknown("table", name, &known);
    }
    let changes = ["DDL not supported: ", "DML not supported: ", "Statement not supported: "];
    if let Some(statement) = changes.iter().find_map(|prefix| text.strip_prefix(prefix)) {
        return format!("only reading statements can be run here, not {}", one_line(statement));
    }
    format!("the query cannot be run: {}", one_line(text))
}

/// `no column 'speces'; did you mean 'species'? there are: …`
fn unknown(kind: &str, name: &str, known: &[&str]) -> String {
    let nearest = known
        .iter()
        .map(|candidate| (strsim::jaro_winkler(&name.to_lowercase(), candidate), *candidate))
        .filter(|(likeness, _)| *likeness > 0.75)
        .max_by(|a, b| a.0.total_cmp(&b.0))
        .map(|(_, candidate)| format!("; did you mean '{candidate}'?"));
    let mut all: Vec<&str> = known.to_vec();
    all.sort_unstable();
    all.dedup();
    format!("no {kind} '{name}'{} there are: {}", nearest.unwrap_or_else(|| ";".to_owned()), all.join(", "))
}
