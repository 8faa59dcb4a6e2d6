//! Searches of registered models and versions: two statements a page, a third when a tag is asked for.

use std::collections::HashMap;

use platform::database::{Engine, Statement};
use sqlx::Row;
use sqlx::any::AnyRow;

use super::Store;
use super::model_rows::read_version;
use crate::filter::{self, Filter, Order, PROBE};
use crate::limits::{MODELS_PAGE, VERSIONS_PAGE};
use crate::registered::{ModelVersion, RegisteredModel, Tag};
use crate::{Error, Result, VersionNumber, page};

/// What a search asks for.
#[derive(Clone, Debug, Default)]
pub(crate) struct Search {
    pub(crate) filter: Option<String>,
    pub(crate) max_results: Option<i64>,
    pub(crate) order_by: Vec<String>,
    pub(crate) page_token: Option<String>,
}

/// A page of what was found.
#[derive(Clone, Debug)]
pub(crate) struct Page<T> {
    pub(crate) items: Vec<T>,
    /// The token of the next page, when there is one.
    pub(crate) next: Option<String>,
}

/// What is read of a version; for [`read_version`] from the fifth column on.
const VERSION_COLUMNS: &str = "SELECT v.model_no, m.name, v.version, 0, v.stage, v.source, v.status, v.description,
  v.user_id, v.run_id, v.run_link, v.status_message, v.created_at, v.updated_at";

const VERSION_TAGS: &str = "SELECT t.model_no, t.version, t.key, t.value FROM json_each($1) p JOIN model_version_tag t
    ON t.model_no = json_extract(p.value, '$[0]') AND t.version = json_extract(p.value, '$[1]')
  ORDER BY t.model_no, t.version, t.key";
const VERSION_TAGS_POSTGRES: &str = "SELECT t.model_no, t.version, t.key, t.value
  FROM json_array_elements(CAST($1 AS json)) p (pair) JOIN model_version_tag t
    ON t.model_no = CAST(p.pair->>0 AS BIGINT) AND t.version = CAST(p.pair->>1 AS BIGINT)
  ORDER BY t.model_no, t.version, t.key";

impl Store {
    /// Registered models, each with its tags, aliases and latest versions.
    pub(crate) async fn search_registered_models(&self, search: &Search) -> Result<Page<RegisteredModel>> {
        let (usual, most) = MODELS_PAGE;
        let limit = search.max_results.unwrap_or(usual);
        if limit > most {
            return Err(Error::invalid(format!(
                "Invalid value for request parameter max_results. It must be at most {most}, but got value {limit}"
            )));
        }
        let filter = filter::models(search.filter.as_deref())?;
        let order = filter::models_order(&search.order_by)?;
        let offset = page::offset(search.page_token.as_deref())?;
        let mut statement = Statement::new("SELECT m.no FROM registered_model m WHERE 1 = 1");
        filter.push(&mut statement, self.engine(), self.first_of(&filter).await?);
        order.push(&mut statement, self.engine());
        let limit = limit.max(0);
        statement.push(" LIMIT ").number(limit + 1).push(" OFFSET ").number(offset);
        let found = statement.query_as::<(i64,)>().fetch_all(self.pool()).await;
        let found = found.map_err(Error::database("searching registered models"))?;
        let mut numbers: Vec<i64> = found.into_iter().map(|(number,)| number).collect();
        let next = cut(&mut numbers, limit, offset);
        Ok(Page { items: self.models_of(&numbers).await?, next })
    }

    /// Versions of registered models, each with its tags.
    pub(crate) async fn search_model_versions(&self, search: &Search) -> Result<Page<ModelVersion>> {
        let (usual, most) = VERSIONS_PAGE;
        let limit = search.max_results.unwrap_or(usual);
        if limit < 1 {
            return Err(Error::invalid(format!(
                "Invalid value for max_results. It must be a positive integer, but got {limit}"
            )));
        }
        if limit > most {
            return Err(Error::invalid(format!(
                "Invalid value for request parameter max_results. It must be at most {most}, but got value {limit}"
            )));
        }
        let filter = filter::versions(search.filter.as_deref())?;
        let order = filter::versions_order(&search.order_by)?;
        let offset = page::offset(search.page_token.as_deref())?;
        let mut statement = Statement::new(VERSION_COLUMNS);
        self.push_versions(&mut statement, &filter, &order).await?;
        statement.push(" LIMIT ").number(limit + 1).push(" OFFSET ").number(offset);
        let rows = statement.query().fetch_all(self.pool()).await;
        let mut rows = rows.map_err(Error::database("searching model versions"))?;
        let next = cut(&mut rows, limit, offset);
        Ok(Page { items: self.with_tags(&rows).await?, next })
    }

