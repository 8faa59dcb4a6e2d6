//! Registered models with all that belongs to them, in one statement however many versions they have.

use std::collections::HashMap;
use std::sync::LazyLock;

use platform::database::Engine;
use sqlx::Row;
use sqlx::any::AnyRow;

use super::Store;
use crate::registered::{Alias, ModelVersion, RegisteredModel, Tag};
use crate::{Error, Result, VersionNumber, names};

/// Which models: one by its name.
const BY_NAME: &str = "WITH page AS (SELECT no FROM registered_model WHERE name = $1)";
/// Which models: a JSON list of numbers.
const BY_LIST: &str = "WITH page AS (SELECT CAST(value AS BIGINT) AS no FROM json_each($1))";
const BY_LIST_POSTGRES: &str =
    "WITH page AS (SELECT CAST(value AS BIGINT) AS no FROM json_array_elements_text(CAST($1 AS json)))";

/// What belongs to the models of `page`, a row each: kind, model, version, rank, texts, times. The latest version of each
/// stage is found at the end of an index; its rank is the first version of the stage. The rows come in no order: to sort
/// these few here costs less than to have the database merge them.
const PARTS: &str = ", stage (name) AS (VALUES ('None'), ('Staging'), ('Production'), ('Archived')),
latest AS (
  SELECT page.no AS no,
    (SELECT v.version FROM model_version v WHERE v.model_no = page.no AND v.stage = stage.name
      ORDER BY v.version DESC LIMIT 1) AS version,
    (SELECT v.version FROM model_version v WHERE v.model_no = page.no AND v.stage = stage.name
      ORDER BY v.version LIMIT 1) AS rank
  FROM page CROSS JOIN stage
)
SELECT 0 AS kind, m.no AS no, 0 AS version, 0 AS rank, m.name AS a, m.description AS b, '' AS c, '' AS d, '' AS e,
  '' AS f, '' AS g, '' AS h, m.created_at AS t, m.updated_at AS u
  FROM page JOIN registered_model m ON m.no = page.no
UNION ALL SELECT 1, t.model_no, 0, 0, t.key, t.value, '', '', '', '', '', '', 0, 0
  FROM page JOIN registered_model_tag t ON t.model_no = page.no
UNION ALL SELECT 2, a.model_no, a.version, 0, a.name, '', '', '', '', '', '', '', 0, 0
  FROM page JOIN model_alias a ON a.model_no = page.no
UNION ALL SELECT 3, v.model_no, v.version, latest.rank, v.stage, v.source, v.status, v.description, v.user_id, v.run_id,
    v.run_link, v.status_message, v.created_at, v.updated_at
  FROM latest JOIN model_version v ON v.model_no = latest.no AND v.version = latest.version
UNION ALL SELECT 4, t.model_no, t.version, 0, t.key, t.value, '', '', '', '', '', '', 0, 0
  FROM latest JOIN model_version_tag t ON t.model_no = latest.no AND t.version = latest.version";

static ONE: LazyLock<String> = LazyLock::new(|| format!("{BY_NAME}{PARTS}"));
static LIST: LazyLock<String> = LazyLock::new(|| format!("{BY_LIST}{PARTS}"));
static LIST_POSTGRES: LazyLock<String> = LazyLock::new(|| format!("{BY_LIST_POSTGRES}{PARTS}"));

impl Store {
    /// A model by its name.
    pub(crate) async fn registered_model(&self, name: &str) -> Result<RegisteredModel> {
        names::check_model(name)?;
        let found = model_on(self.pool(), name).await?;
        found.ok_or_else(|| no_model(name))
    }

    /// The models of these numbers, in this order; those that are gone by now are left out.
    pub(super) async fn models_of(&self, numbers: &[i64]) -> Result<Vec<RegisteredModel>> {
        if numbers.is_empty() {
            return Ok(Vec::new());
        }
        let sql = match self.engine() {
            Engine::Sqlite => LIST.as_str(),
            Engine::Postgres => LIST_POSTGRES.as_str(),
        };
        let list = serde_json::to_string(numbers).unwrap_or_default();
        let rows = sqlx::query(sql).bind(list).fetch_all(self.pool()).await;
        let mut models = gather(&rows.map_err(Error::database("reading registered models"))?)?;
        Ok(numbers.iter().filter_map(|number| models.remove(number)).collect())
    }
}

/// A model by its name, as a transaction or the pool sees it.
pub(super) async fn model_on<'c>(
    connection: impl sqlx::Executor<'c, Database = sqlx::Any>,
    name: &str,
) -> Result<Option<RegisteredModel>> {
    let rows = sqlx::query(ONE.as_str()).bind(name).fetch_all(connection).await;
    let models = gather(&rows.map_err(Error::database("reading a registered model"))?)?;
    Ok(models.into_values().next())
}

/// No model has this name.
pub(super) fn no_model(name: &str) -> Error {
    Error::missing(format!("Registered Model with name={name} not found"))
}

fn gather(rows: &[AnyRow]) -> Result<HashMap<i64, RegisteredModel>> {
    read(rows).map_err(Error::database("reading registered models"))
}

