//! Typed columns of a batch that DataFusion returned, which may be encoded in several ways.

use arrow::array::{
    Array, ArrayRef, AsArray, BooleanArray, Float32Array, Float64Array, Int32Array, Int64Array, StringArray,
};
use arrow::compute::cast;
use arrow::datatypes::{DataType, Float32Type, Float64Type, Int32Type, Int64Type, TimeUnit, TimestampMicrosecondType};
use arrow::error::ArrowError;
use arrow::record_batch::RecordBatch;
use chrono::{DateTime, Utc};

use crate::error::Result;

pub(crate) fn strings(batch: &RecordBatch, name: &str) -> Result<StringArray> {
    Ok(plain(batch, name, &DataType::Utf8)?.as_string::<i32>().clone())
}

pub(crate) fn booleans(batch: &RecordBatch, name: &str) -> Result<BooleanArray> {
    Ok(plain(batch, name, &DataType::Boolean)?.as_boolean().clone())
}

pub(crate) fn longs(batch: &RecordBatch, name: &str) -> Result<Int64Array> {
    Ok(plain(batch, name, &DataType::Int64)?.as_primitive::<Int64Type>().clone())
}

pub(crate) fn integers(batch: &RecordBatch, name: &str) -> Result<Int32Array> {
    Ok(plain(batch, name, &DataType::Int32)?.as_primitive::<Int32Type>().clone())
}

pub(crate) fn floats(batch: &RecordBatch, name: &str) -> Result<Float32Array> {
    Ok(plain(batch, name, &DataType::Float32)?.as_primitive::<Float32Type>().clone())
}

pub(crate) fn doubles(batch: &RecordBatch, name: &str) -> Result<Float64Array> {
    Ok(plain(batch, name, &DataType::Float64)?.as_primitive::<Float64Type>().clone())
}

/// Times of a column; `None` where it is null.
pub(crate) fn times(batch: &RecordBatch, name: &str) -> Result<Vec<Option<DateTime<Utc>>>> {
    let column = plain(batch, name, &DataType::Timestamp(TimeUnit::Microsecond, Some("UTC".into())))?;
    let micros = column.as_primitive::<TimestampMicrosecondType>();
    Ok(micros.iter().map(|micros| micros.and_then(DateTime::from_timestamp_micros)).collect())
}

/// The value at `row`, `None` where it is null.
pub(crate) fn text(column: &StringArray, row: usize) -> Option<String> {
    column.is_valid(row).then(|| column.value(row).to_owned())
}

fn plain(batch: &RecordBatch, name: &str, data_type: &DataType) -> Result<ArrayRef> {
    let missing = || ArrowError::SchemaError(format!("the result has no column {name}"));
    let column = batch.column_by_name(name).ok_or_else(missing)?;
    Ok(cast(column, data_type)?)
}
