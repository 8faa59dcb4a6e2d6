//! MLflow's filter language and `order_by`, to SQL.
//!
//! A filter is a list of comparisons joined by `AND`: ``metrics.`val loss` < 0.2 AND tags.site = 'north'``. What may
//! stand on its left, how it may be compared and what happens to missing values and NaN differs between the kinds of
//! search; the rules are those that mlflow 3.17.2's server follows on SQLite, found by asking it:
//!
//! | | compared by | missing |
//! |---|---|---|
//! | metrics (the latest value) | `= != < <= > >=`, a number | never matches; NaN matches `!=` only |
//! | params, tags | `= != LIKE ILIKE`, a text in quotes; in runs and experiments also `IS [NOT] NULL` | never matches |
//! | attributes of text | `= != LIKE ILIKE`, some `IN` and `NOT IN` | never matches |
//! | attributes of numbers | `= != < <= > >=` | never matches |
//! | datasets of runs | `= != LIKE ILIKE IN NOT IN`; any dataset of the run may match | never matches |
//!
//! `LIKE` minds the case of letters and `ILIKE` takes no notice of that of ASCII letters, on both databases alike; a
//! backslash is a character like any other. Duplicates in `order_by` are the client's mistake here (400), where the
//! original answers 500.
//!
//! Statements that take a filter call the tables by one letter: `r` run, `e` experiment, `l` logged_model,
//! `m` registered_model, `v` model_version.

mod condition;
mod experiments;
mod lexer;
mod logged_models;
mod order;
mod parser;
mod registry;
mod runs;
mod terms;

use platform::database::{Engine, Statement};

use crate::Result;
use condition::Condition;

pub(crate) use condition::Dataset;
pub(crate) use experiments::{experiments, experiments_order};
pub(crate) use logged_models::{ModelOrder, logged_models, logged_models_order};
pub(crate) use order::Order;
pub(crate) use registry::{models, models_order, versions, versions_order};
pub(crate) use runs::{runs, runs_order};

/// What a filter asks of the searched rows.
#[derive(Clone, Debug, Default, PartialEq)]
pub(crate) struct Filter {
    conditions: Vec<Condition>,
}

/// What can be searched.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Searched {
    /// Experiments.
    Experiments,
    /// Runs of experiments.
    Runs,
    /// Logged models of experiments.
    LoggedModels,
    /// Registered models.
    Models,
    /// Versions of registered models.
    Versions,
}

/// Reads a filter without using it.
///
/// # Errors
/// What is wrong with it, in MLflow's words.
pub fn check(searched: Searched, filter: &str) -> Result<()> {
    match searched {
        Searched::Experiments => experiments(Some(filter)),
        Searched::Runs => runs(Some(filter)),
        Searched::LoggedModels => logged_models(Some(filter), Vec::new()),
        Searched::Models => models(Some(filter)),
        Searched::Versions => versions(Some(filter)),
    }
    .map(drop)
}

impl Filter {
    /// Adds each condition, with ` AND ` before it: the statement ends in a condition. `first` is the condition, by its
    /// place, whose rows are to be found first.
    pub(crate) fn push(&self, statement: &mut Statement, engine: Engine, first: Option<usize>) {
        let first = first.and_then(|at| self.conditions.get(at));
        if let Some(first) = first {
            let others = self.conditions.iter().filter(|other| !std::ptr::eq(*other, first) && other.is_of_parts());
            statement.push(" AND ");
            first.push_first(statement, engine, &others.collect::<Vec<_>>());
        }
        // What was not tested there already.
        for condition in self.conditions.iter().filter(|condition| first.is_none() || !condition.is_of_parts()) {
            statement.push(" AND ");
            condition.push(statement, engine);
        }
    }

    /// The place of the first condition whose matching runs of an experiment an index has newest first, and its table, as `t`.
    pub(crate) fn newest_first(&self) -> Option<(usize, &'static str)> {
        self.conditions.iter().enumerate().find_map(|(at, condition)| Some((at, condition.newest_first()?)))
    }

    /// Adds all conditions, that at `first` as a test of the table which [`Filter::newest_first`] names.
    pub(crate) fn push_behind(&self, statement: &mut Statement, engine: Engine, first: usize) {
        for (at, condition) in self.conditions.iter().enumerate() {
            statement.push(" AND ");
            if at == first { condition.push_test(statement, engine) } else { condition.push(statement, engine) }
        }
    }

    /// A statement that gives, for each condition with an index, its place and how many rows the index finds, up to
    /// `most`. `None` when there is no such condition.
    pub(crate) fn probe(&self, engine: Engine, most: i64) -> Option<Statement> {
        let mut statement = Statement::new("");
        let mut any = false;
        for (at, condition) in self.conditions.iter().enumerate().filter(|(_, condition)| condition.is_indexed()) {
            statement.push(if any { " UNION ALL SELECT " } else { "SELECT " }).number(i64::try_from(at).unwrap_or(0));
            statement.push(" AS place, CAST(count(*) AS BIGINT) AS found FROM (");
            condition.push_count(&mut statement, engine);
            statement.push(" LIMIT ").literal(most).push(") AS counted");
            any = true;
        }
        any.then_some(statement)
    }
}

/// A condition that finds fewer rows than this is worth to begin with.
pub(crate) const PROBE: i64 = 1000;
