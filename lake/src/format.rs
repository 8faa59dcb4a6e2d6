//! Query results for people and for other programs.

use std::fmt;
use std::io::Write;
use std::str::FromStr;
use std::sync::Arc;

use arrow::array::{ArrayRef, StringArray};
use arrow::compute::cast;
use arrow::datatypes::{DataType, Field, FieldRef, Schema, SchemaRef};
use arrow::error::ArrowError;
use arrow::ipc::writer::StreamWriter;
use arrow::json::LineDelimitedWriter;
use arrow::json::writer::{LineDelimited, WriterBuilder as JsonBuilder};
use arrow::record_batch::RecordBatch;
use arrow::util::display::FormatOptions;
use arrow::util::pretty::pretty_format_batches_with_options;
use futures::StreamExt as _;

use crate::error::{Error, Result, UnknownWord};
use crate::query::QueryRows;

/// How rows are written.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum OutputFormat {
    /// A table for reading; all rows are held in memory to find the widths.
    #[default]
    Table,
    /// Comma-separated values with a header; nested values as JSON.
    Csv,
    /// One JSON object a line.
    Json,
    /// An Arrow IPC stream.
    Arrow,
}

/// Writes all rows to `out` and returns how many there were.
///
/// Rows leave as they come, except as a table. Times are UTC: `2024-06-01 05:10:00` in a table, RFC 3339 elsewhere.
///
/// # Errors
/// [`Error::Output`] when `out` cannot be written (a closed pipe keeps its [`std::io::ErrorKind::BrokenPipe`]),
/// [`Error::Sql`] and [`Error::Storage`] when the query fails while running.
pub async fn write(mut rows: QueryRows, format: OutputFormat, out: &mut (dyn Write + Send)) -> Result<u64> {
    let schema = plain_schema(&rows.schema());
    let mut writer = Writer::new(format, &schema, out)?;
    let mut count = 0;
    while let Some(batch) = rows.next().await {
        let batch = batch?;
        count += batch.num_rows() as u64;
        writer.write(plain_batch(&schema, &batch)?)?;
    }
    writer.finish()?;
    Ok(count)
}

impl FromStr for OutputFormat {
    type Err = UnknownWord;

    fn from_str(word: &str) -> std::result::Result<Self, UnknownWord> {
        match word {
            "table" => Ok(Self::Table),
            "csv" => Ok(Self::Csv),
            "json" => Ok(Self::Json),
            "arrow" => Ok(Self::Arrow),
            other => Err(UnknownWord { word: other.to_owned(), known: "table, csv, json, arrow" }),
        }
    }
}

impl fmt::Display for OutputFormat {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Table => "table",
            Self::Csv => "csv",
            Self::Json => "json",
            Self::Arrow => "arrow",
        })
    }
}

type Out<'a> = &'a mut (dyn Write + Send);

