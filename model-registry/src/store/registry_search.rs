//! Searches of registered models and versions: one or two statements a page, another when a tag is asked for.

use std::sync::LazyLock;

use platform::database::{Engine, Statement};

use super::Store;
use super::json::{self, Json};
use super::model_rows::sort_tags;
use super::version_rows::object_of_version;
use crate::filter::{self, Filter, Order, PROBE};
use crate::limits::{MODELS_PAGE, VERSIONS_PAGE};
use crate::registered::{ModelVersion, RegisteredModel};
use crate::{Error, Result, page};

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

/// Begins the question for a page of versions with their tags; where they are and which of them follow, and a `)`.
static PAGE: LazyLock<String> = LazyLock::new(|| page_of_versions(Json(Engine::Sqlite)));
static PAGE_POSTGRES: LazyLock<String> = LazyLock::new(|| page_of_versions(Json(Engine::Postgres)));

fn page_of_versions(json: Json) -> String {
    let versions = json.list(&object_of_version(json, "v.name", ""));
    format!("SELECT CAST({versions} AS TEXT) FROM (SELECT v.*, m.name")
}

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
        let mut statement = Statement::new(match self.engine() {
            Engine::Sqlite => PAGE.as_str(),
            Engine::Postgres => PAGE_POSTGRES.as_str(),
        });
        self.push_versions(&mut statement, &filter, &order).await?;
        statement.push(" LIMIT ").number(limit + 1).push(" OFFSET ").number(offset).push(") v");
        let found = statement.query_as::<(String,)>().fetch_one(self.pool()).await;
        let read = found.and_then(|(text,)| json::read::<Vec<ModelVersion>>(&text));
        let mut items = read.map_err(Error::database("searching model versions"))?;
        let next = cut(&mut items, limit, offset);
        items.iter_mut().for_each(|version| sort_tags(&mut version.tags));
        Ok(Page { items, next })
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
        let Some(probe) = filter.probe(self.engine(), PROBE) else { return Ok(None) };
        let found = probe.query_as::<(i64, i64)>().fetch_all(self.pool()).await;
        let found = found.map_err(Error::database("looking how much a filter finds"))?;
        let fewest = found.into_iter().filter(|(_, count)| *count < PROBE).min_by_key(|(_, count)| *count);
        Ok(fewest.and_then(|(place, _)| usize::try_from(place).ok()))
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
    use sqlx::Row;

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
