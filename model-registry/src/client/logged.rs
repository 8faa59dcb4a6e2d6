//! Logged models: files with an identity, before they have a name in the registry.

use axum::http::Method;
use serde::{Deserialize, Serialize};
use serde_json::json;

use super::{Client, Nothing, if_there};
use crate::Result;
use crate::registered::Tag;

const MODELS: &str = "/api/2.0/mlflow/logged-models";

/// A logged model.
#[derive(Clone, Debug, Deserialize, PartialEq, Serialize)]
pub struct LoggedModel {
    /// `m-` and 32 hexadecimal digits.
    pub model_id: String,
    /// Its experiment.
    #[serde(default)]
    pub experiment_id: String,
    /// For people.
    #[serde(default)]
    pub name: String,
    /// Where its files are.
    #[serde(default)]
    pub artifact_uri: String,
    /// `LOGGED_MODEL_PENDING`, `LOGGED_MODEL_READY` or `LOGGED_MODEL_UPLOAD_FAILED`.
    #[serde(default)]
    pub status: String,
    /// The run that made it.
    #[serde(default)]
    pub source_run_id: Option<String>,
    /// By key.
    #[serde(default)]
    pub tags: Vec<Tag>,
}

#[derive(Deserialize)]
struct ModelAnswer {
    model: Model,
}

#[derive(Deserialize)]
struct ModelsAnswer {
    #[serde(default)]
    models: Vec<Model>,
}

#[derive(Deserialize)]
struct Model {
    info: LoggedModel,
}

impl LoggedModel {
    /// Whether all its files have come.
    pub fn is_ready(&self) -> bool {
        self.status == "LOGGED_MODEL_READY"
    }
}

impl Client {
    /// Makes a logged model whose files are to come.
    ///
    /// # Errors
    /// The server does not answer or refuses.
    pub async fn create_logged_model(
        &self,
        experiment_id: &str,
        name: &str,
        run_id: Option<&str>,
        tags: &[Tag],
    ) -> Result<LoggedModel> {
        let mut body = json!({ "experiment_id": experiment_id, "name": name, "tags": tags });
        if let Some(run_id) = run_id {
            body["source_run_id"] = run_id.into();
        }
        self.post::<ModelAnswer>(MODELS, &body).await.map(|answer| answer.model.info)
    }

    /// A logged model; none if there is none.
    ///
    /// # Errors
    /// The server does not answer or refuses.
    pub async fn logged_model(&self, model_id: &str) -> Result<Option<LoggedModel>> {
        let answer: Result<ModelAnswer> =
            self.get(&format!("{MODELS}/{}", super::promote::segment(model_id)), &[]).await;
        Ok(if_there(answer)?.map(|answer| answer.model.info))
    }

    /// Says that all files of a logged model have come.
    ///
    /// # Errors
    /// The server does not answer or refuses.
    pub async fn finish_logged_model(&self, model_id: &str) -> Result<LoggedModel> {
        let body = json!({ "model_id": model_id, "status": "LOGGED_MODEL_READY" });
        let path = format!("{MODELS}/{}", super::promote::segment(model_id));
        self.send::<ModelAnswer>(Method::PATCH, &path, &body).await.map(|answer| answer.model.info)
    }

    /// Deletes a logged model. Its files go when the garbage is collected, unless a version needs them.
    ///
    /// # Errors
    /// The server does not answer or refuses.
    pub async fn delete_logged_model(&self, model_id: &str) -> Result<()> {
        let path = format!("{MODELS}/{}", super::promote::segment(model_id));
        self.send::<Nothing>(Method::DELETE, &path, &json!({})).await.map(drop)
    }

    /// Logged models of an experiment, the newest first, in MLflow's filter language.
    ///
    /// # Errors
    /// The server does not answer or refuses.
    pub async fn search_logged_models(&self, experiment_id: &str, filter: &str, most: u32) -> Result<Vec<LoggedModel>> {
        let body = json!({
            "experiment_ids": [experiment_id],
            "filter": filter,
            "max_results": most,
            "order_by": [{ "field_name": "creation_timestamp", "ascending": false }],
        });
        let answer: ModelsAnswer = self.post(&format!("{MODELS}/search"), &body).await?;
        Ok(answer.models.into_iter().map(|model| model.info).collect())
    }
}
