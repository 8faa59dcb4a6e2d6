//! Searches for runs.
//!
//! An experiment may have 100,000 runs and more. A search looks at as few of them as it can:
//! - Rows come in the order of an index (newest first, or by a metric), each is tested, and the search stops when the page
//!   is full.
//! - A tag or param of some value has an index of its runs, newest first, for each experiment.
//! - A condition that an index finds few rows for, fewer than [`PROBE`], is where the search begins instead. PostgreSQL
//!   decides that by its statistics; on SQLite one short statement counts first.

use platform::database::{Engine, Statement};
use sqlx::AnyConnection;

use super::Store;
use super::experiments::Page;
use super::runs::{COLUMNS, Row};
use super::sets::push_one_of;
use crate::entities::{Run, View};
use crate::filter::{Filter, Order, PROBE};
use crate::{Error, Result};

/// Fewer rows than this are rare.
const RARE: i64 = 100;

/// From so many runs on an experiment is large.
const LARGE: i64 = 5000;

/// A search for runs.
#[derive(Clone, Debug)]
pub(crate) struct RunSearch {
    pub(crate) experiments: Vec<i64>,
    pub(crate) filter: Filter,
    pub(crate) order: Order,
    pub(crate) view: View,
    pub(crate) page: Page,
}

impl Store {
    /// A page of runs with all that they logged, and the token of the next page.
    pub(crate) async fn search_runs(&self, search: &RunSearch) -> Result<(Vec<Run>, Option<String>)> {
        if search.experiments.is_empty() {
            return Ok((Vec::new(), None));
        }
        let mut connection = self.pool().acquire().await.map_err(Error::database("searching runs"))?;
        let mut rows = self.run_rows(&mut connection, search).await?;
        let next = search.page.cut(&mut rows);
        Ok((self.with_parts(&mut connection, rows).await?, next))
    }

    async fn run_rows(&self, connection: &mut AnyConnection, search: &RunSearch) -> Result<Vec<Row>> {
        let newest_first = self.newest_first(COLUMNS, search);
        // Where an index has the matching runs in their order, only what is rare is worth to begin with.
        let few = if newest_first.is_some() { RARE } else { PROBE };
        let first = self.few(connection, &search.filter, few).await?;
        // Runs with a number for the metric come before the others: often these fill the page.
        if first.is_none()
            && let Some(key) = search.order.first_metric()
            && self.is_large(connection, search).await?
        {
            let rows = fetch(connection, self.by_metric(COLUMNS, search, key)).await?;
            let wanted = usize::try_from(search.page.size).unwrap_or(usize::MAX);
            if rows.len() > wanted {
                return Ok(rows);
            }
        }
        if first.is_none()
            && let Some(statement) = newest_first
        {
            return fetch(connection, statement).await;
        }
        fetch(connection, self.by_order(COLUMNS, search, first)).await
    }

    /// The condition that finds the fewest rows, if these are fewer than `most`.
    pub(super) async fn few(
        &self,
        connection: &mut AnyConnection,
        filter: &Filter,
        most: i64,
    ) -> Result<Option<usize>> {
        if self.engine() == Engine::Postgres {
            return Ok(None);
        }
        let Some(probe) = filter.probe(self.engine(), most) else { return Ok(None) };
        let counts: Vec<(i64, i64)> =
            probe.query_as().fetch_all(connection).await.map_err(Error::database("counting what a filter finds"))?;
        let fewest = counts.into_iter().filter(|(_, found)| *found < most).min_by_key(|(_, found)| *found);
        Ok(fewest.and_then(|(place, _)| usize::try_from(place).ok()))
    }

    /// Whether there are so many runs that looking at each is slower than walking along an index of all experiments.
    async fn is_large(&self, connection: &mut AnyConnection, search: &RunSearch) -> Result<bool> {
        let mut statement = Statement::new("SELECT CAST(count(*) AS BIGINT) FROM (SELECT 1 FROM run r WHERE ");
        self.push_scope(&mut statement, search, None);
        statement.push(" LIMIT ").number(LARGE).push(") AS counted");
        let (found,): (i64,) =
            statement.query_as().fetch_one(connection).await.map_err(Error::database("counting runs"))?;
        Ok(found == LARGE)
    }

    /// All conditions, any order. `select` is what comes before FROM.
    pub(super) fn by_order(&self, select: &'static str, search: &RunSearch, first: Option<usize>) -> Statement {
        let mut statement = Statement::new(select);
        statement.push(" FROM run r WHERE ");
        self.push_scope(&mut statement, search, first);
        search.filter.push(&mut statement, self.engine(), first);
        search.order.push(&mut statement, self.engine());
        search.page.push(&mut statement);
        statement
    }

    /// Runs of one experiment newest first, along the index of a tag or param that must have some value; `None` for other
    /// searches.
    pub(super) fn newest_first(&self, select: &'static str, search: &RunSearch) -> Option<Statement> {
        let (place, table) = search.filter.newest_first()?;
        let &[experiment] = search.experiments.as_slice() else { return None };
        if !search.order.is_newest_first() {
            return None;
        }
        let mut statement = Statement::new(select);
        statement.push(" FROM ").push(table);
        // SQLite takes the tables in this order.
        statement.push(if self.engine() == Engine::Sqlite { " CROSS JOIN" } else { " JOIN" });
        statement.push(" run r ON r.no = t.run_no WHERE t.experiment_id = ").number(experiment);
        statement.push(" AND r.lifecycle").push(search.view.sql());
        search.filter.push_behind(&mut statement, self.engine(), place);
        Order::push_newest_first(&mut statement, self.engine());
        search.page.push(&mut statement);
        Some(statement)
    }

    /// Only runs with a number for the metric, in its order.
    pub(super) fn by_metric(&self, select: &'static str, search: &RunSearch, key: &str) -> Statement {
        let mut statement = Statement::new(select);
        statement.push(match self.engine() {
            // SQLite takes the tables in this order, and so the metrics in that of their index.
            Engine::Sqlite => " FROM latest_metric o CROSS JOIN run r ON r.no = o.run_no WHERE o.key = ",
            Engine::Postgres => " FROM latest_metric o JOIN run r ON r.no = o.run_no WHERE o.key = ",
        });
        statement.text(key).push(" AND o.is_nan = 0 AND ");
        self.push_scope(&mut statement, search, None);
        search.filter.push(&mut statement, self.engine(), None);
        search.order.push_behind_metric(&mut statement, self.engine());
        search.page.push(&mut statement);
        statement
    }

    /// Which experiments and lifecycle. When another condition comes first, their index is kept from being chosen: on
    /// SQLite a column with a sign has none.
    fn push_scope(&self, statement: &mut Statement, search: &RunSearch, first: Option<usize>) {
        let sign = first.is_some() && self.engine() == Engine::Sqlite;
        match search.experiments.as_slice() {
            [one] => {
                statement.push(if sign { "+r.experiment_id = " } else { "r.experiment_id = " }).number(*one);
            }
            many => {
                let column = if sign { "+r.experiment_id" } else { "r.experiment_id" };
                push_one_of(statement, self.engine(), column, many);
            }
        }
        statement.push(if sign { " AND +r.lifecycle" } else { " AND r.lifecycle" }).push(search.view.sql());
    }
}

async fn fetch(connection: &mut AnyConnection, statement: Statement) -> Result<Vec<Row>> {
    statement.query_as().fetch_all(connection).await.map_err(Error::database("searching runs"))
}
