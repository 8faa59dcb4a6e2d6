//! The tables: names, columns in order, partition columns.

use std::fmt;
use std::sync::{Arc, LazyLock};

use arrow::datatypes::{DataType, Field, Fields, Schema, SchemaRef, TimeUnit};

/// A table of the lake.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Table {
    /// One row for every file that was looked at.
    Media,
    /// One row for every box that was found.
    Detections,
    /// One row for every model and data set that were judged, and one for each of the set's labels.
    Evaluation,
}

impl Table {
    /// All tables.
    pub const ALL: [Self; 3] = [Self::Media, Self::Detections, Self::Evaluation];

    /// The name in SQL and the folder's name.
    pub fn name(self) -> &'static str {
        match self {
            Self::Media => "media",
            Self::Detections => "detections",
            Self::Evaluation => "evaluation",
        }
    }

    /// The columns in order.
    pub fn schema(self) -> SchemaRef {
        match self {
            Self::Media => media_schema(),
            Self::Detections => detections_schema(),
            Self::Evaluation => evaluation_schema(),
        }
    }

    /// The column (a date) whose values become folders.
    pub fn partition_column(self) -> &'static str {
        match self {
            Self::Media => "processed_date",
            Self::Detections => "detected_date",
            Self::Evaluation => "evaluated_date",
        }
    }

    /// One sentence, kept in the table's own metadata.
    pub fn description(self) -> &'static str {
        match self {
            Self::Media => "one row for every camera-trap file that was processed",
            Self::Detections => "one row for every box found in a camera-trap file",
            Self::Evaluation => "how well a model named labelled sequences: one row overall and one for each label",
        }
    }
}

impl fmt::Display for Table {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// Columns of `media`; [`crate::MediaRow`] says what each one means.
pub fn media_schema() -> SchemaRef {
    static SCHEMA: LazyLock<SchemaRef> = LazyLock::new(|| {
        Arc::new(Schema::new(vec![
            required("media_id", DataType::Utf8),
            required("uri", DataType::Utf8),
            optional("sha256", DataType::Utf8),
            required("size_bytes", DataType::Int64),
            required("version", DataType::Utf8),
            required("media_type", DataType::Utf8),
            optional("captured_at", timestamp()),
            optional("captured_offset_minutes", DataType::Int32),
            required("clock_wrong", DataType::Boolean),
            required("deployment", DataType::Utf8),
            optional("camera", DataType::Utf8),
            optional("width", DataType::Int32),
            optional("height", DataType::Int32),
            optional("frames", DataType::Int32),
            optional("duration_s", DataType::Float64),
            optional("frame_rate", DataType::Float64),
            optional("burst_id", DataType::Utf8),
            optional("category", DataType::Utf8),
            optional("failure", DataType::Utf8),
            required("model_version", DataType::Utf8),
            required("run_id", DataType::Utf8),
            required("task", DataType::Utf8),
            required("processed_at", timestamp()),
            required("processed_date", DataType::Date32),
        ]))
    });
    SCHEMA.clone()
}

/// Columns of `detections`; [`crate::DetectionRow`] says what each one means.
pub fn detections_schema() -> SchemaRef {
    static SCHEMA: LazyLock<SchemaRef> = LazyLock::new(|| {
        Arc::new(Schema::new(vec![
            required("detection_id", DataType::Utf8),
            required("media_id", DataType::Utf8),
            required("uri", DataType::Utf8),
            required("deployment", DataType::Utf8),
            optional("captured_at", timestamp()),
            required("frame", DataType::Int32),
            required("frame_time_s", DataType::Float64),
            optional("burst_id", DataType::Utf8),
            optional("track", DataType::Int32),
            required("x", DataType::Float32),
            required("y", DataType::Float32),
            required("width", DataType::Float32),
            required("height", DataType::Float32),
            required("category", DataType::Utf8),
            optional("species", DataType::Utf8),
            optional("scientific_name", DataType::Utf8),
            optional("rank", DataType::Utf8),
            optional("taxonomy", DataType::Utf8),
            required("confidence", DataType::Float32),
            optional("species_confidence", DataType::Float32),
            required("top5", DataType::List(candidate_element())),
            required("model_version", DataType::Utf8),
            required("run_id", DataType::Utf8),
            required("task", DataType::Utf8),
            required("detected_at", timestamp()),
            required("detected_date", DataType::Date32),
        ]))
    });
    SCHEMA.clone()
}

/// Columns of `evaluation`; [`crate::EvaluationRow`] says what each one means.
pub fn evaluation_schema() -> SchemaRef {
    static SCHEMA: LazyLock<SchemaRef> = LazyLock::new(|| {
        Arc::new(Schema::new(vec![
            required("evaluation_id", DataType::Utf8),
            required("model", DataType::Utf8),
            optional("version", DataType::Int64),
            required("model_version", DataType::Utf8),
            required("model_digest", DataType::Utf8),
            optional("role", DataType::Utf8),
            required("dataset", DataType::Utf8),
            required("dataset_digest", DataType::Utf8),
            required("split", DataType::Utf8),
            optional("label", DataType::Utf8),
            optional("species", DataType::Utf8),
            required("count", DataType::Int64),
            optional("accuracy", DataType::Float64),
            optional("macro_f1", DataType::Float64),
            required("coverage", DataType::Float64),
            optional("precision", DataType::Float64),
            optional("recall", DataType::Float64),
            optional("f1", DataType::Float64),
            required("support", DataType::Int64),
            optional("training_digest", DataType::Utf8),
            optional("training_table_version", DataType::Int64),
            required("run_id", DataType::Utf8),
            required("task", DataType::Utf8),
            required("evaluated_at", timestamp()),
            required("evaluated_date", DataType::Date32),
        ]))
    });
    SCHEMA.clone()
}

/// The element of `top5`. It is called `element` as Delta calls it, so that no reader or writer has to rename it.
pub(crate) fn candidate_element() -> Arc<Field> {
    Arc::new(Field::new("element", DataType::Struct(candidate_fields()), false))
}

/// The fields of one entry of `top5`.
pub(crate) fn candidate_fields() -> Fields {
    Fields::from(vec![
        required("scientific_name", DataType::Utf8),
        optional("species", DataType::Utf8),
        required("confidence", DataType::Float32),
    ])
}

fn timestamp() -> DataType {
    DataType::Timestamp(TimeUnit::Microsecond, Some("UTC".into()))
}

fn required(name: &str, data_type: DataType) -> Field {
    Field::new(name, data_type, false)
}

fn optional(name: &str, data_type: DataType) -> Field {
    Field::new(name, data_type, true)
}
