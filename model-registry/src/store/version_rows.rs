//! Model versions with their tags and aliases, in one statement.

use std::sync::LazyLock;

use sqlx::Row;
use sqlx::any::AnyRow;

use super::Store;
use super::model_rows::{no_model, read_version, sort_tags, sorted};
use crate::names::{self, Stage};
use crate::registered::{ModelVersion, Tag};
use crate::{Error, Result, VersionNumber};

/// Which version: by its number.
const BY_NUMBER: &str = "WITH page AS (
  SELECT m.no AS no, m.name AS name, CAST($2 AS BIGINT) AS version FROM registered_model m WHERE m.name = $1)";
/// Which version: by an alias.
const BY_ALIAS: &str = "WITH page AS (
  SELECT m.no AS no, m.name AS name, a.version AS version
  FROM registered_model m JOIN model_alias a ON a.model_no = m.no WHERE m.name = $1 AND a.name = $2)";
/// Which version: the latest.
const LATEST: &str = "WITH page AS (
  SELECT m.no AS no, m.name AS name,
    (SELECT v.version FROM model_version v WHERE v.model_no = m.no ORDER BY v.version DESC LIMIT 1) AS version
  FROM registered_model m WHERE m.name = $1)";

/// The version of `page`, its tags, and the aliases that name it; a row each.
const PARTS: &str = "
SELECT 0 AS kind, page.name AS model, v.version AS version, 0 AS rank, v.stage AS a, v.source AS b, v.status AS c,
    v.description AS d, v.user_id AS e, v.run_id AS f, v.run_link AS g, v.status_message AS h, v.created_at AS t,
    v.updated_at AS u
  FROM page JOIN model_version v ON v.model_no = page.no AND v.version = page.version
UNION ALL SELECT 1, '', 0, 0, t.key, t.value, '', '', '', '', '', '', 0, 0
  FROM page JOIN model_version_tag t ON t.model_no = page.no AND t.version = page.version
UNION ALL SELECT 2, '', 0, 0, a.name, '', '', '', '', '', '', '', 0, 0
  FROM page JOIN model_alias a ON a.model_no = page.no AND a.version = page.version";

static ONE: LazyLock<String> = LazyLock::new(|| format!("{BY_NUMBER}{PARTS}"));
static ALIASED: LazyLock<String> = LazyLock::new(|| format!("{BY_ALIAS}{PARTS}"));
static LAST: LazyLock<String> = LazyLock::new(|| format!("{LATEST}{PARTS}"));

impl Store {
    /// A version by its number.
    pub(crate) async fn model_version(&self, name: &str, version: &str) -> Result<ModelVersion> {
        names::check_model(name)?;
        let version = names::version(version)?;
        version_on(self.pool(), name, version).await?.ok_or_else(|| no_version(name, version))
    }

    /// The version that an alias names; `latest` is the greatest number.
    pub(crate) async fn model_version_by_alias(&self, name: &str, alias: &str) -> Result<ModelVersion> {
        names::check_model(name)?;
        names::check_alias(alias)?;
        let latest = alias.eq_ignore_ascii_case("latest");
        let question = if latest {
            sqlx::query(LAST.as_str()).bind(name)
        } else {
            sqlx::query(ALIASED.as_str()).bind(name).bind(alias)
        };
        let rows = question.fetch_all(self.pool()).await.map_err(Error::database("reading an alias"))?;
        if let Some(version) = gather(&rows)? {
            return Ok(version);
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
    connection: impl sqlx::Executor<'c, Database = sqlx::Any>,
    name: &str,
    version: VersionNumber,
) -> Result<Option<ModelVersion>> {
    let rows = sqlx::query(ONE.as_str()).bind(name).bind(version.0).fetch_all(connection).await;
    gather(&rows.map_err(Error::database("reading a model version"))?)
}

/// No version has this number.
pub(super) fn no_version(name: &str, version: VersionNumber) -> Error {
    Error::missing(format!("Model Version (name={name}, version={version}) not found"))
}

fn gather(rows: &[AnyRow]) -> Result<Option<ModelVersion>> {
    read(rows).map_err(Error::database("reading a model version"))
}

fn read(rows: &[AnyRow]) -> sqlx::Result<Option<ModelVersion>> {
    let mut version: Option<ModelVersion> = None;
    for row in sorted(rows)? {
        let kind: i64 = row.try_get(0)?;
        match (kind, &mut version) {
            (0, _) => version = Some(read_version(row, row.try_get(1)?, VersionNumber(row.try_get(2)?))?),
            (1, Some(version)) => version.tags.push(Tag { key: row.try_get(4)?, value: row.try_get(5)? }),
            (_, Some(version)) => version.aliases.push(row.try_get(4)?),
            (_, None) => {}
        }
    }
    if let Some(version) = &mut version {
        sort_tags(&mut version.tags);
        version.aliases.sort();
    }
    Ok(version)
}

/// The statements that find one version, for a look at their plans.
#[cfg(test)]
pub(super) fn statements() -> [&'static str; 3] {
    [ONE.as_str(), ALIASED.as_str(), LAST.as_str()]
}
