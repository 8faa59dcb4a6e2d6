//! Experiments, runs and logged models, as answers have them: serde writes them in the form that MLflow's clients read.
//!
//! Times are milliseconds since 1970-01-01 UTC. Empty lists are left out, as MLflow does.

use std::fmt;

use serde::{Deserialize, Serialize};

use crate::number;

/// Whether a thing is there or deleted.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Lifecycle {
    /// It can be changed.
    Active,
    /// It can be restored until it is removed for good.
    Deleted,
}

/// Which of both a search wants.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum View {
    /// Only what is there.
    #[default]
    ActiveOnly,
    /// Only what is deleted.
    DeletedOnly,
    /// Both.
    All,
}

/// A key and its value: a param or a tag.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Pair {
    /// Its name.
    pub key: String,
    /// What it is.
    pub value: String,
}

/// An experiment.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Experiment {
    /// A number, as text.
    pub experiment_id: String,
    /// Unique, also among deleted ones.
    pub name: String,
    /// Below it are the files of its runs and models.
    pub artifact_location: String,
    /// Active or deleted.
    pub lifecycle_stage: Lifecycle,
    /// When it was last renamed, deleted or restored.
    pub last_update_time: i64,
    /// When it was made.
    pub creation_time: i64,
    /// By key.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub tags: Vec<Pair>,
}

/// A run.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Run {
    /// What it is.
    pub info: RunInfo,
    /// What it logged.
    pub data: RunData,
    /// What it read.
    pub inputs: RunInputs,
    /// What it made; a new run has nothing to say about it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub outputs: Option<RunOutputs>,
}

/// What a run is.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct RunInfo {
    /// The same as `run_id`, for old clients.
    pub run_uuid: String,
    /// Its experiment.
    pub experiment_id: String,
    /// The same as its tag `mlflow.runName`.
    pub run_name: String,
    /// Who made it.
    pub user_id: String,
    /// How far it is.
    pub status: RunStatus,
    /// When it began; 0 when its client did not say.
    pub start_time: i64,
    /// When it ended.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub end_time: Option<i64>,
    /// Where its files are.
    pub artifact_uri: String,
    /// Active or deleted.
    pub lifecycle_stage: Lifecycle,
    /// 32 hexadecimal digits.
    pub run_id: String,
}

/// How far a run is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize, Serialize)]
#[serde(rename_all = "UPPERCASE")]
pub enum RunStatus {
    /// It is at work.
    Running,
    /// It will be.
    Scheduled,
    /// It succeeded.
    Finished,
    /// It failed.
    Failed,
    /// It was ended.
    Killed,
}

/// What a run logged.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
pub struct RunData {
    /// The latest value of each metric.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub metrics: Vec<Metric>,
    /// They never change.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub params: Vec<Pair>,
    /// They may change.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub tags: Vec<Pair>,
}

/// What a run read.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
pub struct RunInputs {
    /// Datasets.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub dataset_inputs: Vec<DatasetInput>,
    /// Logged models.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub model_inputs: Vec<ModelInput>,
}

/// What a run made.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
pub struct RunOutputs {
    /// Logged models.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub model_outputs: Vec<ModelOutput>,
}

/// A logged model that a run read.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct ModelInput {
    /// The model.
    pub model_id: String,
}

/// A logged model that a run made.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct ModelOutput {
    /// The model.
    pub model_id: String,
    /// The step of the training.
    pub step: i64,
}

/// A dataset that a run read, and what for.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct DatasetInput {
    /// Such as `mlflow.data.context`.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub tags: Vec<Pair>,
    /// The dataset.
    pub dataset: Dataset,
}

/// A dataset, the same for all runs of an experiment that read it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Dataset {
    /// Its name.
    pub name: String,
    /// A short hash of its content.
    pub digest: String,
    /// Such as `s3`.
    pub source_type: String,
    /// Where it is, as JSON.
    pub source: String,
    /// Its columns, as JSON.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub schema: Option<String>,
    /// Its statistics, as JSON.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub profile: Option<String>,
}

/// One value of a metric.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Metric {
    /// Its name.
    pub key: String,
    /// Any number; infinities become the largest finite ones.
    #[serde(serialize_with = "number::serialize")]
    pub value: f64,
    /// When it was measured.
    pub timestamp: i64,
    /// The step of the training.
    pub step: i64,
    /// The dataset that a logged model was measured on.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub dataset_name: Option<String>,
    /// Its digest.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub dataset_digest: Option<String>,
    /// The logged model that was measured.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub model_id: Option<String>,
    /// The run that measured, where it is not clear.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub run_id: Option<String>,
}

