//! Rows of the table `evaluation`.

use std::fmt;
use std::sync::Arc;

use arrow::array::{ArrayRef, Float64Array, Int64Array};
use arrow::record_batch::RecordBatch;
use chrono::{DateTime, Utc};

use crate::error::Result;
use crate::rows::{dates, doubles, texts, times};
use crate::schema::evaluation_schema;

/// What a model was judged as.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Role {
    /// The model that may be promoted.
    Challenger,
    /// The model that was in its place at that time.
    Champion,
}

/// One row of `evaluation`: how well one model named the labelled sequences of one data set, over all labels or for one.
#[derive(Debug, Clone, PartialEq)]
pub struct EvaluationRow {
    /// The same for all rows of one judgement of one model.
    pub evaluation_id: String,
    /// The model's name: the registered one, or that in its settings.
    pub model: String,
    /// Number of the registered version; `None` for a model that was judged before it was registered.
    pub version: Option<i64>,
    /// Name and content, as in `media` and `detections`.
    pub model_version: String,
    /// SHA-256 of the model's files in hex; `model_version` ends in its first digits.
    pub model_digest: String,
    /// What it was judged as.
    pub role: Option<Role>,
    /// Where the labelled media are.
    pub dataset: String,
    /// SHA-256 over names, contents and labels of the media that were judged.
    pub dataset_digest: String,
    /// The part of the data set: `train`, `test` or `all`.
    pub split: String,
    /// The label that the row is about, a scientific name or `blank`; `None`: all labels together.
    pub label: Option<String>,
    /// English name of the label.
    pub species: Option<String>,
    /// Sequences with the label.
    pub count: i64,
    /// Share of sequences that were named as labelled; only over all labels.
    pub accuracy: Option<f64>,
    /// Mean of `f1` over the labels; only over all labels.
    pub macro_f1: Option<f64>,
    /// Share of sequences that were given a name as exact as the label, right or wrong; the others' names were wider.
    pub coverage: f64,
    /// Of the sequences that were given this name, the share that has this label; only of a label.
    pub precision: Option<f64>,
    /// Of the sequences with this label, the share that was given this name; only of a label.
    pub recall: Option<f64>,
    /// Harmonic mean of precision and recall; only of a label.
    pub f1: Option<f64>,
    /// Sequences that stand behind precision and recall: those with the label.
    pub support: i64,
    /// The data that the model was trained from, if it says so.
    pub training_digest: Option<String>,
    /// Version of the table that the labels of the training data came from, if the model says so.
    pub training_table_version: Option<i64>,
    /// The run that judged.
    pub run_id: String,
    /// The task instance that judged.
    pub task: String,
    /// When it was judged; its date is the partition `evaluated_date`.
    pub evaluated_at: DateTime<Utc>,
}

/// Rows of `evaluation` as a record batch of [`crate::schema::evaluation_schema`].
///
/// # Errors
/// As [`crate::rows::media_batch`].
pub fn evaluation_batch(rows: &[EvaluationRow]) -> Result<RecordBatch> {
    let columns: Vec<ArrayRef> = vec![
        texts(rows, |r| Some(&r.evaluation_id)),
        texts(rows, |r| Some(&r.model)),
        Arc::new(Int64Array::from_iter(rows.iter().map(|r| r.version))),
        texts(rows, |r| Some(&r.model_version)),
        texts(rows, |r| Some(&r.model_digest)),
        texts(rows, |r| r.role.map(Role::as_str)),
        texts(rows, |r| Some(&r.dataset)),
        texts(rows, |r| Some(&r.dataset_digest)),
        texts(rows, |r| Some(&r.split)),
        texts(rows, |r| r.label.as_deref()),
        texts(rows, |r| r.species.as_deref()),
        Arc::new(Int64Array::from_iter_values(rows.iter().map(|r| r.count))),
        doubles(rows, |r| r.accuracy),
        doubles(rows, |r| r.macro_f1),
        Arc::new(Float64Array::from_iter_values(rows.iter().map(|r| r.coverage))),
        doubles(rows, |r| r.precision),
        doubles(rows, |r| r.recall),
        doubles(rows, |r| r.f1),
        Arc::new(Int64Array::from_iter_values(rows.iter().map(|r| r.support))),
        texts(rows, |r| r.training_digest.as_deref()),
        Arc::new(Int64Array::from_iter(rows.iter().map(|r| r.training_table_version))),
        texts(rows, |r| Some(&r.run_id)),
        texts(rows, |r| Some(&r.task)),
        times(rows, |r| Some(r.evaluated_at)),
        dates(rows, |r| r.evaluated_at),
    ];
    Ok(RecordBatch::try_new(evaluation_schema(), columns)?)
}

impl Role {
    /// As it is written in the table.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Challenger => "challenger",
            Self::Champion => "champion",
        }
    }
}

impl fmt::Display for Role {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}
