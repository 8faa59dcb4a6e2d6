//! Registered models with all that belongs to them, in one statement however many versions they have.

use std::collections::HashMap;
use std::sync::LazyLock;

use platform::database::Engine;

use super::Store;
use super::json::{self, Json};
use super::version_rows::object_of_version;
use crate::registered::{RegisteredModel, Tag};
use crate::{Error, Result, names};

/// A model by its name, and models by a JSON list of their numbers: pairs of number and model.
struct Questions {
    one: String,
    list: String,
}

static SQLITE: LazyLock<Questions> = LazyLock::new(|| Questions::new(Engine::Sqlite));
static POSTGRES: LazyLock<Questions> = LazyLock::new(|| Questions::new(Engine::Postgres));

impl Questions {
    fn new(engine: Engine) -> Self {
        let json = Json(engine);
        let pairs = json.list(&json.pair(&format!("m.no, {}", object_of_model(json))));
        // The latest version of a stage is found at the end of an index.
        let select = format!(
            "WITH stage (name) AS (VALUES ('None'), ('Staging'), ('Production'), ('Archived'))
             SELECT CAST({pairs} AS TEXT) FROM registered_model m WHERE "
        );
        let listed = match engine {
            Engine::Sqlite => "m.no IN (SELECT value FROM json_each($1))",
            Engine::Postgres => {
                "m.no IN (SELECT CAST(value AS BIGINT) FROM json_array_elements_text(CAST($1 AS json)))"
            }
        };
        Self { one: format!("{select}m.name = $1"), list: format!("{select}{listed}") }
    }

    fn of(engine: Engine) -> &'static Self {
        match engine {
            Engine::Sqlite => &SQLITE,
            Engine::Postgres => &POSTGRES,
        }
    }
}

fn object_of_model(json: Json) -> String {
    let tags = json.list(&json.object("'key', t.key, 'value', t.value"));
    let tags = json.nested(&format!("SELECT {tags} FROM registered_model_tag t WHERE t.model_no = m.no"));
    let aliases = json.list(&json.object("'alias', a.name, 'version', a.version"));
    let aliases = json.nested(&format!("SELECT {aliases} FROM model_alias a WHERE a.model_no = m.no"));
    // Stages in the order of their first versions.
    let latest = json.list(&format!(
        "{} ORDER BY (SELECT f.version FROM model_version f WHERE f.model_no = v.model_no AND f.stage = v.stage
           ORDER BY f.version LIMIT 1)",
        object_of_version(json, "m.name", "")
    ));
    let latest = json.nested(&format!(
        "SELECT {latest} FROM stage CROSS JOIN model_version v WHERE v.model_no = m.no AND v.version =
           (SELECT l.version FROM model_version l WHERE l.model_no = m.no AND l.stage = stage.name
             ORDER BY l.version DESC LIMIT 1)"
    ));
    // An empty description is left out, as MLflow does for models, though not for versions.
    json.object(&format!(
        "'name', m.name, 'creation_timestamp', m.created_at, 'last_updated_timestamp', m.updated_at,
         'description', NULLIF(m.description, ''), 'tags', {tags}, 'aliases', {aliases}, 'latest_versions', {latest}"
    ))
}

impl Store {
    /// A model by its name.
    pub(crate) async fn registered_model(&self, name: &str) -> Result<RegisteredModel> {
        names::check_model(name)?;
        let found = model_on(self.engine(), self.pool(), name).await?;
        found.ok_or_else(|| no_model(name))
    }

    /// The models of these numbers, in this order; those that are gone by now are left out.
    pub(super) async fn models_of(&self, numbers: &[i64]) -> Result<Vec<RegisteredModel>> {
        if numbers.is_empty() {
            return Ok(Vec::new());
        }
        let list = serde_json::to_string(numbers).unwrap_or_default();
        let found = read(self.pool(), &Questions::of(self.engine()).list, list).await?;
        let mut models: HashMap<i64, RegisteredModel> = found.into_iter().collect();
        Ok(numbers.iter().filter_map(|number| models.remove(number)).collect())
    }
}

/// A model by its name, as a transaction or the pool sees it.
pub(super) async fn model_on<'c>(
    engine: Engine,
    connection: impl sqlx::Executor<'c, Database = sqlx::Any>,
    name: &str,
) -> Result<Option<RegisteredModel>> {
    let found = read(connection, &Questions::of(engine).one, name.to_owned()).await?;
    Ok(found.into_iter().next().map(|(_, model)| model))
}

/// No model has this name.
pub(super) fn no_model(name: &str) -> Error {
    Error::missing(format!("Registered Model with name={name} not found"))
}

pub(super) fn sort_tags(tags: &mut [Tag]) {
    tags.sort_by(|one, other| one.key.cmp(&other.key));
}

async fn read<'c>(
    connection: impl sqlx::Executor<'c, Database = sqlx::Any>,
    question: &'static str,
    about: String,
) -> Result<Vec<(i64, RegisteredModel)>> {
    let found = sqlx::query_scalar::<_, String>(question).bind(about).fetch_one(connection).await;
    let read = found.and_then(|text| json::read::<Vec<(i64, RegisteredModel)>>(&text));
    let mut models = read.map_err(Error::database("reading registered models"))?;
    for (_, model) in &mut models {
        sort_tags(&mut model.tags);
        model.aliases.sort_by(|one, other| one.alias.cmp(&other.alias));
        model.latest_versions.iter_mut().for_each(|version| sort_tags(&mut version.tags));
    }
    Ok(models)
}

/// The statements, for a look at their plans.
#[cfg(test)]
fn statements() -> [&'static str; 2] {
    [&SQLITE.one, &SQLITE.list]
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use platform::database::Address;
    use sqlx::any::AnyRow;
    use sqlx::{AssertSqlSafe, Row};

    use super::*;
    use crate::store::version_rows;

    /// What is asked often is found by indexes: no step of the plan walks through all versions or tags.
    #[tokio::test]
    async fn models_and_versions_are_read_by_indexes_alone() {
        let home = tempfile::tempdir().unwrap();
        let store = Store::open(&Address::Sqlite(home.path().join("registry.db")), "mlflow-artifacts:").await.unwrap();
        for sql in statements().into_iter().chain(version_rows::statements()) {
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
