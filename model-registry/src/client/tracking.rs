//! Experiments and runs.

use serde::de::Deserializer;
use serde::ser::Serializer;
use serde::{Deserialize, Serialize};

use super::{Client, Nothing, if_there, is_there_already};
use crate::entities::RunStatus;
use crate::registered::Tag;
use crate::{Result, number};

/// Entities that one request may hold (`runs/log-batch`), by kind: all, and params or tags.
const BATCH: (usize, usize) = (1000, 100);

/// An experiment: a folder of runs.
#[derive(Clone, Debug, Deserialize, PartialEq, Serialize)]
pub struct Experiment {
    /// A number as text.
    pub experiment_id: String,
    /// Unique.
    pub name: String,
    /// Where its files are.
    #[serde(default)]
    pub artifact_location: String,
    /// `active` or `deleted`.
    #[serde(default)]
    pub lifecycle_stage: String,
    /// By key.
    #[serde(default)]
    pub tags: Vec<Tag>,
}

/// A run with what was logged.
#[derive(Clone, Debug, Deserialize, PartialEq, Serialize)]
pub struct Run {
    /// What it is.
    pub info: RunInfo,
    /// What was logged.
    #[serde(default)]
    pub data: RunData,
}

/// What a run is.
#[derive(Clone, Debug, Deserialize, PartialEq, Serialize)]
pub struct RunInfo {
    /// 32 hexadecimal digits.
    pub run_id: String,
    /// For people.
    #[serde(default)]
    pub run_name: String,
    /// Its experiment.
    #[serde(default)]
    pub experiment_id: String,
    /// How it stands.
    pub status: RunStatus,
    /// Milliseconds since 1970-01-01 UTC.
    #[serde(default)]
    pub start_time: Option<i64>,
    /// Milliseconds since 1970-01-01 UTC.
    #[serde(default)]
    pub end_time: Option<i64>,
    /// Where its files are.
    #[serde(default)]
    pub artifact_uri: String,
    /// `active` or `deleted`.
    #[serde(default)]
    pub lifecycle_stage: String,
}

/// What a run logged: the latest value of each metric.
#[derive(Clone, Debug, Default, Deserialize, PartialEq, Serialize)]
pub struct RunData {
    /// By key.
    #[serde(default)]
    pub metrics: Vec<Metric>,
    /// By key.
    #[serde(default)]
    pub params: Vec<Param>,
    /// By key.
    #[serde(default)]
    pub tags: Vec<Tag>,
}

/// A measurement.
#[derive(Clone, Debug, Deserialize, PartialEq, Serialize)]
pub struct Metric {
    /// Such as `val/f1`.
    pub key: String,
    /// May be no number, or infinite.
    #[serde(serialize_with = "write_number", deserialize_with = "read_number")]
    pub value: f64,
    /// Milliseconds since 1970-01-01 UTC.
    pub timestamp: i64,
    /// Such as the epoch.
    #[serde(default)]
    pub step: i64,
}

/// A setting.
#[derive(Clone, Debug, Deserialize, Eq, PartialEq, Serialize)]
pub struct Param {
    /// Such as `epochs`.
    pub key: String,
    /// 6,000 characters at most.
    #[serde(default)]
    pub value: String,
}

#[derive(Deserialize)]
struct ExperimentAnswer {
    experiment: Experiment,
}

#[derive(Deserialize)]
struct Created {
    experiment_id: String,
}

#[derive(Deserialize)]
struct RunAnswer {
    run: Run,
}

#[derive(Serialize)]
struct NewRun<'a> {
    experiment_id: &'a str,
    run_name: &'a str,
    user_id: &'a str,
    start_time: i64,
    tags: &'a [Tag],
}

#[derive(Serialize)]
struct Batch<'a> {
    run_id: &'a str,
    metrics: &'a [Metric],
    params: &'a [Param],
    tags: &'a [Tag],
}

impl Client {
    /// The experiment of this name; none if there is none.
    ///
    /// # Errors
    /// The server does not answer or refuses.
    pub async fn experiment(&self, name: &str) -> Result<Option<Experiment>> {
        let answer: Result<ExperimentAnswer> =
            self.get("/api/2.0/mlflow/experiments/get-by-name", &[("experiment_name", name)]).await;
        Ok(if_there(answer)?.map(|answer| answer.experiment))
    }

    /// The id of the experiment of this name, which is made if there is none.
    ///
    /// # Errors
    /// The server does not answer or refuses; the experiment was deleted.
    pub async fn ensure_experiment(&self, name: &str) -> Result<String> {
        if let Some(found) = self.experiment(name).await? {
            return Ok(found.experiment_id);
        }
        let body = serde_json::json!({ "name": name });
        match self.post::<Created>("/api/2.0/mlflow/experiments/create", &body).await {
            Ok(created) => Ok(created.experiment_id),
            // Somebody else was faster.
            Err(error) if is_there_already(&error) => {
                self.experiment(name).await?.map(|found| found.experiment_id).ok_or(error)
            }
            Err(error) => Err(error),
        }
    }

    /// Begins a run.
    ///
    /// # Errors
    /// The server does not answer or refuses.
    pub async fn create_run(&self, experiment_id: &str, name: &str, tags: &[Tag]) -> Result<Run> {
        let body =
            NewRun { experiment_id, run_name: name, user_id: "safari", start_time: crate::clock::now_millis(), tags };
        self.post::<RunAnswer>("/api/2.0/mlflow/runs/create", &body).await.map(|answer| answer.run)
    }

    /// A run; none if there is none.
    ///
    /// # Errors
    /// The server does not answer or refuses.
    pub async fn run(&self, run_id: &str) -> Result<Option<Run>> {
        let answer: Result<RunAnswer> = self.get("/api/2.0/mlflow/runs/get", &[("run_id", run_id)]).await;
        Ok(if_there(answer)?.map(|answer| answer.run))
    }

    /// Logs any number of metrics, params and tags.
    ///
    /// # Errors
    /// The server does not answer or refuses; what went before stays.
    pub async fn log(&self, run_id: &str, metrics: &[Metric], params: &[Param], tags: &[Tag]) -> Result<()> {
        let (all, few) = BATCH;
        for metrics in metrics.chunks(all) {
            self.log_batch(&Batch { run_id, metrics, params: &[], tags: &[] }).await?;
        }
        for params in params.chunks(few) {
            self.log_batch(&Batch { run_id, metrics: &[], params, tags: &[] }).await?;
        }
        for tags in tags.chunks(few) {
            self.log_batch(&Batch { run_id, metrics: &[], params: &[], tags }).await?;
        }
        Ok(())
    }

    /// Ends a run.
    ///
    /// # Errors
    /// The server does not answer or refuses.
    pub async fn end_run(&self, run_id: &str, status: RunStatus) -> Result<()> {
        let body = serde_json::json!({
            "run_id": run_id, "status": status, "end_time": crate::clock::now_millis(),
        });
        self.post::<serde_json::Value>("/api/2.0/mlflow/runs/update", &body).await.map(drop)
    }

    async fn log_batch(&self, batch: &Batch<'_>) -> Result<()> {
        self.post::<Nothing>("/api/2.0/mlflow/runs/log-batch", batch).await.map(drop)
    }
}

fn write_number<S: Serializer>(value: &f64, serializer: S) -> Result<S::Ok, S::Error> {
    number::write(*value).serialize(serializer)
}

fn read_number<'de, D: Deserializer<'de>>(deserializer: D) -> Result<f64, D::Error> {
    let value = serde_json::Value::deserialize(deserializer)?;
    number::read(&value).map_err(serde::de::Error::custom)
}