/// A dataset of an experiment, in a list.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct DatasetSummary {
    /// The experiment.
    pub experiment_id: String,
    /// The dataset's name.
    pub name: String,
    /// Its digest.
    pub digest: String,
    /// What runs read it for.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub context: Option<String>,
}

/// A logged model.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct LoggedModel {
    /// What it is.
    pub info: LoggedModelInfo,
    /// What was logged for it.
    pub data: LoggedModelData,
}

/// What a logged model is.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct LoggedModelInfo {
    /// `m-` and 32 hexadecimal digits.
    pub model_id: String,
    /// Its experiment.
    pub experiment_id: String,
    /// Need not be unique.
    pub name: String,
    /// When it was made.
    pub creation_timestamp_ms: i64,
    /// When its state last changed.
    pub last_updated_timestamp_ms: i64,
    /// Where its files are.
    pub artifact_uri: String,
    /// `LOGGED_MODEL_PENDING`, `LOGGED_MODEL_READY` or `LOGGED_MODEL_UPLOAD_FAILED`.
    pub status: LoggedModelStatus,
    /// Such as `Agent`; may be empty.
    pub model_type: String,
    /// The run that made it; may be empty.
    pub source_run_id: String,
    /// Why it is in that state.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub status_message: Option<String>,
    /// By key.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub tags: Vec<Pair>,
}

/// What was logged for a logged model.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
pub struct LoggedModelData {
    /// They never change.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub params: Vec<Pair>,
    /// All values, on all datasets.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub metrics: Vec<Metric>,
}

/// Whether a logged model's files are complete.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub enum LoggedModelStatus {
    /// Nobody says.
    #[serde(rename = "LOGGED_MODEL_STATUS_UNSPECIFIED")]
    Unspecified,
    /// Files are being written.
    #[serde(rename = "LOGGED_MODEL_PENDING")]
    Pending,
    /// Files are complete.
    #[serde(rename = "LOGGED_MODEL_READY")]
    Ready,
    /// Files are not complete and never will be.
    #[serde(rename = "LOGGED_MODEL_UPLOAD_FAILED")]
    Failed,
}

impl Lifecycle {
    pub(crate) fn as_str(self) -> &'static str {
        match self {
            Self::Active => "active",
            Self::Deleted => "deleted",
        }
    }

    pub(crate) fn read(text: &str) -> crate::Result<Self> {
        match text {
            "active" => Ok(Self::Active),
            "deleted" => Ok(Self::Deleted),
            other => Err(crate::Error::Unreadable { what: "a lifecycle stage", found: other.to_owned() }),
        }
    }
}

impl RunStatus {
    /// With their numbers in the protocol.
    pub(crate) const ALL: [(Self, i64); 5] =
        [(Self::Running, 1), (Self::Scheduled, 2), (Self::Finished, 3), (Self::Failed, 4), (Self::Killed, 5)];

    pub(crate) fn as_str(self) -> &'static str {
        match self {
            Self::Running => "RUNNING",
            Self::Scheduled => "SCHEDULED",
            Self::Finished => "FINISHED",
            Self::Failed => "FAILED",
            Self::Killed => "KILLED",
        }
    }

    pub(crate) fn read(text: &str) -> crate::Result<Self> {
        let found = Self::ALL.into_iter().find(|(status, _)| status.as_str() == text);
        found
            .map(|(status, _)| status)
            .ok_or_else(|| crate::Error::Unreadable { what: "a run's status", found: text.to_owned() })
    }
}

impl fmt::Display for RunStatus {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Running => "running",
            Self::Scheduled => "scheduled",
            Self::Finished => "finished",
            Self::Failed => "failed",
            Self::Killed => "killed",
        })
    }
}

impl LoggedModelStatus {
    /// As the tables and filters have it.
    pub(crate) fn as_str(self) -> &'static str {
        match self {
            Self::Unspecified => "UNSPECIFIED",
            Self::Pending => "PENDING",
            Self::Ready => "READY",
            Self::Failed => "FAILED",
        }
    }

    pub(crate) fn read(text: &str) -> crate::Result<Self> {
        match text {
            "UNSPECIFIED" => Ok(Self::Unspecified),
            "PENDING" => Ok(Self::Pending),
            "READY" => Ok(Self::Ready),
            "FAILED" => Ok(Self::Failed),
            other => Err(crate::Error::Unreadable { what: "a logged model's status", found: other.to_owned() }),
        }
    }
}
