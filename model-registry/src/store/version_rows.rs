//! Model versions with their tags and aliases, in one statement.

use std::sync::LazyLock;

use platform::database::Engine;

use super::Store;
use super::json::{self, Json};
use super::model_rows::{no_model, sort_tags};
use crate::names::{self, Stage};
use crate::registered::ModelVersion;
use crate::{Error, Result, VersionNumber};

/// A version by its number, by an alias, and the latest.
struct Questions {
    by_number: String,
    by_alias: String,
    latest: String,
}

static SQLITE: LazyLock<Questions> = LazyLock::new(|| Questions::new(Engine::Sqlite));
static POSTGRES: LazyLock<Questions> = LazyLock::new(|| Questions::new(Engine::Postgres));

impl Questions {
    fn new(engine: Engine) -> Self {
        let json = Json(engine);
        let aliases = json.list("n.name");
        let aliases = json.nested(&format!(
            "SELECT {aliases} FROM model_alias n WHERE n.model_no = v.model_no AND n.version = v.version"
        ));
        let version = object_of_version(json, "m.name", &format!(", 'aliases', {aliases}"));
        let select = format!("SELECT CAST({version} AS TEXT) FROM registered_model m");
        Self {
            by_number: format!(
                "{select} JOIN model_version v ON v.model_no = m.no
                 WHERE m.name = $1 AND v.version = CAST($2 AS BIGINT)"
            ),
            by_alias: format!(
                "{select} JOIN model_alias a ON a.model_no = m.no
                 JOIN model_version v ON v.model_no = m.no AND v.version = a.version
                 WHERE m.name = $1 AND a.name = $2"
            ),
            latest: format!(
                "{select} JOIN model_version v ON v.model_no = m.no AND v.version =
                   (SELECT l.version FROM model_version l WHERE l.model_no = m.no ORDER BY l.version DESC LIMIT 1)
                 WHERE m.name = $1"
            ),
        }
    }

    fn of(engine: Engine) -> &'static Self {
        match engine {
            Engine::Sqlite => &SQLITE,
            Engine::Postgres => &POSTGRES,
        }
    }
}

/// The version `v` of the model that `model` names, with its tags and what `more` adds.
pub(super) fn object_of_version(json: Json, model: &str, more: &str) -> String {
    let tags = json.list(&json.object("'key', t.key, 'value', t.value"));
    let tags = json.nested(&format!(
        "SELECT {tags} FROM model_version_tag t WHERE t.model_no = v.model_no AND t.version = v.version"
    ));
    json.object(&format!(
        "'name', {model}, 'version', v.version, 'creation_timestamp', v.created_at,
         'last_updated_timestamp', v.updated_at, 'user_id', v.user_id, 'current_stage', v.stage,
         'description', v.description, 'source', v.source, 'run_id', v.run_id, 'status', v.status,
         'status_message', NULLIF(v.status_message, ''), 'run_link', v.run_link, 'tags', {tags}{more}"
    ))
}

impl Store {
    /// A version by its number.
    pub(crate) async fn model_version(&self, name: &str, version: &str) -> Result<ModelVersion> {
        names::check_model(name)?;
        let version = names::version(version)?;
        version_on(self.engine(), self.pool(), name, version).await?.ok_or_else(|| no_version(name, version))
    }

    /// The version that an alias names; `latest` is the greatest number.
    pub(crate) async fn model_version_by_alias(&self, name: &str, alias: &str) -> Result<ModelVersion> {
        names::check_model(name)?;
        names::check_alias(alias)?;
        let latest = alias.eq_ignore_ascii_case("latest");
        let questions = Questions::of(self.engine());
        let question = if latest {
            sqlx::query_scalar(questions.latest.as_str()).bind(name)
        } else {
            sqlx::query_scalar(questions.by_alias.as_str()).bind(name).bind(alias)
        };
        let found: Option<String> =
            question.fetch_optional(self.pool()).await.map_err(Error::database("reading an alias"))?;
        if let Some(version) = found {
            return read(&version);
        }
        self.check_model_exists(name).await?;
        if latest {
            return Err(Error::missing(format!("Latest version not found for model {name}.")));
        }
        Err(Error::invalid(format!("Registered model alias {alias} not found.")))
    }

    /// The latest version of each of the stages, of all of them when none is named.
    pub(crate) async fn latest_versions(&self, name: &str, stages: &[String]) -> Result<Vec<ModelVersion>> {
        let model = self.registered_model(name).await?;
        let stages: Vec<Stage> = stages.iter().map(|stage| Stage::parse(stage)).collect::<Result<_>>()?;
        let mut versions = model.latest_versions;
        versions
            .retain(|version| stages.is_empty() || stages.iter().any(|stage| stage.as_str() == version.current_stage));
        for version in &mut versions {
            let aliases = model.aliases.iter().filter(|alias| alias.version == version.version);
            version.aliases = aliases.map(|alias| alias.alias.clone()).collect();
        }
        Ok(versions)
    }

    /// Where the files of a version are.
    pub(crate) async fn download_uri(&self, name: &str, version: &str) -> Result<String> {
        names::check_model(name)?;
        let number = names::version(version)?;
        let found = sqlx::query_as::<_, (String, String)>(
            "SELECT v.storage_location, v.source FROM registered_model m JOIN model_version v ON v.model_no = m.no
             WHERE m.name = $1 AND v.version = $2",
        )
        .bind(name)
        .bind(number.0)
        .fetch_optional(self.pool())
        .await
        .map_err(Error::database("reading where a version is"))?;
        let (location, source) = found.ok_or_else(|| no_version(name, number))?;
        Ok(if location.is_empty() { source } else { location })
    }

    async fn check_model_exists(&self, name: &str) -> Result<()> {
        let found = sqlx::query("SELECT no FROM registered_model WHERE name = $1")
            .bind(name)
            .fetch_optional(self.pool())
            .await
            .map_err(Error::database("reading a registered model"))?;
        found.map(drop).ok_or_else(|| no_model(name))
    }
}

/// A version by its number, as a transaction or the pool sees it.
pub(super) async fn version_on<'c>(
    engine: Engine,
    connection: impl sqlx::Executor<'c, Database = sqlx::Any>,
    name: &str,
    version: VersionNumber,
) -> Result<Option<ModelVersion>> {
    let question = sqlx::query_scalar::<_, String>(Questions::of(engine).by_number.as_str()).bind(name).bind(version.0);
    let found = question.fetch_optional(connection).await.map_err(Error::database("reading a model version"))?;
    found.map(|text| read(&text)).transpose()
}

/// No version has this number.
pub(super) fn no_version(name: &str, version: VersionNumber) -> Error {
    Error::missing(format!("Model Version (name={name}, version={version}) not found"))
}

fn read(text: &str) -> Result<ModelVersion> {
    let mut version: ModelVersion = json::read(text).map_err(Error::database("reading a model version"))?;
    sort_tags(&mut version.tags);
    version.aliases.sort();
    Ok(version)
}

/// The statements that find one version, for a look at their plans.
#[cfg(test)]
pub(super) fn statements() -> [&'static str; 3] {
    [&SQLITE.by_number, &SQLITE.by_alias, &SQLITE.latest]
}