fn read(rows: &[AnyRow]) -> sqlx::Result<HashMap<i64, RegisteredModel>> {
    let mut models = HashMap::new();
    for row in sorted(rows)? {
        read_part(row, &mut models)?;
    }
    for model in models.values_mut() {
        sort_tags(&mut model.tags);
        model.aliases.sort_by(|one, other| one.alias.cmp(&other.alias));
        model.latest_versions.iter_mut().for_each(|version| sort_tags(&mut version.tags));
    }
    Ok(models)
}

/// The rows by their kinds, and those of a kind by their ranks: what others belong to comes first.
pub(super) fn sorted(rows: &[AnyRow]) -> sqlx::Result<Vec<&AnyRow>> {
    let key = |row: &AnyRow| -> sqlx::Result<(i64, i64)> { Ok((row.try_get(0)?, row.try_get(3)?)) };
    let mut keyed = rows.iter().map(|row| Ok((key(row)?, row))).collect::<sqlx::Result<Vec<_>>>()?;
    keyed.sort_by_key(|(key, _)| *key);
    Ok(keyed.into_iter().map(|(_, row)| row).collect())
}

pub(super) fn sort_tags(tags: &mut [Tag]) {
    tags.sort_by(|one, other| one.key.cmp(&other.key));
}

fn read_part(row: &AnyRow, models: &mut HashMap<i64, RegisteredModel>) -> sqlx::Result<()> {
    let (kind, number): (i64, i64) = (row.try_get(0)?, row.try_get(1)?);
    if kind == 0 {
        let model = RegisteredModel {
            name: row.try_get(4)?,
            // An empty one is left out, as MLflow does for models, though not for versions.
            description: row.try_get::<Option<String>, _>(5)?.filter(|text| !text.is_empty()),
            creation_timestamp: row.try_get(12)?,
            last_updated_timestamp: row.try_get(13)?,
            latest_versions: Vec::new(),
            tags: Vec::new(),
            aliases: Vec::new(),
        };
        models.insert(number, model);
        return Ok(());
    }
    let Some(model) = models.get_mut(&number) else { return Ok(()) };
    let version = VersionNumber(row.try_get(2)?);
    match kind {
        1 => model.tags.push(read_tag(row)?),
        2 => model.aliases.push(Alias { alias: row.try_get(4)?, version }),
        3 => {
            let name = model.name.clone();
            model.latest_versions.push(read_version(row, name, version)?);
        }
        _ => {
            let tag = read_tag(row)?;
            if let Some(latest) = model.latest_versions.iter_mut().find(|latest| latest.version == version) {
                latest.tags.push(tag);
            }
        }
    }
    Ok(())
}

fn read_tag(row: &AnyRow) -> sqlx::Result<Tag> {
    Ok(Tag { key: row.try_get(4)?, value: row.try_get(5)? })
}

/// Reads the columns from the fifth on: stage, source, status, description, user, run, link, message, times.
pub(super) fn read_version(row: &AnyRow, name: String, version: VersionNumber) -> sqlx::Result<ModelVersion> {
    Ok(ModelVersion {
        name,
        version,
        current_stage: row.try_get(4)?,
        source: row.try_get(5)?,
        status: row.try_get(6)?,
        description: row.try_get(7)?,
        user_id: row.try_get(8)?,
        run_id: row.try_get(9)?,
        run_link: row.try_get(10)?,
        status_message: row.try_get::<Option<String>, _>(11)?.filter(|text| !text.is_empty()),
        creation_timestamp: row.try_get(12)?,
        last_updated_timestamp: row.try_get(13)?,
        tags: Vec::new(),
        aliases: Vec::new(),
    })
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use platform::database::Address;
    use sqlx::AssertSqlSafe;

    use super::*;
    use crate::store::version_rows;

    /// What is asked often is found by indexes: no step of the plan walks through all versions or tags.
    #[tokio::test]
    async fn models_and_versions_are_read_by_indexes_alone() {
        let home = tempfile::tempdir().unwrap();
        let store = Store::open(&Address::Sqlite(home.path().join("registry.db")), "mlflow-artifacts:").await.unwrap();
        for sql in [ONE.as_str(), LIST.as_str()].into_iter().chain(version_rows::statements()) {
            let plan: Vec<AnyRow> = sqlx::query(AssertSqlSafe(format!("EXPLAIN QUERY PLAN {sql}")))
                .bind("owl")
                .bind(1_i64)
                .fetch_all(store.pool())
                .await
                .unwrap();
            let steps: Vec<String> = plan.iter().map(|row| row.get::<String, _>(3)).collect();
            assert!(steps.len() > 3, "{steps:?}");
            let walks = |step: &&String| {
                let tables = ["SCAN m", "SCAN v", "SCAN t", "SCAN a", "SCAN registered_model"];
                tables.iter().any(|table| step.as_str() == *table || step.starts_with(&format!("{table} ")))
            };
            assert_eq!(steps.iter().find(walks), None, "{sql}\n{}", steps.join("\n"));
        }
    }
}
