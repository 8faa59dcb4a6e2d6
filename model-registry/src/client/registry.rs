//! Registered models, their versions and aliases.

use axum::http::Method;
use serde::{Deserialize, Serialize};
use serde_json::json;

use super::{Client, Nothing, if_there, is_there_already};
use crate::registered::{ModelVersion, RegisteredModel, Tag};
use crate::{Result, VersionNumber};

const MODELS: &str = "/api/2.0/mlflow/registered-models";
const VERSIONS: &str = "/api/2.0/mlflow/model-versions";

/// A page of a search, and the token of the next.
#[derive(Clone, Debug, PartialEq)]
pub struct Page<T> {
    /// What was found.
    pub items: Vec<T>,
    /// None on the last page.
    pub next: Option<String>,
}

/// A version that is to be made.
#[derive(Clone, Debug, Default, Serialize)]
pub struct NewVersion {
    /// The registered model.
    pub name: String,
    /// Where the files are, such as `models:/m-…`.
    pub source: String,
    /// The run that made it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub run_id: Option<String>,
    /// The logged model that it is.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub model_id: Option<String>,
    /// Any.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub tags: Vec<Tag>,
    /// Free text.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub description: Option<String>,
}

#[derive(Deserialize)]
struct ModelAnswer {
    registered_model: RegisteredModel,
}

#[derive(Deserialize)]
struct VersionAnswer {
    model_version: ModelVersion,
}

#[derive(Deserialize)]
struct ModelsAnswer {
    #[serde(default)]
    registered_models: Vec<RegisteredModel>,
    next_page_token: Option<String>,
}

#[derive(Deserialize)]
struct VersionsAnswer {
    #[serde(default)]
    model_versions: Vec<ModelVersion>,
    next_page_token: Option<String>,
}

#[derive(Deserialize)]
struct UriAnswer {
    #[serde(default)]
    artifact_uri: String,
}

impl Client {
    /// A registered model; none if there is none.
    ///
    /// # Errors
    /// The server does not answer or refuses.
    pub async fn model(&self, name: &str) -> Result<Option<RegisteredModel>> {
        let answer: Result<ModelAnswer> = self.get(&format!("{MODELS}/get"), &[("name", name)]).await;
        Ok(if_there(answer)?.map(|answer| answer.registered_model))
    }

    /// Makes a registered model unless there is one.
    ///
    /// # Errors
    /// The server does not answer or refuses.
    pub async fn ensure_model(&self, name: &str, description: Option<&str>, tags: &[Tag]) -> Result<()> {
        if self.model(name).await?.is_some() {
            return Ok(());
        }
        let body = json!({ "name": name, "description": description, "tags": tags });
        match self.post::<ModelAnswer>(&format!("{MODELS}/create"), &body).await {
            Ok(_) => Ok(()),
            Err(error) if is_there_already(&error) => Ok(()),
            Err(error) => Err(error),
        }
    }

    /// A page of registered models, in MLflow's filter language.
    ///
    /// # Errors
    /// The server does not answer or refuses, such as a filter that cannot be read.
    pub async fn search_models(&self, filter: &str, most: u32, page: Option<&str>) -> Result<Page<RegisteredModel>> {
        let most = most.to_string();
        let query = search_query(filter, &most, page);
        let answer: ModelsAnswer = self.get(&format!("{MODELS}/search"), &query).await?;
        Ok(Page { items: answer.registered_models, next: some(answer.next_page_token) })
    }

    /// All registered models of a filter.
    ///
    /// # Errors
    /// As [`Client::search_models`].
    pub async fn all_models(&self, filter: &str) -> Result<Vec<RegisteredModel>> {
        let mut found = Vec::new();
        let mut next = None;
        loop {
            let page = self.search_models(filter, 1000, next.as_deref()).await?;
            found.extend(page.items);
            next = page.next;
            if next.is_none() {
                return Ok(found);
            }
        }
    }

    /// Removes a registered model with its versions.
    ///
    /// # Errors
    /// The server does not answer or refuses.
    pub async fn delete_model(&self, name: &str) -> Result<()> {
        self.send::<Nothing>(Method::DELETE, &format!("{MODELS}/delete"), &json!({ "name": name })).await.map(drop)
    }

    /// Sets a tag of a registered model.
    ///
    /// # Errors
    /// The server does not answer or refuses.
    pub async fn set_model_tag(&self, name: &str, tag: &Tag) -> Result<()> {
        let body = json!({ "name": name, "key": tag.key, "value": tag.value });
        self.post::<Nothing>(&format!("{MODELS}/set-tag"), &body).await.map(drop)
    }