    /// Adds where versions are, which of them, and in which order.
    async fn push_versions(&self, statement: &mut Statement, filter: &Filter, order: &Order) -> Result<()> {
        statement.push(" FROM model_version v JOIN registered_model m ON m.no = v.model_no WHERE 1 = 1");
        filter.push(statement, self.engine(), self.first_of(filter).await?);
        order.push(statement, self.engine());
        Ok(())
    }

    /// The condition of a filter that finds few enough rows to begin with it.
    async fn first_of(&self, filter: &Filter) -> Result<Option<usize>> {
        let Some(probe) = filter.probe(self.engine()) else { return Ok(None) };
        let found = probe.query_as::<(i64, i64)>().fetch_all(self.pool()).await;
        let found = found.map_err(Error::database("looking how much a filter finds"))?;
        let fewest = found.into_iter().filter(|(_, count)| *count < PROBE).min_by_key(|(_, count)| *count);
        Ok(fewest.and_then(|(place, _)| usize::try_from(place).ok()))
    }

    async fn with_tags(&self, rows: &[AnyRow]) -> Result<Vec<ModelVersion>> {
        let doing = "searching model versions";
        let read = |row: &AnyRow| -> sqlx::Result<(i64, ModelVersion)> {
            Ok((row.try_get(0)?, read_version(row, row.try_get(1)?, VersionNumber(row.try_get(2)?))?))
        };
        let found: sqlx::Result<Vec<(i64, ModelVersion)>> = rows.iter().map(read).collect();
        let found = found.map_err(Error::database(doing))?;
        if found.is_empty() {
            return Ok(Vec::new());
        }
        let pairs: Vec<(i64, i64)> = found.iter().map(|(model, version)| (*model, version.version.0)).collect();
        let sql = match self.engine() {
            Engine::Sqlite => VERSION_TAGS,
            Engine::Postgres => VERSION_TAGS_POSTGRES,
        };
        let list = serde_json::to_string(&pairs).unwrap_or_default();
        let tags: Vec<(i64, i64, String, String)> =
            sqlx::query_as(sql).bind(list).fetch_all(self.pool()).await.map_err(Error::database(doing))?;
        let mut by_version: HashMap<(i64, i64), Vec<Tag>> = HashMap::with_capacity(found.len());
        for (model, version, key, value) in tags {
            by_version.entry((model, version)).or_default().push(Tag { key, value });
        }
        let tagged = |(model, mut version): (i64, ModelVersion)| {
            version.tags = by_version.remove(&(model, version.version.0)).unwrap_or_default();
            version
        };
        Ok(found.into_iter().map(tagged).collect())
    }
}

/// Leaves a page of rows, of which one more was asked for; the token of the next page when there was one more.
fn cut<T>(rows: &mut Vec<T>, limit: i64, offset: i64) -> Option<String> {
    let limit_rows = usize::try_from(limit).unwrap_or(usize::MAX);
    if rows.len() <= limit_rows {
        return None;
    }
    rows.truncate(limit_rows);
    Some(page::token(offset + limit))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use platform::database::Address;

    use super::*;

    /// A page of a model's versions is read from the end of an index, however many there are.
    #[tokio::test]
    async fn a_page_of_a_models_versions_is_not_sorted() {
        let home = tempfile::tempdir().unwrap();
        let store = Store::open(&Address::Sqlite(home.path().join("registry.db")), "mlflow-artifacts:").await.unwrap();
        let mut statement = Statement::new("EXPLAIN QUERY PLAN SELECT v.version");
        let (filter, order) = (filter::versions(Some("name = 'owl'")).unwrap(), filter::versions_order(&[]).unwrap());
        store.push_versions(&mut statement, &filter, &order).await.unwrap();
        let plan = statement.query().fetch_all(store.pool()).await.unwrap();
        let steps: Vec<String> = plan.iter().map(|row| row.get::<String, _>(3)).collect();
        let plan = steps.join("\n");
        assert!(plan.contains("model_version_of_model_updated (model_no=?)"), "{plan}");
        assert!(!plan.contains("TEMP B-TREE"), "{plan}");
    }
}