enum Writer<'a> {
    Table { schema: SchemaRef, batches: Vec<RecordBatch>, out: Out<'a> },
    Csv(Box<arrow::csv::Writer<Out<'a>>>),
    Json(arrow::json::Writer<Out<'a>, LineDelimited>),
    Arrow(StreamWriter<Out<'a>>),
}

impl<'a> Writer<'a> {
    fn new(format: OutputFormat, schema: &SchemaRef, out: Out<'a>) -> Result<Self> {
        Ok(match format {
            OutputFormat::Table => Self::Table { schema: schema.clone(), batches: Vec::new(), out },
            OutputFormat::Csv => {
                let mut writer = arrow::csv::Writer::new(out);
                // The header, also when no row follows.
                writer.write(&without_nesting(&RecordBatch::new_empty(schema.clone()))?).map_err(output)?;
                Self::Csv(Box::new(writer))
            }
            OutputFormat::Json => Self::Json(JsonBuilder::new().with_explicit_nulls(true).build(out)),
            OutputFormat::Arrow => Self::Arrow(StreamWriter::try_new(out, schema).map_err(output)?),
        })
    }

    fn write(&mut self, batch: RecordBatch) -> Result<()> {
        match self {
            Self::Table { batches, .. } => batches.push(batch),
            Self::Csv(writer) => writer.write(&without_nesting(&batch)?).map_err(output)?,
            Self::Json(writer) => writer.write(&batch).map_err(output)?,
            Self::Arrow(writer) => writer.write(&batch).map_err(output)?,
        }
        Ok(())
    }

    fn finish(self) -> Result<()> {
        match self {
            Self::Table { schema, mut batches, out } => {
                if batches.is_empty() {
                    batches.push(RecordBatch::new_empty(schema));
                }
                let options = FormatOptions::default().with_timestamp_tz_format(Some("%Y-%m-%d %H:%M:%S"));
                let table = pretty_format_batches_with_options(&batches, &options)?;
                writeln!(out, "{table}").map_err(Error::Output)
            }
            Self::Csv(writer) => writer.into_inner().flush().map_err(Error::Output),
            Self::Json(mut writer) => {
                writer.finish().map_err(output)?;
                writer.into_inner().flush().map_err(Error::Output)
            }
            Self::Arrow(mut writer) => writer.finish().map_err(output),
        }
    }
}

/// Keeps the kind of an i/o error that Arrow's writers wrap, so that a closed pipe can be told from a full disk.
fn output(error: ArrowError) -> Error {
    match error {
        ArrowError::IoError(_, source) => Error::Output(source),
        ArrowError::CsvError(text) if text.contains("Broken pipe") => {
            Error::Output(std::io::Error::new(std::io::ErrorKind::BrokenPipe, text))
        }
        other => Error::Arrow(other),
    }
}

/// The schema without encodings that not every reader knows (dictionaries, views).
fn plain_schema(schema: &Schema) -> SchemaRef {
    let fields: Vec<FieldRef> = schema.fields().iter().map(plain_field).collect();
    Arc::new(Schema::new(fields))
}

fn plain_field(field: &FieldRef) -> FieldRef {
    Arc::new(Field::new(field.name(), plain_type(field.data_type()), field.is_nullable()))
}

fn plain_type(data_type: &DataType) -> DataType {
    match data_type {
        DataType::Dictionary(_, value) => plain_type(value),
        DataType::Utf8View => DataType::Utf8,
        DataType::BinaryView => DataType::Binary,
        DataType::List(element) => DataType::List(plain_field(element)),
        DataType::Struct(fields) => DataType::Struct(fields.iter().map(plain_field).collect()),
        other => other.clone(),
    }
}

fn plain_batch(schema: &SchemaRef, batch: &RecordBatch) -> Result<RecordBatch> {
    let columns: std::result::Result<Vec<ArrayRef>, ArrowError> =
        batch.columns().iter().zip(schema.fields()).map(|(column, field)| cast(column, field.data_type())).collect();
    Ok(RecordBatch::try_new_with_options(
        schema.clone(),
        columns?,
        &arrow::record_batch::RecordBatchOptions::new().with_row_count(Some(batch.num_rows())),
    )?)
}

/// CSV has no nested values: they become JSON texts.
fn without_nesting(batch: &RecordBatch) -> Result<RecordBatch> {
    let mut fields: Vec<FieldRef> = Vec::new();
    let mut columns: Vec<ArrayRef> = Vec::new();
    for (field, column) in batch.schema().fields().iter().zip(batch.columns()) {
        if field.data_type().is_nested() {
            fields.push(Arc::new(Field::new(field.name(), DataType::Utf8, true)));
            columns.push(Arc::new(json_texts(field, column)?));
        } else {
            fields.push(field.clone());
            columns.push(column.clone());
        }
    }
    let options = arrow::record_batch::RecordBatchOptions::new().with_row_count(Some(batch.num_rows()));
    Ok(RecordBatch::try_new_with_options(Arc::new(Schema::new(fields)), columns, &options)?)
}

fn json_texts(field: &FieldRef, column: &ArrayRef) -> Result<StringArray> {
    const NAME: &str = "v";
    let field = Field::new(NAME, field.data_type().clone(), true);
    let batch = RecordBatch::try_new(Arc::new(Schema::new(vec![field])), vec![column.clone()])?;
    let mut lines = LineDelimitedWriter::new(Vec::new());
    lines.write(&batch)?;
    lines.finish()?;
    let lines = String::from_utf8_lossy(&lines.into_inner()).into_owned();
    // Each line is {"v":…}, or {} where the value is null.
    let values = lines.lines().map(|line| line.strip_prefix("{\"v\":").and_then(|rest| rest.strip_suffix('}')));
    Ok(StringArray::from_iter(values))
}