    /// A version; none if there is none.
    ///
    /// # Errors
    /// The server does not answer or refuses.
    pub async fn version(&self, name: &str, version: VersionNumber) -> Result<Option<ModelVersion>> {
        let version = version.to_string();
        let query = [("name", name), ("version", version.as_str())];
        let answer: Result<VersionAnswer> = self.get(&format!("{VERSIONS}/get"), &query).await;
        Ok(if_there(answer)?.map(|answer| answer.model_version))
    }

    /// The version that an alias names; none if there is no such alias or model.
    ///
    /// # Errors
    /// The server does not answer or refuses.
    pub async fn version_by_alias(&self, name: &str, alias: &str) -> Result<Option<ModelVersion>> {
        let query = [("name", name), ("alias", alias)];
        let answer: Result<VersionAnswer> = self.get(&format!("{MODELS}/alias"), &query).await;
        Ok(if_there(answer)?.map(|answer| answer.model_version))
    }

    /// A page of versions, in MLflow's filter language.
    ///
    /// # Errors
    /// The server does not answer or refuses, such as a filter that cannot be read.
    pub async fn search_versions(&self, filter: &str, most: u32, page: Option<&str>) -> Result<Page<ModelVersion>> {
        let most = most.to_string();
        let query = search_query(filter, &most, page);
        let answer: VersionsAnswer = self.get(&format!("{VERSIONS}/search"), &query).await?;
        Ok(Page { items: answer.model_versions, next: some(answer.next_page_token) })
    }

    /// All versions of a filter, the newest first.
    ///
    /// # Errors
    /// As [`Client::search_versions`].
    pub async fn all_versions(&self, filter: &str) -> Result<Vec<ModelVersion>> {
        let mut found = Vec::new();
        let mut next = None;
        loop {
            let page = self.search_versions(filter, 1000, next.as_deref()).await?;
            found.extend(page.items);
            next = page.next;
            if next.is_none() {
                break;
            }
        }
        found.sort_by_key(|found: &ModelVersion| std::cmp::Reverse(found.version));
        Ok(found)
    }

    /// Makes a version. All its files must be where `source` says.
    ///
    /// # Errors
    /// The server does not answer or refuses.
    pub async fn create_version(&self, version: &NewVersion) -> Result<ModelVersion> {
        self.post::<VersionAnswer>(&format!("{VERSIONS}/create"), version).await.map(|answer| answer.model_version)
    }

    /// Removes a version.
    ///
    /// # Errors
    /// The server does not answer or refuses.
    pub async fn delete_version(&self, name: &str, version: VersionNumber) -> Result<()> {
        let body = json!({ "name": name, "version": version.to_string() });
        self.send::<Nothing>(Method::DELETE, &format!("{VERSIONS}/delete"), &body).await.map(drop)
    }

    /// Sets a tag of a version.
    ///
    /// # Errors
    /// The server does not answer or refuses.
    pub async fn set_version_tag(&self, name: &str, version: VersionNumber, tag: &Tag) -> Result<()> {
        let body = json!({ "name": name, "version": version.to_string(), "key": tag.key, "value": tag.value });
        self.post::<Nothing>(&format!("{VERSIONS}/set-tag"), &body).await.map(drop)
    }

    /// Where the files of a version are.
    ///
    /// # Errors
    /// The server does not answer or refuses; there is no such version.
    pub async fn version_uri(&self, name: &str, version: VersionNumber) -> Result<String> {
        let version = version.to_string();
        let query = [("name", name), ("version", version.as_str())];
        self.get::<UriAnswer>(&format!("{VERSIONS}/get-download-uri"), &query).await.map(|answer| answer.artifact_uri)
    }

    /// Lets an alias name a version, whatever it names now and without gates: see [`Client::promote`] for the other way.
    ///
    /// # Errors
    /// The server does not answer or refuses.
    pub async fn set_alias(&self, name: &str, alias: &str, version: VersionNumber) -> Result<()> {
        let body = json!({ "name": name, "alias": alias, "version": version.to_string() });
        self.post::<Nothing>(&format!("{MODELS}/alias"), &body).await.map(drop)
    }

    /// Removes an alias.
    ///
    /// # Errors
    /// The server does not answer or refuses.
    pub async fn delete_alias(&self, name: &str, alias: &str) -> Result<()> {
        let body = json!({ "name": name, "alias": alias });
        self.send::<Nothing>(Method::DELETE, &format!("{MODELS}/alias"), &body).await.map(drop)
    }
}

fn search_query<'a>(filter: &'a str, most: &'a str, page: Option<&'a str>) -> Vec<(&'a str, &'a str)> {
    let mut query = vec![("max_results", most)];
    if !filter.is_empty() {
        query.push(("filter", filter));
    }
    query.extend(page.map(|page| ("page_token", page)));
    query
}

fn some(token: Option<String>) -> Option<String> {
    token.filter(|token| !token.is_empty())
}
